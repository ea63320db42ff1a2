%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Real nodes under attack. The attacker is a program in Rust,
%%% `native/barrel_quic/examples/attack.rs', or a plain UDP socket. After each attack
%%% the node is as it was before: nobody came in, nothing of the VM grew, the log
%%% names the culprit in few lines, and an honest node connects meanwhile. How long
%%% that took is printed, not judged.
-module(attacks_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    first_packets_from_two_thousand_addresses_cost_nothing/1,
    half_open_handshakes_from_two_thousand_addresses_keep_nobody_out/1,
    garbage_datagrams_change_nothing/1,
    hundreds_of_liars_make_no_atoms_and_few_lines/1,
    a_flood_of_pins_ends_at_the_bound/1,
    an_admitted_peer_that_sends_garbage_harms_itself_alone/1,
    streams_abandoned_by_the_thousand_leave_nothing/1,
    a_relay_between_two_nodes_gets_nothing/1
]).
%% Run on nodes
-export([figures/0, settled/2, is_gone/1]).

-define(WAIT_MS, 30000).
%% What the resident memory of a VM may differ by: buffers of sockets, carriers of allocators.
-define(SLACK_MIB, 64).
%% What a VM does of its own accord between two looks: modules loaded on first use.
-define(SLACK_ATOMS, 300).

all() ->
    [
        first_packets_from_two_thousand_addresses_cost_nothing,
        half_open_handshakes_from_two_thousand_addresses_keep_nobody_out,
        garbage_datagrams_change_nothing,
        hundreds_of_liars_make_no_atoms_and_few_lines,
        a_flood_of_pins_ends_at_the_bound,
        an_admitted_peer_that_sends_garbage_harms_itself_alone,
        streams_abandoned_by_the_thousand_leave_nothing,
        a_relay_between_two_nodes_gets_nothing
    ].

suite() ->
    [{timetrap, {minutes, 3}}].

%% The build is that of the Rust tests, of which the attacker is a part, unless
%% BARREL_P2P_ATTACKER names a built one.
init_per_suite(Config) ->
    case os:getenv("BARREL_P2P_ATTACKER") of
        false -> built(Config);
        Attacker -> [{attacker, Attacker} | Config]
    end.

built(Config) ->
    Root = elsewhere:source_root(),
    case elsewhere:command(["sh", filename:join([Root, "native", "build.sh"]), "--find-cargo"], []) of
        {0, Found} ->
            Target = os:getenv("CARGO_TARGET_DIR", filename:join(Root, "target")),
            Build = ["build", "--workspace", "--all-features", "--locked", "--quiet", "--example", "attack"],
            Manifest = ["--manifest-path", filename:join(Root, "Cargo.toml"), "--target-dir", Target],
            Cargo = string:trim(Found),
            Path = filename:dirname(Cargo) ++ ":" ++ os:getenv("PATH", ""),
            {0, _} = elsewhere:command([Cargo | Build ++ Manifest], [{"PATH", Path}]),
            [{attacker, filename:join([Target, "debug", "examples", "attack"])} | Config];
        {_, _} ->
            {skip, "needs a Rust toolchain"}
    end.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

%%%===================================================================
%%% Strangers
%%%===================================================================

first_packets_from_two_thousand_addresses_cost_nothing(Config) ->
    Victim = victim(Config, #{}),
    Before = figures(Victim),
    Attack = attack(Config, ["deaf", address(Victim), "2000"]),
    "sent 2000" = said(Attack),
    honest(Config, Victim, honest),
    Warning = warning(Victim, <<"many handshakes at once">>, fun(_) -> true end),
    ?assertMatch(<<"127.", _/binary>>, maps:get(<<"address">>, Warning)),
    _ = ended(Attack),
    unharmed(Victim, Before, 3).

half_open_handshakes_from_two_thousand_addresses_keep_nobody_out(Config) ->
    Victim = victim(Config, #{}),
    Before = figures(Victim),
    Attack = attack(Config, ["half-open", address(Victim), "2000"]),
    "begun 2000" = said(Attack),
    %% in the midst of it: the gate is full
    GivenUp = fun(#{<<"cause">> := Cause}) -> string:find(Cause, "oldest are given up") =/= nomatch end,
    #{<<"address">> := <<"127.64.", _/binary>>} = warning(Victim, <<"many handshakes at once">>, GivenUp),
    honest(Config, Victim, honest),
    "held " ++ Held = said(Attack),
    ct:pal("~s of 2000 were answered", [Held]),
    honest(Config, Victim, another),
    _ = ended(Attack),
    %% what the gate did, each once, and that no hello came in time
    unharmed(Victim, Before, 4).

garbage_datagrams_change_nothing(Config) ->
    Victim = victim(Config, #{}),
    Before = figures(Victim),
    {ok, Port} = cluster:call(Victim, barrel_p2p_dist, listen_port, []),
    {ok, Socket} = gen_udp:open(0, [binary]),
    %% always the same
    _ = rand:seed(exsss, {1, 2, 3}),
    lists:foreach(
        fun(Number) ->
            %% the system refuses when its buffers are full: a network drops then
            _ = gen_udp:send(Socket, {127, 0, 0, 1}, Port, garbage(Number))
        end,
        lists:seq(1, 20000)
    ),
    honest(Config, Victim, honest),
    ok = gen_udp:close(Socket),
    unharmed(Victim, Before, 3).

%% Noise; what begins as a first packet does; a short header; a version that nobody has.
garbage(Number) ->
    Noise = rand:bytes(rand:uniform(1400)),
    case Number rem 4 of
        0 -> Noise;
        1 -> [<<16#c3, 1:32, 8>>, rand:bytes(8), <<8>>, rand:bytes(8), <<0, 16#44, 16#b0>>, rand:bytes(1200)];
        2 -> [<<16#43>>, Noise];
        3 -> [<<16#c0, Number:32, 8>>, Noise]
    end.

hundreds_of_liars_make_no_atoms_and_few_lines(Config) ->
    Victim = victim(Config, #{}),
    Before = figures(Victim),
    Attack = attack(Config, ["liars", address(Victim), atom_to_list(Victim), "400"]),
    honest(Config, Victim, honest),
    "admitted 0" = said(Attack),
    Refused = warning(Victim, <<"a peer was refused">>, fun(_) -> true end),
    ?assertMatch(
        #{<<"peer">> := <<"liar", _/binary>>, <<"address">> := <<"127.0.0.1:", _/binary>>, <<"code">> := <<"refused">>},
        Refused
    ),
    ?assertNotEqual(nomatch, string:find(maps:get(<<"cause">>, Refused), "cluster secret")),
    ?assertError(badarg, cluster:call(Victim, erlang, binary_to_existing_atom, [<<"liar7@attacker">>])),
    _ = ended(Attack),
    unharmed(Victim, Before, 25).

%%%===================================================================
%%% With the secret
%%%===================================================================

a_flood_of_pins_ends_at_the_bound(Config) ->
    Victim = victim(Config, #{env => [{max_pins, 50}]}),
    Known = cluster:start(?config(cluster, Config), known, #{}),
    ok = cluster:connect(Known, Victim),
    Before = figures(Victim),
    Attack = attack(Config, ["pins", address(Victim), atom_to_list(Victim), cookie(Config), "300"]),
    "admitted 49" = said(Attack),
    Trusted = filename:join([cluster:dir(?config(cluster, Config)), "data", atom_to_list(Victim), "keys", "trusted"]),
    ?assertEqual(50, length(filelib:wildcard("*.pub", Trusted))),
    Refused = warning(Victim, <<"a peer was refused">>, fun(_) -> true end),
    ?assertMatch(#{<<"peer">> := <<"fresh", _/binary>>, <<"code">> := <<"trust_store">>}, Refused),
    ?assertNotEqual(nomatch, string:find(maps:get(<<"cause">>, Refused), "max_pins")),
    %% whoever was known stays so, also after a restart
    Known = cluster:restart(?config(cluster, Config), Known),
    ?assertEqual(pong, cluster:call(Known, net_adm, ping, [Victim])),
    %% and the operator makes room for others
    ok = cluster:call(Victim, barrel_p2p_dist_keys, delete_key, ['fresh0@attacker']),
    honest(Config, Victim, honest),
    _ = ended(Attack),
    unharmed(Victim, Before, 25).

an_admitted_peer_that_sends_garbage_harms_itself_alone(Config) ->
    Victim = victim(Config, #{}),
    Other = cluster:start(?config(cluster, Config), other, #{}),
    ok = cluster:connect(Other, Victim),
    Before = figures(Victim),
    Attack = attack(Config, ["garbage", address(Victim), atom_to_list(Victim), cookie(Config), "200"]),
    "admitted 1" = said(Attack),
    "sent 200" = said(Attack),
    ?assertEqual([Other], cluster:call(Victim, erlang, nodes, [connected])),
    ?assertError({no_nodedown, _, _, _}, cluster:await_nodedown(Other, Victim, 1)),
    ?assertEqual(pong, cluster:call(Other, net_adm, ping, [Victim])),
    honest(Config, Victim, honest),
    _ = ended(Attack),
    unharmed(Victim, Before, unbounded).

streams_abandoned_by_the_thousand_leave_nothing(Config) ->
    Victim = victim(Config, #{}),
    Other = cluster:start(?config(cluster, Config), other, #{}),
    ok = cluster:connect(Other, Victim),
    Before = figures(Victim),
    Attack = attack(Config, ["streams", address(Victim), atom_to_list(Victim), cookie(Config), "5000"]),
    "admitted 1" = said(Attack),
    "sent 5000" = said(Attack),
    ?assertError({no_nodedown, _, _, _}, cluster:await_nodedown(Other, Victim, 1)),
    honest(Config, Victim, honest),
    _ = ended(Attack),
    unharmed(Victim, Before, unbounded).

%% Two nodes that know each other's name, and a relay in place of the address.
a_relay_between_two_nodes_gets_nothing(Config) ->
    Victim = victim(Config, #{}),
    #{cookie := Cookie} = ?config(cluster, Config),
    Apart = (cluster:new(Config, "apart"))#{cookie => Cookie},
    Dialler = cluster:start(Apart, dialler, #{}),
    Attack = attack(Config, ["relay", address(Victim)]),
    "port " ++ Port = said(Attack),
    ok = contact(Dialler, Victim, list_to_integer(Port)),
    ?assertEqual(pang, cluster:call(Dialler, net_adm, ping, [Victim])),
    "refused 3" = said(Attack),
    Name = atom_to_binary(Dialler),
    #{<<"cause">> := Cause} = warning(Victim, <<"a peer was refused">>, fun(#{<<"peer">> := Peer}) -> Peer =:= Name end),
    ?assertNotEqual(nomatch, string:find(Cause, "replay or relay")),
    _ = warning(Dialler, <<"a peer refused this node">>, fun(_) -> true end),
    ?assertEqual([not_pinned, not_pinned], [
        cluster:call(On, barrel_p2p_dist_keys, lookup_pin, [Of])
     || {On, Of} <- [{Victim, Dialler}, {Dialler, Victim}]
    ]),
    %% at its true address it is found
    {ok, True} = cluster:call(Victim, barrel_p2p_dist, listen_port, []),
    ok = contact(Dialler, Victim, True),
    ?assertEqual(pong, cluster:call(Dialler, net_adm, ping, [Victim])),
    _ = ended(Attack),
    cluster:stop(Apart).

contact(Node, Other, Port) ->
    cluster:call(Node, application, set_env, [barrel_p2p, contact_nodes, [{Other, {{127, 0, 0, 1}, Port}}]]).

%%%===================================================================
%%% Internal: nodes
%%%===================================================================

%% It has served an honest node before, so what is made once is made.
victim(Config, Opts) ->
    Victim = cluster:start(?config(cluster, Config), victim, Opts),
    First = cluster:start(?config(cluster, Config), first, #{listen => false}),
    ok = cluster:connect(First, Victim),
    cluster:stop(First, halt),
    true = cluster:await(Victim, fun() -> nodes(connected) =:= [] end, ?WAIT_MS),
    Victim.

address(Node) ->
    {ok, Port} = cluster:call(Node, barrel_p2p_dist, listen_port, []),
    "127.0.0.1:" ++ integer_to_list(Port).

cookie(Config) ->
    #{cookie := Cookie} = ?config(cluster, Config),
    Cookie.

%% A new node connects, works, and goes.
honest(Config, Victim, Name) ->
    Node = cluster:start(?config(cluster, Config), Name, #{}),
    {Us, true} = cluster:call(Node, timer, tc, [net_kernel, connect_node, [Victim]]),
    ?assertEqual(Victim, cluster:call(Node, rpc, call, [Victim, erlang, node, []])),
    ct:pal("under attack an honest node connected in ~.1f ms", [Us / 1000]),
    cluster:stop(Node, halt),
    true = cluster:await(Victim, {?MODULE, is_gone, [Node]}, ?WAIT_MS),
    ok.

figures(Node) ->
    OsPid = cluster:os_pid(Node),
    {ok, Status} = file:read_file("/proc/" ++ OsPid ++ "/status"),
    {match, [Rss]} = re:run(Status, "VmRSS:\\s+(\\d+)", [{capture, all_but_first, list}]),
    {ok, Files} = file:list_dir("/proc/" ++ OsPid ++ "/fd"),
    (cluster:call(Node, ?MODULE, figures, []))#{rss => list_to_integer(Rss) div 1024, files => length(Files)}.

figures() ->
    #{
        atoms => erlang:system_info(atom_count),
        processes => erlang:system_info(process_count),
        ports => erlang:system_info(port_count),
        tables => length(ets:all()),
        links => length(barrel_p2p_node:links())
    }.

settled(Processes, Links) ->
    #{processes := NowProcesses, links := NowLinks} = figures(),
    NowProcesses =< Processes andalso NowLinks =< Links.

is_gone(Node) ->
    not lists:member(Node, nodes(connected)).

%% Processes and links of the attack end by themselves, a little later than the attacker.
unharmed(Node, #{processes := Processes, links := Links} = Before, Lines) ->
    Settled = {?MODULE, settled, [Processes, Links]},
    true = cluster:await(Node, Settled, ?WAIT_MS),
    After = figures(Node),
    ct:pal("before ~p~nafter  ~p", [Before, After]),
    [?assertEqual({Key, maps:get(Key, Before)}, {Key, maps:get(Key, After)}) || Key <- [ports, tables]],
    Grown = fun(Key) -> maps:get(Key, After) - maps:get(Key, Before) end,
    ?assert(Grown(atoms) =< ?SLACK_ATOMS, {atoms, Grown(atoms)}),
    ?assert(Grown(rss) =< ?SLACK_MIB, {mib, Grown(rss)}),
    ?assert(Grown(files) =< 4, {files, Grown(files)}),
    Said = [Event || #{level := Level} = Event <- cluster:logs(Node), logger:compare_levels(Level, warning) =/= lt],
    ct:pal("~b lines at warning and above", [length(Said)]),
    ?assert(Lines =:= unbounded orelse length(Said) =< Lines, Said).

%%%===================================================================
%%% Internal: the log
%%%===================================================================

%% The fields of the first warning of Rust with that text for which the fun says `true'.
warning(Node, What, IsIt) ->
    Matches = fun
        (#{level := warning, msg := {report, #{what := W, fields := Fields}}}) -> W =:= What andalso IsIt(Fields);
        (_) -> false
    end,
    #{msg := {report, #{fields := Fields}}} = cluster:await_log(Node, Matches, ?WAIT_MS),
    Fields.

%%%===================================================================
%%% Internal: the attacker
%%%===================================================================

attack(Config, Args) ->
    open_port({spawn_executable, ?config(attacker, Config)}, [
        {args, Args}, {line, 1000}, exit_status, stderr_to_stdout, binary
    ]).

%% The next line of the attacker.
said(Attack) ->
    receive
        {Attack, {data, {eol, <<>>}}} -> error({the_attacker_died, last_words(Attack, [])});
        {Attack, {data, {eol, Line}}} -> binary_to_list(Line);
        {Attack, {exit_status, Status}} -> error({the_attacker_died, Status})
    after ?WAIT_MS * 2 -> error(the_attacker_is_silent)
    end.

ended(Attack) ->
    true = port_command(Attack, "end\n"),
    last_words(Attack, []).

last_words(Attack, Said) ->
    receive
        {Attack, {data, {eol, Line}}} -> last_words(Attack, [Line | Said]);
        {Attack, {exit_status, 0}} -> lists:reverse(Said);
        {Attack, {exit_status, Status}} -> error({the_attacker_died, Status, lists:reverse(Said)})
    after ?WAIT_MS -> error(the_attacker_goes_on)
    end.
