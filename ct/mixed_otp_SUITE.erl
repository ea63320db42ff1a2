%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% A cluster of nodes on different releases of OTP: the one that runs the test, and
%%% those of other Debians, entered with chroot (tools/otp_root.sh). Needs root; the
%%% first run on a machine needs the network too.
-module(mixed_otp_SUITE).
-behaviour(gen_server).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([
    suite/0, all/0, groups/0, init_per_group/2, end_per_group/2, init_per_testcase/2, end_per_testcase/2
]).
%% Cases
-export([
    the_releases_differ/1,
    each_pings_the_other/1,
    messages_arrive_in_order/1,
    servers_answer_calls/1,
    monitors_and_links_tell_the_end/1,
    big_binaries_come_back_whole/1,
    atoms_and_terms_of_every_kind_come_back_equal/1,
    a_killed_node_is_noticed/1
]).
%% gen_server
-export([init/1, handle_call/3, handle_cast/2]).
%% Run on the nodes
-export([
    call_servers/2,
    echo_loop/0,
    end_of_monitored/1,
    end_of_linked/1,
    in_order/2,
    round_trips/2,
    there_and_back/2
]).

-define(WAIT_MS, 15000).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [{group, otp27}, {group, otp29}].

groups() ->
    Cases = [
        the_releases_differ,
        each_pings_the_other,
        messages_arrive_in_order,
        servers_answer_calls,
        monitors_and_links_tell_the_end,
        big_binaries_come_back_whole,
        atoms_and_terms_of_every_kind_come_back_equal,
        a_killed_node_is_noticed
    ],
    [{otp27, [], Cases}, {otp29, [], Cases}].

%% A failure here would hide the number of skipped cases, so each case looks at the outcome.
init_per_group(Group, Config) ->
    "otp" ++ Version = atom_to_list(Group),
    [{version, Version}, {root, root(Version)} | Config].

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    case ?config(root, Config) of
        {ok, Root} -> start_two(Root, Config);
        {skip, _} = Skip -> Skip
    end.

end_per_testcase(_Case, Config) ->
    [elsewhere:stop(Vm) || Key <- [here, there], {_, Vm} <- [lists:keyfind(Key, 1, Config)]],
    elsewhere:command(["rm", "-rf", ?config(shared, Config)]).

%%%===================================================================
%%% Cases
%%%===================================================================

the_releases_differ(Config) ->
    {Here, There} = both(Config),
    Version = ?config(version, Config),
    ?assertEqual(Version, elsewhere:call(There, erlang, system_info, [otp_release])),
    ?assertNotEqual(Version, elsewhere:call(Here, erlang, system_info, [otp_release])).

each_pings_the_other(Config) ->
    [?assertEqual(pong, elsewhere:call(From, net_adm, ping, [To])) || {From, To} <- ways(Config)].

messages_arrive_in_order(Config) ->
    [?assertEqual(ok, elsewhere:call(From, ?MODULE, in_order, [To, 20000])) || {From, To} <- ways(Config)].

servers_answer_calls(Config) ->
    [?assertEqual(ok, elsewhere:call(From, ?MODULE, call_servers, [To, 500])) || {From, To} <- ways(Config)].

monitors_and_links_tell_the_end(Config) ->
    [
        begin
            ?assertEqual(on_purpose, elsewhere:call(From, ?MODULE, end_of_monitored, [To])),
            ?assertEqual(on_purpose, elsewhere:call(From, ?MODULE, end_of_linked, [To]))
        end
     || {From, To} <- ways(Config)
    ].

big_binaries_come_back_whole(Config) ->
    [
        ?assertEqual({Bytes, ok}, {Bytes, elsewhere:call(From, ?MODULE, there_and_back, [To, Bytes])})
     || Bytes <- [1, 65536, 1 bsl 20, 32 bsl 20], {From, To} <- ways(Config)
    ].

atoms_and_terms_of_every_kind_come_back_equal(Config) ->
    Terms = [
        ok,
        '',
        'an atom with spaces',
        'grüße',
        '漢字',
        list_to_atom(lists:duplicate(255, $x)),
        list_to_atom(lists:duplicate(255, 16#4e00)),
        [list_to_atom("atom_" ++ integer_to_list(N)) || N <- lists:seq(1, 3000)],
        1 bsl 4000,
        -1,
        1.5e300,
        <<1:3>>,
        #{1 => a, 1.0 => b, [] => #{}},
        [a | b],
        fun lists:map/2,
        {make_ref(), self()}
    ],
    [
        [
            ?assertEqual([], elsewhere:call(From, ?MODULE, round_trips, [To, Terms]))
         || {From, To} <- ways(Config)
        ]
     || _ <- [first, with_a_warm_atom_cache]
    ].

a_killed_node_is_noticed(Config) ->
    {Here, {_, Node} = There} = both(Config),
    elsewhere:watch(Here, Node),
    elsewhere:command(["kill", "-9", elsewhere:call(There, os, getpid, [])]),
    ?assertEqual(connection_closed, elsewhere:nodedown_reason(Here, ?WAIT_MS)).

%%%===================================================================
%%% Run on the nodes
%%%===================================================================

in_order(Node, Count) ->
    Pid = spawn(Node, ?MODULE, echo_loop, []),
    [Pid ! {self(), N} || N <- lists:seq(1, Count)],
    Answers = [
        receive
            {Pid, N} -> N
        end
     || _ <- lists:seq(1, Count)
    ],
    case lists:seq(1, Count) of
        Answers -> ok;
        _ -> {out_of_order, Answers}
    end.

%% Answers until its asker is gone.
echo_loop() ->
    receive
        {From, Term} ->
            From ! {self(), Term},
            echo_loop()
    end.

%% Each server adds up what it is asked to.
call_servers(Node, Count) ->
    {ok, Pid} = erpc:call(Node, gen_server, start, [?MODULE, 0, []]),
    Sums = [gen_server:call(Pid, {add, N}) || N <- lists:seq(1, Count)],
    ok = gen_server:stop(Pid),
    case [{Node, N * (N + 1) div 2} || N <- lists:seq(1, Count)] of
        Sums -> ok;
        _ -> {wrong, Sums}
    end.

init(Sum) ->
    {ok, Sum}.

handle_call({add, N}, _From, Sum) ->
    {reply, {node(), Sum + N}, Sum + N}.

handle_cast(_, Sum) ->
    {noreply, Sum}.

end_of_monitored(Node) ->
    Pid = spawn(Node, ?MODULE, echo_loop, []),
    Monitor = erlang:monitor(process, Pid),
    exit(Pid, on_purpose),
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> Reason
    end.

end_of_linked(Node) ->
    false = process_flag(trap_exit, true),
    Pid = spawn_link(Node, ?MODULE, echo_loop, []),
    exit(Pid, on_purpose),
    receive
        {'EXIT', Pid, Reason} ->
            true = process_flag(trap_exit, false),
            Reason
    end.

there_and_back(Node, Bytes) ->
    Data = binary:part(iolist_to_binary([erlang:md5(<<N:32>>) || N <- lists:seq(0, Bytes div 16)]), 0, Bytes),
    Pid = spawn(Node, ?MODULE, echo_loop, []),
    Pid ! {self(), Data},
    receive
        {Pid, Data} -> ok;
        {Pid, Other} -> {spoiled, byte_size(Other), erlang:md5(Other)}
    end.

%% The terms that came back different.
round_trips(Node, Terms) ->
    Pid = spawn(Node, ?MODULE, echo_loop, []),
    [
        Term
     || Term <- Terms,
        begin
            Pid ! {self(), Term},
            receive
                {Pid, Back} -> Back =/= Term
            end
        end
    ].

%%%===================================================================
%%% Internal
%%%===================================================================

both(Config) ->
    {?config(here, Config), ?config(there, Config)}.

%% In both directions: who asks, and which node answers.
ways(Config) ->
    {{_, HereNode} = Here, {_, ThereNode} = There} = both(Config),
    [{Here, ThereNode}, {There, HereNode}].

%% Both see one directory, by different names: the discovery files and the library are in it.
start_two(Root, Config) ->
    Unique = "barrel_p2p_mixed" ++ os:getpid() ++ "x" ++ integer_to_list(erlang:unique_integer([positive])),
    Inside = "/tmp/" ++ Unique,
    Shared = filename:join([Root, "tmp", Unique]),
    [ok = filelib:ensure_dir(filename:join([Shared, Sub, "x"])) || Sub <- ["ebin", "here", "there", "d"]],
    ok = file:change_mode(filename:join(Shared, "d"), 8#700),
    [copy(Beam, filename:join(Shared, "ebin")) || Beam <- beams()],
    copy(elsewhere:library(), Shared),
    Shell = fun(Dir) -> "cd '" ++ Dir ++ "' && exec erl \"$@\"" end,
    Here = elsewhere:start(#{
        name => "here@127.0.0.1",
        exec => {"/bin/sh", ["-c", Shell(filename:join(Shared, "here")), "sh"]},
        env => [{"BARREL_P2P_NIF", elsewhere:library()}],
        pa => filename:join(Shared, "ebin"),
        args => environment(filename:join(Shared, "d"))
    }),
    There = elsewhere:start(#{
        name => "there@127.0.0.1",
        exec => {chroot(), [Root, "/bin/sh", "-c", Shell(Inside ++ "/there"), "sh"]},
        env => [{"BARREL_P2P_NIF", Inside ++ "/barrel_p2p_nif.so"}, {"HOME", "/root"}, {"LANG", "C.UTF-8"}],
        pa => Inside ++ "/ebin",
        args => environment(Inside ++ "/d")
    }),
    [{here, Here}, {there, There}, {shared, Shared} | Config].

environment(Discovery) ->
    ["-barrel_p2p", "listen_port", "0", "-barrel_p2p", "discovery_dir", "\"" ++ Discovery ++ "\""].

%% Compiled for the oldest release; the others load it.
beams() ->
    filelib:wildcard(filename:join(filename:dirname(code:which(barrel_p2p)), "*.{beam,app}")) ++
        [code:which(Module) || Module <- [?MODULE, elsewhere]].

copy(File, Dir) ->
    {ok, _} = file:copy(File, filename:join(Dir, filename:basename(File))),
    ok.

chroot() ->
    [File | _] = [F || Dir <- ["/usr/sbin", "/usr/bin", "/sbin"], F <- [Dir ++ "/chroot"], filelib:is_regular(F)],
    File.

%% Makes the root when there is none; that needs the network and some minutes. Only for the
%% release that the project promises: another one must be there.
root(Version) ->
    case elsewhere:is_root() of
        false ->
            {skip, "needs root"};
        true ->
            Script = filename:join([elsewhere:source_root(), "tools", "otp_root.sh"]),
            case Version =:= "27" orelse is_made(Version) of
                true -> made(Version, elsewhere:command(["bash", Script, Version, "--root"], []));
                false -> {skip, "there is no root with OTP " ++ Version ++ ": make otp" ++ Version ++ " makes it"}
            end
    end.

made(_Version, {0, Said}) ->
    {ok, lists:last(string:lexemes(Said, "\n"))};
made(Version, {_, Said}) ->
    {skip, "no root with OTP " ++ Version ++ ": " ++ lists:last(["" | string:lexemes(Said, "\n")])}.

is_made(Version) ->
    filelib:is_regular(filename:join([cache(), "otp" ++ Version, ".complete"])).

%% As in tools/otp_root.sh.
cache() ->
    case {os:getenv("BARREL_P2P_OTP_CACHE"), os:getenv("XDG_CACHE_HOME")} of
        {Dir, _} when is_list(Dir), Dir =/= "" -> Dir;
        {_, Dir} when is_list(Dir), Dir =/= "" -> filename:join(Dir, "barrel_p2p");
        {_, _} -> filename:join([os:getenv("HOME"), ".cache", "barrel_p2p"])
    end.
