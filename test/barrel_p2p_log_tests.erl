%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The log: domain, form and level of what is said. This module is a logger handler.
-module(barrel_p2p_log_tests).

-include_lib("eunit/include/eunit.hrl").

%% logger handler
-export([log/2]).

-spec log(logger:log_event(), map()) -> ok.
log(Event, #{config := #{test := Test}}) ->
    Test ! {event, Event},
    ok.

%%%===================================================================
%%% Reports
%%%===================================================================

a_report_is_a_map_in_our_domain_test() ->
    with_handler(fun() ->
        ok = barrel_p2p_log:report(error, "it broke", #{file => <<"f">>, remedy => <<"mend it">>}),
        #{level := error, msg := {report, Report}, meta := Meta} = event(),
        ?assertEqual(#{what => <<"it broke">>, file => <<"f">>, remedy => <<"mend it">>}, Report),
        ?assertMatch(#{domain := [barrel_p2p], report_cb := _}, Meta)
    end).

a_report_is_one_line_with_the_remedy_last_test() ->
    ?assertEqual(
        "barrel_p2p: it broke, target: quic, a: 1, b: two, key: value, remedy: mend it",
        text(#{
            what => <<"it broke">>,
            b => <<"two">>,
            a => 1,
            remedy => <<"mend it">>,
            target => <<"quic">>,
            fields => #{<<"key">> => <<"value">>}
        })
    ).

bytes_that_are_no_text_are_shown_as_bytes_test() ->
    ?assertEqual("barrel_p2p: x, k: <<255,0>>", text(#{what => <<"x">>, k => <<255, 0>>})).

%% The cause of an error of Rust stands at its end, behind a path of any length.
an_error_of_rust_is_shown_whole_test() ->
    Path = binary:copy(<<"/directory">>, 40),
    ?assertEqual(
        unicode:characters_to_list(["barrel_p2p: x, k: disk_full: cannot write ", Path, ": no space"]),
        text(#{what => <<"x">>, k => {disk_full, <<"cannot write ", Path/binary, ": no space">>}})
    ).

%% OTP's default handler drops every domain but its own; ours must be seen all the same.
the_default_handler_lets_our_domain_through_test() ->
    with_vm(fun(Vm) ->
        ok = peer:call(Vm, barrel_p2p_log, report, [error, "seen"]),
        {ok, #{filter_default := stop, filters := Filters}} =
            peer:call(Vm, logger, get_handler_config, [default]),
        ?assertMatch({barrel_p2p, {_, {log, sub, [barrel_p2p]}}}, lists:keyfind(barrel_p2p, 1, Filters)),
        %% and only once
        ok = peer:call(Vm, barrel_p2p_log, report, [error, "seen again"]),
        {ok, Again} = peer:call(Vm, logger, get_handler_config, [default]),
        ?assertEqual(Filters, maps:get(filters, Again))
    end).

filters_of_the_user_are_left_alone_test() ->
    with_vm(fun(Vm) ->
        Mine = [{mine, {fun logger_filters:level/2, {stop, lt, error}}}],
        ok = peer:call(Vm, logger, set_handler_config, [default, filters, Mine]),
        ok = peer:call(Vm, barrel_p2p_log, report, [error, "seen or not"]),
        {ok, #{filters := Filters}} = peer:call(Vm, logger, get_handler_config, [default]),
        ?assertEqual(Mine, Filters)
    end).

%%%===================================================================
%%% Levels
%%%===================================================================

a_level_that_is_none_is_refused_test_() ->
    [
        ?_assertEqual({error, bad_level}, barrel_p2p:set_log_level(Level))
     || Level <- [loud, emergency, "debug", 7]
    ].

the_level_takes_effect_at_once_test() ->
    with_handler(fun() ->
        ok = barrel_p2p:set_log_level(debug),
        barrel_p2p_log:report(debug, "one"),
        ?assertMatch(#{level := debug, msg := {report, #{what := <<"one">>}}}, event()),
        ok = barrel_p2p:set_log_level(error),
        barrel_p2p_log:report(warning, "two"),
        barrel_p2p_log:report(error, "three"),
        ?assertMatch(#{msg := {report, #{what := <<"three">>}}}, event()),
        ok = barrel_p2p:set_log_level(none),
        barrel_p2p_log:report(error, "four"),
        ok = barrel_p2p:set_log_level(notice),
        barrel_p2p_log:report(notice, "five"),
        ?assertMatch(#{msg := {report, #{what := <<"five">>}}}, event())
    end).

%%%===================================================================
%%% Rust
%%%===================================================================

%% A file in the trust store that is no key makes Rust warn, once for each listing.
events_of_rust_are_reports_in_our_domain_test() ->
    with_rust_warning(fun(Warn) ->
        Warn(),
        #{level := warning, msg := {report, Report}, meta := Meta} = event(),
        ?assertMatch(#{what := <<_/binary>>, target := <<"barrel", _/binary>>, fields := #{<<"file">> := _}}, Report),
        ?assertEqual([barrel_p2p, native], maps:get(domain, Meta))
    end).

the_level_holds_for_rust_too_test() ->
    with_rust_warning(fun(Warn) ->
        ok = barrel_p2p:set_log_level(error),
        Warn(),
        ok = barrel_p2p:set_log_level(warning),
        Warn(),
        #{level := warning} = event(),
        %% the next thing said is not a second warning
        drained = drain(),
        ok = barrel_p2p_log:report(warning, "the end"),
        ?assertMatch(#{msg := {report, #{what := <<"the end">>}}}, event())
    end).

the_configured_level_holds_from_the_start_test() ->
    ok = application:set_env(barrel_p2p, log_level, error),
    try
        with_rust_warning(fun(Warn) ->
            Warn(),
            drained = drain(),
            ok = barrel_p2p_log:report(warning, "not said"),
            ok = barrel_p2p_log:report(error, "said"),
            ?assertMatch(#{msg := {report, #{what := <<"said">>}}}, event())
        end)
    after
        application:unset_env(barrel_p2p, log_level)
    end.

%%%===================================================================
%%% Internal
%%%===================================================================

with_rust_warning(Fun) ->
    ok = barrel_p2p_native:ensure_loaded(),
    Name = lists:concat(["barrel_p2p_log_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    {ok, Trust} = barrel_p2p_nif:trust_open(list_to_binary(Dir), tofu, 10),
    File = filename:join([Dir, "trusted", "no@key.pub"]),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, "no key"),
    with_handler(fun() ->
        {ok, Log} = barrel_p2p_log:start_link(),
        try
            drained = drain(),
            Fun(fun() -> {ok, _} = barrel_p2p_nif:trust_list(Trust) end)
        after
            ok = barrel_p2p:set_log_level(notice),
            unlink(Log),
            ok = gen_server:stop(Log),
            ok = file:del_dir_r(Dir)
        end
    end).

%% Whatever Rust has said is a report now: the process is asked to look, and looks again
%% until there is nothing, before it answers the second call.
drain() ->
    barrel_p2p_log ! drain,
    {error, unknown_call} = gen_server:call(barrel_p2p_log, sync),
    {error, unknown_call} = gen_server:call(barrel_p2p_log, sync),
    drained.

text(Report) ->
    {Format, Args} = barrel_p2p_log:format_report(Report),
    lists:flatten(io_lib:format(Format, Args)).

with_handler(Fun) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{
        config => #{test => self()},
        filter_default => stop,
        filters => [{ours, {fun logger_filters:domain/2, {log, sub, [barrel_p2p]}}}]
    }),
    try
        Fun()
    after
        ok = logger:remove_handler(?MODULE),
        logger:unset_application_level(barrel_p2p),
        [logger:unset_module_level(M) || {M, _} <- logger:get_module_level()],
        drop_events()
    end.

event() ->
    receive
        {event, Event} -> Event
    after 5000 -> error(no_event)
    end.

drop_events() ->
    receive
        {event, _} -> drop_events()
    after 0 -> ok
    end.

with_vm(Fun) ->
    Path = filename:absname(filename:dirname(code:which(barrel_p2p_log))),
    {ok, Vm, _} = peer:start_link(#{connection => standard_io, args => ["-pa", Path]}),
    try
        Fun(Vm)
    after
        peer:stop(Vm)
    end.
