%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The module for `-epmd_module': names without the epmd daemon.
%%%
%%% It answers the whole API of `erl_epmd' from the discovery chain. Our own
%%% carrier does not need it, it asks the chain itself; `net_adm:names/0,1' and
%%% other carriers of the same node do, as with `-proto_dist barrel_p2p inet_tcp'.
%%% For those it keeps one number for a node: {@link listen_port_please/2} proposes
%%% the UDP port of the endpoint as their TCP port, so that what is published is
%%% true for both. When that TCP port is taken, the node is found by the carrier
%%% that came first only, and the log says so.
%%%
%%% There is no process: leases belong to the VM. It runs in `net_sup', where a
%%% crash halts the node, so every function answers whatever happens.
-module(barrel_p2p_epmd).

%% The API of erl_epmd
-export([
    start/0,
    start_link/0,
    stop/0,
    register_node/2,
    register_node/3,
    port_please/2,
    port_please/3,
    address_please/3,
    listen_port_please/2,
    names/0,
    names/1
]).

-type name() :: atom() | string().
-type host() :: atom() | string() | inet:ip_address().

%% The newest version that erl_epmd speaks; OTP 25 is the floor.
-define(DIST_VERSION, 6).
%% net_setuptime's default: callers give no time, and setup is over then.
-define(TIMEOUT, 7000).
-define(HOST, {?MODULE, host}).

-spec start() -> ignore.
start() ->
    ignore.

%% @doc Starts nothing. Loads what lookups need, since no carrier of ours may have done it.
-spec start_link() -> ignore.
start_link() ->
    safely(ignore, fun() ->
        _ = application:load(barrel_p2p),
        case barrel_p2p_native:ensure_loaded() of
            ok ->
                ignore;
            {error, Reason} ->
                barrel_p2p_log:report(error, "nodes of this machine cannot be found", #{
                    reason => unicode:characters_to_binary(barrel_p2p_native:format_error(Reason))
                }),
                ignore
        end
    end).

-spec stop() -> ok.
stop() ->
    ok.

-spec register_node(name(), inet:port_number()) -> {ok, -1} | {error, term()}.
register_node(Name, Port) ->
    register_node(Name, Port, inet).

%% @doc Publishes a node for another carrier. The creation is left to `net_kernel'.
-spec register_node(name(), inet:port_number(), inet | inet6 | inet_tcp | inet6_tcp) ->
    {ok, -1} | {error, term()}.
register_node(Name, Port, _Driver) ->
    safely({error, discovery_failed}, fun() ->
        Host = host_of_registration(Name),
        Node = unicode:characters_to_binary([text(Name), "@", Host]),
        case barrel_p2p_discovery_file:published(Node) of
            {ok, Port} ->
                {ok, -1};
            {ok, Other} ->
                barrel_p2p_log:report(warning, "two carriers of this node listen on different ports", #{
                    published => Other,
                    not_published => Port,
                    remedy => <<"free the TCP port with the number of listen_port, or use one carrier">>
                }),
                {ok, -1};
            {error, not_found} ->
                register_new(Name, Host, Port)
        end
    end).

register_new(Name, Host, Port) ->
    case barrel_p2p_discovery:register(text(Name), Host, Port, interface()) of
        ok ->
            {ok, -1};
        {error, duplicate_name} ->
            {error, duplicate_name};
        {error, Reason} ->
            barrel_p2p_log:report(warning, "this node cannot be found by its name", #{reason => Reason}),
            {ok, -1}
    end.

-spec port_please(name(), host()) -> {port, inet:port_number(), 6} | noport.
port_please(Name, Host) ->
    port_please(Name, Host, infinity).

-spec port_please(name(), host(), timeout()) -> {port, inet:port_number(), 6} | noport.
port_please(Name, Host, Timeout) ->
    safely(noport, fun() ->
        case resolve(Name, Host, Timeout) of
            {ok, [{_, Port} | _]} -> {port, Port, ?DIST_VERSION};
            {error, _} -> port_by_name(text(Name), text(Host))
        end
    end).

%% Callers that were given an address ask with it, though the name holds the host's name.
port_by_name(Name, Host) ->
    {ok, Names} = barrel_p2p_discovery:names(Host),
    case lists:keyfind(Name, 1, Names) of
        {Name, Port} -> {port, Port, ?DIST_VERSION};
        false -> noport
    end.

%% @doc Address and port in one answer, so that nobody asks for the port again.
-spec address_please(name(), host(), inet | inet6 | local) ->
    {ok, inet:ip_address(), inet:port_number(), 6} | {error, term()}.
address_please(Name, Host, Family) ->
    safely({error, nxdomain}, fun() ->
        case resolve(Name, Host, ?TIMEOUT) of
            {ok, Addresses} ->
                case [A || {Ip, _} = A <- Addresses, family(Ip) =:= Family] of
                    [{Ip, Port} | _] -> {ok, Ip, Port, ?DIST_VERSION};
                    [] -> {error, eafnosupport}
                end;
            {error, _} ->
                {error, nxdomain}
        end
    end).

%% @doc The port another carrier should listen on: that of the endpoint when its TCP
%% counterpart is free, else 0, which means that the carrier chooses.
-spec listen_port_please(name(), host()) -> {ok, inet:port_number()}.
listen_port_please(Name, Host) ->
    safely({ok, 0}, fun() ->
        %% register_node/2,3 come next, in the same process and without the host
        put(?HOST, {text(Name), text(Host)}),
        Node = unicode:characters_to_binary([text(Name), "@", text(Host)]),
        case barrel_p2p_discovery_file:published(Node) of
            {ok, Port} -> {ok, free_tcp_port(Port)};
            {error, not_found} -> {ok, 0}
        end
    end).

%% @doc The nodes of this machine.
-spec names() -> {ok, [{string(), inet:port_number()}]} | {error, address}.
names() ->
    names("localhost").

%% @doc The nodes of a host, as far as discovery knows them.
-spec names(host()) -> {ok, [{string(), inet:port_number()}]} | {error, address}.
names(Host) ->
    safely({error, address}, fun() ->
        Text = text(Host),
        case {barrel_p2p_discovery:names(Text), barrel_p2p_discovery:is_local_host(Text)} of
            {{ok, []}, false} -> {error, address};
            {Names, _} -> Names
        end
    end).

%%%===================================================================
%%% Internal
%%%===================================================================

resolve(Name, Host, Timeout) ->
    %% The callers hold the node's name already, mostly as this very atom.
    Node = list_to_atom(text(Name) ++ "@" ++ text(Host)),
    Ms =
        case Timeout of
            infinity -> ?TIMEOUT;
            _ -> max(1, Timeout)
        end,
    barrel_p2p_discovery:resolve(Node, Ms).

host_of_registration(Name) ->
    Text = text(Name),
    case get(?HOST) of
        {Text, Host} ->
            Host;
        _ ->
            {ok, Host} = inet:gethostname(),
            Host
    end.

interface() ->
    case application:get_env(kernel, inet_dist_use_interface) of
        {ok, Ip} when is_tuple(Ip) -> Ip;
        _ -> any
    end.

free_tcp_port(Port) ->
    Options =
        case interface() of
            any -> [];
            Ip -> [{ip, Ip}]
        end,
    case gen_tcp:listen(Port, Options) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            Port;
        {error, _} ->
            0
    end.

family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_) -> inet6.

text(Text) when is_atom(Text) -> atom_to_list(Text);
text(Text) when is_list(Text) -> Text;
text(Text) when is_binary(Text) -> unicode:characters_to_list(Text);
text(Ip) when is_tuple(Ip) -> inet:ntoa(Ip).

safely(Otherwise, Fun) ->
    try
        Fun()
    catch
        Class:Reason:Stack ->
            barrel_p2p_log:report(error, "name resolution failed", #{
                class => Class, reason => Reason, stacktrace => Stack
            }),
            Otherwise
    end.
