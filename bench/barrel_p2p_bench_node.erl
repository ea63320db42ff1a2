%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What the nodes of the benchmark do: send, receive, count.
%%%
%%% Node B counts, because only the receiver knows what has arrived. Its *sinks*
%%% take messages, one for each sender of node A, and count them in a common
%%% array, which the *counter* process reads at the begin and at the end of a
%%% window. When a sender stops it asks its sink how much it got, over the same
%%% ordered way that the messages took: nothing may be missing.
-module(barrel_p2p_bench_node).

%% Node B
-export([start_echo/0, start_sinks/1, window/3, memory/0]).
%% Node A
-export([first_contact/1, round_trips/3, start_senders/2, stop_senders/1]).

%% Longest wait for one round trip; longer ones mean that nothing flows any more.
-define(STALL_MS, 120000).
%% Small messages between two looks at the own queue.
-define(BURST, 64).

%%%===================================================================
%%% Node B
%%%===================================================================

%% @doc A process that sends back what it gets.
-spec start_echo() -> pid().
start_echo() ->
    restart(bench_echo, fun echo/0).

echo() ->
    receive
        {From, Term} ->
            From ! Term,
            echo()
    end.

%% @doc Processes that take binaries and count them, and the one that reads the counts.
-spec start_sinks(pos_integer()) -> [pid()].
start_sinks(Count) ->
    Counts = counters:new(2 * Count, []),
    _ = restart(bench_counter, fun() -> counter(Counts) end),
    [
        spawn_opt(fun() -> sink(Counts, 2 * N - 1, 0, 0) end, [{message_queue_data, off_heap}])
     || N <- lists:seq(1, Count)
    ].

sink(Counts, Index, Messages, Bytes) ->
    receive
        Data when is_binary(Data) ->
            Size = byte_size(Data),
            counters:add(Counts, Index, 1),
            counters:add(Counts, Index + 1, Size),
            sink(Counts, Index, Messages + 1, Bytes + Size);
        {how_much, Sender} ->
            Sender ! {got, self(), Messages, Bytes}
    end.

%% @doc What the sinks get in `RunMs' after `WarmMs', and the processor time that these
%% operating system processes use meanwhile.
-spec window(WarmMs :: non_neg_integer(), RunMs :: pos_integer(), OsPids :: [string()]) ->
    #{
        messages := non_neg_integer(),
        bytes := non_neg_integer(),
        micros := pos_integer(),
        cpu_micros := non_neg_integer() | unknown
    }.
window(WarmMs, RunMs, OsPids) ->
    bench_counter ! {window, self(), WarmMs, RunMs, OsPids},
    receive
        {window, Window} -> Window
    end.

counter(Counts) ->
    receive
        {window, Asker, WarmMs, RunMs, OsPids} ->
            pause(WarmMs),
            First = look(Counts, OsPids),
            pause(RunMs),
            Last = look(Counts, OsPids),
            Asker ! {window, maps:map(fun(Key, Value) -> minus(Value, maps:get(Key, First)) end, Last)},
            counter(Counts)
    end.

%% The length of a measurement is what is wanted here, not an event.
pause(Ms) ->
    receive
    after Ms -> ok
    end.

look(Counts, OsPids) ->
    #{size := Size} = counters:info(Counts),
    #{
        micros => erlang:monotonic_time(microsecond),
        messages => lists:sum([counters:get(Counts, N) || N <- lists:seq(1, Size, 2)]),
        bytes => lists:sum([counters:get(Counts, N) || N <- lists:seq(2, Size, 2)]),
        cpu_micros => barrel_p2p_bench_usage:cpu_micros(OsPids)
    }.

minus(unknown, _) -> unknown;
minus(_, unknown) -> unknown;
minus(A, B) -> A - B.

%% @doc Collects all garbage, and answers what this VM then says that it uses.
-spec memory() -> non_neg_integer().
memory() ->
    lists:foreach(fun erlang:garbage_collect/1, processes()),
    erlang:memory(total).

%%%===================================================================
%%% Node A
%%%===================================================================

%% @doc Pings a node that this one may not know yet.
-spec first_contact(node()) -> {Micros :: non_neg_integer(), pong | pang}.
first_contact(Node) ->
    timer:tc(net_adm, ping, [Node]).

%% @doc Sorted times of round trips, in nanoseconds. The last one counts in full, even when
%% it ends after the time is over.
-spec round_trips(Echo :: pid(), WarmMs :: non_neg_integer(), RunMs :: pos_integer()) ->
    [non_neg_integer(), ...].
round_trips(Echo, WarmMs, RunMs) ->
    _ = WarmMs > 0 andalso round_trips_until(Echo, now_ns() + WarmMs * 1000000, []),
    lists:sort(round_trips_until(Echo, now_ns() + RunMs * 1000000, [])).

round_trips_until(Echo, End, Times) ->
    Begin = now_ns(),
    Echo ! {self(), Begin},
    receive
        Begin ->
            Now = now_ns(),
            case Now < End of
                true -> round_trips_until(Echo, End, [Now - Begin | Times]);
                false -> [Now - Begin | Times]
            end
    after ?STALL_MS -> exit({no_round_trip_within_ms, ?STALL_MS})
    end.

now_ns() ->
    erlang:monotonic_time(nanosecond).

%% @doc One process for each sink, sending binaries of this size until it is told to stop.
-spec start_senders([pid()], Size :: pos_integer()) -> ok.
start_senders(Sinks, Size) ->
    _ = restart(bench_senders, fun() -> senders(Sinks, Size) end),
    ok.

%% @doc Stops them, and makes sure that all has arrived.
-spec stop_senders(timeout()) -> ok | {error, term()}.
stop_senders(Timeout) ->
    bench_senders ! {stop, self()},
    receive
        {stopped, Result} -> Result
    after Timeout -> {error, {not_all_arrived_within_ms, Timeout}}
    end.

senders(Sinks, Size) ->
    Data = binary:copy(<<"b">>, Size),
    Burst =
        case Size > 4096 of
            true -> 1;
            false -> ?BURST
        end,
    Self = self(),
    Senders = [spawn_link(fun() -> Self ! {self(), send(Sink, Data, Burst, 0)} end) || Sink <- Sinks],
    receive
        {stop, Asker} ->
            [Sender ! stop || Sender <- Senders],
            Asker ! {stopped, all_arrived(Senders, Size)}
    end.

all_arrived([Sender | Senders], Size) ->
    receive
        {Sender, {Sent, Sent, Bytes}} when Bytes =:= Sent * Size -> all_arrived(Senders, Size);
        {Sender, {Sent, Got, Bytes}} -> {error, {sent, Sent, got, Got, bytes, Bytes}}
    end;
all_arrived([], _Size) ->
    ok.

send(Sink, Data, Burst, Sent) ->
    receive
        stop ->
            Sink ! {how_much, self()},
            receive
                {got, Sink, Messages, Bytes} -> {Sent, Messages, Bytes}
            end
    after 0 ->
        send_burst(Sink, Data, Burst),
        send(Sink, Data, Burst, Sent + Burst)
    end.

send_burst(_Sink, _Data, 0) ->
    ok;
send_burst(Sink, Data, Left) ->
    Sink ! Data,
    send_burst(Sink, Data, Left - 1).

%%%===================================================================
%%% Internal
%%%===================================================================

%% A registered process instead of the one of the measurement before.
restart(Name, Fun) ->
    case whereis(Name) of
        undefined ->
            ok;
        Old ->
            Monitor = erlang:monitor(process, Old),
            exit(Old, kill),
            receive
                {'DOWN', Monitor, process, Old, _} -> ok
            end
    end,
    Pid = spawn(Fun),
    true = register(Name, Pid),
    Pid.
