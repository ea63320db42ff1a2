%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% What `make conformance' rests on: the one difference of a build for OTP's
%%% distribution_SUITE (raw packets pass), and the verdict on its outcome.
-module(conformance_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("common_test/include/ct_event.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_conformance_build_sends_raw_packets/1,
    a_conformance_build_feels_back_pressure/1,
    a_usual_build_ends_the_channel_instead/1,
    a_verdict_counts_what_the_carrier_alone_fails/1,
    a_run_that_dies_is_a_failure/1,
    what_ran_is_recorded_by_case/1
]).

-define(WAIT_MS, 20000).

all() ->
    [
        a_conformance_build_sends_raw_packets,
        a_conformance_build_feels_back_pressure,
        a_usual_build_ends_the_channel_instead,
        a_verdict_counts_what_the_carrier_alone_fails,
        a_run_that_dies_is_a_failure,
        what_ran_is_recorded_by_case
    ].

suite() ->
    [{timetrap, {minutes, 2}}].

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

a_conformance_build_sends_raw_packets(Config) ->
    [A, B] = pair(Config),
    load_conformance_build(A),
    ok = cluster:connect(A, B),
    %% an empty packet is a tick; the channel bears it
    ?assertEqual(sent, send_raw(A, B, <<>>)),
    ?assertEqual(pong, cluster:call(A, net_adm, ping, [B])),
    %% one that is no packet ends it at the receiver
    ?assertEqual(sent, send_raw(A, B, <<131, 255>>)),
    _ = cluster:await_nodedown(A, B, ?WAIT_MS).

%% A frozen receiver: the controller stops answering before it has taken 64 MiB.
a_conformance_build_feels_back_pressure(Config) ->
    [A, B] = pair(Config),
    load_conformance_build(A),
    ok = cluster:connect(A, B),
    cluster:signal(B, "STOP"),
    try
        ?assert(cluster:run(A, fun send_until_blocked/1, [B]) < 64)
    after
        cluster:signal(B, "CONT")
    end,
    ?assertEqual(pong, cluster:call(A, net_adm, ping, [B])).

a_usual_build_ends_the_channel_instead(Config) ->
    [A, B] = pair(Config),
    ok = cluster:connect(A, B),
    ?assertMatch({died, {unexpected_message, {send, _, _, <<>>}}}, send_raw(A, B, <<>>)),
    _ = cluster:await_nodedown(B, A, ?WAIT_MS).

a_verdict_counts_what_the_carrier_alone_fails(_Config) ->
    Report = compiled(conformance_report),
    Tcp = [{ping, passed, 1, ""}, {slow, failed, 1, "x"}, {no_epmd, passed, 1, ""}, {big, skipped, 0, "memory"}],
    Fail = fun(Name) -> {Name, failed, 1, "x"} end,
    Verdict = fun(Own) -> Report:unacceptable(Report:compare(Tcp, Own)) end,
    ?assertEqual([], Verdict(Tcp)),
    ?assertEqual([], Verdict([{ping, passed, 1, ""}, Fail(slow), Fail(no_epmd), {big, skipped, 0, ""}])),
    ?assertEqual([ping, big], Verdict([Fail(ping), Fail(slow), Fail(no_epmd), Fail(big)])),
    %% whatever came after the failure
    ?assertEqual([ping], Verdict([Fail(ping) | Tcp])),
    ?assertEqual([ping], Verdict(Tcp ++ [Fail(ping)])).

a_run_that_dies_is_a_failure(_Config) ->
    Report = compiled(conformance_report),
    Tcp = [{ping, passed, 1, ""}, {slow, failed, 1, "x"}, {big, passed, 1, ""}],
    ?assertEqual([big], Report:unacceptable(Report:compare(Tcp, [{ping, passed, 1, ""}]))),
    %% what inet_tcp never came to counts as well
    ?assertEqual([ping], Report:unacceptable(Report:compare([], [{ping, failed, 1, "x"}]))).

what_ran_is_recorded_by_case(Config) ->
    Events = compiled(conformance_events),
    File = filename:join(?config(priv_dir, Config), "results"),
    {ok, Empty} = Events:init([File]),
    Handle = fun({Name, Data}, State) ->
        {ok, Next} = Events:handle_event(#event{name = Name, node = node(), data = Data}, State),
        Next
    end,
    _ = lists:foldl(Handle, Empty, [
        {tc_start, {s, init_per_suite}},
        {tc_done, {s, init_per_suite, ok}},
        {tc_start, {s, {init_per_group, g, []}}},
        {tc_done, {s, {init_per_group, g, []}, ok}},
        {tc_start, {s, good}},
        {tc_done, {s, good, ok}},
        {tc_start, {s, bad}},
        {tc_done, {s, bad, {failed, {error, {self(), make_ref()}}}}},
        {tc_done, {s, unwanted, {skipped, "no memory"}}},
        {tc_auto_skip, {s, {behind, g}, {failed, {s, init_per_group, x}}}},
        {tc_done, {s, end_per_suite, {failed, x}}}
    ]),
    {ok, Rows} = file:consult(File),
    ?assertEqual(
        [{good, passed}, {bad, failed}, {unwanted, skipped}, {behind, failed}, {end_per_suite, failed}],
        [{Name, Outcome} || {Name, Outcome, _, _} <- Rows]
    ).

%% The tools of `make conformance' are no part of the library, so nobody compiled them.
compiled(Module) ->
    Source = filename:join([elsewhere:source_root(), "tools", "conformance", atom_to_list(Module) ++ ".erl"]),
    {ok, Module, Code} = compile:file(Source, [binary, return_errors]),
    {module, Module} = code:load_binary(Module, Source, Code),
    Module.

load_conformance_build(Node) ->
    Module = barrel_p2p_dist_ctrl,
    Source = proplists:get_value(source, Module:module_info(compile)),
    {ok, Module, Code} = compile:file(Source, [binary, {d, 'BARREL_P2P_CONFORMANCE'}]),
    {module, Module} = cluster:call(Node, code, load_binary, [Module, Source, Code]).

pair(Config) ->
    [cluster:start(?config(cluster, Config), Name, #{}) || Name <- [a, b]].

%% As the suite does it, from a process of the sending node.
send_raw(A, B, Packet) ->
    cluster:run(
        A,
        fun(Node, Data) ->
            {Node, Controller} = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
            Monitor = erlang:monitor(process, Controller),
            Ref = make_ref(),
            Controller ! {send, self(), Ref, Data},
            receive
                {Ref, ok} -> sent;
                {'DOWN', Monitor, process, Controller, Reason} -> {died, Reason}
            end
        end,
        [B, Packet]
    ).

%% How many packets of 1 MiB, each a message to a name that nobody has, the controller takes
%% before it blocks. Asking what it does is a signal to it, so this loop does not outrun it.
send_until_blocked(Node) ->
    {Node, Controller} = lists:keyfind(Node, 1, erlang:system_info(dist_ctrl)),
    <<131, RegSend/binary>> = term_to_binary({6, self(), '', nobody}),
    <<131, Message/binary>> = term_to_binary(binary:copy(<<0>>, 1 bsl 20)),
    send_until_blocked(Controller, [131, $D, 0, RegSend, Message], 1).

send_until_blocked(_Controller, _Packet, 64) ->
    64;
send_until_blocked(Controller, Packet, Count) ->
    Ref = make_ref(),
    Controller ! {send, self(), Ref, Packet},
    case taken(Controller, Ref) of
        true -> send_until_blocked(Controller, Packet, Count + 1);
        false -> Count
    end.

taken(Controller, Ref) ->
    receive
        {Ref, ok} -> true
    after 0 ->
        case erlang:process_info(Controller, current_function) of
            {current_function, {barrel_p2p_dist_ctrl, output_blocked, 1}} -> false;
            {current_function, _} -> taken(Controller, Ref)
        end
    end.
