%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Signals from one process to another keep their order, whatever they are and however
%%% they are addressed: nothing that tells of the end of a sender overtakes its last message.
%%%
%%% Every case plays many rounds of one kind between two nodes, by many pairs of processes at once
%%% and in both directions. What a round is, is told in `order_node'.
-module(order_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% Common Test
-export([all/0, groups/0, suite/0, init_per_group/2, end_per_group/2]).
%% Cases
-export([
    messages_to_a_pid_come_before_the_down/1,
    messages_to_a_name_come_before_the_down/1,
    messages_to_an_alias_come_before_the_down/1,
    messages_come_before_each_of_two_monitors/1,
    messages_come_before_the_exit_of_a_link/1,
    a_link_taken_back_between_messages_tells_nothing/1,
    messages_come_before_an_exit_signal/1,
    fragmented_messages_and_reasons_keep_their_order/1,
    monitors_and_links_are_in_force_before_the_next_message/1,
    messages_come_before_a_kill/1,
    a_server_that_stops_has_answered/1,
    the_connection_was_one_and_nothing_went_wrong/1,
    the_path_lost_and_reordered_packets/1
]).

%% In each direction.
-define(PAIRS, 32).

suite() ->
    [prove:timetrap(5, 60)].

all() ->
    [{group, loopback}, {group, impaired}].

groups() ->
    [{loopback, [], cases()}, {impaired, [], cases() ++ [the_path_lost_and_reordered_packets]}].

cases() ->
    [
        messages_to_a_pid_come_before_the_down,
        messages_to_a_name_come_before_the_down,
        messages_to_an_alias_come_before_the_down,
        messages_come_before_each_of_two_monitors,
        messages_come_before_the_exit_of_a_link,
        a_link_taken_back_between_messages_tells_nothing,
        messages_come_before_an_exit_signal,
        fragmented_messages_and_reasons_keep_their_order,
        monitors_and_links_are_in_force_before_the_next_message,
        messages_come_before_a_kill,
        a_server_that_stops_has_answered,
        the_connection_was_one_and_nothing_went_wrong
    ].

init_per_group(loopback, Config) ->
    {Cluster, {A, B} = Nodes} = pair(Config),
    ok = cluster:connect(A, B),
    [{cluster, Cluster}, {nodes, Nodes}, {rounds, prove:rounds(2000, 100000)} | Config];
init_per_group(impaired, Config) ->
    case impaired:unavailable(udp) of
        {true, Why} ->
            {skip, Why};
        false ->
            {Cluster, {A, B} = Nodes} = pair(Config),
            %% This process ends before the first case. The one that watches a node does not.
            Path = impaired:between(A, B, #{owner => cluster:peer(A), settings => settings()}),
            ok = cluster:connect(A, B),
            [{cluster, Cluster}, {nodes, Nodes}, {path, Path}, {rounds, prove:rounds(300, 10000)} | Config]
    end.

pair(Config) ->
    Cluster = cluster:new(Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    {Cluster, {A, B}}.

settings() ->
    [
        {both, Key, Value}
     || {Key, Value} <- [{loss, 0.03}, {reorder, 0.03}, {hold, 5}, {duplicate, 0.01}, {delay, 1}, {jitter, 1}]
    ].

end_per_group(_Group, Config) ->
    case ?config(path, Config) of
        undefined -> ok;
        Path -> ok = impaired:stop(Path)
    end,
    cluster:stop(?config(cluster, Config)).

%%%===================================================================
%%% Cases
%%%===================================================================

messages_to_a_pid_come_before_the_down(Config) -> play(pids, Config).

messages_to_a_name_come_before_the_down(Config) -> play(names, Config).

messages_to_an_alias_come_before_the_down(Config) -> play(aliases, Config).

messages_come_before_each_of_two_monitors(Config) -> play(monitors, Config).

messages_come_before_the_exit_of_a_link(Config) -> play(links, Config).

a_link_taken_back_between_messages_tells_nothing(Config) -> play(unlinks, Config).

messages_come_before_an_exit_signal(Config) -> play(exits, Config).

fragmented_messages_and_reasons_keep_their_order(Config) -> play(fragments, Config).

monitors_and_links_are_in_force_before_the_next_message(Config) -> play(requests, Config).

messages_come_before_a_kill(Config) -> play(kills, Config).

a_server_that_stops_has_answered(Config) -> play(calls, Config).

%% The last case of a group: all its rounds went over the connection that was made at first.
the_connection_was_one_and_nothing_went_wrong(Config) ->
    {A, B} = ?config(nodes, Config),
    [
        begin
            ok = cluster:await_nodeup(On, Of, 1000),
            ?assertError({no_nodedown, _, _, []}, cluster:await_nodedown(On, Of, 1)),
            ?assertEqual([], [E || #{level := error} = E <- cluster:logs(On)])
        end
     || {On, Of} <- [{A, B}, {B, A}]
    ].

the_path_lost_and_reordered_packets(Config) ->
    Stats = impaired:stats(?config(path, Config)),
    ct:pal("~0p", [Stats]),
    [
        ?assert(maps:get(Key, maps:get(Direction, Stats)) > 0, {Direction, Key})
     || Direction <- [forward, backward], Key <- [lost, reordered, duplicated]
    ].

%%%===================================================================
%%% Internal
%%%===================================================================

%% Half of the rounds with the receivers on each node.
play(Kind, Config) ->
    {A, B} = ?config(nodes, Config),
    Rounds = ?config(rounds, Config),
    Half = Rounds div 2,
    Group = proplists:get_value(name, ?config(tc_group_properties, Config)),
    prove:check(lists:flatten(io_lib:format("order, ~ts, ~ts", [Group, Kind])), Rounds, fun() ->
        both([
            fun() -> cluster:call(On, order_node, run, [Kind, With, Count, ?PAIRS], infinity) end
         || {On, With, Count} <- [{A, B, Half}, {B, A, Rounds - Half}]
        ])
    end).

both(Funs) ->
    Running = [spawn_monitor(fun() -> exit({played, Fun()}) end) || Fun <- Funs],
    lists:foldl(
        fun({Pid, Monitor}, {Count, Some}) ->
            receive
                {'DOWN', Monitor, process, Pid, {played, {More, Others}}} -> {Count + More, Some ++ Others};
                {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
            end
        end,
        {0, []},
        Running
    ).
