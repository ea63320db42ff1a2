%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Runs the benchmark: two nodes per carrier, rounds of measurements, a report.
%%%
%%% This runs in a node without a name. It speaks with the nodes over their
%%% standard input and output (`peer'), so that the distribution between them
%%% carries the measured traffic alone, and an answer never waits behind it. What
%%% happens inside the nodes is in {@link barrel_p2p_bench_node}, the tables are
%%% in {@link barrel_p2p_bench_report}.
%%%
%%% All carriers get the same flags and find their peers in the same way, through
%%% `barrel_p2p_epmd'. TLS does not check certificates: it does less than
%%% barrel_p2p, which proves both keys.
-module(barrel_p2p_bench).

%% API
-export([main/0]).

-define(HOST, "127.0.0.1").
-define(BOOT_MS, 60000).
%% Beyond the length of a measurement: what is under way may have to arrive first, and
%% inet_tls of OTP 25 stalls for many seconds.
-define(PATIENCE_MS, 120000).
-define(MIB, 1048576).
%% Processes that send bulk while round trips are measured.
-define(BULK_SENDERS, 4).

-record(plan, {
    carriers :: [atom()],
    %% names of kinds
    only :: [string()],
    rounds :: pos_integer(),
    %% before a measurement, and its length
    warm_ms :: pos_integer(),
    run_ms :: pos_integer(),
    cookie :: string(),
    optfile :: file:filename()
}).
-record(pair, {
    carrier :: atom(),
    %% sends and asks
    a :: pid(),
    %% receives and answers
    b :: pid(),
    a_name :: node(),
    b_name :: node(),
    os_pids :: [string()]
}).

%%%===================================================================
%%% API
%%%===================================================================

%% @doc Measures, reports, and halts this node.
-spec main() -> no_return().
main() ->
    {Pid, Monitor} = spawn_monitor(fun run/0),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> halt(0);
        {'DOWN', Monitor, process, Pid, Reason} -> failed(Reason)
    end.

-spec failed(term()) -> no_return().
failed(Reason) ->
    say("~nbench: FAILED: ~ts~n", [explain(Reason)]),
    lists:foreach(
        fun(File) ->
            {ok, Text} = file:read_file(File),
            Tail = binary:part(Text, byte_size(Text), -min(byte_size(Text), 4000)),
            say("~n--- the end of ~ts~n~ts", [File, Tail])
        end,
        filelib:wildcard("*.log")
    ),
    halt(1).

explain({cannot_measure, What, Carrier, Reason}) ->
    io_lib:format("~ts could not be measured on ~w: ~tp", [What, Carrier, Reason]);
explain(Reason) ->
    io_lib:format("~tp", [Reason]).

%%%===================================================================
%%% Rounds
%%%===================================================================

run() ->
    Plan = plan(),
    Started = calendar:universal_time(),
    Pairs = [start_pair(Carrier, Plan) || Carrier <- Plan#plan.carriers],
    Rounds = [round_of(N, Pairs, Plan) || N <- lists:seq(1, Plan#plan.rounds)],
    Machine = machine(Pairs),
    lists:foreach(fun stop_pair/1, Pairs),
    Run = Machine#{
        started => Started,
        rounds => Plan#plan.rounds,
        run_ms => Plan#plan.run_ms,
        carriers => Plan#plan.carriers
    },
    barrel_p2p_bench_report:write(Run, collect(lists:append(Rounds)), os:getenv("BARREL_P2P_BENCH_OUT")).

plan() ->
    {Rounds, Warm, Run} =
        case os:getenv("BARREL_P2P_BENCH_QUICK") of
            "" -> {5, 400, 1500};
            _ -> {2, 150, 600}
        end,
    #plan{
        carriers = [list_to_atom(C) || C <- string:lexemes(os:getenv("BARREL_P2P_BENCH_CARRIERS"), ",")],
        only = string:lexemes(os:getenv("BARREL_P2P_BENCH_ONLY"), ","),
        rounds =
            case os:getenv("BARREL_P2P_BENCH_ROUNDS") of
                "" -> Rounds;
                Given -> list_to_integer(Given)
            end,
        warm_ms = Warm,
        run_ms = Run,
        cookie = binary_to_list(binary:encode_hex(crypto:strong_rand_bytes(16))),
        optfile = tls_options()
    }.

round_of(Number, Pairs, Plan) ->
    say("round ~b of ~b:", [Number, Plan#plan.rounds]),
    Samples = lists:append([
        lists:append([measure(Kind, Number, Pair, Plan) || Pair <- rotate(Number, Pairs)])
     || Kind <- kinds(), wanted(Kind, Plan)
    ]),
    say("~n"),
    Samples.

%% Nobody is always the first, or always after the same neighbour.
rotate(Number, Pairs) ->
    {Front, Back} = lists:split(Number rem length(Pairs), Pairs),
    case Number rem 2 of
        0 -> Back ++ Front;
        1 -> lists:reverse(Back ++ Front)
    end.

kinds() ->
    [
        rtt,
        {messages, 16, 1},
        {messages, 16, 8},
        {messages, 1024, 1},
        {messages, 1024, 8},
        {bulk, ?MIB, 1},
        {bulk, ?MIB, 4},
        {bulk, 65536, 1},
        rtt_under_bulk,
        first_contact
    ].

wanted(_Kind, #plan{only = []}) -> true;
wanted({Name, _, _}, #plan{only = Only}) -> lists:member(atom_to_list(Name), Only);
wanted(Name, #plan{only = Only}) -> lists:member(atom_to_list(Name), Only).

%% One dot for each measurement.
measure(Kind, Number, #pair{carrier = Carrier} = Pair, Plan) ->
    try
        Samples = sample(Kind, Number, Pair, Plan),
        say("."),
        [{Carrier, Metric, Value} || {Metric, Value} <- Samples]
    catch
        Class:Reason:Stack ->
            exit({cannot_measure, io_lib:format("~0p", [Kind]), Carrier, {Class, Reason, Stack}})
    end.

sample(rtt, _Number, Pair, Plan) ->
    Echo = at_b(Pair, start_echo, []),
    Times = at_a(Pair, round_trips, [Echo, Plan#plan.warm_ms, Plan#plan.run_ms]),
    [{rtt_p50, quantile(0.5, Times)}, {rtt_p99, quantile(0.99, Times)}];
sample({messages, Size, Senders}, _Number, Pair, Plan) ->
    #{messages := Messages, micros := Micros, cpu_micros := Cpu} = flow(Size, Senders, Pair, Plan),
    [
        {{messages, Size, Senders}, Messages * 1.0e6 / Micros},
        {{cpu_per_message, Size, Senders}, per(Cpu, Messages)}
    ];
sample({bulk, Size, Senders}, _Number, Pair, Plan) ->
    #{bytes := Bytes, micros := Micros, cpu_micros := Cpu} = flow(Size, Senders, Pair, Plan),
    [
        {{bulk, Size, Senders}, Bytes / ?MIB * 1.0e6 / Micros},
        {{cpu_per_gib, Size, Senders}, per(Cpu / 1.0e6, Bytes / (1024 * ?MIB))}
    ];
sample(rtt_under_bulk, _Number, Pair, Plan) ->
    Sinks = at_b(Pair, start_sinks, [?BULK_SENDERS]),
    Echo = at_b(Pair, start_echo, []),
    ok = at_a(Pair, start_senders, [Sinks, ?MIB]),
    #{bytes := _} = at_b(Pair, window, [Plan#plan.warm_ms, 1, []]),
    Times = at_a(Pair, round_trips, [Echo, 0, Plan#plan.run_ms]),
    ok = at_a(Pair, stop_senders, [?PATIENCE_MS]),
    [
        {rtt_bulk_p50, quantile(0.5, Times)},
        {rtt_bulk_p99, quantile(0.99, Times)},
        {rtt_bulk_max, quantile(1.0, Times)},
        {rtt_bulk_count, length(Times) * 1000 / Plan#plan.run_ms}
    ];
sample(first_contact, Number, #pair{carrier = Carrier} = Pair, Plan) ->
    {Peer, Name} = boot(Carrier, "fresh" ++ integer_to_list(Number), Plan),
    {Micros, pong} = at_a(Pair, first_contact, [Name]),
    ok = peer:stop(Peer),
    [{first_contact, Micros}].

%% Senders at A, sinks at B; what B counts while the flow is steady.
flow(Size, Senders, #pair{os_pids = OsPids} = Pair, Plan) ->
    Sinks = at_b(Pair, start_sinks, [Senders]),
    ok = at_a(Pair, start_senders, [Sinks, Size]),
    Window = at_b(Pair, window, [Plan#plan.warm_ms, Plan#plan.run_ms, OsPids]),
    ok = at_a(Pair, stop_senders, [?PATIENCE_MS]),
    Window.

%% Nanoseconds in, microseconds out.
quantile(Part, Sorted) ->
    lists:nth(max(1, ceil(Part * length(Sorted))), Sorted) / 1000.

%% Nothing arrived in this window, or this system does not tell the processor time.
per(unknown, _Count) -> unknown;
per(_Amount, Count) when Count == 0 -> unknown;
per(Amount, Count) -> Amount / Count.

collect(Samples) ->
    lists:foldr(
        fun
            ({_Carrier, _Metric, unknown}, All) -> All;
            ({Carrier, Metric, Value}, All) ->
                maps:update_with({Carrier, Metric}, fun(Values) -> [Value | Values] end, [Value], All)
        end,
        #{},
        Samples
    ).

%%%===================================================================
%%% Nodes
%%%===================================================================

start_pair(Carrier, Plan) ->
    {A, AName} = boot(Carrier, "a", Plan),
    {B, BName} = boot(Carrier, "b", Plan),
    Pair = #pair{
        carrier = Carrier,
        a = A,
        b = B,
        a_name = AName,
        b_name = BName,
        os_pids = [peer:call(P, os, getpid, []) || P <- [A, B]]
    },
    case at_a(Pair, first_contact, [BName]) of
        {_, pong} -> Pair;
        {_, pang} -> exit({cannot_connect, Carrier, AName, BName})
    end.

boot(Carrier, Role, #plan{cookie = Cookie, optfile = OptFile}) ->
    Short = Role ++ "_" ++ atom_to_list(Carrier),
    Log = io_lib:format("[{handler,default,logger_std_h,#{config=>#{file=>\"~s.log\"}}}]", [Short]),
    {ok, Peer, Name} = peer:start(#{
        name => Short,
        host => ?HOST,
        longnames => true,
        exec => os:getenv("BARREL_P2P_BENCH_ERL"),
        connection => standard_io,
        wait_boot => ?BOOT_MS,
        args =>
            carrier_flags(Carrier, OptFile) ++
            [
                "-epmd_module", "barrel_p2p_epmd",
                "-start_epmd", "false",
                "-kernel", "connect_all", "false", "logger", lists:flatten(Log),
                "-barrel_p2p", "listen_port", "0",
                "-setcookie", Cookie,
                "-boot", "no_dot_erlang",
                "+Bi",
                "-pa", os:getenv("BARREL_P2P_BENCH_EBIN"), filename:absname("ebin")
            ]
    }),
    {module, _} = peer:call(Peer, code, ensure_loaded, [barrel_p2p_bench_node]),
    {Peer, Name}.

carrier_flags(inet_tls, OptFile) -> ["-proto_dist", "inet_tls", "-ssl_dist_optfile", OptFile];
carrier_flags(Carrier, _OptFile) -> ["-proto_dist", atom_to_list(Carrier)].

stop_pair(#pair{a = A, b = B}) ->
    ok = peer:stop(A),
    ok = peer:stop(B).

at_a(#pair{a = A}, Function, Args) -> call(A, Function, Args).

at_b(#pair{b = B}, Function, Args) -> call(B, Function, Args).

call(Peer, Function, Args) ->
    peer:call(Peer, barrel_p2p_bench_node, Function, Args, 2 * ?PATIENCE_MS).

%% A certificate that signs itself, made for this run. TLS 1.3 and nothing else.
tls_options() ->
    #{cert := Cert, key := Key} = public_key:pkix_test_root_cert("barrel_p2p bench", [{key, {namedCurve, secp256r1}}]),
    ok = file:write_file("tls.pem", public_key:pem_encode([
        {'Certificate', Cert, not_encrypted},
        public_key:pem_entry_encode('ECPrivateKey', Key)
    ])),
    Pem = filename:absname("tls.pem"),
    Common = [{versions, ['tlsv1.3']}, {verify, verify_none}],
    Options = [{server, [{certfile, Pem}, {keyfile, Pem} | Common]}, {client, Common}],
    File = filename:absname("tls.config"),
    ok = file:write_file(File, io_lib:format("~p.~n", [Options])),
    File.

%% What the figures depend on.
machine(Pairs) ->
    Mtus = [
        Mtu
     || #pair{carrier = barrel_p2p, a = A} <- Pairs,
        #{mtu := Mtu} <- peer:call(A, barrel_p2p_node, links, [])
    ],
    #{
        otp => erlang:system_info(otp_release),
        system => string:trim(os:cmd("uname -srm")),
        processors => erlang:system_info(logical_processors_available),
        load => load(),
        datagram => lists:max([0 | Mtus])
    }.

load() ->
    case file:read_file("/proc/loadavg") of
        {ok, Text} -> hd(binary:split(Text, <<" ">>));
        {error, _} -> <<"unknown">>
    end.

say(Text) ->
    say(Text, []).

say(Format, Args) ->
    io:format(Format, Args).
