%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% How a program learns that another node is gone, or was never there: every way that OTP
%%% has, in every way that a node can go, over this carrier and over inet_tcp. Both must
%%% give the same answers, and those are written here.
%%%
%%% There is one cluster for each carrier, with a node named after it that lives through all cases
%%% and sees others die. QUIC's idle timeout is beyond every deadline, so that both carriers have
%%% the same means to notice: what is said, and ticks. Where a process dies without a
%%% word, TCP hears of it from the kernel; there the idle timeout is short.
-module(deaths_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
%% Cases
-export([
    a_halt_is_a_closed_connection/1,
    a_halt_with_a_status_is_a_closed_connection/1,
    an_orderly_stop_is_a_closed_connection/1,
    a_kill_is_a_closed_connection/1,
    a_disconnect_is_named_on_its_side_only/1,
    the_end_of_distribution_is_a_closed_connection_to_others/1,
    a_short_stop_of_the_process_is_no_end/1,
    a_long_stop_of_the_process_is_a_tick_timeout/1,
    another_cookie_is_nobody/1,
    a_name_that_nobody_knows_is_nobody/1,
    a_port_where_nobody_listens_is_nobody/1,
    a_node_that_is_not_allowed_is_nobody/1
]).
%% Run on nodes
-export([watch/1, seen/1, wait/0, attempts/1]).

-define(CARRIERS, [inet_tcp, barrel_p2p]).
-define(WAIT_MS, 30000).
-define(NEVER_IDLE, [{idle_timeout_ms, 600000}]).
-define(SOON_IDLE, [{idle_timeout_ms, 1500}, {keep_alive_ms, 300}]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [
        a_halt_is_a_closed_connection,
        a_halt_with_a_status_is_a_closed_connection,
        an_orderly_stop_is_a_closed_connection,
        a_kill_is_a_closed_connection,
        a_disconnect_is_named_on_its_side_only,
        the_end_of_distribution_is_a_closed_connection_to_others,
        a_short_stop_of_the_process_is_no_end,
        a_long_stop_of_the_process_is_a_tick_timeout,
        another_cookie_is_nobody,
        a_name_that_nobody_knows_is_nobody,
        a_port_where_nobody_listens_is_nobody,
        a_node_that_is_not_allowed_is_nobody
    ].

init_per_suite(Config) ->
    [{stages, [stage(Carrier, Config) || Carrier <- ?CARRIERS]} | Config].

stage(Carrier, Config) ->
    Cluster = cluster:new(Config, atom_to_list(Carrier)),
    Opts = #{carrier => Carrier, env => ?NEVER_IDLE},
    #{carrier => Carrier, cluster => Cluster, opts => Opts, a => cluster:start(Cluster, Carrier, Opts)}.

end_per_suite(Config) ->
    lists:foreach(fun(#{cluster := Cluster}) -> cluster:stop(Cluster) end, ?config(stages, Config)).

%%%===================================================================
%%% A node ends
%%%===================================================================

a_halt_is_a_closed_connection(Config) ->
    ends(Config, b, ?NEVER_IDLE, halt).

a_halt_with_a_status_is_a_closed_connection(Config) ->
    ends(Config, c, ?NEVER_IDLE, {mfa, erlang, halt, [1]}).

an_orderly_stop_is_a_closed_connection(Config) ->
    ends(Config, d, ?NEVER_IDLE, init_stop).

a_kill_is_a_closed_connection(Config) ->
    ends(Config, e, ?SOON_IDLE, sigkill).

%% The one that stays sees the end, and then nobody.
ends(Config, Name, Env, How) ->
    on_both(Config, fun(#{a := A} = Stage) ->
        B = start(Stage, Name, #{env => Env}),
        ok = cluster:connect(A, B),
        Watcher = watch(A, B),
        cluster:stop(B, How),
        ?assertEqual(lost(B, connection_closed), seen(A, Watcher)),
        ?assertEqual(nobody(B), cluster:call(A, ?MODULE, attempts, [B]))
    end).

a_disconnect_is_named_on_its_side_only(Config) ->
    on_both(Config, fun(#{a := A} = Stage) ->
        B = start(Stage, f, #{}),
        ok = cluster:connect(A, B),
        {AtA, AtB} = {watch(A, B), watch(B, A)},
        true = cluster:call(A, erlang, disconnect_node, [B]),
        ?assertEqual(lost(B, disconnect), seen(A, AtA)),
        ?assertEqual(lost(A, connection_closed), seen(B, AtB)),
        ok = cluster:connect(B, A),
        cluster:stop(B, halt)
    end).

the_end_of_distribution_is_a_closed_connection_to_others(Config) ->
    on_both(Config, fun(#{a := A, cluster := #{cookie := Cookie}} = Stage) ->
        Nameless = start(Stage, g, #{nameless => true}),
        {ok, _} = cluster:call(Nameless, net_kernel, start, [[name(Stage, g), shortnames]]),
        true = cluster:call(Nameless, erlang, set_cookie, [list_to_atom(Cookie)]),
        G = cluster:call(Nameless, erlang, node, []),
        true = cluster:call(Nameless, net_kernel, connect_node, [A]),
        cluster:await_nodeup(A, G, ?WAIT_MS),
        {AtA, AtG} = {watch(A, G), watch(Nameless, A)},
        ok = cluster:call(Nameless, net_kernel, stop, []),
        ?assertEqual(lost(G, connection_closed), seen(A, AtA)),
        ?assertEqual(lost(A, net_kernel_terminated), seen(Nameless, AtG)),
        ?assertEqual(nobody(G), cluster:call(A, ?MODULE, attempts, [G])),
        cluster:stop(Nameless, halt)
    end).

%%%===================================================================
%%% A process stands still
%%%===================================================================

%% Silence is no end before its time: what was asked meanwhile is answered.
a_short_stop_of_the_process_is_no_end(Config) ->
    on_both(Config, fun(Stage) ->
        %% ticks so often that a few of them are no long time
        Opts = #{kernel => [{net_tickintensity, 1000}]},
        [B, C] = [start(Stage, Name, Opts) || Name <- [h, i]],
        ok = cluster:connect(B, C),
        Watcher = watch(B, C),
        ok = cluster:signal(C, "STOP"),
        Asked = cluster:run(B, fun() -> erpc_request(C) end),
        true = ticked(B, C, 20),
        ok = cluster:signal(C, "CONT"),
        ?assertEqual(C, cluster:run(B, fun() -> erpc_answer(Asked) end)),
        ?assertEqual([], cluster:run(B, fun() -> so_far(Watcher) end)),
        [cluster:stop(Node, halt) || Node <- [B, C]]
    end).

%% The stopped side finds out when it runs again, and both can connect.
a_long_stop_of_the_process_is_a_tick_timeout(Config) ->
    on_both(Config, fun(Stage) ->
        Opts = #{kernel => [{net_ticktime, 4}]},
        [B, C] = [start(Stage, Name, Opts) || Name <- [j, k]],
        ok = cluster:connect(B, C),
        {AtB, AtC} = {watch(B, C), watch(C, B)},
        ok = cluster:signal(C, "STOP"),
        ?assertEqual(lost(C, net_tick_timeout), seen(B, AtB)),
        ok = cluster:signal(C, "CONT"),
        %% which of the two it hears first is a race, on any carrier
        #{node := Info} = Seen = seen(C, AtC),
        {nodedown_reason, Reason} = lists:keyfind(nodedown_reason, 1, Info),
        ?assert(lists:member(Reason, [connection_closed, net_tick_timeout]), Reason),
        ?assertEqual(lost(B, Reason), Seen),
        ok = cluster:connect(C, B),
        ?assertEqual(C, cluster:call(B, erpc, call, [C, erlang, node, []])),
        [cluster:stop(Node, halt) || Node <- [B, C]]
    end).

%% Whether this many ticks were sent from now on.
ticked(From, To, Count) ->
    {ok, Before} = cluster:call(From, net_kernel, node_info, [To, out]),
    cluster:await(
        From,
        fun() ->
            {ok, Now} = net_kernel:node_info(To, out),
            Now >= Before + Count
        end,
        ?WAIT_MS
    ).

%%%===================================================================
%%% A node was never there
%%%===================================================================

another_cookie_is_nobody(Config) ->
    on_both(Config, fun(#{a := A} = Stage) ->
        B = start(Stage, l, #{cookie => "another_cookie_of_good_length"}),
        [cluster:forget_events(Node) || Node <- [A, B]],
        ?assertEqual(nobody(B), cluster:call(A, ?MODULE, attempts, [B])),
        ?assertEqual(nobody(A), cluster:call(B, ?MODULE, attempts, [A])),
        never_met(A, B),
        cluster:stop(B, halt)
    end).

a_name_that_nobody_knows_is_nobody(Config) ->
    on_both(Config, fun(#{a := A}) ->
        B = sibling(A, "unknown"),
        ?assertEqual(nobody(B), cluster:call(A, ?MODULE, attempts, [B]))
    end).

a_port_where_nobody_listens_is_nobody(Config) ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_udp:close(Socket),
    on_both(Config, fun(#{a := A}) ->
        B = sibling(A, "absent"),
        Contact = {B, {{127, 0, 0, 1}, Port}},
        ok = cluster:call(A, application, set_env, [barrel_p2p, contact_nodes, [Contact]]),
        ?assertEqual(nobody(B), cluster:call(A, ?MODULE, attempts, [B])),
        ok = cluster:call(A, application, unset_env, [barrel_p2p, contact_nodes])
    end).

a_node_that_is_not_allowed_is_nobody(Config) ->
    on_both(Config, fun(Stage) ->
        [B, C] = [start(Stage, Name, #{}) || Name <- [m, n]],
        ok = cluster:call(B, net_kernel, allow, [[sibling(B, "friend")]]),
        ?assertEqual(nobody(C), cluster:call(B, ?MODULE, attempts, [C])),
        ?assertEqual(nobody(B), cluster:call(C, ?MODULE, attempts, [B])),
        never_met(B, C),
        [cluster:stop(Node, halt) || Node <- [B, C]]
    end).

sibling(Node, Name) ->
    [_, Host] = string:split(atom_to_list(Node), "@"),
    list_to_atom(Name ++ "@" ++ Host).

never_met(A, B) ->
    [
        ?assertError({Missing, _, _, []}, Await(On, Of, 1))
     || {On, Of} <- [{A, B}, {B, A}],
        {Missing, Await} <- [{no_nodeup, fun cluster:await_nodeup/3}, {no_nodedown, fun cluster:await_nodedown/3}]
    ].

%%%===================================================================
%%% What is expected
%%%===================================================================

%% Of a node that was connected.
lost(Node, Reason) ->
    #{
        node => [{node_type, visible}, {nodedown_reason, Reason}],
        monitor_node => {nodedown, Node},
        pid => noconnection,
        name => noconnection,
        alias => noconnection,
        link => noconnection,
        call => {nodedown, Node},
        erpc => {erpc, noconnection},
        rpc => {badrpc, nodedown}
    }.

%% Of attempts to reach one.
nobody(Node) ->
    #{
        connect_node => false,
        ping => pang,
        monitor => noconnection,
        link => noconnection,
        monitor_node => {nodedown, Node},
        call => {nodedown, Node},
        multi_call => {[], [Node]},
        erpc => {erpc, noconnection},
        rpc => {badrpc, nodedown},
        spawn_request => noconnection,
        spawn => noconnection,
        send => ok,
        send_noconnect => noconnect,
        disconnect => false,
        nodes => false
    }.

%%%===================================================================
%%% On the nodes: who watches
%%%===================================================================

%% Everything at once that can tell of the end of a node: one process for each, and one
%% that gathers.
watch(On, Of) ->
    cluster:call(On, ?MODULE, watch, [Of]).

seen(On, Watcher) ->
    cluster:call(On, ?MODULE, seen, [Watcher]).

watch(Node) ->
    Parent = self(),
    Watcher = spawn(fun() ->
        Remote = spawn(Node, ?MODULE, wait, []),
        Watches = [
            {node, fun(Ready) ->
                ok = net_kernel:monitor_nodes(true, [{node_type, all}, nodedown_reason]),
                Ready(),
                receive
                    {nodedown, Node, Info} -> lists:sort(Info)
                end
            end},
            {monitor_node, fun(Ready) ->
                true = erlang:monitor_node(Node, true),
                Ready(),
                receive
                    {nodedown, _} = Down -> Down
                end
            end},
            {pid, fun(Ready) -> down(monitor(process, Remote), Ready) end},
            {name, fun(Ready) -> down(monitor(process, {init, Node}), Ready) end},
            {alias, fun(Ready) -> down(monitor(process, Remote, [{alias, demonitor}]), Ready) end},
            {link, fun(Ready) ->
                process_flag(trap_exit, true),
                true = link(Remote),
                Ready(),
                receive
                    {'EXIT', Remote, Reason} -> Reason
                end
            end},
            {call, fun(Ready) ->
                Ready(),
                called(Remote)
            end},
            {erpc, fun(Ready) ->
                Request = erpc:send_request(Node, ?MODULE, wait, []),
                Ready(),
                caught(fun() -> erpc:receive_response(Request) end)
            end},
            {rpc, fun(Ready) ->
                Ready(),
                rpc:call(Node, ?MODULE, wait, [])
            end}
        ],
        Pids = [{Name, await_ready(Watch)} || {Name, Watch} <- Watches],
        %% a round trip: what was asked before it has arrived
        Node = erpc:call(Node, erlang, node, []),
        true = register(watcher(Node), self()),
        Parent ! {self(), watching},
        gather(maps:from_list([{Pid, Name} || {Name, Pid} <- Pids]), #{}, [])
    end),
    receive
        {Watcher, watching} -> watcher(Node)
    end.

%% By name: a node whose distribution stops has other pids.
watcher(Node) ->
    list_to_atom("watcher of " ++ atom_to_list(Node)).

await_ready(Watch) ->
    Gatherer = self(),
    Pid = spawn(fun() ->
        Seen = Watch(fun() -> Gatherer ! {self(), ready} end),
        Gatherer ! {self(), seen, Seen}
    end),
    receive
        {Pid, ready} -> Pid
    end.

down(Monitor, Ready) ->
    Ready(),
    receive
        {'DOWN', Monitor, process, _, Reason} -> Reason
    end.

%% Answers who asks for everything when there is everything, and who asks for what there is.
gather(Left, Seen, [_ | _] = Asking) when map_size(Left) =:= 0 ->
    [From ! {seen, Seen} || From <- Asking];
gather(Left, Seen, Asking) ->
    receive
        {Pid, seen, What} ->
            {Name, Others} = maps:take(Pid, Left),
            gather(Others, Seen#{Name => What}, Asking);
        {all, From} ->
            gather(Left, Seen, [From | Asking]);
        {so_far, From} ->
            From ! {seen, Seen},
            gather(Left, Seen, Asking)
    end.

seen(Watcher) ->
    Watcher ! {all, self()},
    receive
        {seen, Seen} -> Seen
    after ?WAIT_MS -> {late, so_far(Watcher)}
    end.

so_far(Watcher) ->
    Watcher ! {so_far, self()},
    receive
        {seen, Seen} -> maps:keys(Seen)
    end.

%% A server that never answers.
wait() ->
    receive
        never -> ok
    end.

%%%===================================================================
%%% On the nodes: who tries
%%%===================================================================

%% Everything that connects by itself, each while nothing is connected.
attempts(Node) ->
    maps:from_list([
        {Name, attempt(Try)}
     || {Name, Try} <- [
            {connect_node, fun() -> net_kernel:connect_node(Node) end},
            {ping, fun() -> net_adm:ping(Node) end},
            {monitor, fun() -> down(monitor(process, {init, Node}), fun() -> ok end) end},
            {link, fun() ->
                process_flag(trap_exit, true),
                true = link(remote_pid(Node)),
                receive
                    {'EXIT', _, Reason} -> Reason
                end
            end},
            {monitor_node, fun() ->
                true = erlang:monitor_node(Node, true),
                receive
                    {nodedown, _} = Down -> Down
                end
            end},
            {call, fun() -> called({somebody, Node}) end},
            {multi_call, fun() -> gen_server:multi_call([Node], somebody, question) end},
            {erpc, fun() -> caught(fun() -> erpc:call(Node, erlang, node, []) end) end},
            {rpc, fun() -> rpc:call(Node, erlang, node, []) end},
            {spawn_request, fun() ->
                Request = spawn_request(Node, ?MODULE, wait, [], []),
                receive
                    {spawn_reply, Request, error, Reason} -> Reason
                end
            end},
            {spawn, fun() -> down(monitor(process, spawn(Node, ?MODULE, wait, [])), fun() -> ok end) end},
            {send_noconnect, fun() -> erlang:send({somebody, Node}, anything, [noconnect]) end},
            {disconnect, fun() -> erlang:disconnect_node(Node) end},
            {nodes, fun() -> lists:member(Node, nodes(connected)) end},
            %% last: nobody is told when this attempt ends
            {send, fun() -> erlang:send({somebody, Node}, anything, []) end}
        ]
    ]).

attempt(Try) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({tried, Try()}) end),
    receive
        {'DOWN', Monitor, process, Pid, {tried, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> {crashed, Reason}
    after ?WAIT_MS -> late
    end.

called(Server) ->
    try
        gen_server:call(Server, question, infinity)
    catch
        exit:{Reason, {gen_server, call, _}} -> Reason
    end.

caught(Fun) ->
    try
        Fun()
    catch
        error:Reason -> Reason
    end.

%% A process that a node of this name might have had.
remote_pid(Node) ->
    Name = atom_to_binary(Node),
    binary_to_term(<<131, 88, 100, (byte_size(Name)):16, Name/binary, 99:32, 0:32, 77:32>>).

%%%===================================================================
%%% Internal
%%%===================================================================

%% At once: they wait more than they work.
on_both(Config, Scenario) ->
    Running = [
        {Carrier, spawn_monitor(fun() -> exit({played, Scenario(Stage)}) end)}
     || #{carrier := Carrier} = Stage <- ?config(stages, Config)
    ],
    Ends = [
        receive
            {'DOWN', Monitor, process, Pid, {played, _}} -> {Carrier, ok};
            {'DOWN', Monitor, process, Pid, Reason} -> {Carrier, Reason}
        end
     || {Carrier, {Pid, Monitor}} <- Running
    ],
    ?assertEqual([{Carrier, ok} || Carrier <- ?CARRIERS], Ends).

start(#{cluster := Cluster, opts := Opts} = Stage, Name, More) ->
    cluster:start(Cluster, name(Stage, Name), maps:merge(Opts, More)).

%% Nodes of both clusters live at once.
name(#{carrier := Carrier}, Name) ->
    list_to_atom(lists:concat([Name, "_", Carrier])).

%% A call in flight outlives the process that made it only in a process of its own.
erpc_request(Node) ->
    Parent = self(),
    Pid = spawn(fun() ->
        Request = erpc:send_request(Node, erlang, node, []),
        Parent ! {self(), sent},
        Answer = erpc:receive_response(Request),
        receive
            {answer, From} -> From ! {self(), Answer}
        end
    end),
    receive
        {Pid, sent} -> Pid
    end.

erpc_answer(Pid) ->
    Pid ! {answer, self()},
    receive
        {Pid, Answer} -> Answer
    end.
