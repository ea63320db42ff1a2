%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Where nodes run, and how they are started there: on loopback, or in one of two
%%% network namespaces with a path between them.
-module(barrel_p2p_bench_place).

-export([loopback/0, host/1, command/2, unavailable/0, with_path/2, tcp_has/1]).
-export([boot/4, stop/1, kill/1, call/5, name/1, os_pid/1]).

-export_type([place/0, vm/0]).

-opaque place() :: #{
    host := string(),
    %% words before a command that runs there
    enter := [string()],
    %% distinguishes logs
    tag := string()
}.
-opaque vm() :: #{peer := pid(), name := node(), os_pid := string()}.

-define(BOOT_MS, 120000).
%% Of Linux.
-define(IPPROTO_TCP, 6).
-define(TCP_CONGESTION, 13).

%%%===================================================================
%%% Places
%%%===================================================================

-spec loopback() -> place().
loopback() ->
    #{host => "127.0.0.1", enter => [], tag => "loopback"}.

-spec host(place()) -> string().
host(#{host := Host}) ->
    Host.

%% @doc A program as it is started there, and the words before its own arguments.
-spec command(place(), file:filename()) -> barrel_p2p_bench_bare:command().
command(#{enter := []}, Program) ->
    {Program, []};
command(#{enter := [Enter | Words]}, Program) ->
    {Enter, Words ++ [Program]}.

%%%===================================================================
%%% Nodes
%%%===================================================================

%% @doc Starts a node of a carrier.
-spec boot(place(), Carrier :: atom(), Role :: string(), Flags :: [string()]) -> vm().
boot(#{host := Host, tag := Tag} = Place, Carrier, Role, Flags) ->
    Short = Role ++ "_" ++ atom_to_list(Carrier),
    Log = io_lib:format("[{handler,default,logger_std_h,#{config=>#{file=>\"~s_~s.log\"}}}]", [Short, Tag]),
    {ok, Peer, Name} = peer:start(#{
        name => Short,
        host => Host,
        longnames => true,
        exec => exec(command(Place, os:getenv("BARREL_P2P_BENCH_ERL"))),
        connection => standard_io,
        wait_boot => ?BOOT_MS,
        args =>
            carrier_flags(Carrier) ++ tcp_flags(Tag, Carrier) ++ Flags ++
            [
                "-epmd_module", "barrel_p2p_epmd",
                "-start_epmd", "false",
                "-kernel", "connect_all", "false", "logger", lists:flatten(Log),
                "-barrel_p2p", "listen_port", "0",
                "-setcookie", os:getenv("BARREL_P2P_BENCH_COOKIE"),
                "-boot", "no_dot_erlang",
                "+Bi",
                "-pa", os:getenv("BARREL_P2P_BENCH_EBIN"), filename:absname("ebin")
            ]
    }),
    {module, _} = peer:call(Peer, code, ensure_loaded, [barrel_p2p_bench_node]),
    #{peer => Peer, name => Name, os_pid => peer:call(Peer, os, getpid, [])}.

exec({Program, []}) -> Program;
exec(Command) -> Command.

%% `barrel_p2p_1452': datagrams of the size that Ethernet carries.
carrier_flags(inet_tls) -> ["-proto_dist", "inet_tls", "-ssl_dist_optfile", tls_options()];
carrier_flags(barrel_p2p_1452) -> ["-proto_dist", "barrel_p2p", "-barrel_p2p", "max_datagram", "1452"];
carrier_flags(barrel_p2p_cubic) -> ["-proto_dist", "barrel_p2p", "-barrel_p2p", "congestion_control", "cubic"];
carrier_flags(barrel_p2p_bbr) -> ["-proto_dist", "barrel_p2p", "-barrel_p2p", "congestion_control", "bbr"];
carrier_flags(inet_tcp_bbr) -> ["-proto_dist", "inet_tcp"];
carrier_flags(Carrier) -> ["-proto_dist", atom_to_list(Carrier)].

%% On a path TCP has the congestion controller that we name, not that of the system, which differs from
%% one machine to the next.
tcp_flags("path", inet_tcp_bbr) -> tcp_congestion("bbr");
tcp_flags("path", Carrier) when Carrier =:= inet_tcp; Carrier =:= inet_tls -> tcp_congestion("cubic");
tcp_flags(_Tag, _Carrier) -> [].

tcp_congestion(Name) ->
    Options = lists:flatten(io_lib:format("[{raw,~b,~b,<<\"~s\">>}]", [?IPPROTO_TCP, ?TCP_CONGESTION, Name])),
    ["-kernel", "inet_dist_connect_options", Options, "inet_dist_listen_options", Options].

-spec stop(vm()) -> ok.
stop(#{peer := Peer}) ->
    peer:stop(Peer).

%% @doc Ends one that may not be able to end itself, because it waits for its connections.
-spec kill(vm()) -> ok.
kill(#{peer := Peer, os_pid := OsPid}) ->
    Monitor = erlang:monitor(process, Peer),
    _ = os:cmd("kill -9 " ++ OsPid),
    receive
        {'DOWN', Monitor, process, Peer, _} -> ok
    end.

-spec call(vm(), module(), Function :: atom(), Args :: [term()], timeout()) -> term().
call(#{peer := Peer}, Module, Function, Args, Timeout) ->
    peer:call(Peer, Module, Function, Args, Timeout).

-spec name(vm()) -> node().
name(#{name := Name}) ->
    Name.

-spec os_pid(vm()) -> string().
os_pid(#{os_pid := OsPid}) ->
    OsPid.

%% A certificate that signs itself, made once for this run. TLS 1.3 and nothing else.
tls_options() ->
    File = filename:absname("tls.config"),
    case filelib:is_regular(File) of
        true -> ok;
        false -> make_tls_options(File)
    end,
    File.

make_tls_options(File) ->
    #{cert := Cert, key := Key} = public_key:pkix_test_root_cert("barrel_p2p bench", [
        {key, {namedCurve, secp256r1}}, {digest, sha256}
    ]),
    Pem = filename:absname("tls.pem"),
    ok = file:write_file(Pem, public_key:pem_encode([
        {'Certificate', Cert, not_encrypted},
        public_key:pem_entry_encode('ECPrivateKey', Key)
    ])),
    Common = [{versions, ['tlsv1.3']}, {verify, verify_none}],
    Options = [{server, [{certfile, Pem}, {keyfile, Pem} | Common]}, {client, Common}],
    ok = file:write_file(File, io_lib:format("~p.~n", [Options])).

%%%===================================================================
%%% A path between two namespaces
%%%===================================================================

%% @doc Why there can be no path here.
-spec unavailable() -> false | {true, string()}.
unavailable() ->
    case os:getenv("BARREL_P2P_IMPAIR") of
        "" -> {true, "barrel_impair was not built"};
        _ -> impaired:unavailable(tun)
    end.

%% @doc Whether TCP of this system has a congestion controller.
-spec tcp_has(string()) -> boolean().
tcp_has(Name) ->
    case file:read_file("/proc/sys/net/ipv4/tcp_available_congestion_control") of
        {ok, Text} -> lists:member(Name, string:lexemes(binary_to_list(Text), " \n"));
        {error, _} -> false
    end.

%% @doc Runs a function with the two ends of a path; the path ends with it. Packets have 1500 bytes, as
%% in networks where a way takes so long.
-spec with_path([impaired:setting()], fun(({place(), place()}) -> Result)) -> Result.
with_path(Settings, Fun) ->
    Path = impaired:start(tun, #{mtu => 1500, settings => Settings}),
    {Near, Far} = impaired:places(Path),
    Result = Fun({inside(Near), inside(Far)}),
    ok = impaired:stop(Path),
    Result.

inside(#{v4 := Host} = Place) ->
    {Program, Words} = impaired:inside(Place),
    #{host => Host, enter => [Program | Words], tag => "path"}.
