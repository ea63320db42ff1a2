%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Runs the benchmark: two nodes per carrier, rounds of measurements, a report.
%%%
%%% This runs in a node without a name. It speaks with the nodes over their
%%% standard input and output (`peer'), so that the distribution between them
%%% carries the measured traffic alone, and an answer never waits behind it.
%%%
%%% <pre>
%%% barrel_p2p_bench            what is measured, in which order
%%%   _place                    where nodes run, how they are started
%%%   _node                     what happens inside the nodes
%%%   _bare                     QUIC without the BEAM
%%%   _usage                    what processes use
%%%   _figures, _targets        from samples to figures and verdicts
%%%   _report, _svg             tables, picture, file
%%% </pre>
%%%
%%% All carriers get the same flags and find their peers in the same way, through
%%% `barrel_p2p_epmd'. TLS does not check certificates: it does less than
%%% barrel_p2p, which proves both keys.
-module(barrel_p2p_bench).

%% API
-export([main/0]).

%% Beyond the length of a measurement: what is under way may have to arrive first, and
%% inet_tls of OTP 25 stalls for many seconds.
-define(PATIENCE_MS, 120000).
%% On a path of 20 ms. TCP moves half a megabyte per second when it loses 3 %, and has some on the way.
-define(PATH_PATIENCE_MS, 60000).
-define(MIB, 1048576).
%% Processes that send bulk while round trips are measured.
-define(BULK_SENDERS, 4).
%% Nodes that boot at the same time.
-define(BOOTS, 4).
%% From the last connection until memory is looked at.
-define(SETTLE_MS, 2000).
%% Links that are there before memory is looked at for the first time.
-define(WARM_LINKS, 4).

-record(plan, {
    carriers :: [atom()],
    %% names of kinds; none is all
    only :: [string()],
    rounds :: pos_integer(),
    %% before a measurement, and its length
    warm_ms :: pos_integer(),
    run_ms :: pos_integer(),
    %% of bulk on a path of 20 ms
    path_warm_ms :: pos_integer(),
    path_run_ms :: pos_integer(),
    %% percentages lost there
    losses :: [non_neg_integer()],
    idle_ms :: pos_integer(),
    links :: pos_integer(),
    bare :: file:filename() | none
}).
-record(pair, {
    carrier :: atom(),
    %% sends and asks
    a :: barrel_p2p_bench_place:vm(),
    %% receives and answers
    b :: barrel_p2p_bench_place:vm(),
    %% until a measurement has failed
    patience_ms :: pos_integer()
}).
%% The same without the BEAM.
-record(bare, {
    command :: barrel_p2p_bench_bare:command(),
    listener :: barrel_p2p_bench_bare:listener()
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
%%% The run
%%%===================================================================

run() ->
    Plan = plan(),
    {Started, Begin} = {calendar:universal_time(), erlang:monotonic_time(second)},
    {Loopback, Datagram} = loopback(Plan),
    Links = [Sample || wanted(links, Plan), Sample <- links(Plan)],
    {OnPaths, Skipped} = paths(Plan),
    {Stuck, Paths} = lists:partition(fun({_, _, Metric, _}) -> Metric =:= stuck end, OnPaths),
    Samples = Loopback ++ Links ++ Paths,
    Run = #{
        started => Started,
        took_s => erlang:monotonic_time(second) - Begin,
        commit => os:getenv("BARREL_P2P_BENCH_COMMIT"),
        otp => erlang:system_info(otp_release),
        kernel => barrel_p2p_bench_usage:kernel(),
        processor => barrel_p2p_bench_usage:processor(),
        processors => erlang:system_info(logical_processors_available),
        load => barrel_p2p_bench_usage:load(),
        rounds => Plan#plan.rounds,
        run_ms => Plan#plan.run_ms,
        datagram => Datagram,
        skipped =>
            Skipped ++
                ["bare QUIC: barrel_bare was not built" || Plan#plan.bare =:= none] ++
                [barrel_p2p_bench_report:scene_title(Scene) ++ ": " ++ What || {Scene, _, _, What} <- Stuck],
        scenes => scenes(Samples)
    },
    barrel_p2p_bench_report:write(
        Run,
        barrel_p2p_bench_figures:samples(Samples),
        os:getenv("BARREL_P2P_BENCH_OUT"),
        os:getenv("BARREL_P2P_BENCH_NAME")
    ).

plan() ->
    Plan =
        case os:getenv("BARREL_P2P_BENCH_QUICK") of
            "" -> full();
            _ -> quick()
        end,
    Plan#plan{
        carriers = [list_to_atom(C) || C <- words("BARREL_P2P_BENCH_CARRIERS")],
        only = words("BARREL_P2P_BENCH_ONLY"),
        rounds =
            case os:getenv("BARREL_P2P_BENCH_ROUNDS") of
                "" -> Plan#plan.rounds;
                Given -> list_to_integer(Given)
            end,
        bare =
            case os:getenv("BARREL_P2P_BENCH_BARE") of
                "" -> none;
                Program -> Program
            end
    }.

full() ->
    #plan{
        carriers = [], only = [], bare = none,
        rounds = 3, warm_ms = 400, run_ms = 1500,
        path_warm_ms = 1000, path_run_ms = 4000, losses = [0, 1, 3],
        idle_ms = 20000, links = 50
    }.

quick() ->
    #plan{
        carriers = [], only = [], bare = none,
        rounds = 2, warm_ms = 150, run_ms = 600,
        path_warm_ms = 500, path_run_ms = 1500, losses = [1],
        idle_ms = 3000, links = 8
    }.

words(Variable) ->
    string:lexemes(os:getenv(Variable), ",").

wanted(_Kind, #plan{only = []}) -> true;
wanted({Name, _, _}, #plan{only = Only}) -> lists:member(atom_to_list(Name), Only);
wanted(Name, #plan{only = Only}) -> lists:member(atom_to_list(Name), Only).

%% Scenes and their carriers as they come, but our own first: it is divided by the others.
scenes(Samples) ->
    Order = [loopback, {path, 0}, {path, 1}, {path, 3}, fair],
    [
        {Scene, Carriers}
     || Scene <- Order,
        Known <- [[Carrier || {S, Carrier, _, _} <- Samples, S =:= Scene]],
        Carriers <- [[C || C <- carrier_order(), lists:member(C, Known)]],
        Carriers =/= []
    ].

carrier_order() ->
    [barrel_p2p, barrel_p2p_1452, barrel_p2p_cubic, barrel_p2p_bbr, inet_tcp, inet_tcp_bbr, inet_tls, bare].

%%%===================================================================
%%% On loopback
%%%===================================================================

loopback(Plan) ->
    Pairs = [start_pair(Carrier, loopback_places()) || Carrier <- Plan#plan.carriers],
    Whole = [Pair || #pair{carrier = C} = Pair <- Pairs, kinds(C) =:= kinds()],
    Alone = idle(idle_cpu_alone, Whole, Plan),
    lists:foreach(fun connect/1, Pairs),
    Connected = idle(idle_cpu, Whole, Plan),
    Bare = start_bare(loopback_places(), Plan),
    Rounds = [round_of(N, Pairs ++ Bare, Plan) || N <- lists:seq(1, Plan#plan.rounds)],
    Datagram = datagram(Pairs),
    lists:foreach(fun stop/1, Pairs ++ Bare),
    {[{loopback, C, M, V} || {C, M, V} <- lists:append([Alone, Connected | Rounds])], Datagram}.

loopback_places() ->
    Place = barrel_p2p_bench_place:loopback(),
    {Place, Place}.

round_of(Number, Pairs, Plan) ->
    say("round ~b of ~b: ", [Number, Plan#plan.rounds]),
    Samples = lists:append([
        measure(Kind, Number, Pair, Plan)
     || Kind <- kinds(),
        wanted(Kind, Plan),
        Pair <- rotate(Number, Pairs),
        lists:member(Kind, kinds(carrier(Pair)))
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

kinds(barrel_p2p_1452) -> bulk_kinds();
kinds(barrel_p2p_bbr) -> bulk_kinds();
%% Without loss it is what the default is.
kinds(barrel_p2p_cubic) -> [];
kinds(bare) -> [rtt, rtt_under_bulk | bulk_kinds()];
kinds(_Carrier) -> kinds().

bulk_kinds() ->
    [{bulk, ?MIB, 1}, {bulk, ?MIB, 4}, {bulk, 65536, 1}].

%% One dot for each measurement.
measure(Kind, Number, Pair, Plan) ->
    Carrier = carrier(Pair),
    try
        Samples = sample(Kind, Number, Pair, Plan),
        say("."),
        [{Carrier, Metric, Value} || {Metric, Value} <- Samples]
    catch
        Class:Reason:Stack ->
            exit({cannot_measure, io_lib:format("~0p", [Kind]), Carrier, {Class, Reason, Stack}})
    end.

sample(rtt, _Number, #bare{} = Bare, Plan) ->
    Times = bare(["rtt"], Bare, Plan),
    quantiles(Times, rtt_p50, rtt_p99);
sample({bulk, Size, Senders}, _Number, #bare{} = Bare, Plan) ->
    #{bytes := Bytes, micros := Micros, cpu_micros := Cpu} =
        bare(["bulk", "--size", integer_to_list(Size), "--streams", integer_to_list(Senders)], Bare, Plan),
    bulk_samples(Size, Senders, Bytes, Micros, Cpu);
sample(rtt_under_bulk, _Number, #bare{} = Bare, Plan) ->
    %% One stream of bulk: quinn-proto 0.11.19 wakes the streams that wait for room in an order in which
    %% some of three or more never get any.
    #{max_ns := Max, count := Count} = Times = bare(["rtt_under_bulk", "--streams", "1"], Bare, Plan),
    quantiles(Times, rtt_bulk_p50, rtt_bulk_p99) ++
        [{rtt_bulk_max, Max / 1000}, {rtt_bulk_count, Count * 1000 / Plan#plan.run_ms}];
sample(rtt, _Number, Pair, Plan) ->
    Echo = at_b(Pair, start_echo, []),
    Times = at_a(Pair, round_trips, [Echo, Plan#plan.warm_ms, Plan#plan.run_ms]),
    [{rtt_p50, quantile(0.5, Times)}, {rtt_p99, quantile(0.99, Times)}];
sample({messages, Size, Senders}, _Number, Pair, Plan) ->
    #{messages := Messages, micros := Micros, cpu_micros := Cpu} = flow(Size, Senders, Pair, Plan),
    [
        {{messages, Size, Senders}, Messages * 1.0e6 / Micros}
        | [
            {{cpu_per_message, Size, Senders}, barrel_p2p_bench_figures:per(Cpu, Messages)}
         || {Size, Senders} =:= {16, 1}
        ]
    ];
sample({bulk, Size, Senders}, _Number, Pair, Plan) ->
    #{bytes := Bytes, micros := Micros, cpu_micros := Cpu} = flow(Size, Senders, Pair, Plan),
    bulk_samples(Size, Senders, Bytes, Micros, Cpu);
sample(rtt_under_bulk, Number, Pair, Plan) ->
    sample({rtt_under_bulk, ?MIB}, Number, Pair, Plan);
sample({rtt_under_bulk, Size}, _Number, Pair, Plan) ->
    Sinks = at_b(Pair, start_sinks, [?BULK_SENDERS]),
    Echo = at_b(Pair, start_echo, []),
    ok = at_a(Pair, start_senders, [Sinks, Size]),
    #{bytes := _} = at_b(Pair, window, [Plan#plan.warm_ms, 1, []]),
    Times = at_a(Pair, round_trips, [Echo, 0, Plan#plan.run_ms]),
    ok = at_a(Pair, stop_senders, [Pair#pair.patience_ms]),
    [
        {rtt_bulk_p50, quantile(0.5, Times)},
        {rtt_bulk_p99, quantile(0.99, Times)},
        {rtt_bulk_max, quantile(1.0, Times)},
        {rtt_bulk_count, length(Times) * 1000 / Plan#plan.run_ms}
    ];
sample(first_contact, Number, #pair{carrier = Carrier} = Pair, _Plan) ->
    {Place, _} = loopback_places(),
    Fresh = barrel_p2p_bench_place:boot(Place, Carrier, "fresh" ++ integer_to_list(Number), []),
    {Micros, pong} = at_a(Pair, first_contact, [barrel_p2p_bench_place:name(Fresh)]),
    ok = barrel_p2p_bench_place:stop(Fresh),
    [{first_contact, Micros}].

%% Senders at A, sinks at B; what B counts while the flow is steady.
flow(Size, Senders, #pair{a = A, b = B} = Pair, Plan) ->
    Sinks = at_b(Pair, start_sinks, [Senders]),
    ok = at_a(Pair, start_senders, [Sinks, Size]),
    OsPids = [barrel_p2p_bench_place:os_pid(Vm) || Vm <- [A, B]],
    Window = at_b(Pair, window, [Plan#plan.warm_ms, Plan#plan.run_ms, OsPids]),
    ok = at_a(Pair, stop_senders, [Pair#pair.patience_ms]),
    Window.

bulk_samples(Size, Senders, Bytes, Micros, Cpu) ->
    Seconds =
        case Cpu of
            unknown -> unknown;
            _ -> Cpu / 1.0e6
        end,
    [
        {{bulk, Size, Senders}, Bytes / ?MIB * 1.0e6 / Micros}
        | [
            {{cpu_per_gib, Size, Senders}, barrel_p2p_bench_figures:per(Seconds, Bytes / (1024 * ?MIB))}
         || Size =:= ?MIB
        ]
    ].

%% Nanoseconds in, microseconds out.
quantile(Part, Sorted) ->
    barrel_p2p_bench_figures:quantile(Part, Sorted) / 1000.

quantiles(#{p50_ns := P50, p99_ns := P99}, Half, Most) ->
    [{Half, P50 / 1000}, {Most, P99 / 1000}].

datagram(Pairs) ->
    lists:max([
        0
        | [
            Mtu
         || #pair{carrier = barrel_p2p, a = A} <- Pairs,
            #{mtu := Mtu} <- barrel_p2p_bench_place:call(A, barrel_p2p_node, links, [], ?PATIENCE_MS)
        ]
    ]).

%%%===================================================================
%%% Nothing is said
%%%===================================================================

%% All pairs at the same time: who is idle disturbs nobody. Milliseconds per minute, both nodes.
idle(Metric, Pairs, Plan) ->
    case wanted(idle, Plan) of
        true -> idle_samples(Metric, Pairs, Plan#plan.idle_ms);
        false -> []
    end.

idle_samples(Metric, Pairs, Ms) ->
    say("~ts: ", [maps:get(title, barrel_p2p_bench_figures:row(Metric))]),
    %% what was loaded and started for a connection comes to rest
    pause(?SETTLE_MS),
    Before = [used(Pair) || Pair <- Pairs],
    pause(Ms),
    After = [used(Pair) || Pair <- Pairs],
    say("~b s~n", [Ms div 1000]),
    [
        {Pair#pair.carrier, Metric, idle_rate(Used, Using, Ms)}
     || {Pair, Used, Using} <- lists:zip3(Pairs, Before, After)
    ].

used(#pair{a = A, b = B}) ->
    barrel_p2p_bench_usage:cpu_nanos([barrel_p2p_bench_place:os_pid(Vm) || Vm <- [A, B]]).

idle_rate(unknown, _, _Ms) -> unknown;
idle_rate(_, unknown, _Ms) -> unknown;
idle_rate(Before, After, Ms) -> (After - Before) / 1.0e6 * 60000 / Ms.

%% Links of one node to many others. The first ones are not counted: with them comes what all share.
links(Plan) ->
    say("memory of ~b links: ", [Plan#plan.links]),
    Carriers = Plan#plan.carriers -- [barrel_p2p_1452, barrel_p2p_cubic, barrel_p2p_bbr],
    Samples = lists:append([links(Carrier, Plan) || Carrier <- Carriers]) ++ bare_links(Plan),
    say("~n"),
    [{loopback, Carrier, Metric, Value} || {Carrier, Metric, Value} <- Samples ++ native(Samples)].

%% What the VM does not know of. A VM takes memory in larger pieces than it needs, which nobody can tell from
%% native memory; a link of inet_tcp makes it do the same, and has nothing native.
native(Samples) ->
    Unknown = fun(Carrier) ->
        [All - Vm || {C, link_memory, All} <- Samples, C =:= Carrier, {D, link_vm, Vm} <- Samples, D =:= Carrier]
    end,
    [{barrel_p2p, link_native, Ours - Theirs} || Ours <- Unknown(barrel_p2p), Theirs <- Unknown(inet_tcp)].

links(Carrier, #plan{links = Count}) ->
    {Place, _} = loopback_places(),
    Hub = barrel_p2p_bench_place:boot(Place, Carrier, "hub", []),
    Peers = boot_many(Place, Carrier, ?WARM_LINKS + Count),
    {Warm, Counted} = lists:split(?WARM_LINKS, Peers),
    lists:foreach(fun(Peer) -> join(Peer, Hub) end, Warm),
    {All0, Vm0} = memory(Hub),
    lists:foreach(fun(Peer) -> join(Peer, Hub) end, Counted),
    {All1, Vm1} = memory(Hub),
    Known = barrel_p2p_bench_place:call(Hub, erlang, nodes, [connected], ?PATIENCE_MS),
    lists:foreach(fun barrel_p2p_bench_place:stop/1, [Hub | Peers]),
    say("."),
    case length(Known) of
        Enough when Enough >= length(Peers) ->
            [{Carrier, link_memory, (All1 - All0) / Count}, {Carrier, link_vm, (Vm1 - Vm0) / 1024 / Count}];
        Few ->
            exit({cannot_measure, "links", Carrier, {connected, Few, of_these, length(Peers)}})
    end.

%% Twice: what the first collection frees is given back to the system a little later.
memory(Hub) ->
    pause(?SETTLE_MS),
    _ = vm_memory(Hub),
    pause(?SETTLE_MS),
    Vm = vm_memory(Hub),
    {barrel_p2p_bench_usage:private_kib(barrel_p2p_bench_place:os_pid(Hub)), Vm}.

vm_memory(Hub) ->
    barrel_p2p_bench_place:call(Hub, barrel_p2p_bench_node, memory, [], ?PATIENCE_MS).

join(Peer, Hub) ->
    true = barrel_p2p_bench_place:call(
        Peer, net_kernel, connect_node, [barrel_p2p_bench_place:name(Hub)], ?PATIENCE_MS
    ).

%% Small ones, some at a time.
boot_many(Place, Carrier, Count) ->
    Light = ["-hidden", "+S", "1:1", "+SDcpu", "1:1", "+SDio", "1", "+A", "1"],
    boot_batches(Place, Carrier, Light, lists:seq(1, Count), []).

boot_batches(_Place, _Carrier, _Flags, [], Booted) ->
    lists:append(lists:reverse(Booted));
boot_batches(Place, Carrier, Flags, Numbers, Booted) ->
    {Now, Later} = lists:split(min(?BOOTS, length(Numbers)), Numbers),
    Boots = [
        spawn_monitor(fun() ->
            exit({booted, barrel_p2p_bench_place:boot(Place, Carrier, "peer" ++ integer_to_list(N), Flags)})
        end)
     || N <- Now
    ],
    boot_batches(Place, Carrier, Flags, Later, [[booted(Boot) || Boot <- Boots] | Booted]).

booted({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {booted, Vm}} -> Vm;
        {'DOWN', Monitor, process, Pid, Reason} -> exit({cannot_boot, Reason})
    end.

bare_links(#plan{links = Count} = Plan) ->
    lists:append([
        begin
            #{links := Links, kib_before := Before, kib_after := After} =
                bare(["links", "--count", integer_to_list(Count)], Bare, Plan),
            stop(Bare),
            say("."),
            [{bare, link_memory, (After - Before) / Links}, {bare, link_native, (After - Before) / Links}]
        end
     || Bare <- start_bare(loopback_places(), Plan)
    ]).

%%%===================================================================
%%% On a path of 20 ms
%%%===================================================================

paths(Plan) ->
    case [Kind || Kind <- [path, fairness], wanted(Kind, Plan)] of
        [] ->
            {[], []};
        Kinds ->
            case barrel_p2p_bench_place:unavailable() of
                false ->
                    {lists:append([on_paths(Kind, Plan) || Kind <- Kinds]), []};
                {true, Why} ->
                    say("no path of 20 ms: ~ts~n", [Why]),
                    {[], ["on a path of 20 ms: " ++ Why]}
            end
    end.

on_paths(path, Plan) ->
    lists:append([on_path(Loss, Plan) || Loss <- Plan#plan.losses]);
on_paths(fairness, Plan) ->
    say("beside one TCP flow: "),
    Samples = beside_tcp(Plan),
    say("~n"),
    Samples.

on_path(Loss, Plan) ->
    say("20 ms, ~b % lost: ", [Loss]),
    Settings = [{both, delay, 10}, {both, loss, Loss / 100}],
    Samples = barrel_p2p_bench_place:with_path(Settings, fun(Places) ->
        lists:append([path_samples(Carrier, Places, Plan) || Carrier <- path_carriers(Plan)])
    end),
    say("~n"),
    [{{path, Loss}, Carrier, Metric, Value} || {Carrier, Metric, Value} <- Samples].

path_carriers(#plan{carriers = Carriers}) ->
    (Carriers -- [barrel_p2p_1452]) ++
        [inet_tcp_bbr || lists:member(inet_tcp, Carriers), barrel_p2p_bench_place:tcp_has("bbr")].

path_samples(Carrier, Places, #plan{path_warm_ms = Warm, path_run_ms = Run} = Plan) ->
    Pair = start_connected(Carrier, Places, ""),
    Short = [{Kind, Plan#plan{warm_ms = Warm}} || Kind <- path_kinds(Carrier)],
    Long = [{Kind, Plan#plan{warm_ms = Warm, run_ms = Run}} || Kind <- path_bulk_kinds()],
    measure_each(Short ++ Long, Pair).

%% Another carrier may get stuck on such a path: that is a result. Ours must not.
measure_each([], Pair) ->
    stop(Pair),
    [];
measure_each([{Kind, Plan} | Kinds], #pair{carrier = Carrier} = Pair) ->
    try measure(Kind, 1, Pair, Plan) of
        Samples -> Samples ++ measure_each(Kinds, Pair)
    catch
        exit:{cannot_measure, _, _, _} when Carrier =/= barrel_p2p, Carrier =/= barrel_p2p_cubic, Carrier =/= barrel_p2p_bbr ->
            say("x"),
            kill(Pair),
            [{Carrier, stuck, lists:flatten(io_lib:format("~w on ~w: it got stuck", [Kind, Carrier]))}]
    end.

path_kinds(inet_tcp_bbr) -> [];
path_kinds(_Carrier) -> [rtt, {messages, 16, 1}].

%% In messages of 64 KiB: they are counted when they are complete, and 1 MiB may take seconds.
path_bulk_kinds() ->
    [{bulk, 65536, 1}, {rtt_under_bulk, 65536}].

%% Each in turn and inet_tcp push bulk through the same 50 Mbit/s. Half is fair; how near two inet_tcp
%% come to it is shown as well.
beside_tcp(#plan{carriers = Carriers, path_warm_ms = Warm, path_run_ms = Run} = Plan) ->
    Long = Plan#plan{warm_ms = Warm, run_ms = Run + Run div 2},
    Settings = [{both, delay, 10}, {both, rate, 50000000}, {both, queue, 262144}],
    barrel_p2p_bench_place:with_path(Settings, fun(Places) ->
        lists:append([
            share(Carrier, Places, Long)
         || Carrier <- [barrel_p2p, barrel_p2p_cubic, barrel_p2p_bbr, inet_tcp], lists:member(Carrier, Carriers)
        ])
    end).

share(Carrier, Places, Plan) ->
    Pair = start_connected(Carrier, Places, ""),
    Tcp = start_connected(inet_tcp, Places, "tcp_"),
    {Pid, Monitor} = spawn_monitor(fun() -> exit({flow, measure({bulk, 65536, 1}, 1, Tcp, Plan)}) end),
    [{_, _, Ours} | _] = measure({bulk, 65536, 1}, 1, Pair, Plan),
    Theirs =
        receive
            {'DOWN', Monitor, process, Pid, {flow, [{_, _, Rate} | _]}} -> Rate;
            {'DOWN', Monitor, process, Pid, Reason} -> exit(Reason)
        end,
    stop(Tcp),
    stop(Pair),
    [{fair, Carrier, share, share_of(Ours, Theirs)}, {fair, Carrier, {bulk, 65536, 1}, Ours}].

share_of(Ours, Theirs) ->
    barrel_p2p_bench_figures:per(100 * Ours, Ours + Theirs).

%%%===================================================================
%%% Pairs
%%%===================================================================

start_pair(Carrier, Places) ->
    start_pair(Carrier, Places, "", ?PATIENCE_MS).

%% The prefix tells two pairs of one carrier apart.
start_pair(Carrier, {PlaceA, PlaceB}, Prefix, PatienceMs) ->
    #pair{
        carrier = Carrier,
        a = barrel_p2p_bench_place:boot(PlaceA, Carrier, Prefix ++ "a", []),
        b = barrel_p2p_bench_place:boot(PlaceB, Carrier, Prefix ++ "b", []),
        patience_ms = PatienceMs
    }.

start_connected(Carrier, Places, Prefix) ->
    Pair = start_pair(Carrier, Places, Prefix, ?PATH_PATIENCE_MS),
    connect(Pair),
    Pair.

connect(#pair{carrier = Carrier, b = B} = Pair) ->
    case at_a(Pair, first_contact, [barrel_p2p_bench_place:name(B)]) of
        {_, pong} -> ok;
        {_, pang} -> exit({cannot_connect, Carrier})
    end.

%% A list: there is none where the program is not.
start_bare(_Places, #plan{bare = none}) ->
    [];
start_bare({PlaceA, PlaceB}, #plan{bare = Program}) ->
    Command = barrel_p2p_bench_place:command(PlaceB, Program),
    [
        #bare{
            command = barrel_p2p_bench_place:command(PlaceA, Program),
            listener = barrel_p2p_bench_bare:listen(Command, barrel_p2p_bench_place:host(PlaceB))
        }
    ].

kill(#pair{a = A, b = B}) ->
    ok = barrel_p2p_bench_place:kill(A),
    ok = barrel_p2p_bench_place:kill(B).

stop(#pair{a = A, b = B}) ->
    ok = barrel_p2p_bench_place:stop(A),
    ok = barrel_p2p_bench_place:stop(B);
stop(#bare{listener = Listener}) ->
    barrel_p2p_bench_bare:stop(Listener).

carrier(#pair{carrier = Carrier}) -> Carrier;
carrier(#bare{}) -> bare.

bare(Arguments, #bare{command = Command, listener = Listener}, Plan) ->
    Times = ["--warm-ms", integer_to_list(Plan#plan.warm_ms), "--run-ms", integer_to_list(Plan#plan.run_ms)],
    barrel_p2p_bench_bare:measure(Command, Arguments ++ Times, Listener).

at_a(#pair{a = A, patience_ms = Ms}, Function, Args) -> call(A, Function, Args, Ms).

at_b(#pair{b = B, patience_ms = Ms}, Function, Args) -> call(B, Function, Args, Ms).

%% Beyond the patience of what is called.
call(Vm, Function, Args, PatienceMs) ->
    barrel_p2p_bench_place:call(Vm, barrel_p2p_bench_node, Function, Args, PatienceMs + PatienceMs div 4).

%% The length of a measurement is what is wanted here, not an event.
pause(Ms) ->
    receive
    after Ms -> ok
    end.

say(Text) ->
    say(Text, []).

say(Format, Args) ->
    io:format(Format, Args).
