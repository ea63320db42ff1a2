%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The parts of the benchmark that only compute: figures, verdicts, tables, picture, file.
-module(barrel_p2p_bench_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("xmerl/include/xmerl.hrl").

-define(MIB, 1048576).

%%%===================================================================
%%% Figures
%%%===================================================================

a_quantile_is_a_value_that_was_measured_test_() ->
    [
        ?_assertEqual(Expected, barrel_p2p_bench_figures:quantile(Part, Values))
     || {Part, Values, Expected} <- [
            {0.5, [7], 7},
            {0.99, [7], 7},
            {0.5, [1, 2], 1},
            {0.5, [1, 2, 3], 2},
            {0.99, lists:seq(1, 100), 99},
            {0.99, lists:seq(1, 200), 198},
            {1.0, lists:seq(1, 200), 200}
        ]
    ].

a_median_of_an_even_number_lies_between_two_test() ->
    ?assertEqual(2, barrel_p2p_bench_figures:median([3, 1, 2])),
    ?assertEqual(2.5, barrel_p2p_bench_figures:median([4, 1, 3, 2])).

nothing_counted_is_unknown_and_not_zero_test() ->
    ?assertEqual(unknown, barrel_p2p_bench_figures:per(1, 0)),
    ?assertEqual(unknown, barrel_p2p_bench_figures:per(unknown, 1)),
    ?assertEqual(2.0, barrel_p2p_bench_figures:per(4, 2)).

samples_are_kept_in_the_order_of_the_rounds_without_the_unknown_test() ->
    Samples = barrel_p2p_bench_figures:samples([
        {loopback, c, rtt_p50, 3}, {loopback, c, rtt_p50, unknown}, {loopback, c, rtt_p50, 1}, {loopback, d, rtt_p50, 9}
    ]),
    ?assertEqual(#{{loopback, c, rtt_p50} => [3, 1], {loopback, d, rtt_p50} => [9]}, Samples).

the_worst_of_all_is_the_worst_of_all_rounds_test() ->
    Samples = #{{loopback, c, rtt_bulk_max} => [1, 9, 2], {loopback, c, rtt_bulk_p99} => [1, 9, 2]},
    ?assertEqual(9, barrel_p2p_bench_figures:figure(loopback, c, rtt_bulk_max, Samples)),
    ?assertEqual(2, barrel_p2p_bench_figures:figure(loopback, c, rtt_bulk_p99, Samples)),
    ?assertEqual(unknown, barrel_p2p_bench_figures:figure(loopback, d, rtt_bulk_max, Samples)).

a_ratio_is_that_of_figures_and_its_range_that_of_rounds_test() ->
    Samples = #{{loopback, a, rtt_p50} => [2, 8, 5], {loopback, b, rtt_p50} => [4, 4, 5]},
    ?assertEqual(5 / 4, barrel_p2p_bench_figures:ratio(loopback, a, b, rtt_p50, Samples)),
    ?assertEqual({0.5, 2.0}, barrel_p2p_bench_figures:ratio_range(loopback, a, b, rtt_p50, Samples)),
    ?assertEqual(unknown, barrel_p2p_bench_figures:ratio(loopback, a, c, rtt_p50, Samples)),
    ?assertEqual(unknown, barrel_p2p_bench_figures:ratio_range(loopback, a, c, rtt_p50, Samples)).

every_metric_has_one_row_test() ->
    Metrics = [Metric || #{metric := Metric} <- barrel_p2p_bench_figures:rows()],
    ?assertEqual(lists:usort(Metrics), lists:sort(Metrics)),
    [?assertMatch(#{metric := Metric}, barrel_p2p_bench_figures:row(Metric)) || Metric <- Metrics].

%%%===================================================================
%%% Targets
%%%===================================================================

a_target_is_met_at_its_limit_and_not_beyond_test_() ->
    [
        ?_assertEqual(
            Verdict,
            verdict(25, Metric, Other, #{{loopback, barrel_p2p, Metric} => [Ours], {loopback, Other, Metric} => [Theirs]})
        )
     || {Metric, Other, Ours, Theirs, Verdict} <- [
            {{messages, 16, 1}, inet_tcp, 200, 100, met},
            {{messages, 16, 1}, inet_tcp, 199, 100, not_met},
            {{bulk, ?MIB, 1}, inet_tls, 800, 100, met},
            {{bulk, ?MIB, 1}, inet_tls, 799, 100, not_met},
            {{bulk, ?MIB, 1}, bare, 85, 100, met},
            {first_contact, inet_tcp, 150, 100, met},
            {first_contact, inet_tcp, 151, 100, not_met}
        ]
    ].

what_was_not_measured_is_neither_met_nor_missed_test() ->
    Verdicts = [Verdict || #{verdict := Verdict} <- barrel_p2p_bench_targets:judge(29, #{})],
    ?assertEqual([not_measured], lists:usort(Verdicts)).

otp_29_has_targets_of_its_own_test() ->
    Of = fun(Otp) ->
        [
            {C, O, Limit}
         || #{metric := {bulk, ?MIB, 1}, scene := loopback, carrier := C, other := O, limit := Limit} <-
                barrel_p2p_bench_targets:judge(Otp, #{})
        ]
    end,
    ?assertEqual([{barrel_p2p, inet_tls, {at_least, 8.0}}, {barrel_p2p, bare, {at_least, 0.85}}], Of(25)),
    ?assertEqual(Of(25), Of(27)),
    ?assertEqual(
        [
            {barrel_p2p, inet_tls, {at_least, 1.8}},
            {barrel_p2p_1452, inet_tls, {at_least, 1.0}},
            {barrel_p2p, bare, {at_least, 0.85}}
        ],
        Of(29)
    ).

an_idle_connection_costs_what_the_nodes_need_beyond_themselves_test() ->
    Samples = fun(Connected) ->
        #{{loopback, barrel_p2p, idle_cpu} => [Connected], {loopback, barrel_p2p, idle_cpu_alone} => [50]}
    end,
    ?assertEqual(met, verdict(25, idle_cpu, none, Samples(110))),
    ?assertEqual(not_met, verdict(25, idle_cpu, none, Samples(111))),
    ?assertEqual(met, verdict(25, idle_cpu, none, Samples(40))).

a_figure_that_counts_by_itself_is_in_the_unit_of_the_table_test() ->
    Worst = fun(Micros) -> verdict(25, rtt_bulk_max, none, #{{loopback, barrel_p2p, rtt_bulk_max} => [1, Micros]}) end,
    ?assertEqual(met, Worst(200000)),
    ?assertEqual(not_met, Worst(200001)).

verdict(Otp, Metric, Other, Samples) ->
    [Verdict] = [
        V
     || #{scene := loopback, metric := M, carrier := barrel_p2p, other := O, verdict := V} <-
            barrel_p2p_bench_targets:judge(Otp, Samples),
        M =:= Metric,
        O =:= Other
    ],
    Verdict.

%%%===================================================================
%%% The picture
%%%===================================================================

the_picture_is_well_formed_and_has_a_bar_for_each_ratio_test() ->
    Svg = draw(#{
        {loopback, barrel_p2p, rtt_p50} => [50],
        {loopback, inet_tcp, rtt_p50} => [100],
        {loopback, inet_tls, rtt_p50} => [400],
        %% without inet_tcp there is nothing to compare with
        {loopback, barrel_p2p, first_contact} => [50]
    }),
    ?assertEqual(svg, Svg#xmlElement.name),
    ?assertEqual(["2.00", "0.25"], [Text || Text <- texts(Svg), lists:member($., Text)]).

what_is_far_beyond_the_axis_stays_in_the_picture_test() ->
    Svg = draw(#{
        {loopback, barrel_p2p, rtt_p50} => [1],
        {loopback, inet_tcp, rtt_p50} => [100000],
        {loopback, inet_tls, rtt_p50} => [100000000000]
    }),
    #xmlAttribute{value = Width} = lists:keyfind(width, #xmlAttribute.name, Svg#xmlElement.attributes),
    ?assertNotEqual([], bars(Svg)),
    [
        begin
            ?assert(X >= 0),
            ?assert(X + Wide =< list_to_integer(Width))
        end
     || {X, Wide} <- bars(Svg)
    ].

titles_are_escaped_test() ->
    Picture = barrel_p2p_bench_svg:draw("a < b & c", [], #{}),
    {Svg, _} = xmerl_scan:string(lists:flatten(Picture)),
    ?assert(lists:member("a < b & c", texts(Svg))).

draw(Samples) ->
    Scenes = [{"on loopback", loopback, [barrel_p2p, inet_tcp, inet_tls]}],
    Picture = lists:flatten(barrel_p2p_bench_svg:draw("a run", Scenes, Samples)),
    {Svg, []} = xmerl_scan:string(Picture, [{space, normalize}]),
    Svg.

texts(Svg) ->
    [
        lists:append([V || #xmlText{value = V} <- Content])
     || #xmlElement{name = text, content = Content} <- Svg#xmlElement.content
    ].

bars(Svg) ->
    [
        {number(x, Attributes), number(width, Attributes)}
     || #xmlElement{name = rect, attributes = Attributes} <- Svg#xmlElement.content,
        lists:keymember(x, #xmlAttribute.name, Attributes)
    ].

number(Name, Attributes) ->
    #xmlAttribute{value = Value} = lists:keyfind(Name, #xmlAttribute.name, Attributes),
    case lists:member($., Value) of
        true -> list_to_float(Value);
        false -> list_to_integer(Value)
    end.

%%%===================================================================
%%% Tables and file
%%%===================================================================

every_line_of_a_table_has_as_many_cells_as_the_one_above_test() ->
    Text = unicode:characters_to_list(barrel_p2p_bench_report:markdown(a_run(), some_samples())),
    Tables = [[length(string:split(Line, "|", all)) || Line <- Table] || Table <- tables(lines(Text))],
    %% about the run, two scenes, the targets
    ?assertEqual(4, length(Tables)),
    [?assertEqual([hd(Cells)], lists:usort(Cells)) || Cells <- Tables].

the_table_shows_figures_and_their_ratio_test() ->
    Text = unicode:characters_to_list(barrel_p2p_bench_report:markdown(a_run(), some_samples())),
    [Line] = [Line || Line <- lines(Text), string:prefix(Line, "| round trip, p50, us") =/= nomatch],
    Cells = [string:trim(Cell) || Cell <- string:split(Line, "|", all)],
    ?assertEqual(["", "round trip, p50, us", "50", "100", "0.50", ""], Cells).

texts_in_the_file_are_escaped_test() ->
    ?assertEqual(<<"\"a\\\"b\\\\c\\u000a\"">>, iolist_to_binary(barrel_p2p_bench_report:json(<<"a\"b\\c\n">>))).

the_file_holds_all_samples_test() ->
    Text = iolist_to_binary(barrel_p2p_bench_report:json(barrel_p2p_bench_report:document(a_run(), some_samples()))),
    [
        ?assertNotEqual(nomatch, binary:match(Text, Part))
     || Part <- [
            <<"\"format\":2,">>,
            <<"\"commit\":\"abc\"">>,
            <<"{\"loopback\":{\"barrel_p2p\":{\"rtt_p50\":{\"unit\":\"us\",\"figure\":50,\"samples\":[40,50,60]}">>,
            <<"\"20ms_loss1\":{">>,
            <<"\"verdict\":\"met\"">>,
            <<"\"range\":null">>
        ]
    ],
    case code:ensure_loaded(json) of
        {module, json} -> ?assertMatch(#{<<"scenes">> := #{<<"loopback">> := _}}, apply(json, decode, [Text]));
        %% before OTP 27
        {error, nofile} -> ok
    end.

a_run() ->
    #{
        started => {{2026, 1, 2}, {3, 4, 5}}, took_s => 6, commit => "abc", otp => "25", kernel => "Linux",
        processor => "one", processors => 2, load => "0.1", rounds => 3, run_ms => 1500, datagram => 8900,
        skipped => ["something: why"],
        scenes => [{loopback, [barrel_p2p, inet_tcp]}, {{path, 1}, [barrel_p2p, inet_tcp]}]
    }.

some_samples() ->
    #{
        {loopback, barrel_p2p, rtt_p50} => [40, 50, 60],
        {loopback, inet_tcp, rtt_p50} => [100, 110, 90],
        {loopback, inet_tcp, first_contact} => [5000.5],
        {{path, 1}, barrel_p2p, rtt_bulk_p99} => [1.0],
        {{path, 1}, inet_tcp, rtt_bulk_p99} => [4.0]
    }.

lines(Text) ->
    string:split(Text, "\n", all).

%% Runs of lines that begin with a bar.
tables([]) ->
    [];
tables(["|" ++ _ | _] = Lines) ->
    {Table, Rest} = lists:splitwith(fun(Line) -> string:prefix(Line, "|") =/= nomatch end, Lines),
    [Table | tables(Rest)];
tables([_ | Lines]) ->
    tables(Lines).

%%%===================================================================
%%% What others print
%%%===================================================================

processor_time_is_read_behind_any_name_test() ->
    Stat = <<"17 (a ) b) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0">>,
    ?assertEqual(3000000, barrel_p2p_bench_usage:stat_micros(Stat)).

memory_is_that_which_is_no_file_test() ->
    ?assertEqual(812, barrel_p2p_bench_usage:status_kib(<<"Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  812 kB\n">>)),
    ?assertEqual(unknown, barrel_p2p_bench_usage:status_kib(<<"Name:\tx\n">>)).

the_line_of_bare_quic_becomes_a_map_test() ->
    ?assertEqual(#{bytes => 12, micros => 3}, barrel_p2p_bench_bare:parse("bulk bytes=12 micros=3")).
