%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The distribution carrier: what `-proto_dist barrel_p2p' names.
%%%
%%% OTP asks a carrier for processes and funs; the distribution handshake itself
%%% is `dist_util's. The parties, for one connection:
%%%
%%% <pre>
%%% net_kernel ── owner ──┬── output   {@link barrel_p2p_dist_ctrl}: ERTS queue to Rust; the "distribution controller"
%%%                       └── input    {@link barrel_p2p_dist_ctrl}: Rust to ERTS
%%% </pre>
%%%
%%% The *owner* is the process that {@link setup/5} or {@link accept_connection/5}
%%% starts. It finds the peer's address, has Rust open an authenticated stream,
%%% runs the handshake over it, and ends up in the tick loop of `dist_util'. It
%%% must never trap exits: `net_kernel' kills it when both ends connect at once,
%%% and waits for that without a timeout. For the same reason it waits in
%%% `receive' only.
%%%
%%% An incoming stream has its TLS and hello behind it when it arrives here, so
%%% nothing in the accept path waits for a network. Each gets a process of its own
%%% for the hand-over to `net_kernel'.
%%%
%%% The name that the peer's key has proven is the only one that its handshake may
%%% use. A client has proven its host alone, so its names are those at that host
%%% that belong to nobody else.
%%%
%%% This module runs partly inside `net_kernel', where a crash halts the node:
%%% the callbacks marked so answer errors and never raise.
%%%
%%% Who may call: `net_kernel' and `erl_distribution'; anybody {@link listen_port/0}.
-module(barrel_p2p_dist).

-include_lib("kernel/include/dist_util.hrl").
-include_lib("kernel/include/net_address.hrl").

%% API
-export([listen_port/0]).
%% Carrier callbacks
-export([
    childspecs/0,
    listen/1,
    listen/2,
    accept/1,
    accept_connection/5,
    setup/5,
    close/1,
    select/1,
    address/0,
    address/1,
    setopts/2,
    getopts/2,
    is_node_name/1
]).
%% Funs of the handshake and of the tick loop, called by dist_util in the owner
-export([tick/1, getstat/1, setopts_connected/2, getopts_connected/2]).
%% Process entry points
-export([accept_loop/2, hand_over/3, do_accept/6, do_setup/6]).

-export_type([listen/0]).

-opaque listen() :: {barrel_p2p, inet:port_number()}.

%% With fragments no packet is much larger than 64 KiB; without, a message of
%% gigabytes would be one packet. Every OTP since 22 has them.
-define(DFLAG_FRAGMENTS, 16#800000).

-define(PROTOCOL, barrel_p2p).
-define(FAMILY, inet).

%%%===================================================================
%%% API
%%%===================================================================

%% @doc The UDP port where this node can be reached; a client has a port and cannot be.
-spec listen_port() -> {ok, inet:port_number()} | undefined.
listen_port() ->
    case barrel_p2p_node:info() of
        #{mode := member, port := Port} -> {ok, Port};
        #{mode := client} -> undefined;
        {error, closed} -> undefined
    end.

%%%===================================================================
%%% Carrier callbacks
%%%===================================================================

%% @doc Processes to start below `net_sup', before anything else of the
%% distribution. Nothing is opened yet: the name of the node is not known.
-spec childspecs() -> {ok, [supervisor:child_spec()]}.
childspecs() ->
    _ = application:load(barrel_p2p),
    {ok, [barrel_p2p_dist_sup:childspec()]}.

-spec listen(Name :: atom()) ->
    {ok, {listen(), #net_address{}, Creation :: pos_integer()}} | {error, term()}.
listen(Name) ->
    {ok, Host} = inet:gethostname(),
    listen(Name, Host).

%% @doc Opens the endpoint. Runs inside `net_kernel'.
-spec listen(Name :: atom(), Host :: string()) ->
    {ok, {listen(), #net_address{}, Creation :: pos_integer()}} | {error, term()}.
listen(Name, Host) ->
    mark_active(),
    case barrel_p2p_node:open(#{name => Name, host => Host, mode => member}) of
        {ok, #{port := Port, incarnation := Incarnation}} ->
            Address = #net_address{
                address = {bind_address(), Port},
                host = Host,
                protocol = ?PROTOCOL,
                family = ?FAMILY
            },
            {ok, {{barrel_p2p, Port}, Address, creation(Incarnation)}};
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Starts the process that hears of incoming streams.
-spec accept(listen()) -> pid().
accept(Listen) ->
    spawn_opt(?MODULE, accept_loop, [self(), Listen], [link, {priority, max}]).

-spec accept_connection(
    AcceptPid :: pid(),
    {barrel_p2p_nif:stream(), barrel_p2p_nif:peer()},
    MyNode :: node(),
    Allowed :: list(),
    SetupTime :: pos_integer()
) -> pid().
accept_connection(AcceptPid, Connection, MyNode, Allowed, SetupTime) ->
    Args = [self(), AcceptPid, Connection, MyNode, Allowed, SetupTime],
    spawn_opt(?MODULE, do_accept, Args, dist_util:net_ticker_spawn_options()).

-spec setup(node(), normal | hidden, MyNode :: node(), longnames | shortnames, SetupTime :: pos_integer()) -> pid().
setup(Node, Type, MyNode, LongOrShortNames, SetupTime) ->
    Args = [self(), Node, Type, MyNode, LongOrShortNames, SetupTime],
    spawn_opt(?MODULE, do_setup, Args, dist_util:net_ticker_spawn_options()).

%% @doc Says goodbye to all peers and closes the endpoint. Runs inside `net_kernel'.
-spec close(listen()) -> ok.
close(_Listen) ->
    ok = barrel_p2p_dist_ctrl:net_kernel_terminated(),
    barrel_p2p_node:close().

%% @doc Whether a node has a name that this carrier can try. Judges its form and
%% nothing else: it runs inside `net_kernel'.
-spec select(node()) -> boolean().
select(Node) ->
    is_node_name(Node).

%% @doc The address of a node that does not listen.
-spec address() -> #net_address{}.
address() ->
    {ok, Host} = inet:gethostname(),
    address(Host).

-spec address(Host :: string()) -> #net_address{}.
address(Host) ->
    mark_active(),
    #net_address{host = Host, protocol = ?PROTOCOL, family = ?FAMILY}.

%% @doc Options of connections to come. They are remembered and have no effect:
%% a QUIC stream has no counterpart of the socket options of TCP.
-spec setopts(listen() | undefined, [{atom(), term()}]) -> ok | {error, {badopts, list()}}.
setopts(_Listen, Opts) ->
    case bad_options(Opts) of
        [] -> persistent_term:put({?MODULE, options}, merge_options(Opts, default_options()));
        Bad -> {error, {badopts, Bad}}
    end.

-spec getopts(listen() | undefined, [atom()]) -> {ok, [{atom(), term()}]}.
getopts(_Listen, Names) ->
    {ok, pick_options(Names, default_options())}.

%% @doc The grammar of node names that all parts of this library share: OTP's
%% before the `@', host names and IP addresses after it, 255 bytes in all.
-spec is_node_name(term()) -> boolean().
is_node_name(Node) when is_atom(Node) ->
    case string:split(atom_to_list(Node), "@") of
        [[_ | _] = Name, [_ | _] = Host] ->
            length(Name) + length(Host) < 255 andalso
                lists:all(fun is_name_char/1, Name) andalso
                lists:all(fun is_host_char/1, Host) andalso
                lists:any(fun(C) -> C =/= $. end, Host);
        _ ->
            false
    end;
is_node_name(_) ->
    false.

is_name_char(C) ->
    is_alphanumeric(C) orelse C =:= $_ orelse C =:= $-.

is_host_char(C) ->
    is_name_char(C) orelse C =:= $. orelse C =:= $:.

is_alphanumeric(C) ->
    (C >= $a andalso C =< $z) orelse (C >= $A andalso C =< $Z) orelse (C >= $0 andalso C =< $9).

%%%===================================================================
%%% Accepting
%%%===================================================================

%% @private
-spec accept_loop(Kernel :: pid(), listen()) -> no_return().
accept_loop(Kernel, Listen) ->
    case barrel_p2p_node:acceptor(self()) of
        ok -> ok;
        %% being opened again, by an owner that remembers this process
        {error, _} -> ok
    end,
    accept_next(Kernel, Listen).

accept_next(Kernel, Listen) ->
    receive
        {barrel_p2p, _Endpoint, {incoming, Stream, Peer}} ->
            %% Not linked: a connection that fails here is no failure of the others.
            _ = spawn_opt(?MODULE, hand_over, [Kernel, Stream, Peer], [{priority, max}]),
            accept_next(Kernel, Listen);
        {barrel_p2p, _Stream, _Signal} ->
            %% of a stream that arrived and was not handed over yet: its next owner looks itself
            accept_next(Kernel, Listen);
        Unexpected ->
            barrel_p2p_log:report(warning, "the acceptor got an unknown message", #{message => Unexpected}),
            accept_next(Kernel, Listen)
    end.

%% @private
%% Offers one stream to net_kernel, and passes it on to the process that it names.
-spec hand_over(Kernel :: pid(), barrel_p2p_nif:stream(), barrel_p2p_nif:peer()) -> ok.
hand_over(Kernel, Stream, Peer) ->
    case barrel_p2p_nif:dist_owner(Stream, both, self()) of
        ok ->
            Monitor = erlang:monitor(process, Kernel),
            Kernel ! {accept, self(), {Stream, Peer}, ?FAMILY, ?PROTOCOL},
            receive
                {Kernel, controller, Owner} ->
                    _ = barrel_p2p_nif:dist_owner(Stream, both, Owner),
                    Owner ! {self(), controller},
                    ok;
                {Kernel, unsupported_protocol} ->
                    barrel_p2p_nif:dist_close(Stream);
                {'DOWN', Monitor, process, Kernel, _} ->
                    barrel_p2p_nif:dist_close(Stream)
            end;
        {error, closed} ->
            ok
    end.

%% @private
-spec do_accept(pid(), pid(), {barrel_p2p_nif:stream(), barrel_p2p_nif:peer()}, node(), list(), pos_integer()) ->
    no_return().
do_accept(Kernel, AcceptPid, {Stream, Peer}, MyNode, Allowed, SetupTime) ->
    receive
        {AcceptPid, controller} -> ok
    end,
    Timer = dist_util:start_timer(SetupTime),
    Output = barrel_p2p_dist_ctrl:start(Stream),
    HSData = handshake_data(Kernel, MyNode, Stream, Peer, Output, Timer),
    dist_util:handshake_other_started(HSData#hs_data{
        allowed = allowed(Peer, Allowed),
        f_recv = recv_name_fun(Peer)
    }).

%% What the peer may call itself. Never `[]', which dist_util takes for everybody.
allowed(#{client := false, name := Name}, Allowed) ->
    %% The peer has proven the cluster secret, so the atom is one of a member.
    allowed_name(binary_to_atom(Name, latin1), Allowed);
allowed(#{client := true, name := Host}, Allowed) ->
    allowed_name(binary_to_list(Host), Allowed).

allowed_name(Name, []) ->
    [Name];
allowed_name(Name, Allowed) ->
    case dist_util:is_allowed(Name, Allowed) of
        true ->
            [Name];
        false ->
            barrel_p2p_log:report(warning, "a node was refused by net_kernel:allow/1", #{peer => Name}),
            ?shutdown2(Name, {not_allowed, Name})
    end.

%% A client has proven its host only. The name it takes there must be nobody's.
recv_name_fun(#{client := false}) ->
    fun recv/3;
recv_name_fun(#{client := true} = Peer) ->
    fun(Stream, Length, Timeout) ->
        Received = recv(Stream, Length, Timeout),
        case Received of
            {ok, [$N | Rest]} -> check_client_name(claimed_name(Rest), Peer);
            _ -> ok
        end,
        Received
    end.

%% The name in a send_name message: flags, creation, length, name.
claimed_name(Message) ->
    case list_to_binary(Message) of
        <<_Flags:64, _Creation:32, Length:16, Name:Length/binary, _/binary>> -> Name;
        _ -> <<>>
    end.

check_client_name(Name, #{key := Key}) ->
    {ok, Trust} = barrel_p2p_node:trust(),
    Pinned = binary:match(Name, <<"@">>) =/= nomatch andalso barrel_p2p_nif:trust_lookup(Trust, Name),
    Live = [Link || #{name := N, client := false} = Link <- barrel_p2p_node:links(), N =:= Name],
    case {Pinned, Live} of
        {{ok, _}, _} -> refuse_client(Name, Key);
        {_, [_ | _]} -> refuse_client(Name, Key);
        _ -> ok
    end.

-spec refuse_client(binary(), barrel_p2p_nif:public_key()) -> no_return().
refuse_client(Name, Key) ->
    barrel_p2p_log:report(warning, "a client was refused: its name belongs to a member", #{
        peer => Name,
        fingerprint => barrel_p2p_nif:fingerprint(Key),
        remedy => <<"give the client another name, or a dynamic one (-sname undefined)">>
    }),
    ?shutdown2(Name, {name_of_a_member, Name}).

%%%===================================================================
%%% Connecting
%%%===================================================================

%% @private
-spec do_setup(pid(), node(), normal | hidden, node(), longnames | shortnames, pos_integer()) -> no_return().
do_setup(Kernel, Node, Type, MyNode, LongOrShortNames, SetupTime) ->
    Timer = dist_util:start_timer(SetupTime),
    ok = check_name_type(Node, LongOrShortNames),
    Endpoint = endpoint(Node, MyNode),
    Addresses = addresses(Node, SetupTime),
    dist_util:reset_timer(Timer),
    {Stream, Peer} = open_stream(Endpoint, Node, Addresses, SetupTime),
    dist_util:reset_timer(Timer),
    Output = barrel_p2p_dist_ctrl:start(Stream),
    HSData = handshake_data(Kernel, MyNode, Stream, Peer, Output, Timer),
    dist_util:handshake_we_started(HSData#hs_data{
        other_node = Node,
        other_version = 6,
        request_type = Type,
        f_recv = fun recv/3
    }).

%% The same rule, and the same report, as in OTP's own carriers.
check_name_type(Node, LongOrShortNames) ->
    [_, Host] = string:split(atom_to_list(Node), "@"),
    Dotted = lists:member($., Host) orelse lists:member($:, Host),
    case {LongOrShortNames, Dotted} of
        {longnames, false} ->
            error_logger:error_msg(
                "** System running to use fully qualified hostnames **~n** Hostname ~ts is illegal **~n", [Host]
            ),
            ?shutdown2(Node, {illegal_hostname, Host});
        {shortnames, true} ->
            error_logger:error_msg(
                "** System NOT running to use fully qualified hostnames **~n** Hostname ~ts is illegal **~n", [Host]
            ),
            ?shutdown2(Node, {illegal_hostname, Host});
        _ ->
            ok
    end.

endpoint(Node, MyNode) ->
    case barrel_p2p_node:ensure_client(MyNode) of
        {ok, Endpoint} -> Endpoint;
        {error, Reason} -> ?shutdown2(Node, {no_endpoint, Reason})
    end.

addresses(Node, SetupTime) ->
    case barrel_p2p_discovery:resolve(Node, SetupTime) of
        {ok, Addresses} -> Addresses;
        {error, Reason} -> ?shutdown2(Node, Reason)
    end.

open_stream(Endpoint, Node, Addresses, SetupTime) ->
    Opts = #{
        addresses => Addresses,
        secret => secret(Node),
        timeout_ms => SetupTime
    },
    case barrel_p2p_nif:dist_open(Endpoint, atom_to_binary(Node), Opts) of
        {error, Reason} ->
            ?shutdown2(Node, {no_endpoint, Reason});
        Stream ->
            receive
                {barrel_p2p, Stream, {up, Peer}} ->
                    {Stream, Peer};
                {barrel_p2p, Stream, {failed, Reason}} ->
                    barrel_p2p_log:report(info, "a node was not reached", #{
                        peer => Node, reason => Reason, addresses => Addresses
                    }),
                    ?shutdown2(Node, Reason)
            end
    end.

secret(Node) ->
    case barrel_p2p_secret:find_secret(Node) of
        {ok, Secret} -> Secret;
        {error, no_secret} -> ?shutdown2(Node, no_secret)
    end.

%%%===================================================================
%%% The handshake, for both sides
%%%===================================================================

handshake_data(Kernel, MyNode, Stream, Peer, Output, Timer) ->
    #hs_data{
        kernel_pid = Kernel,
        this_node = MyNode,
        socket = Stream,
        timer = Timer,
        this_flags = 0,
        f_send = fun send/2,
        f_setopts_pre_nodeup = fun(_) -> ok end,
        f_setopts_post_nodeup = fun(_) -> ok end,
        f_getll = fun(_) -> {ok, Output} end,
        f_address = address_fun(Peer),
        f_handshake_complete = fun(_, Node, DHandle) ->
            barrel_p2p_dist_ctrl:handshake_complete(Output, Node, DHandle)
        end,
        require_flags = ?DFLAG_FRAGMENTS,
        mf_tick = fun ?MODULE:tick/1,
        mf_getstat = fun ?MODULE:getstat/1,
        mf_setopts = fun ?MODULE:setopts_connected/2,
        mf_getopts = fun ?MODULE:getopts_connected/2
    }.

address_fun(#{address := Address}) ->
    fun(_Stream, Node) ->
        [_, Host] = string:split(atom_to_list(Node), "@"),
        #net_address{address = Address, host = Host, protocol = ?PROTOCOL, family = ?FAMILY}
    end.

send(Stream, Data) ->
    Packet = iolist_to_binary(Data),
    case barrel_p2p_nif:dist_send(Stream, [{byte_size(Packet), [Packet]}]) of
        {error, closed} -> {error, closed};
        %% `busy' has taken it; nothing in a handshake is large
        _ -> ok
    end.

%% One packet, as a list.
recv(Stream, 0, infinity) ->
    case barrel_p2p_nif:dist_recv(Stream, 1) of
        [<<>>] ->
            recv(Stream, 0, infinity);
        [Packet] ->
            {ok, binary_to_list(Packet)};
        [] ->
            receive
                {barrel_p2p, Stream, readable} -> recv(Stream, 0, infinity)
            end;
        {error, _} ->
            {error, closed}
    end.

%%%===================================================================
%%% The tick loop, in the owner
%%%===================================================================

%% @private
-spec tick(barrel_p2p_nif:stream()) -> ok.
tick(Stream) ->
    barrel_p2p_nif:dist_tick(Stream).

%% @private
-spec getstat(barrel_p2p_nif:stream()) -> {ok, non_neg_integer(), non_neg_integer(), non_neg_integer()}.
getstat(Stream) ->
    barrel_p2p_nif:dist_stat(Stream).

%% @private
-spec setopts_connected(barrel_p2p_nif:stream(), [{atom(), term()}]) -> ok | {error, {badopts, list()}}.
setopts_connected(_Stream, Opts) ->
    case bad_options(Opts) of
        [] ->
            _ = put({?MODULE, options}, merge_options(Opts, connected_options())),
            ok;
        Bad ->
            {error, {badopts, Bad}}
    end.

%% @private
-spec getopts_connected(barrel_p2p_nif:stream(), [atom()]) -> {ok, [{atom(), term()}]}.
getopts_connected(_Stream, Names) ->
    {ok, pick_options(Names, connected_options())}.

%%%===================================================================
%%% Internal
%%%===================================================================

%% The options that a carrier may not let anybody touch, as in OTP's own.
bad_options(Opts) ->
    [Opt || {Name, _} = Opt <- Opts, lists:member(Name, [active, deliver, packet])].

default_options() ->
    persistent_term:get({?MODULE, options}, #{nodelay => true}).

connected_options() ->
    case get({?MODULE, options}) of
        undefined -> default_options();
        Options -> Options
    end.

merge_options(Opts, Options) ->
    maps:merge(Options, maps:from_list([Opt || {_, _} = Opt <- Opts])).

pick_options(Names, Options) ->
    maps:to_list(maps:with(Names, Options)).

%% The start-up check asks whether the distribution is really this carrier's.
mark_active() ->
    persistent_term:put({?MODULE, active}, true).

bind_address() ->
    case barrel_p2p_node:info() of
        #{address := {Ip, _}} -> Ip;
        _ -> {0, 0, 0, 0}
    end.

%% Another one for each incarnation, in the range that ERTS takes: 4 to 2^32 - 1.
creation(Incarnation) ->
    4 + Incarnation rem (16#ffffffff - 4).
