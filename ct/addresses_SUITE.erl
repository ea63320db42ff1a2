%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% The address of a node is not there: from the beginning, or from one moment to the next.
%%% The network is a namespace with addresses that a case adds and takes away, so most of
%%% it needs root.
-module(addresses_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    an_address_that_is_not_there_stops_the_boot/1,
    an_address_that_goes_away_ends_its_links_until_it_returns/1
]).

-define(WAIT_MS, 20000).
-define(SOON_IDLE, [{idle_timeout_ms, 1500}, {keep_alive_ms, 300}]).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [
        an_address_that_is_not_there_stops_the_boot,
        an_address_that_goes_away_ends_its_links_until_it_returns
    ].

init_per_testcase(an_address_that_goes_away_ends_its_links_until_it_returns, Config) ->
    case elsewhere:is_root() andalso network() of
        false -> {skip, "needs root"};
        {ok, Network} -> [{network, Network}, {cluster, cluster:new(Config)} | Config];
        {error, Said} -> {skip, "network namespaces are not available: " ++ Said}
    end;
init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    try
        cluster:stop(?config(cluster, Config))
    after
        case ?config(network, Config) of
            undefined -> ok;
            #{ns := Ns} -> elsewhere:command(["ip", "netns", "delete", Ns])
        end
    end.

%%%===================================================================
%%% Cases
%%%===================================================================

%% An address of documentation, which no machine has.
an_address_that_is_not_there_stops_the_boot(Config) ->
    {Status, Said} = cluster:boot_fails(?config(cluster, Config), a, #{env => [{listen_ip, "192.0.2.1"}]}),
    ?assertNotEqual({0, Said}, {Status, Said}),
    [
        ?assert(string:find(Said, Part) =/= nomatch, {Said, lacks, Part})
     || Part <- ["cannot bind UDP", "192.0.2.1", "assign requested address", "listen_ip"]
    ].

%% One node is bound to the address that goes, the other to all; both are reached there, by a
%% third one whose address stays.
an_address_that_goes_away_ends_its_links_until_it_returns(Config) ->
    Network = ?config(network, Config),
    [A, B, C] = [node_at(Config, Name, Number, Ip) || {Name, Number, Ip} <- [{a, 1, bound}, {b, 2, bound}, {c, 3, any}]],
    Contacts = [{Node, {address(Network, Number), port(Node)}} || {Node, Number} <- [{A, 1}, {B, 2}, {C, 3}]],
    [ok = cluster:call(Node, application, set_env, [barrel_p2p, contact_nodes, Contacts]) || Node <- [A, B, C]],
    [ok = cluster:connect(A, Node) || Node <- [B, C]],
    Ports = [port(Node) || Node <- [A, B, C]],
    Calls = [{Node, call_in_flight(A, Node)} || Node <- [B, C]],
    [take_away(Network, Number) || Number <- [2, 3]],
    %% both sides of both links
    [
        ?assertEqual({On, Of, connection_closed}, {On, Of, cluster:await_nodedown(On, Of, ?WAIT_MS)})
     || Node <- [B, C], {On, Of} <- [{A, Node}, {Node, A}]
    ],
    [?assertEqual({erpc, noconnection}, answer(A, Call)) || {_, Call} <- Calls],
    ?assertEqual([pang, pang], [cluster:ping(A, Node) || Node <- [B, C]]),
    %% who is bound to all addresses dials from another one
    ?assertEqual([pang, pong], [cluster:ping(Node, A) || Node <- [B, C]]),
    true = cluster:call(C, erlang, disconnect_node, [A]),
    connection_closed = cluster:await_nodedown(A, C, ?WAIT_MS),
    %% the same processes serve the address when it is there again
    [bring_back(Network, Number) || Number <- [2, 3]],
    ?assertEqual([pong, pong], [cluster:ping(A, Node) || Node <- [B, C]]),
    ?assertEqual(Ports, [port(Node) || Node <- [A, B, C]]),
    ?assertEqual([B, C], [cluster:call(A, erpc, call, [Node, erlang, node, []]) || Node <- [B, C]]).

%%%===================================================================
%%% Nodes
%%%===================================================================

%% The wait for an attempt that nobody answers is bounded by the setup time.
node_at(Config, Name, Number, Ip) ->
    Address = address(?config(network, Config), Number),
    cluster:start(?config(cluster, Config), Name, #{
        erl => inside(Config),
        longnames => true,
        host => Address,
        kernel => [{net_setuptime, 1}],
        env => [{discovery_backends, [barrel_p2p_discovery_static]} | ?SOON_IDLE] ++
            [{listen_ip, Address} || Ip =:= bound]
    }).

%% An erl that runs in the namespace.
inside(Config) ->
    #{ns := Ns} = ?config(network, Config),
    File = filename:join(cluster:dir(?config(cluster, Config)), "erl"),
    Script = ["#!/bin/sh\nexec ip netns exec ", Ns, " '", cluster:erl(#{}), "' \"$@\"\n"],
    ok = file:write_file(File, Script),
    ok = file:change_mode(File, 8#700),
    File.

port(Node) ->
    {ok, Port} = cluster:call(Node, barrel_p2p_dist, listen_port, []),
    Port.

%% A call that nobody answers, in a process of its own.
call_in_flight(From, To) ->
    cluster:run(From, fun() ->
        spawn(fun() ->
            Answer =
                try
                    erpc:call(To, timer, sleep, [infinity])
                catch
                    error:Reason -> Reason
                end,
            receive
                {answer, Asking} -> Asking ! {self(), Answer}
            end
        end)
    end).

answer(On, Pid) ->
    cluster:run(On, fun() ->
        Pid ! {answer, self()},
        receive
            {Pid, Answer} -> Answer
        end
    end).

%%%===================================================================
%%% The network
%%%===================================================================

%% The name holds the number of this VM, so that two runs side by side do not meet.
network() ->
    Unique = os:getpid() ++ "x" ++ integer_to_list(erlang:unique_integer([positive]) rem 1000),
    Network = #{ns => "bpad" ++ Unique, prefix => "10.92.7."},
    #{ns := Ns} = Network,
    case elsewhere:command(["ip", "netns", "add", Ns], []) of
        {0, _} ->
            "" = elsewhere:command(["ip", "-n", Ns, "link", "set", "lo", "up"]),
            [bring_back(Network, Number) || Number <- [1, 2, 3]],
            {ok, Network};
        {_, Said} ->
            {error, Said}
    end.

address(#{prefix := Prefix}, Number) ->
    Prefix ++ integer_to_list(Number).

bring_back(Network, Number) ->
    change("add", Network, Number).

take_away(Network, Number) ->
    change("del", Network, Number).

change(What, #{ns := Ns} = Network, Number) ->
    "" = elsewhere:command(["ip", "-n", Ns, "addr", What, address(Network, Number) ++ "/32", "dev", "lo"]).
