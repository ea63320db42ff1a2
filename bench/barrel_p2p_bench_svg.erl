%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Draws how many times better or worse than inet_tcp each carrier is. Pure.
%%%
%%% One group of bars for each measurement, one bar for each carrier. A bar begins
%%% at 1, which is inet_tcp, and goes to the right when the carrier is better. The
%%% axis is logarithmic: twice as good and half as good are equally long.
-module(barrel_p2p_bench_svg).

-export([draw/3]).

%% Pixels.
-define(TITLES, 250).
-define(CHART, 560).
-define(LABELS, 70).
-define(BAR, 11).
-define(GAP, 10).
-define(TOP, 78).
-define(BOTTOM, 34).
%% Powers of two at the ends of the axis. What is beyond is cut, and its number tells the truth.
-define(LEAST, -6).
-define(MOST, 6).

%% @doc The picture of a run: `Heading' says what was measured, `Scenes' are drawn one below the other.
-spec draw(
    Heading :: string(),
    [{Title :: string(), barrel_p2p_bench_figures:scene(), [barrel_p2p_bench_figures:carrier()]}],
    barrel_p2p_bench_figures:samples()
) -> iodata().
draw(Heading, Scenes, Samples) ->
    Groups = lists:append([groups(Scene, Samples) || Scene <- Scenes]),
    Carriers = carriers(Groups),
    {Drawn, Y} = lists:mapfoldl(fun(Group, At) -> group(Group, Carriers, At) end, ?TOP, Groups),
    Height = Y + ?BOTTOM,
    Width = ?TITLES + ?CHART + ?LABELS,
    [
        io_lib:format(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"~b\" height=\"~b\" viewBox=\"0 0 ~b ~b\" "
            "font-family=\"sans-serif\" font-size=\"11\">~n",
            [Width, Height, Width, Height]
        ),
        io_lib:format("<rect width=\"~b\" height=\"~b\" fill=\"#ffffff\"/>~n", [Width, Height]),
        text(12, 22, "font-size=\"14\" font-weight=\"bold\"", "times better than inet_tcp, one run"),
        text(12, 40, "fill=\"#555555\"", Heading),
        legend(Carriers),
        axis(Y),
        Drawn,
        "</svg>\n"
    ].

%%%===================================================================
%%% What is drawn
%%%===================================================================

%% A scene, then its measurements; those without inet_tcp or without another carrier are left out.
groups({Title, Scene, Carriers}, Samples) ->
    Bars = [
        {Name, Ratios}
     || #{metric := Metric, title := Name} = Row <- barrel_p2p_bench_figures:rows(),
        Ratios <- [ratios(Row, Metric, Scene, Carriers, Samples)],
        Ratios =/= []
    ],
    case Bars of
        [] -> [];
        _ -> [{scene, Title} | Bars]
    end.

ratios(#{better := Better}, Metric, Scene, Carriers, Samples) ->
    [
        {Carrier, better(Better, Ratio)}
     || Carrier <- Carriers,
        Carrier =/= inet_tcp,
        Ratio <- [barrel_p2p_bench_figures:ratio(Scene, Carrier, inet_tcp, Metric, Samples)],
        is_float(Ratio),
        Ratio > 0
    ].

better(more, Ratio) -> Ratio;
better(less, Ratio) -> 1 / Ratio.

carriers(Groups) ->
    lists:foldl(
        fun({Carrier, _}, Known) ->
            case lists:member(Carrier, Known) of
                true -> Known;
                false -> Known ++ [Carrier]
            end
        end,
        [],
        lists:append([Ratios || {Name, Ratios} <- Groups, Name =/= scene])
    ).

%%%===================================================================
%%% Shapes
%%%===================================================================

group({scene, Title}, _Carriers, Y) ->
    {
        [
            io_lib:format("<rect x=\"0\" y=\"~b\" width=\"~b\" height=\"20\" fill=\"#eeeeee\"/>~n", [
                Y, ?TITLES + ?CHART + ?LABELS
            ]),
            text(12, Y + 14, "font-weight=\"bold\"", Title)
        ],
        Y + 20 + ?GAP
    };
group({Name, Ratios}, Carriers, Y) ->
    Below = Y + length(Ratios) * (?BAR + 1),
    Bars = [
        bar(Ratio, color(Carrier, Carriers), Y + N * (?BAR + 1))
     || {N, {Carrier, Ratio}} <- lists:zip(lists:seq(0, length(Ratios) - 1), Ratios)
    ],
    {[text(?TITLES - 10, (Y + Below) div 2 + 3, "text-anchor=\"end\"", Name), Bars], Below + ?GAP}.

bar(Ratio, Color, Y) ->
    {From, To} = ordered(x(1.0), x(Ratio)),
    [
        io_lib:format("<rect x=\"~.1f\" y=\"~b\" width=\"~.1f\" height=\"~b\" fill=\"~s\"/>~n", [
            From, Y, max(1.0, To - From), ?BAR, Color
        ]),
        label(Ratio, From, To, Y + ?BAR - 2)
    ].

%% At the end of the bar that is away from 1.
label(Ratio, _From, To, Y) when Ratio >= 1 -> text(round(To) + 4, Y, "font-size=\"10\"", number(Ratio));
label(Ratio, From, _To, Y) -> text(round(From) - 4, Y, "font-size=\"10\" text-anchor=\"end\"", number(Ratio)).

number(Ratio) when Ratio >= 100 -> integer_to_list(round(Ratio));
number(Ratio) when Ratio >= 10 -> float_to_list(Ratio, [{decimals, 1}]);
number(Ratio) when Ratio >= 0.1 -> float_to_list(Ratio, [{decimals, 2}]);
number(Ratio) -> float_to_list(Ratio, [{decimals, 3}]).

ordered(A, B) when A =< B -> {A, B};
ordered(A, B) -> {B, A}.

x(Ratio) ->
    Power = max(?LEAST, min(?MOST, math:log2(Ratio))),
    ?TITLES + ?CHART * (Power - ?LEAST) / (?MOST - ?LEAST).

axis(Bottom) ->
    [
        [
            io_lib:format(
                "<line x1=\"~.1f\" y1=\"~b\" x2=\"~.1f\" y2=\"~b\" stroke=\"~s\" stroke-width=\"1\"/>~n",
                [x(Ratio), ?TOP - 4, x(Ratio), Bottom, stroke(Power)]
            ),
            text(round(x(Ratio)), Bottom + 14, "text-anchor=\"middle\" fill=\"#555555\"", tick(Power))
        ]
     || Power <- lists:seq(?LEAST, ?MOST), Ratio <- [math:pow(2, Power)]
    ].

stroke(0) -> "#333333";
stroke(_) -> "#dddddd".

tick(Power) when Power >= 0 -> integer_to_list(1 bsl Power);
tick(Power) -> "1/" ++ integer_to_list(1 bsl -Power).

legend(Carriers) ->
    {Drawn, _} = lists:mapfoldl(
        fun(Carrier, X) ->
            Name = atom_to_list(Carrier),
            {
                [
                    io_lib:format("<rect x=\"~b\" y=\"50\" width=\"11\" height=\"11\" fill=\"~s\"/>~n", [
                        X, color(Carrier, Carriers)
                    ]),
                    text(X + 16, 60, "", Name)
                ],
                X + 40 + 7 * length(Name)
            }
        end,
        12,
        Carriers
    ),
    Drawn.

%% Told apart also by those who do not see all colours (the palette of Okabe and Ito).
color(Carrier, Carriers) ->
    Palette = ["#0072b2", "#d55e00", "#56b4e9", "#009e73", "#cc79a7", "#e69f00"],
    Index = length(lists:takewhile(fun(C) -> C =/= Carrier end, Carriers)),
    lists:nth(Index rem length(Palette) + 1, Palette).

text(X, Y, Attributes, Text) ->
    io_lib:format("<text x=\"~b\" y=\"~b\" ~s>~ts</text>~n", [X, Y, Attributes, escape(Text)]).

escape(Text) ->
    lists:map(
        fun
            ($<) -> "&lt;";
            ($>) -> "&gt;";
            ($&) -> "&amp;";
            (C) -> C
        end,
        Text
    ).
