%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Discovery among the nodes of one user on one machine, by endpoint files.
%%%
%%% A node that listens publishes `<discovery_dir>/<node>.endpoint' and holds a
%%% lock on it; the lock ends with the operating-system process, so a file left
%%% by a crash is recognised and a living name cannot be taken twice. Reading and
%%% locking is the business of Rust; here is only the table of leases.
%%%
%%% A lease belongs to this VM and not to a process: the endpoint, and another
%%% carrier of the same node, publish the same name one after the other, and a
%%% restart of the endpoint's owner must not leave the name free in between. So
%%% leases are kept as persistent terms. There are one or two in the life of a
%%% VM, hence the cost of replacing one does not matter.
-module(barrel_p2p_discovery_file).
-behaviour(barrel_p2p_discovery).

%% barrel_p2p_discovery
-export([lookup/2, lookup/3, init/1, register/3, unregister/1, list_nodes/1]).
%% Internal: barrel_p2p_discovery, barrel_p2p_node, barrel_p2p_epmd
-export([publish/3, published/1]).

-define(LEASE(Node), {?MODULE, lease, Node}).

%%%===================================================================
%%% barrel_p2p_discovery
%%%===================================================================

-spec lookup(node() | binary(), Host :: string()) -> barrel_p2p_discovery:answer().
lookup(Node, _Host) ->
    case barrel_p2p_nif:lease_lookup(dir(), name(Node)) of
        {ok, Host, Port} -> {ok, {Host, Port}};
        {error, _} = Error -> Error
    end.

-spec lookup(node(), Host :: string(), barrel_p2p_discovery:context()) -> barrel_p2p_discovery:answer().
lookup(Node, Host, _Context) ->
    lookup(Node, Host).

-spec init(term()) -> {ok, binary()}.
init(_Opts) ->
    {ok, dir()}.

-spec register(node(), inet:port_number(), State) -> {ok, State} | {error, duplicate_name | term()}.
register(Node, Port, State) ->
    Host = unicode:characters_to_binary(barrel_p2p_discovery:host_of(Node)),
    case publish(Node, Host, Port) of
        ok -> {ok, State};
        {error, _} = Error -> Error
    end.

-spec unregister(node() | binary()) -> ok.
unregister(Node) ->
    Key = ?LEASE(name(Node)),
    case persistent_term:get(Key, undefined) of
        undefined ->
            ok;
        {Lease, _Port} ->
            %% In this order: on OTP 25 a handle that was read from a persistent term may be
            %% freed under a dirty native call that is made after the term was erased.
            ok = barrel_p2p_nif:lease_release(Lease),
            _ = persistent_term:erase(Key),
            ok
    end.

-spec list_nodes(Host :: string()) -> {ok, [{binary(), inet:port_number()}]} | {error, term()}.
list_nodes(_Host) ->
    case barrel_p2p_nif:lease_list(dir()) of
        {ok, Leases} -> {ok, [{Name, Port} || {Name, _, Port} <- Leases]};
        {error, _} = Error -> Error
    end.

%%%===================================================================
%%% Internal
%%%===================================================================

%% @private Publishes a node of this VM; an earlier lease of it is replaced.
-spec publish(node() | binary(), Host :: binary(), inet:port_number()) ->
    ok | {error, duplicate_name | term()}.
publish(Node, Host, Port) ->
    %% Another carrier may come here before anything of ours was loaded.
    case barrel_p2p_native:ensure_loaded() of
        ok -> publish_lease(name(Node), Host, Port);
        {error, Reason} -> {error, {native, Reason}}
    end.

publish_lease(Name, Host, Port) ->
    ok = ?MODULE:unregister(Name),
    case barrel_p2p_nif:lease_publish(dir(), Name, Host, Port) of
        {ok, Lease} -> persistent_term:put(?LEASE(Name), {Lease, Port});
        {error, _} = Error -> Error
    end.

%% @private The port under which this VM has published a node.
-spec published(node() | binary()) -> {ok, inet:port_number()} | {error, not_found}.
published(Node) ->
    case persistent_term:get(?LEASE(name(Node)), undefined) of
        {_Lease, Port} -> {ok, Port};
        undefined -> {error, not_found}
    end.

dir() ->
    barrel_p2p_config:get(discovery_dir).

name(Node) when is_atom(Node) -> atom_to_binary(Node, utf8);
name(Node) when is_binary(Node) -> Node.
