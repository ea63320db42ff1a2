%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Connections that are made and lost at the worst moment. Whoever dials a living node is connected to it.
%%%
%%% A round begins at one moment on all its nodes, with a skew that differs by the round, so that
%%% every step of one meets every step of the other. It fails when a connect answers `false', when
%%% a connection is not there on both sides afterwards or does not work, or when one came or went
%%% that had no reason to. The same races over `inet_tcp' are the proof that this asks for what OTP gives.
-module(races_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% Common Test
-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
%% Races
-export([
    both_dial_at_once/1,
    both_dial_at_once_without_a_link/1,
    the_closer_dials_at_once/1,
    the_other_side_dials_at_the_news/1,
    both_dial_after_a_close/1,
    three_dial_each_other_at_once/1,
    a_third_joins_while_two_race/1
]).
%% Again and again
-export([
    a_node_restarted_on_its_old_port_is_reached_at_once/1,
    a_node_restarted_on_another_port_is_reached_at_once/1,
    connects_and_disconnects_leak_nothing/1,
    new_links_leak_nothing/1
]).

%% An event that must come; how long it takes is not what is tested.
-define(SOON, 60000).
%% On a new connection `rex' of one node asks that of the other one, and an answer behind a
%% disconnect would connect again.
-define(ONLY_WHEN_ASKED, [{dist_auto_connect, never}]).
-define(NEVER_IDLE, [{idle_timeout_ms, 600000}]).
%% Failed rounds that are told in full.
-define(TOLD, 5).

suite() ->
    [prove:timetrap(3, 60)].

all() ->
    [{group, races}, {group, races_over_tcp}, {group, again_and_again}].

groups() ->
    Races = [
        both_dial_at_once,
        the_closer_dials_at_once,
        the_other_side_dials_at_the_news,
        both_dial_after_a_close,
        three_dial_each_other_at_once,
        a_third_joins_while_two_race
    ],
    [
        {races, [], Races ++ [both_dial_at_once_without_a_link]},
        {races_over_tcp, [], Races},
        {again_and_again, [], [
            a_node_restarted_on_its_old_port_is_reached_at_once,
            a_node_restarted_on_another_port_is_reached_at_once,
            connects_and_disconnects_leak_nothing,
            new_links_leak_nothing
        ]}
    ].

init_per_group(races, Config) ->
    racers(barrel_p2p, prove:rounds(60, 500), Config);
init_per_group(races_over_tcp, Config) ->
    racers(inet_tcp, prove:rounds(5, 500), Config);
init_per_group(again_and_again, Config) ->
    Config.

racers(Carrier, Rounds, Config) ->
    Cluster = cluster:new(Config),
    Nodes = [cluster:start(Cluster, Name, #{carrier => Carrier, kernel => ?ONLY_WHEN_ASKED}) || Name <- [a, b, c]],
    [{cluster, Cluster}, {nodes, Nodes}, {carrier, Carrier}, {rounds, Rounds} | Config].

end_per_group(again_and_again, _Config) ->
    ok;
end_per_group(_Group, Config) ->
    cluster:stop(?config(cluster, Config)).

init_per_testcase(_Case, Config) ->
    case ?config(cluster, Config) of
        undefined -> [{cluster_of_case, cluster:new(Config)} | Config];
        _ -> Config
    end.

end_per_testcase(_Case, Config) ->
    case ?config(cluster_of_case, Config) of
        undefined -> ok;
        Cluster -> cluster:stop(Cluster)
    end.

%%%===================================================================
%%% Races
%%%===================================================================

both_dial_at_once(Config) ->
    [A, B, _] = ?config(nodes, Config),
    races("both dial at once", [A, B], apart, Config, fun(Round) ->
        [{A, 0, [{connect, B}]}, {B, skew(Round, 300), [{connect, A}]}]
    end).

%% With the links of the carrier left over from the last round, only streams race. Here
%% the links do.
both_dial_at_once_without_a_link(Config) ->
    [A, B, _] = ?config(nodes, Config),
    races("both dial at once, no link", [A, B], no_link, Config, fun(Round) ->
        [{A, 0, [{connect, B}]}, {B, skew(Round, 700), [{connect, A}]}]
    end).

%% The other side may not have heard of the end yet.
the_closer_dials_at_once(Config) ->
    [A, B, _] = ?config(nodes, Config),
    races("the closer dials", [A, B], together, Config, fun(Round) ->
        {Closer, Other} = turn(Round, A, B),
        [{Closer, 0, [{disconnect, Other}, {connect, Other}]}]
    end).

the_other_side_dials_at_the_news(Config) ->
    [A, B, _] = ?config(nodes, Config),
    races("the other side dials", [A, B], together, Config, fun(Round) ->
        {Closer, Other} = turn(Round, A, B),
        [{Closer, skew(11, 300), [{disconnect, Other}]}, {Other, 0, [{await_end, Closer}, {connect, Closer}]}]
    end).

both_dial_after_a_close(Config) ->
    [A, B, _] = ?config(nodes, Config),
    races("both dial after a close", [A, B], together, Config, fun(Round) ->
        {Closer, Other} = turn(Round, A, B),
        [
            {Closer, skew(11, 300), [{disconnect, Other}, {connect, Other}]},
            {Other, 0, [{await_end, Closer}, {connect, Closer}]}
        ]
    end).

three_dial_each_other_at_once(Config) ->
    Nodes = [A, B, C] = ?config(nodes, Config),
    races("three dial each other", Nodes, apart, Config, fun(Round) ->
        [
            {A, 0, [{connect_all, [B, C]}]},
            {B, skew(Round, 300), [{connect_all, [C, A]}]},
            {C, skew(Round * 5, 300), [{connect_all, [A, B]}]}
        ]
    end).

a_third_joins_while_two_race(Config) ->
    Nodes = [A, B, C] = ?config(nodes, Config),
    races("a third joins", Nodes, apart, Config, fun(Round) ->
        [
            {A, 0, [{connect, B}]},
            {B, skew(Round, 300), [{connect, A}]},
            {C, skew(Round * 5, 300), [{connect_all, [A, B]}]}
        ]
    end).

%% Microseconds, from before to behind the others.
skew(Round, Step) ->
    (Round rem 21 - 10) * Step.

turn(Round, A, B) ->
    case Round rem 2 of
        0 -> {A, B};
        1 -> {B, A}
    end.

races(Kind, Nodes, Before, Config, Script) ->
    Rounds = ?config(rounds, Config),
    Title = lists:flatten(io_lib:format("race, ~ts, ~ts", [?config(carrier, Config), Kind])),
    prove:check(Title, Rounds, fun() ->
        Failed = [
            #{round => Round, skews => [{Node, Skew} || {Node, Skew, _} <- Script(Round)], failed => Failures}
         || Round <- lists:seq(1, Rounds), Failures <- [race(Nodes, Before, Script(Round))], Failures =/= []
        ],
        {length(Failed), lists:sublist(Failed, ?TOLD)}
    end).

race(Nodes, Before, Script) ->
    ok = prepare(Before, Nodes),
    Ready = [{Node, Skew, cluster:call(Node, races_node, ready, [Actions])} || {Node, Skew, Actions} <- Script],
    %% long enough for the orders to be there
    At = erlang:system_time(microsecond) + 15000,
    Failures = lists:append(
        cluster:at_once([fun() -> cluster:call(Node, races_node, go, [Pid, At + Skew]) end || {Node, Skew, Pid} <- Ready])
    ),
    Failures ++ lists:append([works(From, To) || From <- Nodes, To <- Nodes, From =/= To]) ++
        lists:append([events(Before, On, Of) || On <- Nodes, Of <- Nodes, On =/= Of]).

prepare(together, Nodes) ->
    [ok = cluster:connect(From, To) || From <- Nodes, To <- Nodes, From < To],
    forget_events(Nodes);
prepare(apart, Nodes) ->
    [cluster:call(From, erlang, disconnect_node, [To]) || From <- Nodes, To <- Nodes, From < To],
    [true = cluster:await(Node, fun() -> nodes(connected) -- Nodes =:= nodes(connected) end, ?SOON) || Node <- Nodes],
    forget_events(Nodes);
prepare(no_link, [A, _] = Nodes) ->
    ok = prepare(apart, Nodes),
    ok = cluster:call(A, races_node, reopen, []),
    Names = [atom_to_binary(Node) || Node <- Nodes],
    No = fun() -> [Name || #{name := Name} <- barrel_p2p_node:links(), lists:member(Name, Names)] =:= [] end,
    [true = cluster:await(Node, No, ?SOON) || Node <- Nodes],
    ok.

forget_events(Nodes) ->
    [ok = cluster:forget_events(Node) || Node <- Nodes],
    ok.

%% It must be there before anything is sent, which would connect. The side that was dialled
%% may be the last to know.
works(From, To) ->
    Connected = {lists, member, [To, {erlang, nodes, [connected]}]},
    case cluster:call(From, cluster, poll, [Connected, ?SOON, 1]) of
        true ->
            case cluster:call(From, rpc, call, [To, erlang, node, []]) of
                To -> [];
                Other -> [{From, calls, To, Other}]
            end;
        {late, _} ->
            [{From, not_connected, To}]
    end.

%% One connection came, and where there was one before, that one went.
events(Before, On, Of) ->
    Must =
        case Before of
            together -> [nodedown, nodeup];
            _ -> [nodeup]
        end,
    case [Event || Event <- cluster:events(On), element(2, Event) =:= Of] of
        Events when length(Events) =:= length(Must) ->
            case [Kind || {Kind, _, _} <- Events] of
                Must -> [];
                _ -> [{On, Events}]
            end;
        Events ->
            [{On, Events}]
    end.

%%%===================================================================
%%% Restarts
%%%===================================================================

a_node_restarted_on_its_old_port_is_reached_at_once(Config) ->
    restarts("restarts on the old port", Config, fun(Cluster, A, Round) ->
        {ok, Port} = port(A),
        cluster:stop(A, lists:nth(1 + Round rem 3, [halt, sigkill, init_stop])),
        A = cluster:restart(Cluster, A, #{env => [{listen_port, Port} | ?NEVER_IDLE]}),
        ?assertEqual({ok, Port}, port(A))
    end).

a_node_restarted_on_another_port_is_reached_at_once(Config) ->
    restarts("restarts on another port", Config, fun(Cluster, A, Round) ->
        {ok, Port} = port(A),
        %% Only a stop that is said: what is sent to a port that nobody has is not answered.
        cluster:stop(A, lists:nth(1 + Round rem 2, [halt, init_stop])),
        A = cluster:restart(Cluster, A),
        ?assertNotEqual({ok, Port}, port(A))
    end).

%% Two old peers, which connect again each time.
restarts(Kind, Config, Restart) ->
    Cluster = ?config(cluster_of_case, Config),
    [A | Others] = [cluster:start(Cluster, Name, #{env => ?NEVER_IDLE}) || Name <- [a, b, c]],
    Rounds = prove:rounds(10, 200),
    prove:check(Kind, Rounds, fun() ->
        [?assertEqual(pong, cluster:ping(Other, A)) || Other <- Others],
        Failed = [
            {Round, Failures}
         || Round <- lists:seq(1, Rounds),
            Failures <- [restart(Cluster, A, Others, Round, Restart)],
            Failures =/= []
        ],
        {length(Failed), lists:sublist(Failed, ?TOLD)}
    end).

restart(Cluster, A, Others, Round, Restart) ->
    _ = Restart(Cluster, A, Round),
    lists:append([reached_again(Other, A) || Other <- Others]).

%% The other node hears of the end before its next dial, and that one succeeds.
reached_again(Other, Node) ->
    %% after a kill this packet is the one that the new process answers with a reset
    _ = cluster:call(Other, erlang, send, [{nobody, Node}, anything]),
    case {cluster:await_nodedown(Other, Node, ?SOON), cluster:ping(Other, Node)} of
        {connection_closed, pong} -> [];
        Wrong -> [{Other, Wrong}]
    end.

%%%===================================================================
%%% Growth
%%%===================================================================

%% Streams on links that stay.
connects_and_disconnects_leak_nothing(Config) ->
    Nodes = [A, B] = two(Config),
    %% from both sides in turn
    Cycles = fun(Count) ->
        Chunk = 50,
        lists:append([
            begin
                {From, To} = turn(Number, A, B),
                Failed = cluster:call(From, races_node, cycle, [To, Chunk]),
                [true = cluster:await(Node, fun() -> nodes(connected) =:= [] end, ?SOON) || Node <- Nodes],
                [{Number, Failed} || Failed =/= []]
            end
         || Number <- lists:seq(1, Count div Chunk)
        ])
    end,
    leak_nothing("connects and disconnects", Nodes, Cycles, prove:rounds(100, 2000), prove:rounds(300, 10000)).

%% A connection, a link and an endpoint each time.
new_links_leak_nothing(Config) ->
    Nodes = [A, B] = two(Config),
    Cycles = fun(Count) ->
        [
            {Round, Failed}
         || Round <- lists:seq(1, Count),
            ok <- [cluster:call(A, races_node, reopen, [])],
            {From, To} <- [turn(Round, A, B)],
            Failed <- cluster:call(From, races_node, cycle, [To, 1])
        ]
    end,
    leak_nothing("connects over new links", Nodes, Cycles, prove:rounds(20, 100), prove:rounds(60, 1000)).

two(Config) ->
    Cluster = ?config(cluster_of_case, Config),
    [cluster:start(Cluster, Name, #{env => ?NEVER_IDLE, kernel => ?ONLY_WHEN_ASKED}) || Name <- [a, b]].

leak_nothing(Kind, Nodes, Cycles, WarmUp, Count) ->
    %% looking for the first time loads code
    _ = [resources(Node) || Node <- Nodes],
    ?assertEqual([], Cycles(WarmUp)),
    Before = [resources(Node) || Node <- Nodes],
    prove:check(Kind, Count, fun() ->
        Failed = Cycles(Count) ++ lists:append([grown(Node, Was, Count) || {Node, Was} <- lists:zip(Nodes, Before)]),
        {length(Failed), lists:sublist(Failed, ?TOLD)}
    end).

grown(Node, Before, Count) ->
    Now = resources(Node),
    Difference = maps:map(fun(Key, Was) -> {Was, maps:get(Key, Now) - Was} end, Before),
    ct:pal("~ts after ~b rounds, before and more: ~0p", [Node, Count, Difference]),
    [{Node, Grown} || Grown <- growth:since(Before, fun() -> resources(Node) end)].

resources(Node) ->
    %% the harness keeps what nobody awaits
    ok = cluster:forget_events(Node),
    cluster:call(Node, growth, resources, []).

%%%===================================================================
%%% Internal
%%%===================================================================

port(Node) ->
    cluster:call(Node, barrel_p2p_dist, listen_port, []).
