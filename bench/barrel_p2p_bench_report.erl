%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Turns samples into a table for people and a file for programs.
-module(barrel_p2p_bench_report).

-export([write/3]).

-export_type([run/0, samples/0]).

-type run() :: #{
    started := calendar:datetime(),
    rounds := pos_integer(),
    run_ms := pos_integer(),
    carriers := [atom()],
    otp := string(),
    system := string(),
    processors := pos_integer() | unknown,
    load := binary(),
    %% bytes, of barrel_p2p's link at the end
    datagram := non_neg_integer()
}.
-type metric() :: atom() | {atom(), Size :: pos_integer(), Senders :: pos_integer()}.
-type samples() :: #{{Carrier :: atom(), metric()} => [number()]}.

-define(MIB, 1048576).

%% @doc Prints the table, and writes it and all samples to files in a directory.
-spec write(run(), samples(), file:filename()) -> ok.
write(#{started := Started} = Run, Samples, Dir) ->
    Table = markdown(Run, Samples),
    Base = filename:join(Dir, file_name(Started)),
    ok = file:write_file(Base ++ ".md", Table),
    ok = file:write_file(Base ++ ".json", [json(document(Run, Samples)), $\n]),
    io:put_chars(["\n", Table, "\n"]),
    io:format("written to ~ts.md and ~ts.json~n", [Base, Base]).

file_name({{Y, Mo, D}, {H, Mi, S}}) ->
    lists:flatten(io_lib:format("~4..0b~2..0b~2..0bT~2..0b~2..0b~2..0bZ", [Y, Mo, D, H, Mi, S])).

%%%===================================================================
%%% The table
%%%===================================================================

%% {Metric, title, unit, how rounds become one figure, divisor, decimals}
rows() ->
    [
        {rtt_p50, "round trip, p50", "us", median, 1, 0},
        {rtt_p99, "round trip, p99", "us", median, 1, 0},
        {{messages, 16, 1}, "messages of 16 B, 1 sender", "k/s", median, 1000, 0},
        {{messages, 16, 8}, "messages of 16 B, 8 senders", "k/s", median, 1000, 0},
        {{messages, 1024, 1}, "messages of 1 KiB, 1 sender", "k/s", median, 1000, 0},
        {{messages, 1024, 8}, "messages of 1 KiB, 8 senders", "k/s", median, 1000, 0},
        {{bulk, ?MIB, 1}, "bulk, 1 MiB, 1 sender", "MiB/s", median, 1, 0},
        {{bulk, ?MIB, 4}, "bulk, 1 MiB, 4 senders", "MiB/s", median, 1, 0},
        {{bulk, 65536, 1}, "bulk, 64 KiB, 1 sender", "MiB/s", median, 1, 0},
        {rtt_bulk_p50, "round trip under bulk, p50", "ms", median, 1000, 2},
        {rtt_bulk_p99, "round trip under bulk, p99", "ms", median, 1000, 2},
        {rtt_bulk_max, "round trip under bulk, worst of all", "ms", max, 1000, 2},
        {rtt_bulk_count, "round trips under bulk", "/s", median, 1, 0},
        {{cpu_per_message, 16, 1}, "processor time, 16 B, 1 sender", "us/message", median, 1, 2},
        {{cpu_per_gib, ?MIB, 1}, "processor time, 1 MiB, 1 sender", "s/GiB", median, 1, 2},
        {{cpu_per_gib, ?MIB, 4}, "processor time, 1 MiB, 4 senders", "s/GiB", median, 1, 2},
        {first_contact, "first contact", "ms", median, 1000, 1}
    ].

markdown(#{carriers := [First | Others] = Carriers} = Run, Samples) ->
    Head = ["" | [atom_to_list(C) || C <- Carriers]] ++ ["/ " ++ atom_to_list(C) || C <- Others],
    Body = [row(Row, First, Others, Samples) || Row <- rows()],
    Widths = lists:foldl(
        fun(Line, Sofar) -> lists:zipwith(fun(Cell, W) -> max(string:length(Cell), W) end, Line, Sofar) end,
        [3 || _ <- Head],
        [Head | Body]
    ),
    [
        heading(Run),
        line(Head, Widths),
        rule(Widths),
        [line(Cells, Widths) || Cells <- Body, lists:any(fun(Cell) -> Cell =/= "-" end, tl(Cells))],
        legend(First, Others)
    ].

heading(Run) ->
    #{otp := Otp, system := System, processors := Processors, load := Load} = Run,
    #{rounds := Rounds, run_ms := RunMs, datagram := Datagram} = Run,
    io_lib:format(
        "OTP ~s, ~s, ~p processors, load ~s, two nodes on loopback~n"
        "rounds: ~b, measurements of ~.1f s; barrel_p2p with datagrams of ~b bytes~n~n",
        [Otp, System, Processors, Load, Rounds, RunMs / 1000, Datagram]
    ).

legend(_First, []) ->
    "\nFigures are medians over the rounds.\n";
legend(First, Others) ->
    io_lib:format(
        "~nFigures are medians over the rounds. \"/ ~s\" is ~s divided by it: of times less than 1 is~n"
        "better, of rates more than 1. Processor time is that of both nodes, user and system.~n"
        "Round trips under bulk: 4 processes send 1 MiB each, again and again.~n",
        [hd(Others), First]
    ).

row({Metric, Title, Unit, How, Divisor, Decimals}, First, Others, Samples) ->
    Figure = fun(Carrier) -> figure(How, maps:get({Carrier, Metric}, Samples, [])) end,
    [Title ++ ", " ++ Unit] ++
        [show(Figure(C), Divisor, Decimals) || C <- [First | Others]] ++
        [ratio(Figure(First), Figure(C)) || C <- Others].

show(unknown, _Divisor, _Decimals) -> "-";
show(Value, Divisor, 0) -> integer_to_list(round(Value / Divisor));
show(Value, Divisor, Decimals) -> float_to_list(Value / Divisor, [{decimals, Decimals}]).

ratio(A, B) when A =:= unknown; B =:= unknown; B == 0 -> "-";
ratio(A, B) -> float_to_list(A / B, [{decimals, 2}]).

figure(_How, []) ->
    unknown;
figure(max, Values) ->
    lists:max(Values);
figure(median, Values) ->
    Sorted = lists:sort(Values),
    Half = length(Sorted) div 2,
    case length(Sorted) rem 2 of
        1 -> lists:nth(Half + 1, Sorted);
        0 -> (lists:nth(Half, Sorted) + lists:nth(Half + 1, Sorted)) / 2
    end.

line([Title | Cells], [Width | Widths]) ->
    [
        "| ", string:pad(Title, Width),
        [[" | ", string:pad(Cell, W, leading)] || {Cell, W} <- lists:zip(Cells, Widths)],
        " |\n"
    ].

rule([Width | Widths]) ->
    ["|", lists:duplicate(Width + 2, $-), [["|", lists:duplicate(W + 1, $-), ":"] || W <- Widths], "|\n"].

%%%===================================================================
%%% The file for programs
%%%===================================================================

document(Run, Samples) ->
    #{started := {{Y, Mo, D}, {H, Mi, S}}, carriers := Carriers} = Run,
    Time = io_lib:format("~4..0b-~2..0b-~2..0bT~2..0b:~2..0b:~2..0bZ", [Y, Mo, D, H, Mi, S]),
    [
        {"started", iolist_to_binary(Time)},
        {"otp", list_to_binary(maps:get(otp, Run))},
        {"system", list_to_binary(maps:get(system, Run))},
        {"processors", maps:get(processors, Run)},
        {"load", maps:get(load, Run)},
        {"rounds", maps:get(rounds, Run)},
        {"run_ms", maps:get(run_ms, Run)},
        {"datagram", maps:get(datagram, Run)},
        {"results", [
            {atom_to_list(Carrier), [
                {name(Metric), [
                    {"unit", list_to_binary(unit(Metric))},
                    {"figure", figure(how(Metric), Values)},
                    {"samples", {array, Values}}
                ]}
             || {{C, Metric}, Values} <- lists:sort(maps:to_list(Samples)), C =:= Carrier
            ]}
         || Carrier <- Carriers
        ]}
    ].

name({Metric, Size, Senders}) -> io_lib:format("~s_~b_x~b", [Metric, Size, Senders]);
name(Metric) -> atom_to_list(Metric).

%% Of the samples, which are not divided for reading as those of the table are.
unit({messages, _, _}) -> "1/s";
unit({cpu_per_message, _, _}) -> "us";
unit({bulk, _, _}) -> "MiB/s";
unit({cpu_per_gib, _, _}) -> "s/GiB";
unit(rtt_bulk_count) -> "1/s";
unit(_Time) -> "us".

how(rtt_bulk_max) -> max;
how(_) -> median.

%% Objects are lists of pairs. Names and texts hold nothing that wants escaping.
json({array, Values}) -> [$[, lists:join(",", [json(V) || V <- Values]), $]];
json([{_, _} | _] = Pairs) -> [${, lists:join(",", [[$", K, $", $:, json(V)] || {K, V} <- Pairs]), $}];
json([]) -> "{}";
json(Text) when is_binary(Text) -> [$", Text, $"];
json(Number) when is_integer(Number) -> integer_to_list(Number);
json(Number) when is_float(Number) -> float_to_list(Number, [{decimals, 4}, compact]);
json(unknown) -> "null".
