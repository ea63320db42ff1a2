%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Owns the endpoint of this node, and does nothing else.
%%%
%%% There is one endpoint per VM: a UDP socket with everything behind it, in
%%% Rust. It lives while this process does. The process opens and closes it,
%%% publishes its name, and opens it again when it fails. It is on no data path:
%%% the handle is in a table that any process reads with {@link handle/0}.
%%%
%%% The table holds three things: what is open now, what was asked for, and who
%%% takes incoming streams. Its owner is the supervisor, so that the last two
%%% outlive a crash of this process, the only one that writes. They are not
%%% persistent terms: on OTP 25 a handle that was read from a persistent term may
%%% be freed under a dirty native call that is made after the term was erased.
%%%
%%% An endpoint that fails ({@link barrel_p2p_nif}, signal `down') is opened again
%%% by this process, on the same port at first, with a growing pause and for ever.
%%% It does not die for that: its supervisor stands below `net_sup', where too
%%% many restarts halt the node. After a crash of this process its supervisor
%%% starts it and it opens again what was remembered. A client's endpoint is not
%%% opened again: the next connection does it.
%%%
%%% Every failure to open is returned and logged once, with file and remedy.
%%%
%%% Who may call: `barrel_p2p_dist' (open, ensure_client, acceptor, handle, close),
%%% `barrel_p2p_app' (open and close on another carrier), and readers of the
%%% handle: `barrel_p2p_dist', `barrel_p2p_dist_keys', `barrel_p2p_dist_auth',
%%% `barrel_p2p'.
-module(barrel_p2p_node).
-behaviour(gen_server).

%% API
-export([
    start_link/0,
    open/1,
    ensure_client/0,
    ensure_client/1,
    acceptor/1,
    close/0,
    handle/0,
    trust/0,
    key/0,
    port/0,
    name/1,
    info/0,
    links/0,
    report_open/1
]).
%% gen_server
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
%% Internal, exported for tests
-export([ports/3, backoff/1]).
%% Internal, for barrel_p2p_dist_sup
-export([create_table/0]).

-export_type([spec/0, opened/0]).

-type spec() :: #{
    %% the part before the `@', or a whole node name; not used for a client
    name => atom(),
    host := string(),
    mode := member | client
}.
-type opened() :: #{
    port := inet:port_number(),
    key := barrel_p2p_nif:public_key(),
    incarnation := non_neg_integer()
}.

-record(state, {
    %% of the running endpoint
    handle :: barrel_p2p_nif:node_handle() | undefined,
    %% failed attempts to open again, since the last success
    attempts = 0 :: non_neg_integer(),
    acceptor_monitor :: reference() | undefined
}).

-define(TABLE, ?MODULE).
%% Keys of the table.
%% handle, trust, key, port, incarnation, mode, name, node, key_dir, cert_dir
-define(OPEN, open).
%% #{spec, port}: what to open again
-define(WANTED, wanted).
%% pid
-define(ACCEPTOR, acceptor).

%% Opening reads and writes small files and binds a socket. A file system that needs
%% longer than this is broken, and the caller may be net_kernel.
-define(OPEN_TIMEOUT, 30000).
%% Flush and CONNECTION_CLOSE; the peers see an orderly end within 100 ms on any network
%% that carries a link at all.
-define(CLOSE_MS, 200).
%% Attempts on the old port alone: the socket of an owner that crashed is closed soon, but
%% not at once, and peers know the port.
-define(SAME_PORT_ATTEMPTS, 5).
-define(DEFAULT_PORT, 9100).
%% A wider range is a mistake, and each port costs a system call.
-define(MAX_PORTS, 1024).

%%%===================================================================
%%% API
%%%===================================================================

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Opens the endpoint; one that is open is closed first, so this is a new incarnation.
%% `duplicate_name' when another living process of this machine has the name.
-spec open(spec()) -> {ok, opened()} | {error, term()}.
open(Spec) ->
    call({open, Spec}).

%% @doc Like {@link ensure_client/1} with the host of this node.
-spec ensure_client() -> {ok, barrel_p2p_nif:node_handle()} | {error, term()}.
ensure_client() ->
    ensure_client(node()).

%% @doc The handle of the endpoint; opens one for a node that does not listen, when none
%% is open. Callers at the same time get the same one. `MyNode' is the third argument of
%% the carrier's `setup/5': `undefined@host' while the name is dynamic.
-spec ensure_client(MyNode :: node()) -> {ok, barrel_p2p_nif:node_handle()} | {error, term()}.
ensure_client(MyNode) ->
    case handle() of
        {ok, _} = Ok -> Ok;
        {error, closed} -> call({ensure_client, client_host(MyNode)})
    end.

%% @doc Makes `Pid' the receiver of incoming dist streams, of this endpoint and of each one
%% that is opened after it.
-spec acceptor(pid()) -> ok | {error, closed | not_started | term()}.
acceptor(Pid) ->
    %% Here, not in the server: one that is being restarted finds it.
    case ets:whereis(?TABLE) of
        undefined ->
            {error, not_started};
        _ ->
            insert(?ACCEPTOR, Pid),
            call({acceptor, Pid})
    end.

%% @doc Withdraws the name, tells the peers and closes. Nothing is opened again.
-spec close() -> ok.
close() ->
    case call(close) of
        ok -> ok;
        {error, not_started} -> ok;
        {error, _} -> ok
    end.

%% @doc The handle of the endpoint, from any process, without asking anybody.
-spec handle() -> {ok, barrel_p2p_nif:node_handle()} | {error, closed}.
handle() ->
    field(handle).

%% @doc The trust store of the running endpoint.
-spec trust() -> {ok, barrel_p2p_nif:trust()} | {error, closed}.
trust() ->
    field(trust).

%% @doc The public key of this node.
-spec key() -> {ok, barrel_p2p_nif:public_key()} | {error, closed}.
key() ->
    field(key).

%% @doc The UDP port.
-spec port() -> {ok, inet:port_number()} | undefined.
port() ->
    case field(port) of
        {ok, _} = Ok -> Ok;
        {error, closed} -> undefined
    end.

%% @doc The name of the running member endpoint, which is known earlier than node().
-spec name(Default) -> node() | Default when Default :: node().
name(Default) ->
    case field(node) of
        {ok, undefined} -> Default;
        {ok, Node} -> Node;
        {error, closed} -> Default
    end.

%% @doc What is open, and what Rust says about it.
-spec info() -> map() | {error, closed}.
info() ->
    case lookup(?OPEN) of
        undefined ->
            {error, closed};
        #{handle := Handle} = Open ->
            case barrel_p2p_nif:node_info(Handle) of
                {error, closed} = Error -> Error;
                Native -> maps:merge(Native, maps:without([handle, trust], Open))
            end
    end.

%% @doc Logs once more what is open and where its files are. The application does so when
%% it starts, because few loggers show what was said while the node booted.
-spec report_open(logger:level()) -> ok.
report_open(Level) ->
    case lookup(?OPEN) of
        undefined ->
            ok;
        #{name := Name, port := Port, key := Key, key_dir := KeyDir, cert_dir := CertDir} ->
            barrel_p2p_log:report(Level, "the endpoint is open", #{
                name => Name,
                port => Port,
                fingerprint => barrel_p2p_nif:fingerprint(Key),
                auth_key_dir => shown(KeyDir),
                quic_cert_dir => shown(CertDir),
                discovery_dir => barrel_p2p_config:get(discovery_dir)
            })
    end.

%% @doc One map per link, see {@link barrel_p2p_nif:node_links/1}.
-spec links() -> [map()].
links() ->
    case handle() of
        {ok, Handle} -> barrel_p2p_nif:node_links(Handle);
        {error, closed} -> []
    end.

%%%===================================================================
%%% gen_server
%%%===================================================================

-spec init([]) -> {ok, #state{}, {continue, reopen}}.
init([]) ->
    %% so that terminate/2 runs when the supervisor ends this process
    process_flag(trap_exit, true),
    %% left by a predecessor that crashed: its endpoint went with it
    forget_open(),
    State =
        case lookup(?ACCEPTOR) of
            undefined -> #state{};
            Pid -> #state{acceptor_monitor = erlang:monitor(process, Pid)}
        end,
    {ok, State, {continue, reopen}}.

-spec handle_continue(reopen, #state{}) -> {noreply, #state{}}.
handle_continue(reopen, State) ->
    {noreply, reopen(State)}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({open, Spec}, _From, State) ->
    Closed = forget_wanted(do_close(State)),
    case do_open(Spec, configured_ports(Spec)) of
        {ok, Handle, Opened} ->
            {reply, {ok, Opened}, Closed#state{handle = Handle, attempts = 0}};
        {error, Reason} ->
            report_failure(Spec, Reason),
            {reply, {error, Reason}, Closed}
    end;
handle_call({ensure_client, _Host}, _From, #state{handle = Handle} = State) when Handle =/= undefined ->
    {reply, {ok, Handle}, State};
handle_call({ensure_client, Host}, _From, State) ->
    case lookup(?WANTED) of
        undefined ->
            Spec = #{mode => client, host => Host},
            case do_open(Spec, [0]) of
                {ok, Handle, _} ->
                    {reply, {ok, Handle}, State#state{handle = Handle}};
                {error, Reason} ->
                    report_failure(Spec, Reason),
                    {reply, {error, Reason}, State}
            end;
        _ ->
            %% a member whose endpoint is just being opened again
            {reply, {error, closed}, State}
    end;
handle_call({acceptor, Pid}, _From, #state{handle = Handle} = State) ->
    _ = State#state.acceptor_monitor =:= undefined orelse
        erlang:demonitor(State#state.acceptor_monitor, [flush]),
    Monitor = erlang:monitor(process, Pid),
    Reply =
        case Handle of
            undefined -> {error, closed};
            _ -> barrel_p2p_nif:node_acceptor(Handle, Pid)
        end,
    {reply, Reply, State#state{acceptor_monitor = Monitor}};
handle_call(close, _From, State) ->
    {reply, ok, forget_wanted(do_close(State))};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({barrel_p2p, Handle, {down, Reason}}, #state{handle = Handle} = State) ->
    barrel_p2p_log:report(error, "the endpoint failed and is opened again", #{reason => Reason}),
    forget_open(),
    {noreply, reopen(State#state{handle = undefined})};
handle_info(reopen, #state{handle = undefined} = State) ->
    {noreply, reopen(State)};
handle_info({'DOWN', Monitor, process, _Pid, _Reason}, #state{acceptor_monitor = Monitor} = State) ->
    delete(?ACCEPTOR),
    {noreply, State#state{acceptor_monitor = undefined}};
handle_info(_Message, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(Reason, State) ->
    Closed = do_close(State),
    case Reason of
        %% told to end: nothing is wanted any more
        normal -> forget_all(Closed);
        shutdown -> forget_all(Closed);
        {shutdown, _} -> forget_all(Closed);
        _ -> ok
    end.

%%%===================================================================
%%% Opening
%%%===================================================================

do_open(Spec, Ports) ->
    try
        ok = check(native, barrel_p2p_native:ensure_loaded()),
        {ok, _} = check(invalid_configuration, barrel_p2p_config:load()),
        open_native(Spec, Ports)
    catch
        throw:{failed, Reason} -> {error, Reason};
        Class:Reason:Stack -> {error, {Class, Reason, Stack}}
    end.

open_native(Spec, Ports) ->
    Dirs = #{key_dir := KeyDir} = directories(Spec),
    {ok, Trust} = check(
        trust_store, barrel_p2p_nif:trust_open(KeyDir, trust_mode(), barrel_p2p_config:get(max_pins))
    ),
    Opened = barrel_p2p_nif:node_open(options(Spec, Dirs, Trust, Ports)),
    case Opened of
        {ok, Handle, Info} -> publish(Spec, Handle, Trust, Dirs, Info);
        {error, Reason} -> throw({failed, Reason})
    end.

publish(#{mode := client} = Spec, Handle, Trust, Dirs, Info) ->
    opened(Spec, Handle, Trust, Dirs, Info);
publish(#{mode := member, host := Host} = Spec, Handle, Trust, Dirs, #{port := Port} = Info) ->
    case barrel_p2p_discovery:register(short_name(Spec), Host, Port, bind_ip()) of
        ok ->
            opened(Spec, Handle, Trust, Dirs, Info);
        {error, duplicate_name} ->
            ok = barrel_p2p_nif:node_close(Handle, 0),
            throw({failed, duplicate_name});
        {error, Reason} ->
            %% reachable all the same: by its port, and by DNS
            barrel_p2p_log:report(warning, "nodes of this machine cannot find this node by its name", #{
                reason => Reason,
                discovery_dir => barrel_p2p_config:get(discovery_dir),
                remedy => <<"configure discovery_dir: a directory of this user with mode 0700">>
            }),
            opened(Spec, Handle, Trust, Dirs, Info)
    end.

opened(#{mode := Mode} = Spec, Handle, Trust, Dirs, #{port := Port} = Info) ->
    Node =
        case Mode of
            member -> binary_to_atom(node_name(Spec), utf8);
            client -> undefined
        end,
    Mode =:= member andalso insert(?WANTED, #{spec => Spec, port => Port}),
    insert(?OPEN, maps:merge(Info, Dirs#{
        handle => Handle, trust => Trust, mode => Mode, name => node_name(Spec), node => Node
    })),
    _ =
        case lookup(?ACCEPTOR) of
            undefined -> ok;
            %% it may have ended this moment; its 'DOWN' is on the way then
            Pid -> barrel_p2p_nif:node_acceptor(Handle, Pid)
        end,
    _ = erase(reported),
    report_open(info),
    {ok, Handle, maps:with([port, key, incarnation], Info)}.

check(Part, {error, Reason}) -> throw({failed, {Part, Reason}});
check(_Part, Good) -> Good.

options(Spec, #{key_dir := KeyDir, cert_dir := CertDir}, Trust, Ports) ->
    #{
        name => node_name(Spec),
        client => maps:get(mode, Spec) =:= client,
        key_dir => KeyDir,
        cert_dir => CertDir,
        trust => Trust,
        ip => bind_ip(),
        ports => Ports,
        owner => self(),
        secrets => secrets(),
        handshake_timeout_ms => barrel_p2p_config:get(auth_handshake_timeout),
        keep_alive_ms => barrel_p2p_config:get(keep_alive_ms),
        idle_timeout_ms => barrel_p2p_config:get(idle_timeout_ms),
        icmp_hints => barrel_p2p_config:get(icmp_hints),
        threads => barrel_p2p_config:get(native_threads),
        send_window => barrel_p2p_config:get(send_window),
        receive_window => barrel_p2p_config:get(receive_window),
        pull_budget => barrel_p2p_config:get(pull_budget),
        max_datagram => barrel_p2p_config:get(max_datagram),
        congestion => barrel_p2p_config:get(congestion_control)
    }.

secrets() ->
    case whereis(barrel_p2p_secret) of
        undefined -> throw({failed, {not_started, barrel_p2p_secret}});
        Pid -> Pid
    end.

%% The name that peers see: of a client only its host.
node_name(#{mode := client, host := Host}) ->
    unicode:characters_to_binary(Host);
node_name(#{host := Host} = Spec) ->
    unicode:characters_to_binary([short_name(Spec), "@", Host]).

short_name(#{name := Name}) ->
    [Short | _] = string:split(atom_to_list(Name), "@"),
    Short.

%% A client comes and goes: it leaves nothing on the disk unless it was told where.
directories(#{mode := client}) ->
    #{
        key_dir => if_configured(auth_key_dir),
        cert_dir => undefined
    };
directories(#{mode := member} = Spec) ->
    Node = node_name(Spec),
    #{
        key_dir => barrel_p2p_config:get(auth_key_dir, Node),
        cert_dir => barrel_p2p_config:get(quic_cert_dir, Node)
    }.

if_configured(Key) ->
    case barrel_p2p_config:configured(Key) of
        true -> barrel_p2p_config:get(Key);
        false -> undefined
    end.

trust_mode() ->
    case barrel_p2p_config:get(auth_enabled) of
        true -> barrel_p2p_config:get(auth_trust_mode);
        false -> off
    end.

bind_ip() ->
    case {barrel_p2p_config:configured(listen_ip), application:get_env(kernel, inet_dist_use_interface)} of
        {false, {ok, Ip}} when is_tuple(Ip) -> Ip;
        _ -> barrel_p2p_config:get(listen_ip)
    end.

configured_ports(#{mode := client}) ->
    [0];
configured_ports(#{mode := member} = Spec) ->
    Ports = ports(barrel_p2p_config:get(listen_port), kernel(inet_dist_listen_min), kernel(inet_dist_listen_max)),
    %% Another carrier of this node that came first has published its TCP port: one number
    %% for both keeps what is published true.
    case barrel_p2p_discovery_file:published(node_name(Spec)) of
        {ok, Port} -> [Port | lists:delete(Port, Ports)];
        {error, not_found} -> Ports
    end.

%% @private The ports to try, in order: a configured number alone; else the range of the
%% kernel parameters, if any; else the well-known one and then any.
-spec ports(auto | inet:port_number(), Min :: term(), Max :: term()) -> [inet:port_number(), ...].
ports(Port, _Min, _Max) when is_integer(Port) ->
    [Port];
ports(auto, Min, Max) when is_integer(Min), is_integer(Max), Min =< Max, Min >= 0, Max =< 65535 ->
    lists:sublist(lists:seq(Min, Max), ?MAX_PORTS);
ports(auto, Min, undefined) when is_integer(Min), Min >= 0, Min =< 65535 ->
    [Min];
ports(auto, _Min, _Max) ->
    [?DEFAULT_PORT, 0].

kernel(Key) ->
    application:get_env(kernel, Key, undefined).

client_host(MyNode) ->
    case barrel_p2p_discovery:host_of(MyNode) of
        Host when Host =/= "", Host =/= "nohost" ->
            Host;
        _ ->
            {ok, Host} = inet:gethostname(),
            Host
    end.

%%%===================================================================
%%% Opening again, and closing
%%%===================================================================

reopen(State) ->
    case lookup(?WANTED) of
        undefined -> State;
        #{spec := Spec, port := Port} -> reopen(Spec, Port, State)
    end.

reopen(Spec, Port, #state{attempts = Attempts} = State) ->
    Ports =
        case Attempts < ?SAME_PORT_ATTEMPTS of
            true -> [Port];
            false -> [Port | lists:delete(Port, configured_ports(Spec))]
        end,
    case do_open(Spec, Ports) of
        {ok, Handle, _} ->
            State#state{handle = Handle, attempts = 0};
        {error, Reason} ->
            report_failure(Spec, Reason),
            _ = erlang:send_after(backoff(Attempts), self(), reopen),
            State#state{attempts = Attempts + 1}
    end.

%% @private Milliseconds before the next attempt.
-spec backoff(non_neg_integer()) -> pos_integer().
backoff(Attempts) ->
    min(5000, 50 bsl min(Attempts, 7)).

do_close(#state{handle = undefined} = State) ->
    State;
do_close(#state{handle = Handle} = State) ->
    case field(node) of
        {ok, Node} when Node =/= undefined -> ok = barrel_p2p_discovery:unregister(Node);
        _ -> ok
    end,
    forget_open(),
    ok = barrel_p2p_nif:node_close(Handle, ?CLOSE_MS),
    State#state{handle = undefined}.

forget_open() ->
    delete(?OPEN).

forget_wanted(State) ->
    delete(?WANTED),
    State.

forget_all(State) ->
    _ = forget_wanted(State),
    delete(?ACCEPTOR).

%%%===================================================================
%%% Reports
%%%===================================================================

shown(undefined) -> <<"in memory">>;
shown(Dir) -> Dir.

%% Each connection of a client tries again: the same failure twice in a row is one report.
report_failure(Spec, Reason) ->
    case put(reported, {Spec, Reason}) of
        {Spec, Reason} ->
            ok;
        _ ->
            {Text, Remedy} = explain(Spec, Reason),
            barrel_p2p_log:report(error, "the endpoint cannot be opened", #{
                name => node_name(Spec), reason => Text, remedy => Remedy
            })
    end.

explain(_Spec, {native, Reason}) ->
    {unicode:characters_to_binary(barrel_p2p_native:format_error(Reason)), <<"see above">>};
explain(_Spec, {invalid_configuration, Report}) ->
    {unicode:characters_to_binary(string:trim(barrel_p2p_config:format_error(Report))), <<"correct these keys">>};
explain(Spec, duplicate_name) ->
    {<<"another node of this name runs on this machine">>,
        unicode:characters_to_binary(
            io_lib:format("stop it or choose another name; its file is ~ts/~ts.endpoint", [
                barrel_p2p_config:get(discovery_dir), node_name(Spec)
            ])
        )};
explain(_Spec, {bind, Text}) when is_binary(Text) ->
    {Text, <<"configure listen_port and listen_ip for a port and an address that this user may have">>};
explain(#{mode := member} = Spec, Reason) ->
    #{key_dir := KeyDir, cert_dir := CertDir} = directories(Spec),
    {text_of(Reason),
        unicode:characters_to_binary(
            io_lib:format("the identity is in ~ts, the certificate in ~ts, both for this user alone", [KeyDir, CertDir])
        )};
explain(_Spec, Reason) ->
    {text_of(Reason), <<"see the reason">>}.

%% Rust's errors hold a text that names file and remedy.
text_of({_, Text}) when is_binary(Text) -> Text;
text_of({_Part, {_, Text}}) when is_binary(Text) -> Text;
text_of(Reason) -> Reason.

%%%===================================================================
%%% Internal
%%%===================================================================

%% @private Called by the supervisor, which owns the table.
-spec create_table() -> ok.
create_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% Without the supervisor there is no table, and nothing is open.
lookup(Key) ->
    try ets:lookup(?TABLE, Key) of
        [{Key, Value}] -> Value;
        [] -> undefined
    catch
        error:badarg -> undefined
    end.

insert(Key, Value) ->
    true = ets:insert(?TABLE, {Key, Value}),
    ok.

delete(Key) ->
    true = ets:delete(?TABLE, Key),
    ok.

field(Key) ->
    case lookup(?OPEN) of
        #{Key := Value} -> {ok, Value};
        undefined -> {error, closed}
    end.

%% Callers are net_kernel and connections: an answer, never an exit.
call(Request) ->
    try
        gen_server:call(?MODULE, Request, ?OPEN_TIMEOUT)
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:{_, _} -> {error, not_started}
    end.
