%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% A panic in Rust on a real node: it closes what it served, it is reported, and
%%% the node goes on. Needs a library with the feature `faults', which it builds, unless
%%% BARREL_P2P_NIF_FAULTS names one.
-module(faults_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_panic_while_reading_closes_the_channel_and_is_reported/1,
    a_panic_while_writing_closes_the_channel_and_is_reported/1,
    a_panic_of_a_link_harms_no_other_link/1
]).
%% Run on nodes
-export([pour/1]).

-define(WAIT_MS, 20000).
%% Bursts that pass before the panic: more than the handshake of the distribution has.
-define(PASSES, "40").

all() ->
    [
        a_panic_while_reading_closes_the_channel_and_is_reported,
        a_panic_while_writing_closes_the_channel_and_is_reported,
        a_panic_of_a_link_harms_no_other_link
    ].

suite() ->
    [{timetrap, {minutes, 10}}].

init_per_suite(Config) ->
    case os:getenv("BARREL_P2P_NIF_FAULTS") of
        false -> built(Config);
        Library -> [{library, Library} | Config]
    end.

built(Config) ->
    Library = filename:join(?config(priv_dir, Config), "barrel_p2p_nif_faults.so"),
    Root = root(),
    case os:cmd("sh " ++ filename:join([Root, "native", "build.sh"]) ++ " --find-cargo >/dev/null 2>&1; echo $?") of
        "0\n" ->
            Env = [
                {"BARREL_P2P_FEATURES", "faults"},
                {"BARREL_P2P_NIF_OUT", Library},
                {"BARREL_P2P_PREBUILT", false},
                {"BARREL_P2P_TARGET_DIR", filename:join([Root, "target", "faults"])}
            ],
            {0, _} = run(["sh", filename:join([Root, "native", "build.sh"])], Env),
            [{library, Library} | Config];
        _ ->
            {skip, "needs a Rust toolchain"}
    end.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

a_panic_while_reading_closes_the_channel_and_is_reported(Config) ->
    panics("panic_read", Config).

a_panic_while_writing_closes_the_channel_and_is_reported(Config) ->
    panics("panic_write", Config).

%% The second stream that a peer opens to the node is the first of its link.
a_panic_of_a_link_harms_no_other_link(Config) ->
    Cluster = ?config(cluster, Config),
    [Sound, Other] = [cluster:start(Cluster, Name, #{}) || Name <- [sound, other]],
    Faulty = faulty(Config, "panic_link:2"),
    ok = cluster:connect(Sound, Faulty),
    ?assertEqual(false, cluster:call(Other, net_kernel, connect_node, [Faulty])),
    #{level := error} = cluster:await_log(Faulty, fun panicked/1, ?WAIT_MS),
    ?assertError({no_nodedown, _, _, _}, cluster:await_nodedown(Faulty, Sound, 1)),
    ?assertEqual(Faulty, cluster:call(Sound, erpc, call, [Faulty, erlang, node, []])),
    ?assertEqual(pong, cluster:call(Other, net_adm, ping, [Faulty])).

panics(Fault, Config) ->
    Cluster = ?config(cluster, Config),
    Sound = cluster:start(Cluster, sound, #{}),
    Other = cluster:start(Cluster, other, #{}),
    Faulty = faulty(Config, Fault ++ ":" ++ ?PASSES),
    ok = cluster:connect(Sound, Faulty),
    _ = cluster:call(Sound, erlang, spawn, [?MODULE, pour, [Faulty]]),
    ?assertEqual(connection_closed, cluster:await_nodedown(Sound, Faulty, ?WAIT_MS)),
    ?assertEqual(connection_closed, cluster:await_nodedown(Faulty, Sound, ?WAIT_MS)),
    #{level := error} = cluster:await_log(Faulty, fun panicked/1, ?WAIT_MS),
    %% it serves others, and the same peer again
    ?assertEqual(pong, cluster:call(Other, net_adm, ping, [Faulty])),
    ?assertEqual(pong, cluster:call(Sound, net_adm, ping, [Faulty])).

faulty(Config, Fault) ->
    cluster:start(?config(cluster, Config), faulty, #{
        os_env => [{"BARREL_P2P_NIF", ?config(library, Config)}, {"BARREL_P2P_FAULT", Fault}]
    }).

panicked(#{msg := Message}) ->
    string:find(io_lib:format("~tp", [Message]), "panicked") =/= nomatch.

%% Calls, one after the other, so that each is a burst of its own in both directions.
pour(Node) ->
    case rpc:call(Node, erlang, node, []) of
        Node -> pour(Node);
        {badrpc, _} -> ok
    end.

%%%===================================================================
%%% Internal
%%%===================================================================

root() ->
    filename:dirname(filename:dirname(proplists:get_value(source, ?MODULE:module_info(compile)))).

run([Program | Args], Env) ->
    Port = open_port({spawn_executable, os:find_executable(Program)}, [
        {args, Args}, {env, Env}, exit_status, stderr_to_stdout, binary
    ]),
    collect(Port, []).

collect(Port, Said) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Data | Said]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(lists:reverse(Said))}
    end.
