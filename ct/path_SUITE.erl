%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Nodes that talk over a bad path: what is lost is sent again, the size of
%%% datagrams follows the path, an address may change, and silence ends a
%%% connection only when it lasts.
%%%
%%% Under each case a stream of numbered messages runs both ways. A message that is
%%% missing, spoiled, or in the wrong place ends it, and so does a `nodedown'.
-module(path_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    messages_come_whole_and_in_order_through_loss_reordering_and_duplication/1,
    messages_come_through_bursts_of_loss/1,
    messages_come_through_delay_and_a_rate_limit/1,
    datagrams_grow_to_8900_bytes_where_the_path_carries_them/1,
    datagrams_stay_small_where_it_does_not/1,
    a_path_that_swallows_large_datagrams_is_noticed_in_the_middle_of_traffic/1,
    a_new_address_in_the_middle_of_traffic_loses_nothing/1,
    a_short_blackout_loses_nothing/1,
    a_long_blackout_is_nodedown_on_both_sides_and_they_connect_again/1,
    packets_of_a_tunnel_that_shrinks_in_the_middle_of_traffic/1,
    a_host_that_moves_in_the_middle_of_traffic_loses_nothing/1
]).
%% Run on the nodes
-export([start_stream/1, sent/0, stop_stream/0, receive_stream/1, link_to/1]).

-define(WAIT_MS, 30000).
%% Messages without an answer. Enough to fill a path, few enough that a stream stops soon.
-define(AHEAD, 400).
-define(ANSWER_EACH, 50).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [{group, udp}, {group, tun}].

groups() ->
    [
        {udp, [], [
            messages_come_whole_and_in_order_through_loss_reordering_and_duplication,
            messages_come_through_bursts_of_loss,
            messages_come_through_delay_and_a_rate_limit,
            datagrams_grow_to_8900_bytes_where_the_path_carries_them,
            datagrams_stay_small_where_it_does_not,
            a_path_that_swallows_large_datagrams_is_noticed_in_the_middle_of_traffic,
            a_new_address_in_the_middle_of_traffic_loses_nothing,
            a_short_blackout_loses_nothing,
            a_long_blackout_is_nodedown_on_both_sides_and_they_connect_again
        ]},
        {tun, [], tun()}
    ].

tun() ->
    [
        packets_of_a_tunnel_that_shrinks_in_the_middle_of_traffic,
        a_host_that_moves_in_the_middle_of_traffic_loses_nothing
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
        false -> [{cluster, cluster:new(Config)} | Config];
        {true, Why} -> {skip, Why}
    end.

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

%%%===================================================================
%%% Loss, delay
%%%===================================================================

messages_come_whole_and_in_order_through_loss_reordering_and_duplication(Config) ->
    Settings = [{both, loss, 0.03}, {both, reorder, 0.03}, {both, duplicate, 0.03}, {both, delay, 1}, {both, hold, 5}],
    joined(Config, #{settings => Settings}, [], fun(Path, Ends) ->
        streams(Ends, fun() -> await_sent(Ends, 3000) end),
        Stats = impaired:stats(Path),
        [
            ?assert(maps:get(Key, maps:get(Way, Stats)) > 0, {Key, Stats})
         || Way <- [forward, backward], Key <- [lost, reordered, duplicated]
        ]
    end).

%% A burst counts packets, and who hears nothing sends ever fewer: about 20 in the usual idle timeout, and
%% 40 in a minute. A burst of so many would rightly end the link, so they are short and the timeout is long.
messages_come_through_bursts_of_loss(Config) ->
    Settings = [{both, loss, 0.05}, {both, burst, 3}, {both, delay, 1}],
    joined(Config, #{settings => Settings}, [{idle_timeout_ms, 60000}], fun(Path, Ends) ->
        streams(Ends, fun() -> await_sent(Ends, 2000) end),
        #{forward := #{lost := Lost}} = impaired:stats(Path),
        ?assert(Lost > 0)
    end).

%% The queue holds 50 ms: a sender that did not slow down would lose most of what it sends.
messages_come_through_delay_and_a_rate_limit(Config) ->
    Settings = [{both, delay, 20}, {both, rate, 20000000}, {both, queue, 125000}],
    joined(Config, #{settings => Settings}, [], fun(Path, [A, B] = Ends) ->
        streams(Ends, fun() -> await_sent(Ends, 2000) end),
        #{rtt_us := Rtt} = linked(A, B),
        ?assert(Rtt >= 40000, Rtt),
        #{forward := #{delivered := Delivered, dropped := Dropped}} = Stats = impaired:stats(Path),
        ct:pal("~p", [Stats]),
        ?assert(Dropped < Delivered div 2, Stats)
    end).

%%%===================================================================
%%% The size of datagrams
%%%===================================================================

datagrams_grow_to_8900_bytes_where_the_path_carries_them(Config) ->
    joined(Config, #{}, [], fun(Path, Ends) ->
        streams(Ends, fun() -> await_mtu(Ends, fun(Mtu) -> Mtu =:= 8900 end) end),
        #{forward := #{largest := Largest}} = impaired:stats(Path),
        ?assert(Largest > 8900)
    end).

datagrams_stay_small_where_it_does_not(Config) ->
    joined(Config, #{settings => [{both, mtu, 1500}]}, [], fun(Path, [A, B] = Ends) ->
        streams(Ends, fun() ->
            await_mtu(Ends, fun(Mtu) -> Mtu > 1400 end),
            await_sent(Ends, 1000)
        end),
        [?assert(mtu(X, Y) =< 1472) || {X, Y} <- [{A, B}, {B, A}]],
        %% probes, and nothing but
        #{forward := #{too_large := TooLarge}} = Stats = impaired:stats(Path),
        ?assert(TooLarge < 50, Stats)
    end).

a_path_that_swallows_large_datagrams_is_noticed_in_the_middle_of_traffic(Config) ->
    joined(Config, #{}, [], fun(Path, Ends) ->
        black_hole(Path, Ends)
    end).

packets_of_a_tunnel_that_shrinks_in_the_middle_of_traffic(Config) ->
    tunnelled(Config, fun(Path, Ends) ->
        black_hole(Path, Ends)
    end).

%% From large datagrams on, the path drops them and says nothing.
black_hole(Path, [A, B] = Ends) ->
    streams(Ends, fun() ->
        await_mtu(Ends, fun(Mtu) -> Mtu > 8800 end),
        ok = impaired:set(Path, both, mtu, 1500),
        Begin = erlang:monotonic_time(millisecond),
        await_mtu(Ends, fun(Mtu) -> Mtu =< 1472 end),
        ct:pal("noticed after ~b ms", [erlang:monotonic_time(millisecond) - Begin]),
        await_more(Ends, 2000)
    end),
    ct:pal("datagrams of ~p bytes afterwards, ~p", [[mtu(A, B), mtu(B, A)], impaired:stats(Path)]),
    [?assert(mtu(X, Y) =< 1472) || {X, Y} <- [{A, B}, {B, A}]].

%%%===================================================================
%%% Another address
%%%===================================================================

a_new_address_in_the_middle_of_traffic_loses_nothing(Config) ->
    joined(Config, #{settings => [{both, delay, 1}]}, [], fun(Path, Ends) ->
        moves(Path, Ends)
    end).

a_host_that_moves_in_the_middle_of_traffic_loses_nothing(Config) ->
    tunnelled(Config, fun(Path, Ends) ->
        moves(Path, Ends)
    end).

moves(Path, Ends) ->
    streams(Ends, fun() ->
        await_more(Ends, 500),
        [
            begin
                [_ | _] = impaired:rebind(Path),
                await_more(Ends, 1000)
            end
         || _ <- [once, twice, thrice]
        ]
    end).

%%%===================================================================
%%% Silence
%%%===================================================================

a_short_blackout_loses_nothing(Config) ->
    joined(Config, #{}, [{idle_timeout_ms, 20000}], fun(Path, Ends) ->
        streams(Ends, fun() ->
            await_more(Ends, 500),
            ok = impaired:blackout(Path, true),
            %% each side has asked several times whether anybody is there
            [await_stat(Path, Way, blackout, 8) || Way <- [forward, backward]],
            ok = impaired:blackout(Path, false),
            await_more(Ends, 1000)
        end)
    end).

a_long_blackout_is_nodedown_on_both_sides_and_they_connect_again(Config) ->
    Env = [{idle_timeout_ms, 2000}, {keep_alive_ms, 500}],
    joined(Config, #{}, Env, fun(Path, [#{node := A}, #{node := B}] = Ends) ->
        [
            begin
                ok = impaired:blackout(Path, true),
                [?assertEqual(connection_closed, cluster:await_nodedown(X, Y, ?WAIT_MS)) || {X, Y} <- [{A, B}, {B, A}]],
                ok = impaired:blackout(Path, false),
                ok = cluster:connect(From, To),
                streams(Ends, fun() -> await_sent(Ends, 500) end)
            end
         || {From, To} <- [{A, B}, {B, A}]
        ]
    end).

%%%===================================================================
%%% Nodes
%%%===================================================================

%% An end is a node and how it is called, because those in namespaces are of another kind.
joined(Config, Opts, Env, Fun) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{env => Env}) || Name <- [a, b]],
    Path = impaired:between(A, B, Opts),
    ok = cluster:connect(A, B),
    _ = Fun(Path, [#{node => N, call => fun(F, As) -> cluster:call(N, ?MODULE, F, As) end} || N <- [A, B]]),
    [cluster:stop(N, halt) || N <- [A, B]],
    ok = impaired:stop(Path).

tunnelled(Config, Fun) ->
    Path = impaired:start(tun, #{}),
    {Near, Far} = impaired:places(Path),
    {_, A} = VmA = impaired:start_node(Config, Near, "a", []),
    {_, B} = VmB = impaired:start_node(Config, Far, "b", []),
    pong = elsewhere:call(VmA, net_adm, ping, [B]),
    _ = Fun(Path, [
        #{node => N, call => fun(F, As) -> elsewhere:call(Vm, ?MODULE, F, As) end}
     || {N, Vm} <- [{A, VmA}, {B, VmB}]
    ]),
    [ok = elsewhere:stop(Vm) || Vm <- [VmA, VmB]],
    ok = impaired:stop(Path).

call(#{call := Call}, Function, Arguments) ->
    Call(Function, Arguments).

%% What the node knows of its link.
linked(End, #{node := Other}) ->
    call(End, link_to, [Other]).

mtu(End, Other) ->
    #{mtu := Mtu} = linked(End, Other),
    Mtu.

%%%===================================================================
%%% Steps
%%%===================================================================

%% While streams run both ways, something happens; then every message has come.
streams([A, B] = Ends, Happens) ->
    [ok = call(X, start_stream, [maps:get(node, Y)]) || {X, Y} <- [{A, B}, {B, A}]],
    Happens(),
    [?assertMatch({all, _}, call(End, stop_stream, [])) || End <- Ends].

%% Both streams have come this far, as their receivers say.
await_sent(Ends, Count) ->
    [await(fun() -> reached(call(End, sent, []), Count) end) || End <- Ends].

await_more(Ends, Count) ->
    Sent = [call(End, sent, []) || End <- Ends],
    [await(fun() -> reached(call(End, sent, []), Before + Count) end) || {End, Before} <- lists:zip(Ends, Sent)].

await_mtu([A, B], Condition) ->
    [
        await(fun() ->
            %% a stream that has ended says so
            _ = reached(call(X, sent, []), 0),
            Mtu = mtu(X, Y),
            Condition(Mtu) orelse Mtu
        end)
     || {X, Y} <- [{A, B}, {B, A}]
    ].

await_stat(Path, Way, Key, Count) ->
    await(fun() ->
        #{Way := #{Key := Value}} = impaired:stats(Path),
        reached(Value, Count)
    end).

reached(Value, Wanted) when is_integer(Value) ->
    Value >= Wanted orelse Value.

await(Condition) ->
    case cluster:poll(Condition, ?WAIT_MS, 10) of
        {late, Last} -> error({not_within, ?WAIT_MS, Last});
        _ -> ok
    end.

link_to(Node) ->
    Name = atom_to_binary(Node),
    [Link] = [L || #{name := N, draining := false} = L <- barrel_p2p_node:links(), N =:= Name],
    Link.

%%%===================================================================
%%% Streams, on the nodes
%%%===================================================================

start_stream(To) ->
    Caller = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        true = register(?MODULE, self()),
        %% it stays to tell how it ended
        _ = process_flag(trap_exit, true),
        true = monitor_node(To, true),
        Receiver = spawn_link(To, ?MODULE, receive_stream, [self()]),
        Caller ! {self(), started},
        send_stream(To, Receiver, 1, 0)
    end),
    receive
        {Pid, started} ->
            true = erlang:demonitor(Monitor, [flush]),
            ok;
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, Reason}
    end.

%% How far the receiver has come.
sent() ->
    ask(sent).

%% Ends the stream, when the receiver has all of it.
stop_stream() ->
    ask(stop).

ask(Question) ->
    Monitor = erlang:monitor(process, ?MODULE),
    ?MODULE ! {Question, {self(), Monitor}},
    receive
        {Monitor, Answer} ->
            true = erlang:demonitor(Monitor, [flush]),
            Answer;
        {'DOWN', Monitor, process, _, Reason} ->
            {stream_ended, Reason}
    end.

send_stream(Node, Receiver, Next, Come) ->
    Wait =
        case Next - Come > ?AHEAD of
            true -> infinity;
            false -> 0
        end,
    receive
        {come, Number} ->
            send_stream(Node, Receiver, Next, Number);
        {sent, {From, Ref}} ->
            From ! {Ref, Come},
            send_stream(Node, Receiver, Next, Come);
        {stop, From} ->
            Receiver ! {last, Next - 1},
            end_stream(Node, Receiver, Next - 1, From);
        {nodedown, Node} ->
            ended({nodedown, Node});
        {'EXIT', Receiver, Reason} ->
            ended(Reason)
    after Wait ->
        Receiver ! {Next, payload(Next)},
        send_stream(Node, Receiver, Next + 1, Come)
    end.

end_stream(Node, Receiver, Last, {From, Ref}) ->
    receive
        {Receiver, all, Last} -> From ! {Ref, {all, Last}};
        {nodedown, Node} -> From ! {Ref, {stream_ended, {nodedown, Node}}};
        {'EXIT', Receiver, Reason} -> From ! {Ref, {stream_ended, Reason}}
    end.

%% Before its time: so it says to whoever asks.
ended(Reason) ->
    receive
        {_Question, {From, Ref}} -> From ! {Ref, {stream_ended, Reason}};
        _ -> ok
    end,
    ended(Reason).

receive_stream(Sender) ->
    receive_stream(Sender, 1).

receive_stream(Sender, Next) ->
    receive
        {last, Last} when Last =:= Next - 1 ->
            Sender ! {self(), all, Last};
        {Next, Payload} ->
            Payload = payload(Next),
            case Next rem ?ANSWER_EACH of
                0 -> Sender ! {come, Next};
                _ -> ok
            end,
            receive_stream(Sender, Next + 1);
        Other ->
            exit({expected, Next, element(1, Other)})
    end.

%% Mostly small, and now and then one of many datagrams.
payload(Number) when Number rem 20 =:= 0 -> binary:copy(<<Number:64>>, 4000);
payload(Number) -> binary:copy(<<Number:64>>, 12).
