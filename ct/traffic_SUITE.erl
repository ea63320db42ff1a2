%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What programs do over the distribution: messages of every size and kind,
%%% signals, calls, code, order under load, back-pressure, and connections that
%%% come and go. Cases start a pair of nodes and run funs of this module on them.
-module(traffic_SUITE).
-behaviour(gen_server).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% Common Test
-export([all/0, groups/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
%% Messages
-export([
    binaries_of_every_size_arrive_whole/1,
    terms_of_every_kind_arrive_equal/1,
    more_atoms_than_the_cache_holds_keep_their_names/1,
    two_hundred_pairs_talk_at_once/1,
    names_and_aliases_are_addresses/1
]).
%% Signals
-export([
    links_carry_exits_both_ways/1,
    monitors_report_by_pid_and_by_name/1,
    exit_reasons_of_megabytes_arrive_whole/1,
    a_lost_node_ends_links_and_monitors/1,
    processes_are_spawned_remotely_in_every_way/1
]).
%% Calls
-export([
    rpc_and_erpc_answer_and_raise/1,
    generic_servers_answer_across_nodes/1,
    code_is_loaded_across_nodes/1,
    output_goes_to_a_remote_group_leader/1,
    processes_are_inspected_remotely/1,
    global_and_pg_agree_in_a_full_mesh/1
]).
%% Order and pressure
-export([
    order_is_kept_over_pid_name_and_alias/1,
    a_receiver_that_does_not_read_suspends_senders/1,
    a_stopped_peer_suspends_senders_and_loses_nothing/1,
    small_messages_get_through_beside_bulk/1
]).
%% Coming and going
-export([
    first_messages_open_the_connection_and_all_arrive/1,
    last_messages_arrive_before_the_end/1
]).
%% gen_server, on the nodes
-export([init/1, handle_call/3, handle_cast/2]).
%% Entry points of remote processes
-export([echo/0, wait/0, add/2, fail/1, sleeper/1, say/2]).

%% An event that must come; how long it takes is not what is tested.
-define(SOON, 60000).
%% What the whole way from a sender to an input that does not read may hold: the design's
%% bound of 16 MiB, which the windows and budgets of the defaults add up to less than.
-define(IN_FLIGHT, 16 * 1024 * 1024).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [{group, messages}, {group, signals}, {group, calls}, {group, pressure}, {group, connections}].

groups() ->
    [
        {messages, [], [
            binaries_of_every_size_arrive_whole,
            terms_of_every_kind_arrive_equal,
            more_atoms_than_the_cache_holds_keep_their_names,
            two_hundred_pairs_talk_at_once,
            names_and_aliases_are_addresses
        ]},
        {signals, [], [
            links_carry_exits_both_ways,
            monitors_report_by_pid_and_by_name,
            exit_reasons_of_megabytes_arrive_whole,
            a_lost_node_ends_links_and_monitors,
            processes_are_spawned_remotely_in_every_way
        ]},
        {calls, [], [
            rpc_and_erpc_answer_and_raise,
            generic_servers_answer_across_nodes,
            code_is_loaded_across_nodes,
            output_goes_to_a_remote_group_leader,
            processes_are_inspected_remotely,
            global_and_pg_agree_in_a_full_mesh
        ]},
        {pressure, [], [
            order_is_kept_over_pid_name_and_alias,
            a_receiver_that_does_not_read_suspends_senders,
            a_stopped_peer_suspends_senders_and_loses_nothing,
            small_messages_get_through_beside_bulk
        ]},
        {connections, [], [
            first_messages_open_the_connection_and_all_arrive,
            last_messages_arrive_before_the_end
        ]}
    ].

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    try
        cluster:stop(?config(cluster, Config))
    catch
        error:Reason -> {fail, Reason}
    end.

pair(Config) ->
    pair(Config, #{}).

pair(Config, Opts) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, Opts) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    {A, B}.

%%%===================================================================
%%% Messages
%%%===================================================================

binaries_of_every_size_arrive_whole(Config) ->
    {A, B} = pair(Config),
    K = 1024,
    M = 1024 * K,
    Around = [S + D || S <- [64, 256, 4 * K, 16 * K, 64 * K, 128 * K, 256 * K, M], D <- [-1, 0, 1]],
    Sizes = lists:usort([0, 1, 2, 3 | Around] ++ [4 * M + 7, 16 * M, 64 * M]),
    Good = cluster:run(A, fun() ->
        Echo = spawn_link(B, ?MODULE, echo, []),
        [
            Size
         || Size <- Sizes,
            Bytes <- [crypto:strong_rand_bytes(Size)],
            {Hash, Back} <- [ask(Echo, {hash, Bytes})],
            Hash =:= crypto:hash(sha256, Bytes),
            Back =:= Bytes
        ]
    end),
    ?assertEqual(Sizes, Good).

terms_of_every_kind_arrive_equal(Config) ->
    {A, B} = pair(Config),
    Bad = cluster:run(A, fun() ->
        Echo = spawn_link(B, ?MODULE, echo, []),
        [{Kind, ask(Echo, {say, Term})} || {Kind, Term} <- terms(Echo), ask(Echo, {say, Term}) =/= Term]
    end),
    ?assertEqual([], Bad).

terms(Remote) ->
    N = 100000,
    [
        {integers, [0, -1, 255, 256, 1 bsl 27, -(1 bsl 27), 1 bsl 59, 1 bsl 64, -(1 bsl 64), 1 bsl 40000]},
        {floats, [0.0, -0.0, 1.5, 1.0e308, -4.9e-324]},
        {empty, [[], {}, #{}, <<>>, "", '']},
        {bits, [<<1:1>>, <<5:3, 1000:77>>, <<0:524287>>]},
        {nested_lists, lists:foldl(fun(_, Acc) -> [Acc] end, [], lists:seq(1, N))},
        {nested_tuples, lists:foldl(fun(I, Acc) -> {I, Acc} end, {}, lists:seq(1, N))},
        {nested_maps, lists:foldl(fun(I, Acc) -> #{I => Acc} end, #{}, lists:seq(1, 1000))},
        {long_list, lists:seq(1, N)},
        {text, lists:duplicate(N, $x)},
        {improper, [a, b | c]},
        {large_tuple, list_to_tuple(lists:seq(1, N))},
        {small_map, #{a => 1, "b" => <<2>>, {c} => #{}}},
        {large_map, maps:from_list([{{I, integer_to_binary(I)}, [I]} || I <- lists:seq(1, N)])},
        {atoms, ['', 'ä', '日本', true, list_to_atom(lists:duplicate(255, $a)), list_to_atom(lists:duplicate(255, 16#65e5))]},
        {pids, [self(), Remote, group_leader()]},
        {references, [make_ref(), alias(), erpc:call(node(Remote), erlang, make_ref, [])]},
        {ports, [hd(erlang:ports())]},
        {external_fun, fun lists:map/2},
        {closure, closure(<<"what it holds">>)},
        {binaries, [crypto:strong_rand_bytes(I rem 300) || I <- lists:seq(1, 5000)]},
        {parts_of_one_binary, [Part || Whole <- [crypto:strong_rand_bytes(300000)], <<Part:1000/binary>> <= Whole]}
    ].

closure(Held) ->
    fun(X) -> {Held, X} end.

%% The cache of a channel has 2048 places. Each atom says in its name what it must be.
more_atoms_than_the_cache_holds_keep_their_names(Config) ->
    {A, B} = pair(Config),
    Senders = 20,
    Each = 5000,
    Bad = cluster:run(A, fun() ->
        Collector = erpc:call(B, fun() -> spawn(fun() -> collect_atoms(Senders * Each, []) end) end),
        [
            spawn_link(fun() ->
                [Collector ! {atom, I, list_to_atom("n" ++ integer_to_list(I))} || J <- lists:seq(1, Each), I <- [J * S rem 7919]]
            end)
         || S <- lists:seq(1, Senders)
        ],
        ask(Collector, bad)
    end),
    ?assertEqual([], Bad).

collect_atoms(0, Bad) ->
    receive
        {ask, From, bad} -> answer(From, Bad)
    end;
collect_atoms(Left, Bad) ->
    receive
        {atom, I, Atom} ->
            case atom_to_list(Atom) =:= "n" ++ integer_to_list(I) of
                true -> collect_atoms(Left - 1, Bad);
                false -> collect_atoms(Left - 1, [{I, Atom} | Bad])
            end
    end.

two_hundred_pairs_talk_at_once(Config) ->
    {A, B} = pair(Config),
    Pairs = 200,
    Rounds = 100,
    Done = cluster:run(A, fun() ->
        Workers = [
            spawn_monitor(fun() ->
                Echo = spawn_link(B, ?MODULE, echo, []),
                [
                    begin
                        Bytes = crypto:strong_rand_bytes((P * 37 + R * 131) rem 5000),
                        Term = {P, R, Bytes},
                        Term = ask(Echo, {say, Term})
                    end
                 || R <- lists:seq(1, Rounds)
                ],
                exit({done, P})
            end)
         || P <- lists:seq(1, Pairs)
        ],
        [reason(Worker) || Worker <- Workers]
    end),
    ?assertEqual([{done, P} || P <- lists:seq(1, Pairs)], Done).

names_and_aliases_are_addresses(Config) ->
    {A, B} = pair(Config),
    cluster:run(A, fun() ->
        Echo = spawn_link(B, ?MODULE, echo, []),
        true = ask(Echo, {register, echo}),
        here = ask({echo, B}, {say, here}),
        %% to a name that nobody has: gone without a trace
        {nobody_at_all, B} ! lost,
        here = ask({echo, B}, {say, here}),
        %% an answer through an alias comes once, with `reply'
        Once = alias([reply]),
        Echo ! {ask, {Once, 1}, {say, first}},
        Echo ! {ask, {Once, 2}, {say, second}},
        here = ask(Echo, {say, here}),
        {1, first} = receive_one(),
        nothing = receive_none(),
        %% a cancelled alias takes no message
        Cancelled = alias(),
        true = unalias(Cancelled),
        Echo ! {ask, {Cancelled, 3}, {say, third}},
        here = ask(Echo, {say, here}),
        nothing = receive_none(),
        %% a monitor that is an alias as well
        Monitor = monitor(process, Echo, [{alias, demonitor}]),
        Echo ! {ask, {Monitor, 4}, {say, fourth}},
        here = ask(Echo, {say, here}),
        {4, fourth} = receive_one(),
        true = demonitor(Monitor),
        Echo ! {ask, {Monitor, 5}, {say, fifth}},
        here = ask(Echo, {say, here}),
        nothing = receive_none()
    end).

%%%===================================================================
%%% Signals
%%%===================================================================

links_carry_exits_both_ways(Config) ->
    {A, B} = pair(Config),
    cluster:run(A, fun() ->
        process_flag(trap_exit, true),
        %% the remote end dies
        Remote = spawn_link(B, ?MODULE, wait, []),
        exit(Remote, {shutdown, remote}),
        {'EXIT', Remote, {shutdown, remote}} = receive_one(),
        %% the local end dies, and the remote one of it
        Partner = spawn(B, ?MODULE, wait, []),
        Monitor = monitor(process, Partner),
        Linked = spawn(fun() ->
            link(Partner),
            exit({shutdown, local})
        end),
        {'DOWN', Monitor, process, Partner, {shutdown, local}} = receive_one(),
        true = is_pid(Linked),
        %% a normal end ends nobody, unlinking neither
        Survivor = spawn(B, ?MODULE, echo, []),
        SurvivorMonitor = monitor(process, Survivor),
        {_, M1} = spawn_monitor(fun() -> link(Survivor) end),
        {'DOWN', M1, process, _, normal} = receive_one(),
        {_, M2} = spawn_monitor(fun() ->
            link(Survivor),
            unlink(Survivor),
            exit(boom)
        end),
        {'DOWN', M2, process, _, boom} = receive_one(),
        alive = ask(Survivor, {say, alive}),
        exit(Survivor, kill),
        {'DOWN', SurvivorMonitor, process, Survivor, killed} = receive_one(),
        %% somebody who is dead already
        link(Survivor),
        {'EXIT', Survivor, noproc} = receive_one(),
        nothing = receive_none()
    end).

monitors_report_by_pid_and_by_name(Config) ->
    {A, B} = pair(Config),
    cluster:run(A, fun() ->
        Named = spawn(B, ?MODULE, echo, []),
        true = ask(Named, {register, named}),
        ByPid = monitor(process, Named),
        ByName = monitor(process, {named, B}),
        Dropped = monitor(process, {named, B}),
        true = demonitor(Dropped),
        Tagged = monitor(process, Named, [{tag, {gone, 7}}]),
        exit(Named, {because, [1, 2]}),
        Downs = lists:sort([receive_one() || _ <- lists:seq(1, 3)]),
        Expected = lists:sort([
            {'DOWN', ByPid, process, Named, {because, [1, 2]}},
            {'DOWN', ByName, process, {named, B}, {because, [1, 2]}},
            {{gone, 7}, Tagged, process, Named, {because, [1, 2]}}
        ]),
        Expected = Downs,
        None = monitor(process, {named, B}),
        {'DOWN', None, process, {named, B}, noproc} = receive_one(),
        Dead = monitor(process, Named),
        {'DOWN', Dead, process, Named, noproc} = receive_one(),
        nothing = receive_none()
    end).

exit_reasons_of_megabytes_arrive_whole(Config) ->
    {A, B} = pair(Config),
    cluster:run(A, fun() ->
        process_flag(trap_exit, true),
        [
            begin
                Reason = {large, crypto:strong_rand_bytes(Size)},
                {Pid, Monitor} = spawn_monitor(B, ?MODULE, wait, []),
                link(Pid),
                Pid ! {end_of, Reason},
                Received = lists:sort([receive_one(), receive_one()]),
                Expected = lists:sort([{'EXIT', Pid, Reason}, {'DOWN', Monitor, process, Pid, Reason}]),
                {Size, true} = {Size, Expected =:= Received},
                %% and the signal itself
                {Other, OtherMonitor} = spawn_monitor(B, ?MODULE, wait, []),
                exit(Other, Reason),
                {'DOWN', OtherMonitor, process, Other, Reason} = receive_one()
            end
         || Size <- [60000, 65536, 200000, 4 * 1024 * 1024]
        ],
        nothing = receive_none()
    end).

a_lost_node_ends_links_and_monitors(Config) ->
    {A, B} = pair(Config),
    Count = 100,
    Watcher = cluster:run(A, fun() ->
        Self = self(),
        Pid = spawn(fun() ->
            process_flag(trap_exit, true),
            Remotes = [spawn_link(B, ?MODULE, wait, []) || _ <- lists:seq(1, Count)],
            Monitors = [monitor(process, Remote) || Remote <- Remotes],
            ByName = monitor(process, {init, B}),
            true = monitor_node(B, true),
            Call = erpc:send_request(B, ?MODULE, wait, []),
            Self ! {self(), ready},
            Exits = [receive {'EXIT', Remote, Reason} -> Reason after ?SOON -> late end || Remote <- Remotes],
            Downs = [receive {'DOWN', M, process, _, Reason} -> Reason after ?SOON -> late end || M <- [ByName | Monitors]],
            Node = receive {nodedown, B} -> nodedown after ?SOON -> late end,
            Answer =
                try
                    erpc:receive_response(Call, ?SOON)
                catch
                    error:Reason -> Reason
                end,
            receive
                {ask, From, result} -> answer(From, {Exits, Downs, Node, Answer})
            end
        end),
        receive
            {Pid, ready} -> Pid
        end
    end),
    ok = cluster:kill(B),
    {Exits, Downs, Node, Answer} = cluster:run(A, fun() -> ask(Watcher, result) end),
    ?assertEqual([noconnection], lists:usort(Exits)),
    ?assertEqual([noconnection], lists:usort(Downs)),
    ?assertEqual(Count + 1, length(Downs)),
    ?assertEqual(nodedown, Node),
    ?assertEqual({erpc, noconnection}, Answer),
    %% new ones find nobody
    ?assertEqual(noconnection, cluster:run(A, fun() ->
        M = monitor(process, {init, B}),
        receive {'DOWN', M, process, _, Reason} -> Reason after ?SOON -> late end
    end)).

processes_are_spawned_remotely_in_every_way(Config) ->
    {A, B} = pair(Config),
    cluster:run(A, fun() ->
        process_flag(trap_exit, true),
        Self = self(),
        Tell = fun() -> Self ! {self(), node()} end,
        B = from(spawn(B, Tell)),
        B = from(spawn(B, erlang, apply, [Tell, []])),
        Linked = spawn_link(B, Tell),
        B = from(Linked),
        {'EXIT', Linked, normal} = receive_one(),
        {Monitored, M} = spawn_monitor(B, ?MODULE, fail, [why]),
        {'DOWN', M, process, Monitored, {why, [_ | _]}} = receive_one(),
        {Both, M2} = spawn_opt(B, Tell, [link, {monitor, [{tag, tagged}]}, {priority, high}]),
        B = from(Both),
        Ends = lists:sort([receive_one(), receive_one()]),
        Ends = lists:sort([{'EXIT', Both, normal}, {tagged, M2, process, Both, normal}]),
        %% requests: answered, refused, to nobody
        R1 = spawn_request(B, Tell, [{reply_tag, started}]),
        {started, R1, ok, Requested} = receive_one(),
        B = from(Requested),
        R2 = spawn_request(B, Tell, [{min_heap_size, -1}]),
        {spawn_reply, R2, error, badopt} = receive_one(),
        R3 = spawn_request('nobody@127.0.0.1', Tell, []),
        {spawn_reply, R3, error, noconnection} = receive_one(),
        R4 = spawn_request(B, ?MODULE, wait, [], [{reply, error_only}]),
        _ = spawn_request_abandon(R4),
        %% many at once
        Requests = [spawn_request(B, ?MODULE, wait, []) || _ <- lists:seq(1, 500)],
        Pids = [receive {spawn_reply, R, ok, Pid} -> Pid after ?SOON -> late end || R <- Requests],
        500 = length(lists:usort(Pids)),
        [exit(Pid, kill) || Pid <- Pids],
        nothing = receive_none()
    end).

%%%===================================================================
%%% Calls
%%%===================================================================

rpc_and_erpc_answer_and_raise(Config) ->
    C = ?config(cluster, Config),
    {A, B} = pair(Config),
    X = cluster:start(C, x, #{}),
    ok = cluster:connect(A, X),
    cluster:run(A, fun() ->
        3 = rpc:call(B, ?MODULE, add, [1, 2]),
        {badrpc, {'EXIT', {why, _}}} = rpc:call(B, ?MODULE, fail, [why]),
        {badrpc, timeout} = rpc:call(B, ?MODULE, sleeper, [self()], 1),
        {badrpc, nodedown} = rpc:call('nobody@127.0.0.1', erlang, node, []),
        {[3, 3, 3], ['nobody@127.0.0.1']} = rpc:multicall([A, B, X, 'nobody@127.0.0.1'], ?MODULE, add, [1, 2]),
        Key = rpc:async_call(B, ?MODULE, add, [20, 22]),
        42 = rpc:yield(Key),
        [2, 4, 6] = rpc:parallel_eval([{?MODULE, add, [I, I]} || I <- [1, 2, 3]]),
        B = rpc:block_call(B, erlang, node, []),
        Self = self(),
        true = rpc:cast(B, erlang, send, [Self, cast]),
        cast = receive_one(),
        abcast = rpc:abcast([A, B, X], nobody_here, lost),
        %% erpc
        3 = erpc:call(B, ?MODULE, add, [1, 2]),
        {exception, why, [_ | _]} = raised(fun() -> erpc:call(B, ?MODULE, fail, [why]) end),
        {erpc, noconnection} = raised(fun() -> erpc:call('nobody@127.0.0.1', erlang, node, []) end),
        {erpc, timeout} = raised(fun() -> erpc:call(B, ?MODULE, sleeper, [self()], 1) end),
        [{ok, A}, {ok, B}, {ok, X}] = erpc:multicall([A, B, X], erlang, node, []),
        ok = erpc:multicast([B, X], erlang, send, [Self, many]),
        [many, many] = [receive_one(), receive_one()],
        Requests = [erpc:send_request(N, ?MODULE, add, [I, I]) || I <- lists:seq(1, 500), N <- [B, X]],
        1000 = length([ok || R <- Requests, is_integer(erpc:receive_response(R))]),
        %% large arguments and results
        Large = crypto:strong_rand_bytes(8 * 1024 * 1024),
        Hash = crypto:hash(sha256, Large),
        Hash = erpc:call(B, crypto, hash, [sha256, Large]),
        Large = erpc:call(B, fun() -> Large end),
        nothing = receive_none()
    end).

raised(Fun) ->
    try
        {returned, Fun()}
    catch
        error:Reason -> Reason
    end.

generic_servers_answer_across_nodes(Config) ->
    C = ?config(cluster, Config),
    {A, B} = pair(Config),
    X = cluster:start(C, x, #{}),
    ok = cluster:connect(A, X),
    cluster:run(A, fun() ->
        Servers = [{ok, _} = erpc:call(N, gen_server, start, [{local, server}, ?MODULE, N, []]) || N <- [B, X]],
        [{ok, OnB}, {ok, _}] = Servers,
        B = gen_server:call(OnB, who),
        X = gen_server:call({server, X}, who),
        {Replies, Bad} = gen_server:multi_call([B, X, 'nobody@127.0.0.1'], server, who),
        [{B, B}, {X, X}] = lists:sort(Replies),
        ['nobody@127.0.0.1'] = Bad,
        abcast = gen_server:abcast([B, X], server, {tell, self()}),
        [B, X] = lists:sort([receive_one(), receive_one()]),
        ok = gen_server:cast({server, B}, {tell, self()}),
        B = receive_one(),
        {timeout, _} = exited(fun() -> gen_server:call({server, B}, never, 1) end),
        {noproc, _} = exited(fun() -> gen_server:call({no_such_server, B}, who) end),
        {{nodedown, 'nobody@127.0.0.1'}, _} = exited(fun() -> gen_server:call({server, 'nobody@127.0.0.1'}, who) end),
        Requests = [gen_server:send_request({server, B}, {echo, I}) || I <- lists:seq(1, 2000)],
        2000 = length([I || {I, R} <- lists:zip(lists:seq(1, 2000), Requests), {reply, I} =:= gen_server:wait_response(R, ?SOON)]),
        Callers = [spawn_monitor(fun() -> exit(gen_server:call({server, B}, {echo, I}, ?SOON)) end) || I <- lists:seq(1, 1000)],
        true = [reason(Caller) || Caller <- Callers] =:= lists:seq(1, 1000),
        %% in the middle of a call the server dies
        {boom, _} = exited(fun() -> gen_server:call({server, B}, die) end),
        nothing = receive_none()
    end).

exited(Fun) ->
    try
        {returned, Fun()}
    catch
        exit:Reason -> Reason
    end.

init(Node) ->
    {ok, Node}.

handle_call(who, _From, Node) -> {reply, Node, Node};
handle_call({echo, Term}, _From, Node) -> {reply, Term, Node};
handle_call(never, _From, Node) -> {noreply, Node};
handle_call(die, _From, _Node) -> exit(boom).

handle_cast({tell, Pid}, Node) ->
    Pid ! Node,
    {noreply, Node}.

code_is_loaded_across_nodes(Config) ->
    {A, B} = pair(Config),
    Dir = filename:join(cluster:dir(?config(cluster, Config)), "code"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    cluster:run(A, fun() ->
        Module = traffic_travels,
        false = erpc:call(B, code, is_loaded, [Module]),
        First = module(Module, 1),
        {module, Module} = rpc:call(B, code, load_binary, [Module, "from " ++ atom_to_list(A), First]),
        1 = rpc:call(B, Module, version, []),
        Fun = erpc:call(B, erlang, apply, [fun() -> Module:closure(7) end, []]),
        %% the fun of a module that is not here can be held and sent, and called there
        {1, 7} = erpc:call(B, Fun),
        %% a second version beside the first
        {module, Module} = rpc:call(B, code, load_binary, [Module, "again", module(Module, 2)]),
        2 = rpc:call(B, Module, version, []),
        {1, 7} = erpc:call(B, Fun),
        %% by the shell's command, to all nodes
        ok = file:write_file(filename:join(Dir, atom_to_list(Module) ++ ".beam"), module(Module, 3)),
        true = code:add_patha(Dir),
        _ = erpc:call(B, code, purge, [Module]),
        abcast = c:nl(Module),
        true = poll(fun() -> rpc:call(B, Module, version, []) =:= 3 end),
        %% a large one
        Large = large_module(traffic_travels_large),
        true = byte_size(Large) > 2 * 65536,
        {module, traffic_travels_large} = erpc:call(B, code, load_binary, [traffic_travels_large, "large", Large]),
        4999 = erpc:call(B, traffic_travels_large, f4999, [])
    end).

module(Name, Version) ->
    compiled([
        io_lib:format("-module(~s).", [Name]),
        "-export([version/0, closure/1]).",
        io_lib:format("version() -> ~b.", [Version]),
        io_lib:format("closure(X) -> fun() -> {~b, X} end.", [Version])
    ]).

large_module(Name) ->
    Functions = [io_lib:format("f~b() -> ~b.", [I, I]) || I <- lists:seq(1, 5000)],
    compiled([io_lib:format("-module(~s).", [Name]), "-compile(export_all)." | Functions]).

compiled(Lines) ->
    Forms = [
        begin
            {ok, Tokens, _} = erl_scan:string(lists:flatten(Line)),
            {ok, Form} = erl_parse:parse_form(Tokens),
            Form
        end
     || Line <- Lines
    ],
    {ok, _, Binary} = compile:forms(Forms, [debug_info]),
    Binary.

output_goes_to_a_remote_group_leader(Config) ->
    {A, B} = pair(Config),
    cluster:run(A, fun() ->
        Self = self(),
        Leader = spawn_link(fun() -> group_leader_loop(Self, []) end),
        true = group_leader(Leader, self()),
        %% inherited by what is spawned there
        Large = lists:duplicate(1000000, $x),
        {Pid, Monitor} = spawn_monitor(B, ?MODULE, say, [self(), Large]),
        {Pid, A, "line\n"} = receive_one(),
        {'DOWN', Monitor, process, Pid, normal} = receive_one(),
        Printed = ask(Leader, output),
        Expected = unicode:characters_to_binary(io_lib:format("on ~s~n~ts~nüß~n", [B, Large])),
        true = Printed =:= Expected,
        %% and by the processes that rpc uses
        A = rpc:call(B, erlang, apply, [fun() -> node(group_leader()) end, []]),
        %% given to a process that runs
        Echo = spawn(B, ?MODULE, echo, []),
        Other = spawn_link(fun() -> group_leader_loop(Self, []) end),
        true = group_leader(Other, Echo),
        Other = ask(Echo, group_leader),
        nothing = receive_none()
    end).

%% As much of an I/O server as io:format/2 and io:get_line/1 need.
group_leader_loop(Owner, Output) ->
    receive
        {io_request, From, Ref, {put_chars, unicode, Chars}} ->
            From ! {io_reply, Ref, ok},
            group_leader_loop(Owner, [Output, unicode:characters_to_binary(Chars)]);
        {io_request, From, Ref, {put_chars, unicode, M, F, As}} ->
            From ! {io_reply, Ref, ok},
            group_leader_loop(Owner, [Output, unicode:characters_to_binary(apply(M, F, As))]);
        {io_request, From, Ref, {get_line, unicode, _Prompt}} ->
            From ! {io_reply, Ref, "line\n"},
            group_leader_loop(Owner, Output);
        {ask, From, output} ->
            answer(From, iolist_to_binary(Output)),
            group_leader_loop(Owner, Output)
    end.

processes_are_inspected_remotely(Config) ->
    {A, B} = pair(Config),
    cluster:run(A, fun() ->
        Echo = spawn(B, ?MODULE, echo, []),
        runs = ask(Echo, {say, runs}),
        [Echo ! {not_matched, I} || I <- lists:seq(1, 10)],
        true = rpc:call(B, erlang, is_process_alive, [Echo]),
        [{message_queue_len, 10}, {initial_call, {?MODULE, echo, 0}}] =
            rpc:call(B, erlang, process_info, [Echo, [message_queue_len, initial_call]]),
        %% the whole table, as tools fetch it
        All = rpc:call(B, erlang, apply, [fun() -> [{P, erlang:process_info(P)} || P <- processes()] end, []]),
        true = lists:keymember(Echo, 1, All),
        {ok, Server} = erpc:call(B, gen_server, start, [?MODULE, inspected, []]),
        inspected = sys:get_state(Server),
        {status, Server, _, _} = sys:get_status(Server),
        changed = sys:replace_state(Server, fun(inspected) -> changed end),
        changed = gen_server:call(Server, who),
        badarg = raised(fun() -> erlang:process_info(Echo) end),
        nothing = receive_none()
    end).

global_and_pg_agree_in_a_full_mesh(Config) ->
    C = ?config(cluster, Config),
    Opts = #{kernel => [{connect_all, true}]},
    Nodes = [A, B, X] = [cluster:start(C, Name, Opts) || Name <- [a, b, x]],
    [{ok, _} = cluster:call(N, pg, start, [scope]) || N <- Nodes],
    ok = cluster:connect(A, B),
    ok = cluster:connect(X, A),
    %% global connects the rest
    [ok = cluster:await_nodeup(N, M, ?SOON) || N <- Nodes, M <- Nodes, N =/= M],
    [ok = cluster:call(N, global, sync, []) || N <- Nodes],
    Registered = cluster:run(A, fun() ->
        Pid = spawn(?MODULE, echo, []),
        yes = global:register_name(shared, Pid),
        ok = pg:join(scope, group, Pid),
        Pid
    end),
    ?assertEqual([Registered], lists:usort([cluster:call(N, global, whereis_name, [shared]) || N <- Nodes])),
    ?assertEqual(no, cluster:run(B, fun() -> global:register_name(shared, self()) end)),
    OnX = cluster:run(X, fun() ->
        Pid = spawn(?MODULE, echo, []),
        ok = pg:join(scope, group, Pid),
        pong = ask(global:whereis_name(shared), {say, pong}),
        Pid
    end),
    Members = lists:sort([Registered, OnX]),
    [true = cluster:await(N, fun() -> lists:sort(pg:get_members(scope, group)) =:= Members end, ?SOON) || N <- Nodes],
    %% one lock for all
    ?assertEqual(done, cluster:run(B, fun() -> global:trans({lock, self()}, fun() -> done end, [node() | nodes()]) end)),
    %% a node goes, and what it held
    ok = cluster:kill(A),
    [
        begin
            connection_closed = cluster:await_nodedown(N, A, ?SOON),
            true = cluster:await(N, fun() -> global:whereis_name(shared) =:= undefined end, ?SOON),
            true = cluster:await(N, fun() -> pg:get_members(scope, group) =:= [OnX] end, ?SOON)
        end
     || N <- [B, X]
    ],
    ?assertEqual([X], cluster:call(B, erlang, nodes, [])).

%%%===================================================================
%%% Order and pressure
%%%===================================================================

%% Signals of one process to another keep their order whatever the address they are sent to,
%% and its end comes after all of them. Some messages are large enough to be cut in fragments,
%% between which those of others go.
order_is_kept_over_pid_name_and_alias(Config) ->
    {A, B} = pair(Config),
    Senders = 20,
    Each = 10000,
    %% both directions at once
    Receivers = [
        {To, cluster:run(From, fun() -> start_ordered(To, Senders, Each) end)}
     || {From, To} <- [{A, B}, {B, A}]
    ],
    Results = [cluster:run(To, fun() -> ask(Receiver, result) end) || {To, Receiver} <- Receivers],
    ?assertEqual([{ok, Senders * Each}, {ok, Senders * Each}], Results).

start_ordered(To, Senders, Each) ->
    Receiver = erpc:call(To, fun() ->
        spawn(fun() ->
            true = register(ordered, self()),
            ordered_init(Senders)
        end)
    end),
    Alias = ask(Receiver, alias),
    Addresses = {Receiver, {ordered, To}, Alias},
    Pids = [spawn(fun() -> ordered_sender(S, Addresses, Each) end) || S <- lists:seq(1, Senders)],
    [true = register(ordered_name(S), Pid) || {S, Pid} <- lists:zip(lists:seq(1, Senders), Pids)],
    Receiver ! {senders, node(), Pids},
    Receiver.

ordered_name(S) ->
    list_to_atom("ordered_" ++ integer_to_list(S)).

ordered_sender(S, Addresses, Each) ->
    receive
        go -> ok
    end,
    Large = binary:copy(<<S>>, 100000),
    lists:foldl(
        fun(I, Random) ->
            {R, Next} = rand:uniform_s(1000, Random),
            Address = element(1 + R rem 3, Addresses),
            case R of
                1 -> Address ! {ordered, self(), I, Large};
                _ -> Address ! {ordered, self(), I, R}
            end,
            Next
        end,
        rand:seed_s(exsss, S),
        lists:seq(1, Each)
    ),
    exit({sent, Each}).

ordered_init(Senders) ->
    Alias = alias(),
    receive
        {ask, From, alias} -> answer(From, Alias)
    end,
    receive
        {senders, Node, Pids} ->
            Senders = length(Pids),
            %% by pid, and by name
            Monitors = [{monitor(process, Pid), Pid} || Pid <- Pids],
            Names = [{monitor(process, {ordered_name(S), Node}), Pid} || {S, Pid} <- lists:zip(lists:seq(1, Senders), Pids)],
            [Pid ! go || Pid <- Pids],
            ordered_loop(maps:from_list([{Pid, 0} || Pid <- Pids]), maps:from_list(Monitors ++ Names), 0, [])
    end.

ordered_loop(_Last, Monitors, Count, Wrong) when map_size(Monitors) =:= 0 ->
    receive
        {ask, From, result} when Wrong =:= [] -> answer(From, {ok, Count});
        {ask, From, result} -> answer(From, {wrong, Count, lists:sublist(lists:reverse(Wrong), 10)})
    end;
ordered_loop(Last, Monitors, Count, Wrong) ->
    receive
        {ordered, Pid, I, _} ->
            #{Pid := Before} = Last,
            Wrong2 = [{Pid, Before, then, I} || I =/= Before + 1] ++ Wrong,
            ordered_loop(Last#{Pid := I}, Monitors, Count + 1, Wrong2);
        {'DOWN', Monitor, process, _, Reason} ->
            {Pid, Left} = maps:take(Monitor, Monitors),
            #{Pid := Before} = Last,
            Wrong2 = [{Pid, Before, then, Reason} || Reason =/= {sent, Before}] ++ Wrong,
            ordered_loop(Last, Left, Count, Wrong2)
    end.

%% A receiver that is suspended stops nothing: its mailbox grows. What stops the channel is an
%% input process that does not run.
a_receiver_that_does_not_read_suspends_senders(Config) ->
    {A, B} = pair(Config),
    Input = cluster:run(B, fun input/0),
    pressure(A, B, fun
        (hold) -> cluster:run(B, fun() -> suspend(Input) end);
        (release) -> cluster:run(B, fun() -> ask(kept(), release) end)
    end).

%% A suspension lasts as long as the process that asked for it.
suspend(Pid) ->
    Holder = spawn(fun() ->
        true = erlang:suspend_process(Pid),
        receive
            {ask, Asking, holds} -> answer(Asking, true)
        end,
        receive
            {ask, From, release} -> answer(From, ok)
        end
    end),
    true = ask(Holder, holds),
    keep(Holder).

input() ->
    [Pid] = [P || P <- processes(), {_, {barrel_p2p_dist_ctrl, input_init, 3}} <- [erlang:process_info(P, initial_call)]],
    Pid.

a_stopped_peer_suspends_senders_and_loses_nothing(Config) ->
    %% longer than the case, so that silence is not taken for death
    {A, B} = pair(Config, #{env => [{idle_timeout_ms, 120000}]}),
    pressure(A, B, fun
        (hold) -> cluster:signal(B, "STOP");
        (release) -> cluster:signal(B, "CONT")
    end).

pressure(A, B, Hold) ->
    Senders = 8,
    Size = 64 * 1024,
    Each = 1000,
    Receiver = cluster:run(B, fun() -> spawn(fun() -> count_loop(#{}, Senders * Each, Size) end) end),
    ok = Hold(hold),
    Before = resident(A),
    Count = cluster:run(A, fun() ->
        %% the monitor of the system is a process of its own: it must live through the whole case
        Sent = counters:new(1, [atomics]),
        Watcher = spawn(fun() -> busy_loop(sets:new(), []) end),
        _ = erlang:system_monitor(Watcher, [busy_dist_port]),
        Pids = [
            spawn(fun() ->
                Bytes = crypto:strong_rand_bytes(Size),
                [
                    begin
                        Receiver ! {count, self(), I, Bytes},
                        counters:add(Sent, 1, 1)
                    end
                 || I <- lists:seq(1, Each)
                ]
            end)
         || _ <- lists:seq(1, Senders)
        ],
        %% every sender is stopped, and each was named
        true = poll(fun() -> lists:all(fun(P) -> erlang:process_info(P, status) =:= {status, suspended} end, Pids) end),
        ok = ask(Watcher, {await, Pids}),
        nosuspend = erlang:send(Receiver, ignored, [nosuspend]),
        keep({Sent, Pids}),
        counters:get(Sent, 1)
    end),
    ct:log("~b messages, ~b bytes taken until all were suspended", [Count, Count * Size]),
    ?assert(Count > 0),
    ?assert(Count * Size =< ?IN_FLIGHT, {taken, Count * Size}),
    %% what the sender's VM holds is bounded too, Rust included
    Grown = resident(A) - Before,
    ct:log("the process of the sender grew by ~b bytes", [Grown]),
    ?assert(Grown =< 4 * ?IN_FLIGHT, {grown, Grown}),
    ok = Hold(release),
    ?assertEqual(complete, cluster:run(B, fun() -> ask(Receiver, result) end)),
    cluster:run(A, fun() ->
        {Sent, Pids} = kept(),
        true = poll(fun() -> not lists:any(fun is_process_alive/1, Pids) end),
        Senders * Each =:= counters:get(Sent, 1) orelse error(not_all_sent),
        %% no longer busy
        ok = erlang:send(Receiver, ignored, [nosuspend]),
        ok
    end).

%% What one fun of a case leaves on a node for the next.
keep(Term) ->
    persistent_term:put(?MODULE, Term).

kept() ->
    persistent_term:get(?MODULE).

resident(Node) ->
    {ok, Status} = file:read_file("/proc/" ++ cluster:os_pid(Node) ++ "/status"),
    {match, [KiB]} = re:run(Status, "VmRSS:\\s+(\\d+) kB", [{capture, all_but_first, list}]),
    list_to_integer(KiB) * 1024.

busy_loop(Seen, Waiting) ->
    receive
        {monitor, Pid, busy_dist_port, Controller} when is_pid(Controller) ->
            busy_check(sets:add_element(Pid, Seen), Waiting);
        {ask, From, {await, Pids}} ->
            busy_check(Seen, [{From, Pids} | Waiting])
    end.

busy_check(Seen, Waiting) ->
    {Met, Left} = lists:partition(fun({_, Pids}) -> lists:all(fun(P) -> sets:is_element(P, Seen) end, Pids) end, Waiting),
    [answer(From, ok) || {From, _} <- Met],
    busy_loop(Seen, Left).

count_loop(_Last, 0, _Size) ->
    receive
        {ask, From, result} -> answer(From, complete)
    end;
count_loop(Last, Left, Size) ->
    receive
        {count, Pid, I, Bytes} when byte_size(Bytes) =:= Size ->
            true = I =:= maps:get(Pid, Last, 0) + 1,
            count_loop(Last#{Pid => I}, Left - 1, Size);
        ignored ->
            count_loop(Last, Left, Size)
    end.

%% Bulk flows for as long as the small ones need.
small_messages_get_through_beside_bulk(Config) ->
    {A, B} = pair(Config),
    Done = cluster:run(A, fun() ->
        Sink = spawn(B, ?MODULE, echo, []),
        Echo = spawn(B, ?MODULE, echo, []),
        Bytes = crypto:strong_rand_bytes(1024 * 1024),
        Bulk = [
            spawn(fun() -> bulk_loop(Sink, Bytes) end)
         || _ <- lists:seq(1, 4)
        ],
        {Longest, Total} = lists:foldl(
            fun(I, {Max, Sum}) ->
                {Micros, I} = timer:tc(fun() -> ask(Echo, {say, I}) end),
                {max(Max, Micros), Sum + Micros}
            end,
            {0, 0},
            lists:seq(1, 300)
        ),
        true = lists:all(fun is_process_alive/1, Bulk),
        [exit(P, kill) || P <- Bulk],
        {Longest, Total div 300}
    end),
    {Longest, Mean} = Done,
    ct:comment("300 round trips beside bulk: mean ~b us, longest ~b us", [Mean, Longest]).

bulk_loop(Sink, Bytes) ->
    Sink ! {bulk, Bytes},
    bulk_loop(Sink, Bytes).

%%%===================================================================
%%% Coming and going
%%%===================================================================

%% Processes of both nodes send while nothing is connected: the first message of each dials.
first_messages_open_the_connection_and_all_arrive(Config) ->
    C = ?config(cluster, Config),
    Nodes = [A, B] = [cluster:start(C, Name, #{}) || Name <- [a, b]],
    Senders = 50,
    Each = 20,
    [
        begin
            [
                cluster:run(N, fun() ->
                    keep(spawn(fun() ->
                        true = register(first, self()),
                        first_loop(#{}, Senders * Each)
                    end))
                end)
             || N <- Nodes
            ],
            At = erlang:system_time(microsecond) + 20000,
            Started = [
                cluster:run(N, fun() ->
                    [
                        spawn(fun() ->
                            until(At),
                            [{first, Other} ! {first, self(), I} || I <- lists:seq(1, Each)]
                        end)
                     || _ <- lists:seq(1, Senders)
                    ]
                end)
             || {N, Other} <- [{A, B}, {B, A}]
            ],
            [?assertEqual(Senders, length(Pids)) || Pids <- Started],
            Results = [cluster:run(N, fun() -> ask(kept(), result) end) || N <- Nodes],
            ?assertEqual({Round, [ok, ok]}, {Round, Results}),
            disconnected(A, B)
        end
     || Round <- lists:seq(1, 20)
    ].

first_loop(_Last, 0) ->
    true = unregister(first),
    receive
        {ask, From, result} -> answer(From, ok)
    end;
first_loop(Last, Left) ->
    receive
        {first, Pid, I} ->
            true = I =:= maps:get(Pid, Last, 0) + 1,
            first_loop(Last#{Pid => I}, Left - 1)
    after ?SOON ->
        receive
            {ask, From, result} -> answer(From, {missing, Left, Last})
        end
    end.

%% What Rust took before an orderly end of the node arrives, also when the receiving VM is
%% slow to take it: the end of a stream comes after what was sent on it.
last_messages_arrive_before_the_end(Config) ->
    C = ?config(cluster, Config),
    Count = 10,
    {A, B} = pair(Config),
    [
        begin
            Receiver = cluster:run(A, fun() -> spawn(fun() -> last_loop(0) end) end),
            ok = cluster:run(A, fun() -> Slow =:= fast orelse suspend(input()), ok end),
            ok = cluster:run(B, fun() ->
                {ok, Before} = net_kernel:node_info(A, out),
                Bytes = crypto:strong_rand_bytes(100000),
                [Receiver ! {last, I, Bytes} || I <- lists:seq(1, Count)],
                %% in two fragments each
                true = poll(fun() -> net_kernel:node_info(A, out) >= {ok, Before + 2 * Count} end),
                ok
            end),
            ok = cluster:stop(B, How),
            ok = cluster:run(A, fun() -> Slow =:= fast orelse ask(kept(), release), ok end),
            ?assertEqual(connection_closed, cluster:await_nodedown(A, B, ?SOON)),
            ?assertEqual({How, Slow, Count}, {How, Slow, cluster:run(A, fun() -> ask(Receiver, count) end)}),
            B = cluster:restart(C, B),
            ok = cluster:connect(A, B)
        end
     || How <- [halt, init_stop, sigterm], Slow <- [slow, fast, slow]
    ].

last_loop(Count) ->
    receive
        {last, I, Bytes} when byte_size(Bytes) =:= 100000, I =:= Count + 1 -> last_loop(I);
        {ask, From, count} -> answer(From, Count)
    end.

disconnected(A, B) ->
    ok = cluster:await_nodeup(A, B, ?SOON),
    ok = cluster:await_nodeup(B, A, ?SOON),
    true = cluster:call(A, erlang, disconnect_node, [B]),
    disconnect = cluster:await_nodedown(A, B, ?SOON),
    connection_closed = cluster:await_nodedown(B, A, ?SOON),
    %% a connection too many would show here
    [] = cluster:call(A, erlang, nodes, [connected]),
    [] = cluster:call(B, erlang, nodes, [connected]),
    ok.

%% All nodes are on this machine and share its clock.
until(Microseconds) ->
    case erlang:system_time(microsecond) >= Microseconds of
        true -> ok;
        false -> until(Microseconds)
    end.

%%%===================================================================
%%% On the nodes
%%%===================================================================

echo() ->
    receive
        {ask, From, {say, Term}} -> answer(From, Term);
        {ask, From, {hash, Bytes}} -> answer(From, {crypto:hash(sha256, Bytes), Bytes});
        {ask, From, {register, Name}} -> answer(From, register(Name, self()));
        {ask, From, group_leader} -> answer(From, group_leader());
        {bulk, _} -> ok
    end,
    echo().

wait() ->
    receive
        {end_of, Reason} -> exit(Reason)
    end.

add(A, B) ->
    A + B.

-spec fail(term()) -> no_return().
fail(Reason) ->
    error(Reason).

%% Longer than anybody waits; it ends with its caller.
sleeper(Caller) ->
    Monitor = monitor(process, Caller),
    receive
        {'DOWN', Monitor, process, _, _} -> ok
    end.

say(Pid, Large) ->
    io:format("on ~s~n", [node()]),
    io:put_chars([Large, $\n]),
    io:format("üß~n"),
    Pid ! {self(), node(group_leader()), io:get_line("")}.

ask(Pid, Question) ->
    Ref = make_ref(),
    Pid ! {ask, {self(), Ref}, Question},
    receive
        {Ref, Answer} -> Answer
    after ?SOON ->
        error({no_answer, Pid})
    end.

answer({Pid, Ref}, Answer) ->
    Pid ! {Ref, Answer}.

reason({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> Reason
    after ?SOON -> late
    end.

receive_one() ->
    receive
        Message -> Message
    after ?SOON -> error(nothing_received)
    end.

receive_none() ->
    receive
        Message -> {received, Message}
    after 0 -> nothing
    end.

from(Pid) ->
    receive
        {Pid, Node} -> Node
    after ?SOON -> late
    end.

poll(Condition) ->
    cluster:poll(Condition, ?SOON, 10).
