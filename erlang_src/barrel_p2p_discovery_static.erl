%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Discovery from the configuration: addresses that an operator wrote down.
%%%
%%% Entries come from `{barrel_p2p_discovery_static, #{nodes => Entries}}' in
%%% `discovery_backends' (a property list works too) and from those entries of
%%% `contact_nodes' that carry an address. An entry is `{Node, {Host, Port}}' or
%%% `{Node, Host, Port}'. It registers nothing and asks nobody.
-module(barrel_p2p_discovery_static).
-behaviour(barrel_p2p_discovery).

%% barrel_p2p_discovery
-export([lookup/2, lookup/3, list_nodes/1]).
%% Internal
-export([configured_nodes/1]).

-spec lookup(node(), Host :: string()) -> barrel_p2p_discovery:answer().
lookup(Node, Host) ->
    lookup(Node, Host, #{opts => opts(), timeout_ms => 1, local => false}).

-spec lookup(node(), Host :: string(), barrel_p2p_discovery:context()) -> barrel_p2p_discovery:answer().
lookup(Node, _Host, #{opts := Opts}) ->
    case [Endpoint || {N, Endpoint} <- entries(Opts), N =:= Node] of
        [] -> {error, not_found};
        Endpoints -> {ok, Endpoints}
    end.

-spec list_nodes(Host :: string()) -> {ok, [{node(), inet:port_number()}]}.
list_nodes(_Host) ->
    configured_nodes(opts()).

%% @private The nodes of these options.
-spec configured_nodes(term()) -> {ok, [{node(), inet:port_number()}]}.
configured_nodes(Opts) ->
    {ok, [{Node, Port} || {Node, {_, Port}} <- entries(Opts)]}.

entries(Opts) ->
    Given =
        case Opts of
            #{nodes := Nodes} -> Nodes;
            #{} -> [];
            _ when is_list(Opts) -> proplists:get_value(nodes, Opts, []);
            _ -> []
        end,
    [
        Entry
     || Raw <- Given ++ barrel_p2p_config:get(contact_nodes),
        {ok, Entry} <- [entry(Raw)]
    ].

entry({Node, {Host, Port}}) when is_atom(Node), is_integer(Port) -> {ok, {Node, {Host, Port}}};
entry({Node, Host, Port}) when is_atom(Node), is_integer(Port) -> {ok, {Node, {Host, Port}}};
entry(_) -> none.

opts() ->
    case lists:keyfind(?MODULE, 1, [B || B <- barrel_p2p_config:get(discovery_backends), is_tuple(B)]) of
        {_, Opts} -> Opts;
        false -> #{}
    end.
