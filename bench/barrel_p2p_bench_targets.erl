%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What the carrier is to reach, and whether it did in this run. Pure.
%%%
%%% Targets are ratios within one run. docs/performance.md explains them.
-module(barrel_p2p_bench_targets).

-export([judge/2]).

-export_type([target/0]).

-type target() :: #{
    %% what is compared
    name := string(),
    scene := barrel_p2p_bench_figures:scene(),
    metric := barrel_p2p_bench_figures:metric(),
    carrier := barrel_p2p_bench_figures:carrier(),
    %% `none': the figure itself counts, in the unit of the table
    other := barrel_p2p_bench_figures:carrier() | none,
    limit := {at_most | at_least, number()},
    figure := float() | unknown,
    %% of single rounds
    range := {float(), float()} | unknown,
    verdict := met | not_met | not_measured
}.

-define(MIB, 1048576).
-define(BULK, [{bulk, ?MIB, 1}, {bulk, ?MIB, 4}, {bulk, 65536, 1}]).

%% Two runs of the same carrier differ by so much; it is granted only where the target is to be equal.
-define(NOISE, 1.1).
%% Milliseconds per minute: a thousandth of a processor.
-define(IDLE_CPU, 60).
%% Milliseconds. A process that starves waits for a large part of a measurement.
-define(STARVED, 200).

%% @doc The targets for this release of OTP, with figures and verdicts.
-spec judge(Otp :: pos_integer(), barrel_p2p_bench_figures:samples()) -> [target()].
judge(Otp, Samples) ->
    [verdict(Target, Samples) || Target <- targets(Otp)].

targets(Otp) ->
    [target(loopback, rtt_p50, barrel_p2p, inet_tcp, {at_most, ?NOISE})] ++
        [
            target(loopback, {messages, Size, Senders}, barrel_p2p, inet_tcp, {at_least, 2.0})
         || Size <- [16, 1024], Senders <- [1, 8]
        ] ++
        bulk_beside_tls(Otp) ++
        [target(loopback, Metric, barrel_p2p, bare, {at_least, 0.85}) || Metric <- ?BULK] ++
        [
            target(loopback, rtt_bulk_p99, barrel_p2p, inet_tcp, {at_most, 1.0}),
            target(loopback, rtt_bulk_max, barrel_p2p, none, {at_most, ?STARVED}),
            target(loopback, first_contact, barrel_p2p, inet_tcp, {at_most, 1.5}),
            target(loopback, idle_cpu, barrel_p2p, none, {at_most, ?IDLE_CPU}),
            target(loopback, link_native, barrel_p2p, none, {at_most, 64}),
            target({path, 1}, rtt_bulk_p99, barrel_p2p, inet_tcp, {at_most, 0.33}),
            target({path, 1}, {bulk, 65536, 1}, barrel_p2p, inet_tcp, {at_least, 2.0})
        ].

%% TLS of OTP 29 is ten times as fast as that of OTP 27.
bulk_beside_tls(Otp) when Otp >= 29 ->
    [target(loopback, Metric, barrel_p2p, inet_tls, {at_least, 1.8}) || Metric <- ?BULK] ++
        [target(loopback, Metric, barrel_p2p_1452, inet_tls, {at_least, 1.0}) || Metric <- ?BULK] ++
        [
            target(loopback, {cpu_per_gib, ?MIB, Senders}, barrel_p2p, inet_tls, {at_most, 0.7})
         || Senders <- [1, 4]
        ];
bulk_beside_tls(_Otp) ->
    [target(loopback, Metric, barrel_p2p, inet_tls, {at_least, 8.0}) || Metric <- ?BULK].

target(Scene, Metric, Carrier, Other, Limit) ->
    #{title := Title} = barrel_p2p_bench_figures:row(Metric),
    #{
        name => Title, scene => Scene, metric => Metric, carrier => Carrier, other => Other, limit => Limit,
        figure => unknown, range => unknown, verdict => not_measured
    }.

verdict(#{limit := Limit} = Target, Samples) ->
    case measured(Target, Samples) of
        {unknown, _} -> Target;
        {Figure, Range} -> Target#{figure := Figure, range := Range, verdict := verdict(Limit, Figure)}
    end;
verdict({at_most, Limit}, Figure) when Figure =< Limit -> met;
verdict({at_least, Limit}, Figure) when Figure >= Limit -> met;
verdict(_Limit, _Figure) -> not_met.

%% What a connection costs while nothing is said: less what the two VMs need without it.
measured(#{metric := idle_cpu, other := none} = Target, Samples) ->
    #{scene := Scene, carrier := Carrier} = Target,
    Connected = barrel_p2p_bench_figures:figure(Scene, Carrier, idle_cpu, Samples),
    Alone = barrel_p2p_bench_figures:figure(Scene, Carrier, idle_cpu_alone, Samples),
    case Connected =:= unknown orelse Alone =:= unknown of
        true -> {unknown, unknown};
        false -> {float(max(0, Connected - Alone)), unknown}
    end;
measured(#{other := none} = Target, Samples) ->
    #{scene := Scene, carrier := Carrier, metric := Metric} = Target,
    #{divisor := Divisor} = barrel_p2p_bench_figures:row(Metric),
    case barrel_p2p_bench_figures:figure(Scene, Carrier, Metric, Samples) of
        unknown -> {unknown, unknown};
        Figure -> {Figure / Divisor, unknown}
    end;
measured(#{scene := Scene, carrier := Carrier, other := Other, metric := Metric}, Samples) ->
    {
        barrel_p2p_bench_figures:ratio(Scene, Carrier, Other, Metric, Samples),
        barrel_p2p_bench_figures:ratio_range(Scene, Carrier, Other, Metric, Samples)
    }.
