%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Discovery by the host part of the node name.
%%%
%%% A host part that is an IP address is the answer itself, with the default
%%% port. For a name, the SRV records of `_barrel-p2p._udp.<host>' decide where
%%% there are any; else the A and AAAA records with the default port. Both
%%% questions are asked at once. A name that has addresses waits for its SRV
%%% records 500 ms at most, for most networks have none and some never answer.
%%%
%%% `{barrel_p2p_discovery_dns, #{nameservers => [{Ip, Port}]}}' asks these name
%%% servers instead of the system's resolver.
%%%
%%% The chain calls it in a process of its own, never for names of this machine.
-module(barrel_p2p_discovery_dns).
-behaviour(barrel_p2p_discovery).

%% barrel_p2p_discovery
-export([lookup/2, lookup/3]).

-define(SRV_PATIENCE, 500).
%% Targets of SRV records that are looked at; each costs two questions.
-define(MAX_TARGETS, 4).

-spec lookup(node(), Host :: string()) -> barrel_p2p_discovery:answer().
lookup(Node, Host) ->
    lookup(Node, Host, #{opts => #{}, timeout_ms => 5000, local => false}).

-spec lookup(node(), Host :: string(), barrel_p2p_discovery:context()) -> barrel_p2p_discovery:answer().
lookup(_Node, "", _Context) ->
    {error, not_found};
lookup(_Node, Host, #{opts := Opts, timeout_ms := TimeoutMs}) ->
    case barrel_p2p_discovery:parse_ip(Host) of
        {ok, Ip} ->
            {ok, {Ip, barrel_p2p_discovery:default_port()}};
        error ->
            Deadline = erlang:monotonic_time(millisecond) + TimeoutMs,
            by_name(Host, servers(Opts), Deadline)
    end.

by_name(Host, Servers, Deadline) ->
    Self = self(),
    Tag = make_ref(),
    _ = spawn_link(fun() -> Self ! {Tag, services(Host, Servers, remaining(Deadline))} end),
    Ips = barrel_p2p_discovery:addresses(Host, remaining(Deadline), Servers),
    Patience =
        case Ips of
            [] -> remaining(Deadline);
            _ -> min(?SRV_PATIENCE, remaining(Deadline))
        end,
    Targets =
        receive
            {Tag, Found} -> Found
        after Patience -> []
        end,
    answer(Targets, Host, Ips, Servers, Deadline).

answer([], _Host, [], _Servers, _Deadline) ->
    {error, not_found};
answer([], _Host, Ips, _Servers, _Deadline) ->
    Port = barrel_p2p_discovery:default_port(),
    {ok, [{Ip, Port} || Ip <- Ips]};
answer(Targets, Host, Ips, Servers, Deadline) ->
    Endpoints = [
        {Ip, Port}
     || {_Priority, _Weight, Port, Target} <- Targets,
        Ip <- target_addresses(Target, Host, Ips, Servers, Deadline)
    ],
    case Endpoints of
        [] -> {error, not_found};
        _ -> {ok, Endpoints}
    end.

target_addresses(Host, Host, Ips, _Servers, _Deadline) ->
    Ips;
target_addresses(Target, _Host, _Ips, Servers, Deadline) ->
    barrel_p2p_discovery:addresses(Target, remaining(Deadline), Servers).

%% By priority, the smallest number first.
services(Host, Servers, TimeoutMs) ->
    Options = [{nameservers, Servers} || Servers =/= []] ++ [{retry, 1}, {timeout, TimeoutMs}],
    Name = "_barrel-p2p._udp." ++ Host,
    lists:sublist(lists:sort(inet_res:lookup(Name, in, srv, Options, TimeoutMs)), ?MAX_TARGETS).

servers(#{nameservers := Servers}) -> Servers;
servers(_) -> [].

remaining(Deadline) ->
    max(1, Deadline - erlang:monotonic_time(millisecond)).
