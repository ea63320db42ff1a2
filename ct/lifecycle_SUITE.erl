%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Nodes come, go and come again: what the others see, and that nothing is left.
%%%
%%% Where a case asks whether the end of a node was said or only missed, the idle timeout
%%% of its nodes is far beyond every deadline here, and they do not listen to ICMP.
-module(lifecycle_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    a_node_that_returns_and_dials_displaces_its_dead_connection/1,
    a_dead_link_to_a_restarted_node_is_replaced_at_once/1,
    a_killed_node_is_noticed_within_the_idle_timeout/1,
    a_killed_node_is_noticed_with_default_settings/1,
    an_aborted_node_is_noticed_within_the_idle_timeout/1,
    an_orderly_stop_is_said/1,
    an_orderly_stop_is_said_in_the_middle_of_a_transfer/1,
    the_end_of_distribution_is_said/1,
    the_end_of_the_application_is_said_on_another_carrier/1,
    what_was_sent_before_a_stop_arrives/1,
    a_crash_of_the_owner_reopens_the_endpoint/1,
    restarts_of_distribution_leak_nothing/1,
    six_nodes_that_start_at_once_all_connect/1,
    a_full_mesh_carries_global_names/1
]).

-define(WAIT_MS, 15000).
-define(NEVER_IDLE, [{idle_timeout_ms, 600000}, {icmp_hints, false}]).
-define(SOON_IDLE, [{idle_timeout_ms, 1500}, {keep_alive_ms, 300}, {icmp_hints, false}]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [
        a_node_that_returns_and_dials_displaces_its_dead_connection,
        a_dead_link_to_a_restarted_node_is_replaced_at_once,
        a_killed_node_is_noticed_within_the_idle_timeout,
        a_killed_node_is_noticed_with_default_settings,
        an_aborted_node_is_noticed_within_the_idle_timeout,
        an_orderly_stop_is_said,
        an_orderly_stop_is_said_in_the_middle_of_a_transfer,
        the_end_of_distribution_is_said,
        the_end_of_the_application_is_said_on_another_carrier,
        what_was_sent_before_a_stop_arrives,
        a_crash_of_the_owner_reopens_the_endpoint,
        restarts_of_distribution_leak_nothing,
        six_nodes_that_start_at_once_all_connect,
        a_full_mesh_carries_global_names
    ].

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

%%%===================================================================
%%% A node comes back
%%%===================================================================

a_node_that_returns_and_dials_displaces_its_dead_connection(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{env => ?NEVER_IDLE}) || Name <- [a, b]],
    lists:foreach(
        fun(Round) ->
            ok = cluster:connect(B, A),
            cluster:forget_events(B),
            cluster:kill(A),
            A = cluster:restart(Cluster, A),
            %% On another port, so nothing but the newer incarnation tells B.
            ?assertEqual({Round, pong}, {Round, cluster:ping(A, B)}),
            ?assertEqual({Round, connection_closed}, {Round, cluster:await_nodedown(B, A, ?WAIT_MS)}),
            ?assertEqual({Round, ok}, {Round, cluster:await_nodeup(B, A, ?WAIT_MS)})
        end,
        lists:seq(1, 5)
    ).

%% The link outlives its channel for a while. The peer dies and returns, nobody tells, and the
%% next connect uses the dead link first. Without automatic connections: on a new node `rex' of
%% the peer sends a message, and would connect again what is disconnected here.
a_dead_link_to_a_restarted_node_is_replaced_at_once(Config) ->
    Cluster = ?config(cluster, Config),
    Opts = #{env => ?NEVER_IDLE, kernel => [{dist_auto_connect, never}]},
    [A, B] = [cluster:start(Cluster, Name, Opts) || Name <- [a, b]],
    {ok, Port} = port(A),
    lists:foreach(
        fun(Round) ->
            ok = cluster:connect(B, A),
            true = cluster:call(B, erlang, disconnect_node, [A]),
            ?assertMatch([#{streams := _}], cluster:call(B, barrel_p2p_node, links, [])),
            cluster:kill(A),
            A = cluster:restart(Cluster, A, #{env => [{listen_port, Port} | ?NEVER_IDLE]}),
            ?assertEqual([], cluster:call(B, erlang, nodes, [connected])),
            {Micros, Answer} = cluster:call(B, timer, tc, [net_kernel, connect_node, [A]]),
            ct:pal("round ~b: ~p after ~b us", [Round, Answer, Micros]),
            ?assertEqual({Round, true}, {Round, Answer})
        end,
        lists:seq(1, 5)
    ).

%%%===================================================================
%%% A node goes
%%%===================================================================

a_killed_node_is_noticed_within_the_idle_timeout(Config) ->
    unsaid(Config, ?SOON_IDLE, sigkill, <<"nothing heard for the idle timeout">>).

%% Its host says that nobody has the port any more, and nobody answers a question.
a_killed_node_is_noticed_with_default_settings(Config) ->
    unsaid(Config, [], sigkill, <<"closed here: unanswered">>).

%% No handler of the operating system runs, so nobody can say goodbye.
an_aborted_node_is_noticed_within_the_idle_timeout(Config) ->
    unsaid(Config, ?SOON_IDLE, {mfa, erlang, halt, [abort]}, <<"nothing heard for the idle timeout">>).

unsaid(Config, Env, How, Reason) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{env => [{log_level, info} | Env]}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    Begin = now_ms(),
    cluster:stop(B, How),
    ?assertEqual(connection_closed, cluster:await_nodedown(A, B, ?WAIT_MS)),
    ct:pal("~p noticed after ~b ms", [How, now_ms() - Begin]),
    ?assertEqual(Reason, link_down(A)),
    ?assertEqual([], cluster:call(A, barrel_p2p_node, links, [])).

an_orderly_stop_is_said(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{env => [{log_level, info} | ?NEVER_IDLE]}),
    Ways = [
        {init_stop, init_stop},
        {halt, halt},
        {sigterm, sigterm},
        {halt_with_status, {mfa, erlang, halt, [7]}},
        {init_restart_of_nothing, {mfa, init, stop, [3]}}
        %% From OTP 26 on a halt without flush runs no exit handler: nobody can say anything.
        | [
            {halt_without_flush, {mfa, erlang, halt, [0, [{flush, false}]]}}
         || list_to_integer(erlang:system_info(otp_release)) < 26
        ]
    ],
    Measured = [
        begin
            B = cluster:start(Cluster, Name, #{env => ?NEVER_IDLE}),
            ok = cluster:connect(A, B),
            Self = self(),
            Waiter = spawn_link(fun() ->
                Reason = cluster:await_nodedown(A, B, ?WAIT_MS),
                Self ! {self(), Reason, now_ms()}
            end),
            Begin = now_ms(),
            cluster:stop(B, How),
            receive
                {Waiter, Reason, At} ->
                    ?assertEqual({Name, connection_closed}, {Name, Reason}),
                    ?assertEqual({Name, <<"the peer shut down">>}, {Name, link_down(A, B)}),
                    {Name, At - Begin}
            end
        end
     || {Name, How} <- Ways
    ],
    ct:pal("milliseconds from the order to nodedown: ~0p", [Measured]).

%% The goodbye must not wait behind what the window holds back.
an_orderly_stop_is_said_in_the_middle_of_a_transfer(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{env => [{log_level, info} | ?NEVER_IDLE]}),
    Sink = cluster:run(A, fun() -> spawn(fun sink/0) end),
    [
        begin
            B = cluster:start(Cluster, Name, #{env => ?NEVER_IDLE}),
            ok = cluster:connect(A, B),
            Source = cluster:run(B, fun() -> spawn(fun() -> pour(Sink, binary:copy(<<0:64>>, 131072)) end) end),
            true = cluster:call(A, cluster, poll, [fun() -> has_drunk(Sink, Source) end, ?WAIT_MS, 1]),
            cluster:stop(B, How),
            ?assertEqual({Name, connection_closed}, {Name, cluster:await_nodedown(A, B, ?WAIT_MS)}),
            ?assertEqual({Name, <<"the peer shut down">>}, {Name, link_down(A, B)})
        end
     || {Name, How} <- [{b, halt}, {c, sigterm}, {d, halt}, {e, init_stop}, {f, halt}]
    ].

pour(Sink, Bytes) ->
    Sink ! {self(), Bytes},
    pour(Sink, Bytes).

%% Remembers who has sent.
sink() ->
    receive
        {Source, Bytes} when is_binary(Bytes) ->
            put(Source, byte_size(Bytes)),
            sink();
        {ask, From, Source} ->
            From ! {self(), get(Source)},
            sink()
    end.

has_drunk(Sink, Source) ->
    Sink ! {ask, self(), Source},
    receive
        {Sink, Bytes} -> is_integer(Bytes)
    end.

the_end_of_distribution_is_said(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{env => [{log_level, info} | ?NEVER_IDLE]}),
    with_nameless(Cluster, ?NEVER_IDLE, fun(Peer) ->
        {ok, _} = peer:call(Peer, net_kernel, start, [[late, shortnames]]),
        Late = peer:call(Peer, erlang, node, []),
        true = peer:call(Peer, erlang, set_cookie, [list_to_atom(maps:get(cookie, Cluster))]),
        pong = peer:call(Peer, net_adm, ping, [A]),
        Begin = now_ms(),
        ok = peer:call(Peer, net_kernel, stop, []),
        ?assertEqual(connection_closed, cluster:await_nodedown(A, Late, ?WAIT_MS)),
        ct:pal("net_kernel:stop/0 noticed after ~b ms", [now_ms() - Begin]),
        ?assertEqual(<<"the peer shut down">>, link_down(A, Late)),
        ?assertEqual(undefined, peer:call(Peer, barrel_p2p_dist, listen_port, []))
    end).

the_end_of_the_application_is_said_on_another_carrier(Config) ->
    Cluster = ?config(cluster, Config),
    Opts = #{carrier => inet_tcp, start_app => true, env => [{log_level, info} | ?NEVER_IDLE]},
    [A, B] = [cluster:start(Cluster, Name, Opts) || Name <- [a, b]],
    ok = cluster:call(A, application, stop, [barrel_p2p]),
    ok = cluster:call(A, application, start, [barrel_p2p]),
    {ok, Port} = port(A),
    Holder = cluster:run(B, fun() -> hold_a_stream(A, Port) end),
    ?assertMatch([#{streams := 1}], cluster:call(B, barrel_p2p_node, links, [])),
    ok = cluster:call(A, application, stop, [barrel_p2p]),
    ?assertEqual(<<"the peer shut down">>, link_down(B, A)),
    cluster:await(B, fun() -> not is_process_alive(Holder) end, ?WAIT_MS),
    ?assertEqual(undefined, port(A)),
    ?assertEqual(undefined, cluster:call(A, erlang, whereis, [barrel_p2p_dist_sup])),
    %% the nodes themselves talk over TCP and noticed nothing
    ?assertEqual(pong, cluster:ping(A, B)).

%% A process of B with a stream to A, over a link of its own.
hold_a_stream(Node, Port) ->
    Parent = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        {ok, Endpoint} = barrel_p2p_node:handle(),
        Stream = barrel_p2p_nif:dist_open(Endpoint, atom_to_binary(Node), #{
            addresses => [{{127, 0, 0, 1}, Port}],
            secret => barrel_p2p_secret:secret_for(Node),
            timeout_ms => 5000
        }),
        receive
            {barrel_p2p, Stream, {up, _}} -> Parent ! {self(), up}
        end,
        receive
            {barrel_p2p, Stream, {closed, _}} -> ok
        end
    end),
    receive
        {Pid, up} -> Pid;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

what_was_sent_before_a_stop_arrives(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{env => ?NEVER_IDLE}),
    [
        begin
            B = cluster:start(Cluster, b, #{env => ?NEVER_IDLE}),
            ok = cluster:connect(A, B),
            Count = 2000,
            Collector = cluster:run(A, fun() -> spawn(fun() -> collect(Count, Count) end) end),
            %% the order to stop comes from the process that has just sent
            peer:cast(cluster:peer(B), erlang, apply, [
                fun() ->
                    [Collector ! {number, N, <<N:8192>>} || N <- lists:seq(1, Count)],
                    Stop(A)
                end,
                []
            ]),
            connection_closed = cluster:await_nodedown(A, B, ?WAIT_MS),
            ?assertEqual({Name, all_in_order}, {Name, cluster:run(A, fun() -> outcome(Collector) end)})
        end
     || {Name, Stop} <- [{halt, fun halt_when_taken/1}, {init_stop, fun(_) -> init:stop() end}]
    ].

%% `halt' stops the schedulers, so what the VM itself still holds is lost, over TCP too.
%% What the carrier has taken must arrive.
halt_when_taken(Node) ->
    {Node, Controller} = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
    true = cluster:poll(fun() -> is_idle(Controller) end, ?WAIT_MS, 1),
    erlang:halt().

is_idle(Controller) ->
    [{status, waiting}, {message_queue_len, 0}, {current_function, {barrel_p2p_dist_ctrl, output_idle, 1}}] =:=
        erlang:process_info(Controller, [status, message_queue_len, current_function]).

collect(0, _Count) ->
    await_question(all_in_order);
collect(Left, Count) ->
    Next = Count - Left + 1,
    receive
        {number, Next, <<Next:8192>>} -> collect(Left - 1, Count);
        {number, Other, _} -> await_question({got, Other, instead_of, Next});
        {question, From} -> From ! {self(), {lacks, Left}}
    end.

await_question(Answer) ->
    receive
        {question, From} -> From ! {self(), Answer}
    end.

outcome(Collector) ->
    Collector ! {question, self()},
    receive
        {Collector, Answer} -> Answer
    end.

%%%===================================================================
%%% Parts go and come back
%%%===================================================================

a_crash_of_the_owner_reopens_the_endpoint(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{env => ?NEVER_IDLE}) || Name <- [a, b]],
    {ok, Port} = port(A),
    Key = cluster:call(A, barrel_p2p_dist_auth, get_public_key, []),
    lists:foreach(
        fun(Round) ->
            ok = cluster:connect(A, B),
            cluster:forget_events(A),
            cluster:forget_events(B),
            Old = cluster:call(A, erlang, whereis, [barrel_p2p_node]),
            true = cluster:call(A, erlang, exit, [Old, kill]),
            ?assertEqual({Round, connection_closed}, {Round, cluster:await_nodedown(A, B, ?WAIT_MS)}),
            ?assertEqual({Round, connection_closed}, {Round, cluster:await_nodedown(B, A, ?WAIT_MS)}),
            cluster:await(A, fun() -> barrel_p2p_node:port() end, ?WAIT_MS),
            ?assertEqual({ok, Port}, port(A)),
            ?assertEqual(Key, cluster:call(A, barrel_p2p_dist_auth, get_public_key, [])),
            %% out, and in
            {From, To} = lists:nth(1 + Round rem 2, [{A, B}, {B, A}]),
            ?assertEqual({Round, pong}, {Round, cluster:ping(From, To)})
        end,
        lists:seq(1, 6)
    ),
    ?assert(cluster:call(A, erlang, is_alive, [])).

restarts_of_distribution_leak_nothing(Config) ->
    Cluster = ?config(cluster, Config),
    B = cluster:start(Cluster, b, #{env => ?NEVER_IDLE}),
    with_nameless(Cluster, ?NEVER_IDLE, fun(Peer) ->
        Round = fun(Number) ->
            Name = lists:nth(1 + Number rem 3, [again, again, another]),
            {ok, _} = peer:call(Peer, net_kernel, start, [[Name, shortnames]]),
            true = peer:call(Peer, erlang, set_cookie, [list_to_atom(maps:get(cookie, Cluster))]),
            Node = peer:call(Peer, erlang, node, []),
            ?assertEqual({Number, pong}, {Number, peer:call(Peer, net_adm, ping, [B])}),
            ok = peer:call(Peer, net_kernel, stop, []),
            connection_closed = cluster:await_nodedown(B, Node, ?WAIT_MS)
        end,
        lists:foreach(Round, lists:seq(1, 6)),
        Of = fun() -> peer:call(Peer, growth, resources, []) end,
        %% looking for the first time loads code
        _ = Of(),
        Before = Of(),
        lists:foreach(Round, lists:seq(1, 24)),
        ct:pal("before ~0p~nafter ~0p", [Before, Of()]),
        ?assertEqual([], growth:since(Before, Of))
    end).

%%%===================================================================
%%% Many at once
%%%===================================================================

six_nodes_that_start_at_once_all_connect(Config) ->
    Cluster = ?config(cluster, Config),
    Nodes = cluster:at_once([fun() -> cluster:start(Cluster, Name, #{}) end || Name <- [a, b, c, d, e, f]]),
    Answers = cluster:at_once([
        fun() -> cluster:run(Node, fun() -> [{N, net_adm:ping(N)} || N <- Nodes, N =/= node()] end) end
     || Node <- Nodes
    ]),
    ?assertEqual([], [Answer || {_, pang} = Answer <- lists:append(Answers)]),
    [
        ?assertEqual(lists:sort(Nodes -- [Node]), lists:sort(cluster:call(Node, erlang, nodes, [])))
     || Node <- Nodes
    ].

a_full_mesh_carries_global_names(Config) ->
    Cluster = ?config(cluster, Config),
    Opts = #{kernel => [{connect_all, true}, {prevent_overlapping_partitions, false}], env => ?SOON_IDLE},
    [A | Others] = Nodes = [cluster:start(Cluster, Name, Opts) || Name <- [a, b, c, d]],
    [pong = cluster:ping(Other, A) || Other <- Others],
    [cluster:await(Node, fun() -> length(nodes()) =:= 3 end, ?WAIT_MS) || Node <- Nodes],
    [ok = cluster:call(Node, global, sync, []) || Node <- Nodes],
    {Pid, yes} = cluster:run(A, fun() ->
        Pid = spawn(fun() ->
            receive
                never -> ok
            end
        end),
        {Pid, global:register_name(lighthouse, Pid)}
    end),
    [?assertEqual(Pid, cluster:call(Node, global, whereis_name, [lighthouse])) || Node <- Nodes],
    [B | _] = Others,
    ?assertEqual(no, cluster:run(B, fun() -> global:register_name(lighthouse, self()) end)),
    cluster:kill(A),
    [cluster:await(Node, fun() -> global:whereis_name(lighthouse) =:= undefined end, ?WAIT_MS) || Node <- Others],
    ?assertEqual(yes, cluster:run(B, fun() -> global:register_name(lighthouse, whereis(init)) end)).

%%%===================================================================
%%% Internal
%%%===================================================================

port(Node) ->
    cluster:call(Node, barrel_p2p_dist, listen_port, []).

link_down(Node) ->
    #{msg := {report, #{fields := #{<<"reason">> := Reason}}}} =
        cluster:await_log(Node, fun is_link_down/1, ?WAIT_MS),
    Reason.

link_down(Node, Peer) ->
    Name = atom_to_binary(Peer),
    #{msg := {report, #{fields := #{<<"reason">> := Reason}}}} =
        cluster:await_log(
            Node,
            fun
                (#{msg := {report, #{fields := #{<<"peer">> := P}}}} = Event) -> P =:= Name andalso is_link_down(Event);
                (_) -> false
            end,
            ?WAIT_MS
        ),
    Reason.

is_link_down(#{msg := {report, #{what := <<"link down">>}}}) -> true;
is_link_down(_) -> false.

%% A node without a name, which starts distribution at run time.
with_nameless(Cluster, Env, Fun) ->
    Arguments = cluster:arguments(Cluster, x, #{env => Env}),
    {Before, ["-sname", _ | After]} = lists:splitwith(fun(Argument) -> Argument =/= "-sname" end, Arguments),
    {Shell, InDirectory} = cluster:in_directory(cluster:dir(Cluster), cluster:erl(#{})),
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io, exec => {Shell, InDirectory}, args => Before ++ After, wait_boot => 60000
    }),
    try
        Fun(Peer)
    after
        peer:stop(Peer)
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).
