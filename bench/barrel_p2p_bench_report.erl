%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Turns samples into tables and a picture for people, and a file for programs.
%%%
%%% docs/performance.md describes the file for programs.
-module(barrel_p2p_bench_report).

-export([write/4, scene_title/1]).
%% Internal, exported for tests
-export([markdown/2, json/1, document/2]).

-export_type([run/0]).

-type run() :: #{
    started := calendar:datetime(),
    took_s := non_neg_integer(),
    commit := string(),
    otp := string(),
    kernel := string(),
    processor := string(),
    processors := pos_integer() | unknown,
    load := string(),
    rounds := pos_integer(),
    run_ms := pos_integer(),
    %% bytes, of the links of barrel_p2p at the end
    datagram := non_neg_integer(),
    %% what was left out, and why
    skipped := [string()],
    %% in the order of the table
    scenes := [{barrel_p2p_bench_figures:scene(), [barrel_p2p_bench_figures:carrier()]}]
}.

%% @doc Prints the tables; writes them, the picture and all samples to files in a directory. `Name' is that
%% of the files, after the release of OTP; empty is the time.
-spec write(run(), barrel_p2p_bench_figures:samples(), file:filename(), Name :: string()) -> ok.
write(#{otp := Otp, started := Started} = Run, Samples, Dir, Name) ->
    Table = markdown(Run, Samples),
    Base = filename:join(Dir, "otp" ++ Otp ++ "-" ++ base_name(Name, Started)),
    ok = file:write_file(Base ++ ".md", unicode:characters_to_binary(Table)),
    ok = file:write_file(Base ++ ".json", [json(document(Run, Samples)), $\n]),
    ok = file:write_file(Base ++ ".svg", unicode:characters_to_binary(picture(Run, Samples))),
    io:put_chars(["\n", Table, "\n"]),
    io:format("written to ~ts.md, .json and .svg~n", [Base]).

base_name("", {{Y, Mo, D}, {H, Mi, S}}) ->
    lists:flatten(io_lib:format("~4..0b~2..0b~2..0bT~2..0b~2..0b~2..0bZ", [Y, Mo, D, H, Mi, S]));
base_name(Name, _Started) ->
    Name.

%%%===================================================================
%%% The tables
%%%===================================================================

%% @private
-spec markdown(run(), barrel_p2p_bench_figures:samples()) -> iolist().
markdown(#{scenes := Scenes} = Run, Samples) ->
    [
        heading(Run),
        [["\n## ", scene_title(Scene), "\n\n", scene_table(Scene, Carriers, Samples)] || {Scene, Carriers} <- Scenes],
        legend(),
        "\n## Targets\n\n",
        targets_table(Run, Samples)
    ].

heading(Run) ->
    #{otp := Otp, kernel := Kernel, processor := Processor, processors := Count, load := Load} = Run,
    #{rounds := Rounds, run_ms := RunMs, datagram := Datagram, commit := Commit, took_s := Took} = Run,
    io_lib:format("# barrel_p2p on OTP ~s~n~n", [Otp]) ++
        table([["", ""] | [
            [Key, lists:flatten(Value)]
         || {Key, Value} <- [
                {"date", time_text(maps:get(started, Run))},
                {"commit", Commit},
                {"processor", io_lib:format("~ts, ~p of them", [Processor, Count])},
                {"kernel", Kernel},
                {"load at the end", Load},
                {"rounds", io_lib:format("~b, measurements of ~.1f s", [Rounds, RunMs / 1000])},
                {"took", io_lib:format("~b s", [Took])},
                {"datagrams of barrel_p2p on loopback", io_lib:format("~b bytes", [Datagram])}
            ] ++ [{"not measured", Why} || Why <- maps:get(skipped, Run)]
        ]], left).

time_text({{Y, Mo, D}, {H, Mi, S}}) ->
    io_lib:format("~4..0b-~2..0b-~2..0bT~2..0b:~2..0b:~2..0bZ", [Y, Mo, D, H, Mi, S]).

%% @doc What a scene is called.
-spec scene_title(barrel_p2p_bench_figures:scene()) -> string().
scene_title(loopback) ->
    "Loopback";
scene_title({path, Loss}) ->
    lists:flatten(io_lib:format("A path of 20 ms there and back, ~b % lost each way", [Loss]));
scene_title(fair) ->
    "Beside one TCP flow: 50 Mbit/s, 20 ms there and back".

%% Others of the same make are shown and not divided by.
scene_table(Scene, [First | Others] = Carriers, Samples) ->
    Compared = Others -- [barrel_p2p_1452, barrel_p2p_cubic, barrel_p2p_bbr, inet_tcp_bbr],
    Head = ["" | [atom_to_list(C) || C <- Carriers]] ++ ["/ " ++ atom_to_list(C) || C <- Compared],
    Body = [
        Cells
     || Row <- barrel_p2p_bench_figures:rows(),
        [_ | Figures] = Cells <- [scene_row(Scene, Row, Carriers, First, Compared, Samples)],
        lists:any(fun(Cell) -> Cell =/= "-" end, Figures)
    ],
    table([Head | Body], right).

scene_row(Scene, #{metric := Metric, title := Title, unit := Unit} = Row, Carriers, First, Compared, Samples) ->
    [lists:flatten([Title, ", ", Unit])] ++
        [show(barrel_p2p_bench_figures:figure(Scene, C, Metric, Samples), Row) || C <- Carriers] ++
        [ratio(barrel_p2p_bench_figures:ratio(Scene, First, C, Metric, Samples)) || C <- Compared].

show(unknown, _Row) -> "-";
show(Value, #{divisor := Divisor, decimals := 0}) when Value / Divisor >= 10 -> integer_to_list(round(Value / Divisor));
show(Value, #{divisor := Divisor, decimals := 0}) -> float_to_list(Value / Divisor, [{decimals, 1}]);
show(Value, #{divisor := Divisor, decimals := Decimals}) -> float_to_list(Value / Divisor, [{decimals, Decimals}]).

ratio(unknown) -> "-";
ratio(Ratio) -> float_to_list(Ratio, [{decimals, 2}]).

legend() ->
    "\nFigures are medians over the rounds. \"/ inet_tcp\" is the first carrier divided by inet_tcp: of times\n"
    "and costs less than 1 is better, of rates more than 1. docs/performance.md says how each is measured.\n".

targets_table(#{otp := Otp}, Samples) ->
    Targets = barrel_p2p_bench_targets:judge(list_to_integer(Otp), Samples),
    Head = ["target", "where", "limit", "figure", "rounds", "verdict"],
    table([Head | [target_row(Target) || Target <- Targets]], left).

target_row(Target) ->
    #{name := Name, scene := Scene, carrier := Carrier, other := Other, limit := Limit} = Target,
    #{figure := Figure, range := Range, verdict := Verdict, metric := Metric} = Target,
    [
        Name ++ compared(Carrier, Other),
        short_scene(Scene),
        limit(Limit, Other, Metric),
        ratio(Figure),
        range(Range),
        verdict(Verdict)
    ].

compared(Carrier, none) -> ": " ++ atom_to_list(Carrier);
compared(Carrier, Other) -> ": " ++ atom_to_list(Carrier) ++ " / " ++ atom_to_list(Other).

short_scene(loopback) -> "loopback";
short_scene({path, Loss}) -> lists:flatten(io_lib:format("20 ms, ~b %", [Loss])).

limit({How, Limit}, none, Metric) ->
    #{unit := Unit} = barrel_p2p_bench_figures:row(Metric),
    lists:flatten([how(How), io_lib:format("~w ", [Limit]), Unit]);
limit({How, Limit}, _Other, _Metric) ->
    lists:flatten([how(How), io_lib:format("~w", [Limit])]).

how(at_most) -> "<= ";
how(at_least) -> ">= ".

range(unknown) -> "";
range({Least, Most}) -> ratio(Least) ++ " to " ++ ratio(Most).

verdict(met) -> "met";
verdict(not_met) -> "**not met**";
verdict(not_measured) -> "not measured".

%% The first line is the head; the first column goes to the left, the others as told.
table([Head | Body], Side) ->
    Widths = lists:foldl(
        fun(Line, Sofar) -> lists:zipwith(fun(Cell, W) -> max(string:length(Cell), W) end, Line, Sofar) end,
        [3 || _ <- Head],
        [Head | Body]
    ),
    [line(Head, Widths, Side), rule(Widths, Side), [line(Cells, Widths, Side) || Cells <- Body]].

line([Title | Cells], [Width | Widths], Side) ->
    [
        "| ", string:pad(Title, Width),
        [[" | ", string:pad(Cell, W, padding(Side))] || {Cell, W} <- lists:zip(Cells, Widths)],
        " |\n"
    ].

padding(left) -> trailing;
padding(right) -> leading.

rule([Width | Widths], Side) ->
    ["|", lists:duplicate(Width + 2, $-), [["|", dashes(W, Side)] || W <- Widths], "|\n"].

dashes(Width, left) -> lists:duplicate(Width + 2, $-);
dashes(Width, right) -> lists:duplicate(Width + 1, $-) ++ ":".

%%%===================================================================
%%% The picture
%%%===================================================================

picture(#{otp := Otp, processor := Processor, commit := Commit, scenes := Scenes} = Run, Samples) ->
    Heading = io_lib:format("OTP ~s, commit ~s, ~s, ~ts, kernel ~s", [
        Otp, Commit, time_text(maps:get(started, Run)), Processor, maps:get(kernel, Run)
    ]),
    Drawn = [{lists:flatten(scene_title(Scene)), Scene, Carriers} || {Scene, Carriers} <- Scenes, Scene =/= fair],
    barrel_p2p_bench_svg:draw(lists:flatten(Heading), Drawn, Samples).

%%%===================================================================
%%% The file for programs
%%%===================================================================

%% @private
-spec document(run(), barrel_p2p_bench_figures:samples()) -> term().
document(Run, Samples) ->
    #{started := Started, processors := Processors, scenes := Scenes, otp := Otp} = Run,
    [
        {"format", 2},
        {"started", text(time_text(Started))},
        {"took_s", maps:get(took_s, Run)},
        {"commit", text(maps:get(commit, Run))},
        {"otp", text(Otp)},
        {"kernel", text(maps:get(kernel, Run))},
        {"processor", text(maps:get(processor, Run))},
        {"processors", Processors},
        {"load", text(maps:get(load, Run))},
        {"rounds", maps:get(rounds, Run)},
        {"run_ms", maps:get(run_ms, Run)},
        {"datagram", maps:get(datagram, Run)},
        {"skipped", {array, [text(Why) || Why <- maps:get(skipped, Run)]}},
        {"scenes", [
            {scene_key(Scene), [carrier_document(Scene, C, Samples) || C <- Carriers]}
         || {Scene, Carriers} <- Scenes
        ]},
        {"targets", {array, [target_document(T) || T <- barrel_p2p_bench_targets:judge(list_to_integer(Otp), Samples)]}}
    ].

carrier_document(Scene, Carrier, Samples) ->
    {atom_to_list(Carrier), [
        {name(Metric), [
            {"unit", text(RawUnit)},
            {"figure", barrel_p2p_bench_figures:figure(Scene, Carrier, Metric, Samples)},
            {"samples", {array, Values}}
        ]}
     || #{metric := Metric, raw_unit := RawUnit} <- barrel_p2p_bench_figures:rows(),
        {ok, Values} <- [maps:find({Scene, Carrier, Metric}, Samples)]
    ]}.

target_document(Target) ->
    #{scene := Scene, metric := Metric, carrier := Carrier, other := Other, limit := {How, Limit}} = Target,
    #{figure := Figure, range := Range, verdict := Verdict} = Target,
    [
        {"scene", text(scene_key(Scene))},
        {"metric", text(name(Metric))},
        {"carrier", text(atom_to_list(Carrier))},
        {"other", other(Other)},
        {atom_to_list(How), Limit},
        {"figure", Figure},
        {"range", range_document(Range)},
        {"verdict", text(atom_to_list(Verdict))}
    ].

other(none) -> unknown;
other(Carrier) -> text(atom_to_list(Carrier)).

range_document(unknown) -> unknown;
range_document({Least, Most}) -> {array, [Least, Most]}.

scene_key({path, Loss}) -> "20ms_loss" ++ integer_to_list(Loss);
scene_key(Scene) -> atom_to_list(Scene).

name({Metric, Size, Senders}) -> lists:flatten(io_lib:format("~s_~b_x~b", [Metric, Size, Senders]));
name(Metric) -> atom_to_list(Metric).

text(Text) -> unicode:characters_to_binary(Text).

%% @private Objects are lists of pairs, arrays are marked, texts are binaries, `unknown' is null.
-spec json(term()) -> iolist().
json({array, Values}) -> [$[, lists:join(",", [json(V) || V <- Values]), $]];
json([{_, _} | _] = Pairs) -> [${, lists:join(",", [[json(text(K)), $:, json(V)] || {K, V} <- Pairs]), $}];
json([]) -> "{}";
json(Text) when is_binary(Text) -> [$", [escape(C) || <<C>> <= Text], $"];
json(Number) when is_integer(Number) -> integer_to_list(Number);
json(Number) when is_float(Number) -> float_to_list(Number, [{decimals, 4}, compact]);
json(unknown) -> "null".

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape(C) when C < 32 -> io_lib:format("\\u~4.16.0b", [C]);
escape(C) -> C.
