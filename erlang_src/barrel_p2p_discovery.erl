%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc From node names to addresses: a chain of backends, the first hit wins.
%%%
%%% The configuration key `discovery_backends' holds modules and `{Module, Opts}'
%%% in order. A backend needs {@link lookup/2} or `lookup/3' only. What a backend
%%% answers may name a host; the chain turns it into IP addresses.
%%%
%%% There are two kinds of backends. The static and the file one read what this
%%% machine holds and run in the caller. Any other may wait for a network or be a
%%% user's module: it runs in a process of its own, for as long as the caller has
%%% time, and its crash is a miss of this backend alone, named once in the log.
%%%
%%% A name of this machine is never asked from DNS: an unknown one must fail at
%%% once, and nobody else can know it. It is dialled at the loopback addresses,
%%% unless its node is bound to one address, which its endpoint file names then.
%%%
%%% It is not a process and keeps no state. `resolve' is called in the process
%%% that sets a connection up, never in `net_kernel'; `register' by
%%% `barrel_p2p_node' and `barrel_p2p_epmd' also in early boot.
-module(barrel_p2p_discovery).

%% API
-export([resolve/2, register/4, unregister/1, names/1, is_local_host/1]).
%% The published 0.1 functions
-export([init/1, lookup/2, register/3, list_nodes/1]).
%% For backends
-export([default_port/0, parse_ip/1, addresses/3, host_of/1]).

-export_type([address/0, endpoint/0, context/0, answer/0, details/0]).

-type address() :: {inet:ip_address(), inet:port_number()}.
-type endpoint() :: {inet:ip_address() | string() | binary(), inet:port_number()}.
-type answer() :: {ok, endpoint()} | {ok, [endpoint()]} | {error, not_found | term()}.
-type context() :: #{
    %% Opts of `{Module, Opts}', `#{}' for a bare module
    opts := term(),
    %% how long the backend may take
    timeout_ms := pos_integer(),
    %% the host part is this machine
    local := boolean()
}.
-type details() :: #{node := binary(), host := string(), tried := [{module(), term()}]}.

-callback lookup(Node :: node(), Host :: string()) -> answer().
%% Called instead of lookup/2 when it is exported.
-callback lookup(Node :: node(), Host :: string(), context()) -> answer().
-callback init(Opts :: term()) -> {ok, State :: term()} | {error, term()}.
-callback register(Node :: node(), inet:port_number(), State :: term()) -> {ok, State :: term()} | {error, term()}.
-callback unregister(Node :: node()) -> ok | {error, term()}.
-callback list_nodes(Host :: string()) -> {ok, [{node() | binary(), inet:port_number()}]} | {error, term()}.

-optional_callbacks([lookup/2, lookup/3, init/1, register/3, unregister/1, list_nodes/1]).

%% A name with more addresses than this is a mistake, and each costs a dial.
-define(MAX_ADDRESSES, 16).
%% Registration must not hold up the boot; backends of users run beside it for so long.
-define(REGISTER_TIMEOUT, 30000).
%% For lookup/2 and list_nodes/1 of the published API, which carry no time.
-define(DEFAULT_TIMEOUT, 5000).
-define(DEFAULT_PORT, 9100).

%%%===================================================================
%%% API
%%%===================================================================

%% @doc The addresses to dial for a node, best first, within `TimeoutMs'.
-spec resolve(node(), TimeoutMs :: pos_integer()) ->
    {ok, [address(), ...]} | {error, {no_address, details()}}.
resolve(Node, TimeoutMs) ->
    Host = host_of(Node),
    Deadline = now_ms() + TimeoutMs,
    resolve(backends(), Node, Host, is_local_host(Host), Deadline, []).

resolve([], Node, Host, _Local, _Deadline, Tried) ->
    Details = #{node => to_binary(Node), host => Host, tried => lists:reverse(Tried)},
    {error, {no_address, Details}};
resolve([{Module, Opts} | Backends], Node, Host, Local, Deadline, Tried) ->
    case ask(Module, Opts, Node, Host, Local, Deadline) of
        {ok, Endpoints} ->
            case dialable(Endpoints, Deadline) of
                [] ->
                    Miss = {Module, {no_address_of, Endpoints}},
                    resolve(Backends, Node, Host, Local, Deadline, [Miss | Tried]);
                Addresses ->
                    {ok, lists:sublist(Addresses, ?MAX_ADDRESSES)}
            end;
        {error, Reason} ->
            resolve(Backends, Node, Host, Local, Deadline, [{Module, Reason} | Tried])
    end.

%% @doc Publishes where this node listens. Only the file backend can refuse the name;
%% backends of users run beside the boot and fail alone.
-spec register(Name :: atom() | string(), Host :: string(), inet:port_number(), any | inet:ip_address()) ->
    ok | {error, duplicate_name | term()}.
register(Name, Host, Port, BindIp) ->
    Node = to_binary(Name, Host),
    Backends = backends(),
    case lists:keyfind(barrel_p2p_discovery_file, 1, Backends) of
        {File, _Opts} ->
            case File:publish(Node, published_host(Host, BindIp), Port) of
                ok -> register_others(Backends, Node, Port);
                {error, _} = Error -> Error
            end;
        false ->
            register_others(Backends, Node, Port)
    end.

%% @doc Withdraws what {@link register/4} published.
-spec unregister(node() | binary()) -> ok.
unregister(Node) ->
    _ = barrel_p2p_discovery_file:unregister(Node),
    each_other(backends(), unregister, 1, fun(Module, _Opts) ->
        Module:unregister(to_atom(Node))
    end).

%% @doc The nodes of a host that some backend knows, as `erl_epmd:names/1' gives them.
-spec names(Host :: string()) -> {ok, [{Name :: string(), inet:port_number()}]}.
names(Host) ->
    {ok, Nodes} = list_nodes(Host),
    IsAsked =
        case is_local_host(Host) of
            true -> fun is_local_host/1;
            false -> fun(At) -> string:lowercase(At) =:= string:lowercase(Host) end
        end,
    Found = [{Name, Port} || {Node, Port} <- Nodes, {Name, At} <- [split(Node)], IsAsked(At)],
    {ok, lists:usort(Found)}.

%%%===================================================================
%%% The published functions
%%%===================================================================

%% @doc Present for programs written for the published API; the chain keeps no state.
-spec init(term()) -> {ok, #{}}.
init(_Opts) ->
    {ok, #{}}.

%% @doc One address of a node.
-spec lookup(node(), Host :: string()) -> {ok, address()} | {error, not_found}.
lookup(Node, _Host) ->
    case resolve(Node, ?DEFAULT_TIMEOUT) of
        {ok, [Address | _]} -> {ok, Address};
        {error, {no_address, _}} -> {error, not_found}
    end.

%% @doc Publishes a node by its full name.
-spec register(node(), inet:port_number(), State) -> {ok, State} | {error, term()}.
register(Node, Port, State) ->
    {Name, Host} = split(Node),
    case register(Name, Host, Port, any) of
        ok -> {ok, State};
        {error, _} = Error -> Error
    end.

%% @doc What all backends know.
-spec list_nodes(Host :: string()) -> {ok, [{node() | binary(), inet:port_number()}]}.
list_nodes(Host) ->
    Deadline = now_ms() + ?DEFAULT_TIMEOUT,
    Lists = [
        Nodes
     || {Module, Opts} <- backends(),
        exports(Module, list_nodes, 1),
        {ok, Nodes} <- [guarded(Module, fun() -> list(Module, Opts, Host) end, Deadline)],
        is_list(Nodes)
    ],
    {ok, lists:usort(lists:append(Lists))}.

list(barrel_p2p_discovery_static, Opts, _Host) -> barrel_p2p_discovery_static:configured_nodes(Opts);
list(Module, _Opts, Host) -> Module:list_nodes(Host).

%%%===================================================================
%%% One backend
%%%===================================================================

ask(barrel_p2p_discovery_dns, _Opts, _Node, _Host, true, _Deadline) ->
    {error, local_name};
ask(Module, Opts, Node, Host, Local, Deadline) ->
    Context = #{opts => Opts, timeout_ms => remaining(Deadline), local => Local},
    case guarded(Module, fun() -> call_lookup(Module, Node, Host, Context) end, Deadline) of
        {ok, Endpoints} when is_list(Endpoints) -> {ok, Endpoints};
        {ok, Endpoint} -> {ok, [Endpoint]};
        {error, _} = Error -> Error;
        Other -> {error, {bad_answer, Other}}
    end.

call_lookup(Module, Node, Host, Context) ->
    case exports(Module, lookup, 3) of
        true -> Module:lookup(Node, Host, Context);
        false -> Module:lookup(Node, Host)
    end.

%% Static and file answer from memory and from one small file; a crash of them is a miss too.
guarded(Module, Fun, _Deadline) when
    Module =:= barrel_p2p_discovery_static; Module =:= barrel_p2p_discovery_file
->
    outcome(Module, caught(Fun));
guarded(Module, Fun, Deadline) ->
    outcome(Module, in_worker(Fun, Deadline)).

outcome(_Module, {answer, Answer}) ->
    Answer;
outcome(_Module, timeout) ->
    {error, timeout};
outcome(Module, {crash, Reason}) ->
    once({crashed, Module}, fun() ->
        barrel_p2p_log:report(error, "a discovery backend crashed", #{
            backend => Module, reason => Reason, remedy => <<"repair it or take it out of discovery_backends">>
        })
    end),
    {error, crashed}.

%% The worker is monitored, not linked: the caller is a connection's setup process, which
%% must not trap exits and must not die of a backend. A guard ends the worker when the
%% caller goes first, so that a backend that hangs leaves no process behind.
in_worker(Fun, Deadline) ->
    Caller = self(),
    Tag = make_ref(),
    {Worker, Monitor} = spawn_monitor(fun() ->
        guard(Caller, self()),
        Caller ! {Tag, caught(Fun)}
    end),
    Outcome =
        receive
            {Tag, Found} -> Found;
            {'DOWN', Monitor, process, Worker, Reason} -> {crash, Reason}
        after remaining(Deadline) -> timeout
        end,
    exit(Worker, kill),
    erlang:demonitor(Monitor, [flush]),
    %% an answer that came while the time ran out
    receive
        {Tag, _} -> Outcome
    after 0 -> Outcome
    end.

caught(Fun) ->
    try
        {answer, Fun()}
    catch
        Class:Reason:Stack -> {crash, {Class, Reason, Stack}}
    end.

guard(Caller, Worker) ->
    spawn(fun() ->
        OfCaller = erlang:monitor(process, Caller),
        OfWorker = erlang:monitor(process, Worker),
        receive
            {'DOWN', OfCaller, process, Caller, _} -> exit(Worker, kill);
            {'DOWN', OfWorker, process, Worker, _} -> ok
        end
    end).

register_others(Backends, Node, Port) ->
    each_other(Backends, register, 3, fun(Module, Opts) ->
        {ok, State} =
            case exports(Module, init, 1) of
                true -> Module:init(Opts);
                false -> {ok, Opts}
            end,
        {ok, _} = Module:register(to_atom(Node), Port, State)
    end).

%% Backends of users may need applications that have not started: beside the caller.
each_other(Backends, Function, Arity, Fun) ->
    Others = [
        {Module, Opts}
     || {Module, Opts} <- Backends,
        Module =/= barrel_p2p_discovery_file,
        exports(Module, Function, Arity)
    ],
    lists:foreach(
        fun({Module, Opts}) ->
            spawn(fun() ->
                Deadline = now_ms() + ?REGISTER_TIMEOUT,
                guarded(Module, fun() -> Fun(Module, Opts) end, Deadline)
            end)
        end,
        Others
    ).

%%%===================================================================
%%% Hosts and addresses
%%%===================================================================

%% @doc Whether a host part means this machine. Asks no network.
-spec is_local_host(string()) -> boolean().
is_local_host(Host) ->
    case parse_ip(Host) of
        {ok, Ip} -> is_loopback(Ip) orelse lists:member(Ip, interface_addresses());
        error -> lists:member(string:lowercase(Host), own_names())
    end.

is_loopback({127, _, _, _}) -> true;
is_loopback({0, 0, 0, 0, 0, 0, 0, 1}) -> true;
is_loopback(_) -> false.

interface_addresses() ->
    case inet:getifaddrs() of
        {ok, Interfaces} -> [Ip || {_, Options} <- Interfaces, {addr, Ip} <- Options];
        {error, _} -> []
    end.

own_names() ->
    {ok, Name} = inet:gethostname(),
    Bare = string:lowercase(Name),
    WithDomain =
        case inet_db:res_option(domain) of
            [_ | _] = Domain -> [Bare ++ "." ++ string:lowercase(Domain)];
            _ -> []
        end,
    OfNode = [string:lowercase(host_of(Node)) || Node <- [barrel_p2p_node:name(node())], Node =/= 'nonode@nohost'],
    ["localhost", "localhost.localdomain", Bare | WithDomain ++ OfNode].

%% A dialable endpoint has an IP address. One of this machine given by name is reached at
%% both loopbacks: its node listens on IPv4, on IPv6 or on both.
dialable(Endpoints, Deadline) ->
    unique(lists:append([dial(Host, Port, Deadline) || {Host, Port} <- Endpoints, is_integer(Port), Port > 0])).

dial(Host, Port, Deadline) ->
    case parse_ip(Host) of
        {ok, Ip} ->
            [{Ip, Port}];
        error ->
            Text = unicode:characters_to_list(Host),
            case is_local_host(Text) of
                true ->
                    [{{127, 0, 0, 1}, Port}, {{0, 0, 0, 0, 0, 0, 0, 1}, Port}];
                false ->
                    Remaining = remaining(Deadline),
                    case in_worker(fun() -> addresses(Text, Remaining, []) end, Deadline) of
                        {answer, Ips} -> [{Ip, Port} || Ip <- Ips];
                        _ -> []
                    end
            end
    end.

%% @doc The IP addresses of a host name, IPv4 first. With name servers they alone are
%% asked, else the resolver of the system.
-spec addresses(string(), TimeoutMs :: pos_integer(), [{inet:ip_address(), inet:port_number()}]) ->
    [inet:ip_address()].
addresses(Host, TimeoutMs, Servers) ->
    Self = self(),
    Families = [{inet, a}, {inet6, aaaa}],
    Asked = [
        begin
            Tag = make_ref(),
            _ = spawn_link(fun() -> Self ! {Tag, family(Host, Family, Type, TimeoutMs, Servers)} end),
            Tag
        end
     || {Family, Type} <- Families
    ],
    lists:append([
        receive
            {Tag, Ips} -> Ips
        end
     || Tag <- Asked
    ]).

family(Host, Family, _Type, TimeoutMs, []) ->
    case inet:getaddrs(Host, Family, TimeoutMs) of
        {ok, Ips} -> unique([Ip || Ip <- Ips, not is_mapped(Ip)]);
        {error, _} -> []
    end;
family(Host, _Family, Type, TimeoutMs, Servers) ->
    inet_res:lookup(Host, in, Type, [{nameservers, Servers}, {retry, 1}, {timeout, TimeoutMs}], TimeoutMs).

%% The system's resolver answers a question for IPv6 with mapped IPv4 addresses.
is_mapped({0, 0, 0, 0, 0, 16#ffff, _, _}) -> true;
is_mapped(_) -> false.

%% What the endpoint file says: a node bound to one address is found there only.
published_host(Host, any) -> list_to_binary(Host);
published_host(Host, {0, 0, 0, 0}) -> list_to_binary(Host);
published_host(Host, {0, 0, 0, 0, 0, 0, 0, 0}) -> list_to_binary(Host);
published_host(_Host, Ip) -> list_to_binary(inet:ntoa(Ip)).

%% @doc The port of a node that nobody knows more about: the one this node is configured
%% to listen on, since clusters are configured alike, else 9100.
-spec default_port() -> inet:port_number().
default_port() ->
    case barrel_p2p_config:get(listen_port) of
        Port when is_integer(Port), Port > 0 -> Port;
        _ -> ?DEFAULT_PORT
    end.

%% @doc An IP address given as a tuple or as a text.
-spec parse_ip(inet:ip_address() | string() | binary() | atom()) -> {ok, inet:ip_address()} | error.
parse_ip(Ip) when is_tuple(Ip) ->
    {ok, Ip};
parse_ip(Text) when is_atom(Text) ->
    parse_ip(atom_to_list(Text));
parse_ip(Text) ->
    case inet:parse_strict_address(unicode:characters_to_list(Text)) of
        {ok, Ip} -> {ok, Ip};
        {error, _} -> error
    end.

%%%===================================================================
%%% Names
%%%===================================================================

%% @doc The host part of a node name, the empty text without one.
-spec host_of(node() | binary()) -> string().
host_of(Node) ->
    {_, Host} = split(Node),
    Host.

split(Node) ->
    Text = unicode:characters_to_list(to_binary(Node)),
    case string:split(Text, "@") of
        [Name, Host] -> {Name, Host};
        [Name] -> {Name, ""}
    end.

to_binary(Node) when is_atom(Node) -> atom_to_binary(Node, utf8);
to_binary(Node) when is_binary(Node) -> Node.

to_binary(Name, Host) ->
    unicode:characters_to_binary(io_lib:format("~ts@~ts", [Name, Host])).

%% Only for our own name and for names that callers of this node passed.
to_atom(Node) when is_atom(Node) -> Node;
to_atom(Node) when is_binary(Node) -> binary_to_atom(Node, utf8).

%%%===================================================================
%%% Internal
%%%===================================================================

backends() ->
    [
        case Backend of
            {Module, Opts} -> {Module, Opts};
            Module -> {Module, #{}}
        end
     || Backend <- barrel_p2p_config:get(discovery_backends)
    ].

%% function_exported/3 is false for a module that nobody has loaded.
exports(Module, Function, Arity) ->
    _ = code:ensure_loaded(Module),
    erlang:function_exported(Module, Function, Arity).

now_ms() ->
    erlang:monotonic_time(millisecond).

remaining(Deadline) ->
    max(1, Deadline - now_ms()).

unique(List) ->
    lists:reverse(
        lists:foldl(
            fun(Item, Seen) ->
                case lists:member(Item, Seen) of
                    true -> Seen;
                    false -> [Item | Seen]
                end
            end,
            [],
            List
        )
    ).

once(Key, Fun) ->
    case persistent_term:get({?MODULE, Key}, false) of
        true ->
            ok;
        false ->
            persistent_term:put({?MODULE, Key}, true),
            Fun()
    end.
