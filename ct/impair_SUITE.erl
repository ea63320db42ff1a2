%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% The impairment tool does what it says, as seen from outside. Its laws in
%%% virtual time are tested in native/barrel_impair.
-module(impair_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
%% Cases
-export([
    what_is_lost_doubled_and_reordered_is_counted_and_true/1,
    the_same_seed_loses_the_same_datagrams/1,
    no_datagram_comes_earlier_than_the_delay/1,
    a_rebound_client_has_another_address/1,
    a_path_ends_with_its_owner/1,
    a_mistake_says_what_is_wrong/1
]).

-define(WAIT_MS, 10000).

suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [
        what_is_lost_doubled_and_reordered_is_counted_and_true,
        the_same_seed_loses_the_same_datagrams,
        no_datagram_comes_earlier_than_the_delay,
        a_rebound_client_has_another_address,
        a_path_ends_with_its_owner,
        a_mistake_says_what_is_wrong
    ].

init_per_suite(Config) ->
    %% cargo may have everything to do
    ct:timetrap({minutes, 15}),
    case impaired:unavailable(udp) of
        false -> Config;
        {true, Why} -> {skip, Why}
    end.

end_per_suite(_Config) ->
    ok.

%%%===================================================================
%%% UDP
%%%===================================================================

what_is_lost_doubled_and_reordered_is_counted_and_true(_Config) ->
    with_ends(#{settings => [{forward, loss, 0.1}, {forward, duplicate, 0.1}, {forward, reorder, 0.1}]}, fun(Path, Ends) ->
        Got = send(Path, Ends, lists:seq(1, 2000)),
        #{forward := Stats} = impaired:stats(Path),
        #{received := 2000, lost := Lost, duplicated := Doubled, reordered := Held, dropped := 0} = Stats,
        %% five standard deviations of 2000 draws with probability 0.1, and of 1800
        ?assert(abs(Lost - 200) =< 67, Stats),
        ?assert(abs(Doubled - 180) =< 64, Stats),
        ?assert(abs(Held - 198) =< 67, Stats),
        ?assertEqual(2000 - Lost, length(lists:usort(Got))),
        ?assertEqual(Doubled, length(Got) - length(lists:usort(Got))),
        ?assertNotEqual(lists:sort(Got), Got)
    end).

the_same_seed_loses_the_same_datagrams(_Config) ->
    Run = fun(Seed) ->
        with_ends(#{seed => Seed, settings => [{forward, loss, 0.2}]}, fun(Path, Ends) ->
            send(Path, Ends, lists:seq(1, 500))
        end)
    end,
    First = Run(7),
    ?assertEqual(First, Run(7)),
    ?assertNotEqual(First, Run(8)).

no_datagram_comes_earlier_than_the_delay(_Config) ->
    with_ends(#{settings => [{forward, delay, 20}, {backward, delay, 10}]}, fun(_Path, {Client, Server, Relay}) ->
        Times = [round_trip(Client, Server, Relay, N) || N <- lists:seq(1, 50)],
        ct:pal("round trips over 30 ms, microseconds: ~p", [lists:sort(Times)]),
        ?assert(lists:min(Times) >= 30000, Times)
    end).

round_trip(Client, Server, {Ip, Port}, N) ->
    From = erlang:monotonic_time(microsecond),
    ok = gen_udp:send(Client, Ip, Port, <<N:32>>),
    {ok, {BackIp, BackPort, <<N:32>>}} = gen_udp:recv(Server, 0, ?WAIT_MS),
    ok = gen_udp:send(Server, BackIp, BackPort, <<N:32>>),
    {ok, {_, _, <<N:32>>}} = gen_udp:recv(Client, 0, ?WAIT_MS),
    erlang:monotonic_time(microsecond) - From.

a_rebound_client_has_another_address(_Config) ->
    with_ends(#{}, fun(Path, {Client, Server, {Ip, Port}}) ->
        Heard = fun(Bytes) ->
            ok = gen_udp:send(Client, Ip, Port, Bytes),
            {ok, {_, From, Bytes}} = gen_udp:recv(Server, 0, ?WAIT_MS),
            From
        end,
        Before = Heard(<<"before">>),
        [Now] = impaired:rebind(Path),
        After = Heard(<<"after">>),
        ?assertNotEqual(Before, After),
        ?assertEqual(integer_to_list(After), lists:last(string:split(Now, ":", trailing))),
        ok = gen_udp:send(Server, Ip, After, <<"back">>),
        ?assertMatch({ok, {_, Port, <<"back">>}}, gen_udp:recv(Client, 0, ?WAIT_MS))
    end).

%%%===================================================================
%%% The harness
%%%===================================================================

a_path_ends_with_its_owner(_Config) ->
    Test = self(),
    {Owner, Monitor} = spawn_monitor(fun() ->
        Path = impaired:start(udp, #{forward => [{{127, 0, 0, 1}, 9}]}),
        Test ! {path, Path, impaired:os_pid(Path)},
        exit(case_failed)
    end),
    {Path, OsPid} =
        receive
            {path, P, O} -> {P, O}
        end,
    Ended = erlang:monitor(process, Path),
    receive
        {'DOWN', Monitor, process, Owner, case_failed} -> ok
    end,
    receive
        {'DOWN', Ended, process, Path, Reason} -> ?assert(lists:member(Reason, [normal, noproc]), Reason)
    after ?WAIT_MS -> error(still_there)
    end,
    ?assertNotEqual("", os:cmd("kill -0 " ++ integer_to_list(OsPid))).

a_mistake_says_what_is_wrong(_Config) ->
    ?assertError({no_path, {not_ready, "barrel_impair: " ++ _, {2, _}}}, impaired:start(udp, #{})),
    with_ends(#{}, fun(Path, _) ->
        ?assertError({badmatch, {error, "\"1.5\" is not a fraction" ++ _}}, impaired:set(Path, both, loss, 1.5)),
        ok = impaired:set(Path, both, loss, 0.5)
    end).

%%%===================================================================
%%% Steps
%%%===================================================================

%% A client, a server, and where the client sends to.
with_ends(Opts, Fun) ->
    {ok, Client} = gen_udp:open(0, options()),
    {ok, Server} = gen_udp:open(0, options()),
    {ok, Port} = inet:port(Server),
    Path = impaired:start(udp, Opts#{forward => [{{127, 0, 0, 1}, Port}]}),
    [Relay] = impaired:addresses(Path),
    Result = Fun(Path, {Client, Server, Relay}),
    ok = impaired:stop(Path),
    ok = gen_udp:close(Client),
    ok = gen_udp:close(Server),
    Result.

options() ->
    [binary, {active, false}, {ip, {127, 0, 0, 1}}, {recbuf, 1 bsl 20}].

%% Sends numbers, in portions that every socket buffer holds; answers those that came, in their order.
send(_Path, _Ends, []) ->
    [];
send(Path, {Client, Server, {Ip, Port}} = Ends, Numbers) ->
    {Portion, Rest} = lists:split(min(50, length(Numbers)), Numbers),
    #{forward := #{received := Before, delivered := Delivered}} = impaired:stats(Path),
    [ok = gen_udp:send(Client, Ip, Port, <<N:32>>) || N <- Portion],
    Left = all_left(Path, Before + length(Portion)),
    Got = [
        begin
            {ok, {_, _, <<N:32>>}} = gen_udp:recv(Server, 0, ?WAIT_MS),
            N
        end
     || _ <- lists:seq(1, Left - Delivered)
    ],
    Got ++ send(Path, Ends, Rest).

%% Waits until so many came to the relay and all of them left it; how many left.
all_left(Path, Received) ->
    {ok, Left} = cluster:poll(
        fun() ->
            case impaired:stats(Path) of
                #{forward := #{received := Received, held := 0, delivered := D}} -> {ok, D};
                #{forward := Stats} -> Stats
            end
        end,
        ?WAIT_MS,
        1
    ),
    Left.
