%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% The impairment tool does what it says, as seen from outside. Its laws in
%%% virtual time are tested in native/barrel_impair.
-module(impair_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    what_is_lost_doubled_and_reordered_is_counted_and_true/1,
    the_same_seed_loses_the_same_datagrams/1,
    no_datagram_comes_earlier_than_the_delay/1,
    a_rebound_client_has_another_address/1,
    a_path_ends_with_its_owner/1,
    a_mistake_says_what_is_wrong/1,
    udp_tcp_and_icmp_pass_a_tunnel/1,
    a_tunnel_delays_loses_and_limits/1,
    packets_in_a_tunnel_have_the_size_of_its_wire/1,
    a_tunnel_can_say_that_a_packet_is_too_large/1,
    who_is_rebound_in_a_tunnel_has_another_address_for_every_protocol/1,
    nothing_is_left_of_a_tunnel/1,
    a_tunnel_that_cannot_be_says_why/1
]).
%% Run in the namespaces
-export([serve/0, udp_echo/2, tcp_transfer/2, icmp_echo/1, refused/1]).

-define(WAIT_MS, 10000).

suite() ->
    [{timetrap, {minutes, 1}}].

all() ->
    [{group, udp}, {group, harness}, {group, tun}].

groups() ->
    [{udp, [], udp()}, {harness, [], harness()}, {tun, [], tun()}].

udp() ->
    [
        what_is_lost_doubled_and_reordered_is_counted_and_true,
        the_same_seed_loses_the_same_datagrams,
        no_datagram_comes_earlier_than_the_delay,
        a_rebound_client_has_another_address
    ].

harness() ->
    [
        a_path_ends_with_its_owner,
        a_mistake_says_what_is_wrong
    ].

tun() ->
    [
        udp_tcp_and_icmp_pass_a_tunnel,
        a_tunnel_delays_loses_and_limits,
        packets_in_a_tunnel_have_the_size_of_its_wire,
        a_tunnel_can_say_that_a_packet_is_too_large,
        who_is_rebound_in_a_tunnel_has_another_address_for_every_protocol,
        nothing_is_left_of_a_tunnel,
        a_tunnel_that_cannot_be_says_why
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

init_per_group(_Group, Config) ->
    Config.

end_per_group(_Group, _Config) ->
    ok.

%% Each case is skipped, not the group: skipped cases are counted.
init_per_testcase(Case, Config) ->
    case lists:member(Case, tun()) andalso impaired:unavailable(tun) of
        false -> Config;
        {true, Why} -> {skip, Why}
    end.

end_per_testcase(_Case, _Config) ->
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
%%% TUN
%%%===================================================================

udp_tcp_and_icmp_pass_a_tunnel(_Config) ->
    with_tunnel(#{}, fun(Path, Near, _Far) ->
        [
            begin
                {ok, Seen} = peer:call(Near, ?MODULE, udp_echo, [To, 8900]),
                ?assertEqual(From, Seen),
                ?assertEqual(ok, peer:call(Near, ?MODULE, tcp_transfer, [To, 4 bsl 20]))
            end
         || {From, To} <- [{{10, 91, 0, 1}, v4()}, {v6(1), v6(2)}]
        ],
        ?assertEqual(ok, peer:call(Near, ?MODULE, icmp_echo, [v4()])),
        #{forward := #{lost := 0, dropped := 0}, unsent := 0} = impaired:stats(Path)
    end).

a_tunnel_delays_loses_and_limits(_Config) ->
    with_tunnel(#{mtu => 1500, settings => [{both, delay, 20}]}, fun(Path, Near, _Far) ->
        Begin = erlang:monotonic_time(microsecond),
        {ok, _} = peer:call(Near, ?MODULE, udp_echo, [v4(), 100]),
        ?assert(erlang:monotonic_time(microsecond) - Begin >= 40000),
        ok = impaired:set(Path, both, delay, 1),
        ok = impaired:set(Path, forward, loss, 0.02),
        %% a megabyte in a second at best
        ok = impaired:set(Path, forward, rate, 8000000),
        Start = erlang:monotonic_time(millisecond),
        ?assertEqual(ok, peer:call(Near, ?MODULE, tcp_transfer, [v4(), 1000000])),
        ?assert(erlang:monotonic_time(millisecond) - Start >= 1000),
        #{forward := #{lost := Lost}} = impaired:stats(Path),
        ?assert(Lost > 0)
    end).

packets_in_a_tunnel_have_the_size_of_its_wire(_Config) ->
    with_tunnel(#{mtu => 1500}, fun(Path, Near, _Far) ->
        ?assertEqual(ok, peer:call(Near, ?MODULE, tcp_transfer, [v4(), 16 bsl 20])),
        %% TCP hands the device 64 KiB at once when it cuts them by itself
        #{forward := #{largest := 1500}} = impaired:stats(Path)
    end).

a_tunnel_can_say_that_a_packet_is_too_large(_Config) ->
    with_tunnel(#{settings => [{forward, mtu, 1400}, {forward, icmp, true}]}, fun(Path, Near, _Far) ->
        [?assertEqual(ok, peer:call(Near, ?MODULE, tcp_transfer, [To, 1 bsl 20])) || To <- [v4(), v6(2)]],
        #{forward := #{too_large := TooLarge}} = impaired:stats(Path),
        ?assert(TooLarge > 0)
    end).

who_is_rebound_in_a_tunnel_has_another_address_for_every_protocol(_Config) ->
    with_tunnel(#{}, fun(Path, Near, _Far) ->
        [
            begin
                [V4, V6] = [parse(A) || A <- impaired:rebind(Path)],
                [
                    begin
                        %% the kernels check every checksum
                        ?assertEqual({ok, From}, peer:call(Near, ?MODULE, udp_echo, [To, 1000])),
                        ?assertEqual(ok, peer:call(Near, ?MODULE, tcp_transfer, [To, 1 bsl 20])),
                        %% an ICMP error about a packet of ours
                        ?assertEqual(ok, peer:call(Near, ?MODULE, refused, [To]))
                    end
                 || {From, To} <- [{V4, v4()}, {V6, v6(2)}]
                ],
                ?assertEqual(ok, peer:call(Near, ?MODULE, icmp_echo, [v4()]))
            end
         || _ <- [once, again]
        ]
    end).

nothing_is_left_of_a_tunnel(_Config) ->
    Test = self(),
    Stopped = impaired:start(tun, #{}),
    Owner = spawn(fun() ->
        Path = impaired:start(tun, #{}),
        Test ! {path, Path, impaired:places(Path)},
        receive
            fail -> exit(case_failed)
        end
    end),
    {Left, Places} =
        receive
            {path, P, Ps} -> {P, Ps}
        end,
    Names = [Ns || {A, B} <- [Places, impaired:places(Stopped)], #{ns := Ns} <- [A, B]],
    ?assertEqual([], Names -- namespaces()),
    Ended = erlang:monitor(process, Left),
    Owner ! fail,
    ok = impaired:stop(Stopped),
    receive
        {'DOWN', Ended, process, Left, _} -> ok
    after ?WAIT_MS -> error(still_there)
    end,
    ?assertEqual(Names, Names -- namespaces()).

a_tunnel_that_cannot_be_says_why(_Config) ->
    {ok, Program} = impaired:program(),
    Said = os:cmd(Program ++ " tun --near nowhere_near --far nowhere_far </dev/null"),
    ?assertMatch({match, _}, re:run(Said, "nowhere_near.*ip netns add"), Said).

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

namespaces() ->
    [hd(string:lexemes(Line, " ")) || Line <- string:lexemes(elsewhere:command(["ip", "netns", "list"]), "\n")].

v4() ->
    {10, 91, 0, 2}.

v6(N) ->
    {16#fd91, 0, 0, 0, 0, 0, 0, N}.

parse(Text) ->
    {ok, Ip} = inet:parse_address(Text),
    Ip.

%% A tunnel with an emulator in each namespace; the far one serves.
with_tunnel(Opts, Fun) ->
    Path = impaired:start(tun, Opts),
    {NearPlace, FarPlace} = impaired:places(Path),
    Near = emulator(NearPlace),
    Far = emulator(FarPlace),
    ok = peer:call(Far, ?MODULE, serve, []),
    Result = Fun(Path, Near, Far),
    ok = peer:stop(Near),
    ok = peer:stop(Far),
    ok = impaired:stop(Path),
    Result.

emulator(Place) ->
    {Ip, Words} = impaired:inside(Place),
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        exec => {Ip, Words ++ [filename:join([code:root_dir(), "bin", "erl"])]},
        args => ["-pa", filename:dirname(code:which(?MODULE))]
    }),
    Peer.

%%%===================================================================
%%% In the namespaces
%%%===================================================================

-define(UDP_PORT, 7).
-define(TCP_PORT, 9).
%% The number: a small system has no file with the names of the protocols.
-define(ICMP, 1).

%% Echoes datagrams, with the address they came from; answers the digest of what comes over TCP.
serve() ->
    Starter = self(),
    [
        begin
            spawn(fun() ->
                {ok, Udp} = gen_udp:open(?UDP_PORT, [binary, {active, true}, {recbuf, 1 bsl 20} | Family]),
                {ok, Listen} = gen_tcp:listen(?TCP_PORT, [binary, {packet, 4}, {active, false} | Family]),
                _ = spawn_link(fun() -> tcp_server(Listen) end),
                Starter ! serving,
                udp_server(Udp)
            end),
            receive
                serving -> ok
            after ?WAIT_MS -> error(does_not_serve)
            end
        end
     || Family <- [[inet], [inet6, {ipv6_v6only, true}]]
    ],
    ok.

udp_server(Udp) ->
    receive
        {udp, Udp, Ip, Port, Bytes} ->
            ok = gen_udp:send(Udp, Ip, Port, [term_to_binary(Ip), Bytes]),
            udp_server(Udp)
    end.

tcp_server(Listen) ->
    {ok, Tcp} = gen_tcp:accept(Listen),
    {ok, Bytes} = gen_tcp:recv(Tcp, 0),
    ok = gen_tcp:send(Tcp, erlang:md5(Bytes)),
    ok = gen_tcp:close(Tcp),
    tcp_server(Listen).

%% From where the server saw it.
udp_echo(To, Size) ->
    Bytes = crypto:strong_rand_bytes(Size),
    {ok, Udp} = gen_udp:open(0, [binary, {active, false}, {recbuf, 1 bsl 20}, family(To)]),
    ok = gen_udp:send(Udp, To, ?UDP_PORT, Bytes),
    {ok, {To, ?UDP_PORT, Answer}} = gen_udp:recv(Udp, 0, ?WAIT_MS),
    ok = gen_udp:close(Udp),
    {Seen, Used} = binary_to_term(Answer, [used]),
    Bytes = binary:part(Answer, Used, byte_size(Answer) - Used),
    {ok, Seen}.

tcp_transfer(To, Size) ->
    Bytes = crypto:strong_rand_bytes(Size),
    {ok, Tcp} = gen_tcp:connect(To, ?TCP_PORT, [binary, {packet, 4}, {active, false}, family(To)], ?WAIT_MS),
    ok = gen_tcp:send(Tcp, Bytes),
    {ok, Digest} = gen_tcp:recv(Tcp, 0, ?WAIT_MS),
    ok = gen_tcp:close(Tcp),
    Digest = erlang:md5(Bytes),
    ok.

icmp_echo(To) ->
    {ok, Socket} = socket:open(inet, raw, ?ICMP),
    Echo = <<8, 0, 0:16, 1:16, 1:16, "echo">>,
    Sum = lists:sum([W || <<W:16>> <= Echo]),
    Folded = (Sum band 16#ffff) + (Sum bsr 16),
    <<Head:2/binary, _:16, Tail/binary>> = Echo,
    Request = <<Head/binary, (bnot Folded):16, Tail/binary>>,
    ok = socket:sendto(Socket, Request, #{family => inet, addr => To, port => 0}),
    {ok, <<4:4, Words:4, _/binary>> = Packet} = socket:recv(Socket, 0, ?WAIT_MS),
    <<_:Words/unit:32, 0, 0, _:16, 1:16, 1:16, "echo">> = Packet,
    socket:close(Socket).

%% Nothing listens at this port: ICMP says so, and the kernel finds the socket that it is about.
refused(To) ->
    Family = family(To),
    {ok, Socket} = socket:open(Family, dgram, udp),
    ok = socket:connect(Socket, #{family => Family, addr => To, port => 11}),
    ok = socket:send(Socket, "anybody there?"),
    {error, econnrefused} = socket:recv(Socket, 0, ?WAIT_MS),
    socket:close(Socket).

family({_, _, _, _}) -> inet;
family(_) -> inet6.
