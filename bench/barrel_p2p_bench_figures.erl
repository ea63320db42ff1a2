%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What is measured, and how samples become figures. Pure.
%%%
%%% A *sample* is what one measurement of one round gave. A *figure* is what is
%%% shown for all rounds: their median, or their worst. A *ratio* compares two
%%% carriers of the same run.
-module(barrel_p2p_bench_figures).

-export([rows/0, row/1, samples/1, figure/4, ratio/5, ratio_range/5, quantile/2, median/1, per/2]).

-export_type([scene/0, carrier/0, metric/0, samples/0, row/0, sample/0]).

%% `loopback', the percentage that is lost on a path of 20 ms, or beside one TCP flow.
-type scene() :: loopback | {path, LossPercent :: non_neg_integer()} | fair.
-type carrier() :: atom().
-type metric() :: atom() | {atom(), Size :: pos_integer(), Senders :: pos_integer()}.
-type sample() :: {scene(), carrier(), metric(), number() | unknown}.
-type samples() :: #{{scene(), carrier(), metric()} => [number(), ...]}.
-type row() :: #{
    metric := metric(),
    title := string(),
    %% of the table, which is a sample divided by `divisor'
    unit := string(),
    divisor := pos_integer(),
    decimals := non_neg_integer(),
    %% of the samples
    raw_unit := string(),
    figure := median | max,
    better := less | more
}.

-define(MIB, 1048576).

%%%===================================================================
%%% What is measured
%%%===================================================================

%% @doc Every metric, in the order of the table.
-spec rows() -> [row()].
rows() ->
    [
        time(rtt_p50, "round trip, p50", "us", 1, 0),
        time(rtt_p99, "round trip, p99", "us", 1, 0)
    ] ++
        [
            rate({messages, Size, Senders}, ["messages of ", bytes(Size), ", ", senders(Senders)], "k/s", 1000, "1/s")
         || Size <- [16, 1024], Senders <- [1, 8]
        ] ++
        [
            rate({bulk, Size, Senders}, ["bulk, ", bytes(Size), ", ", senders(Senders)], "MiB/s", 1, "MiB/s")
         || {Size, Senders} <- [{?MIB, 1}, {?MIB, 4}, {65536, 1}]
        ] ++
        [
            time(rtt_bulk_p50, "round trip under bulk, p50", "ms", 1000, 2),
            time(rtt_bulk_p99, "round trip under bulk, p99", "ms", 1000, 2),
            (time(rtt_bulk_max, "round trip under bulk, worst of all", "ms", 1000, 2))#{figure := max},
            rate(rtt_bulk_count, "round trips under bulk", "/s", 1, "1/s"),
            cost({cpu_per_message, 16, 1}, "processor time, 16 B, 1 sender", "us/message", "us")
        ] ++
        [
            cost({cpu_per_gib, Size, Senders}, ["processor time, ", bytes(Size), ", ", senders(Senders)], "s/GiB", "s/GiB")
         || {Size, Senders} <- [{?MIB, 1}, {?MIB, 4}]
        ] ++
        [
            time(first_contact, "first contact", "ms", 1000, 1),
            cost(idle_cpu, "idle pair, connected", "ms/min", "ms/min"),
            cost(idle_cpu_alone, "idle pair, not connected", "ms/min", "ms/min"),
            cost(link_memory, "idle link, all memory", "KiB", "KiB"),
            cost(link_vm, "idle link, memory of the VM", "KiB", "KiB"),
            cost(link_native, "idle link, native memory", "KiB", "KiB"),
            rate(share, "share beside one TCP flow", "%", 1, "%")
        ].

time(Metric, Title, Unit, Divisor, Decimals) ->
    #{
        metric => Metric, title => Title, unit => Unit, divisor => Divisor, decimals => Decimals,
        raw_unit => "us", figure => median, better => less
    }.

rate(Metric, Title, Unit, Divisor, RawUnit) ->
    #{
        metric => Metric, title => lists:flatten(Title), unit => Unit, divisor => Divisor, decimals => 0,
        raw_unit => RawUnit, figure => median, better => more
    }.

cost(Metric, Title, Unit, RawUnit) ->
    #{
        metric => Metric, title => lists:flatten(Title), unit => Unit, divisor => 1, decimals => 2,
        raw_unit => RawUnit, figure => median, better => less
    }.

bytes(?MIB) -> "1 MiB";
bytes(65536) -> "64 KiB";
bytes(1024) -> "1 KiB";
bytes(Bytes) -> integer_to_list(Bytes) ++ " B".

senders(1) -> "1 sender";
senders(N) -> integer_to_list(N) ++ " senders".

%% @doc The row of a metric.
-spec row(metric()) -> row().
row(Metric) ->
    [Row] = [R || #{metric := M} = R <- rows(), M =:= Metric],
    Row.

%%%===================================================================
%%% From samples to figures
%%%===================================================================

%% @doc Samples by what they are of, in the order of the rounds. What could not be known is left out.
-spec samples([sample()]) -> samples().
samples(Samples) ->
    lists:foldr(
        fun
            ({_, _, _, unknown}, All) -> All;
            ({Scene, Carrier, Metric, Value}, All) ->
                maps:update_with({Scene, Carrier, Metric}, fun(Values) -> [Value | Values] end, [Value], All)
        end,
        #{},
        Samples
    ).

-spec figure(scene(), carrier(), metric(), samples()) -> number() | unknown.
figure(Scene, Carrier, Metric, Samples) ->
    case {maps:get({Scene, Carrier, Metric}, Samples, []), row(Metric)} of
        {[], _} -> unknown;
        {Values, #{figure := max}} -> lists:max(Values);
        {Values, #{figure := median}} -> median(Values)
    end.

%% @doc A figure of a carrier divided by that of another one.
-spec ratio(scene(), carrier(), carrier(), metric(), samples()) -> float() | unknown.
ratio(Scene, Carrier, Other, Metric, Samples) ->
    divided(figure(Scene, Carrier, Metric, Samples), figure(Scene, Other, Metric, Samples)).

%% @doc The least and the largest ratio of one round: what noise did to it.
-spec ratio_range(scene(), carrier(), carrier(), metric(), samples()) -> {float(), float()} | unknown.
ratio_range(Scene, Carrier, Other, Metric, Samples) ->
    Of = fun(C) -> maps:get({Scene, C, Metric}, Samples, []) end,
    case {Of(Carrier), Of(Other)} of
        {[_ | _] = As, [_ | _] = Bs} when length(As) =:= length(Bs) ->
            case [divided(A, B) || {A, B} <- lists:zip(As, Bs), B /= 0] of
                [] -> unknown;
                Ratios -> {lists:min(Ratios), lists:max(Ratios)}
            end;
        _ ->
            unknown
    end.

divided(A, B) when A =:= unknown; B =:= unknown; B == 0 -> unknown;
divided(A, B) -> A / B.

%% @doc The value that so large a part of them does not exceed: one of them, by nearest rank.
-spec quantile(Part :: float(), Sorted :: [number(), ...]) -> number().
quantile(Part, Sorted) ->
    lists:nth(max(1, ceil(Part * length(Sorted))), Sorted).

-spec median([number(), ...]) -> number().
median(Values) ->
    Sorted = lists:sort(Values),
    Half = length(Sorted) div 2,
    case length(Sorted) rem 2 of
        1 -> lists:nth(Half + 1, Sorted);
        0 -> (lists:nth(Half, Sorted) + lists:nth(Half + 1, Sorted)) / 2
    end.

%% @doc An amount for each of so many. `unknown' when nothing was counted, or when this system does not
%% tell the amount.
-spec per(number() | unknown, number()) -> float() | unknown.
per(unknown, _Count) -> unknown;
per(_Amount, Count) when Count == 0 -> unknown;
per(Amount, Count) -> Amount / Count.
