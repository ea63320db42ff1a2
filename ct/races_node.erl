%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What `races_SUITE' does on its nodes.
-module(races_node).

-export([ready/1, go/2, cycle/2, reopen/0]).

-export_type([action/0]).

-type action() :: {connect, node()} | {connect_all, [node()]} | {disconnect, node()} | {await_end, node()}.

%% An event that must come; how long it takes is not what is tested.
-define(SOON, 60000).

%% @doc A process that will do one thing after the other. It watches already, so it misses no end.
-spec ready([action()]) -> pid().
ready(Actions) ->
    Self = self(),
    Pid = spawn(fun() ->
        _ = [erlang:monitor_node(Node, true) || {await_end, Node} <- Actions],
        Self ! {ready, self()},
        receive
            {go, At} -> until(At)
        end,
        exit({failed, lists:append([perform(Action) || Action <- Actions])})
    end),
    receive
        {ready, Pid} -> Pid
    end.

%% @doc Has it begin at that system time, in microseconds. Answers what failed.
-spec go(pid(), At :: integer()) -> [term()].
go(Pid, At) ->
    Monitor = monitor(process, Pid),
    Pid ! {go, At},
    receive
        {'DOWN', Monitor, process, Pid, {failed, Failed}} -> Failed
    end.

%% The nodes are on one machine and share its clock.
until(At) ->
    case erlang:system_time(microsecond) >= At of
        true -> ok;
        false -> until(At)
    end.

perform({connect, Node}) ->
    case net_kernel:connect_node(Node) of
        true -> [];
        Other -> [{node(), connect, Node, Other}]
    end;
perform({connect_all, Nodes}) ->
    Running = [spawn_monitor(fun() -> exit({failed, perform({connect, Node})}) end) || Node <- Nodes],
    lists:append([
        receive
            {'DOWN', Monitor, process, Pid, {failed, Failed}} -> Failed
        end
     || {Pid, Monitor} <- Running
    ]);
perform({disconnect, Node}) ->
    case erlang:disconnect_node(Node) of
        true -> [];
        Other -> [{node(), disconnect, Node, Other}]
    end;
perform({await_end, Node}) ->
    receive
        {nodedown, Node} -> []
    after ?SOON -> [{node(), no_end_of, Node}]
    end.

%% @doc Connects and disconnects so many times; answers the rounds in which that failed.
-spec cycle(node(), Count :: non_neg_integer()) -> [term()].
cycle(Node, Count) ->
    [{Round, Failed} || Round <- lists:seq(1, Count), Failed <- cycle_once(Node)].

cycle_once(Node) ->
    case {net_kernel:connect_node(Node), net_adm:ping(Node)} of
        {true, pong} -> perform({disconnect, Node});
        Failed -> [{node(), Node, Failed}]
    end.

%% @doc A new endpoint, on another port: the old one says goodbye, and with it go all links.
-spec reopen() -> ok.
reopen() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    {ok, _} = barrel_p2p_node:open(#{mode => member, name => node(), host => Host}),
    ok.
