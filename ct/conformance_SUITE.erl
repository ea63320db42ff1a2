%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% The one difference of a build for OTP's distribution_SUITE: raw packets pass.
-module(conformance_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([a_conformance_build_sends_raw_packets/1, a_usual_build_ends_the_channel_instead/1]).

-define(WAIT_MS, 20000).

all() ->
    [a_conformance_build_sends_raw_packets, a_usual_build_ends_the_channel_instead].

suite() ->
    [{timetrap, {minutes, 2}}].

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

a_conformance_build_sends_raw_packets(Config) ->
    [A, B] = pair(Config),
    Module = barrel_p2p_dist_ctrl,
    Source = proplists:get_value(source, Module:module_info(compile)),
    {ok, Module, Code} = compile:file(Source, [binary, {d, 'BARREL_P2P_CONFORMANCE'}]),
    {module, Module} = cluster:call(A, code, load_binary, [Module, Source, Code]),
    ok = cluster:connect(A, B),
    %% an empty packet is a tick; the channel bears it
    ?assertEqual(sent, send_raw(A, B, <<>>)),
    ?assertEqual(pong, cluster:call(A, net_adm, ping, [B])),
    %% one that is no packet ends it at the receiver
    ?assertEqual(sent, send_raw(A, B, <<131, 255>>)),
    _ = cluster:await_nodedown(A, B, ?WAIT_MS).

a_usual_build_ends_the_channel_instead(Config) ->
    [A, B] = pair(Config),
    ok = cluster:connect(A, B),
    ?assertMatch({died, {unexpected_message, {send, _, _, <<>>}}}, send_raw(A, B, <<>>)),
    _ = cluster:await_nodedown(B, A, ?WAIT_MS).

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
