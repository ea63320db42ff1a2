%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% A peer whose VM stands still while its I/O thread lives: every scheduler is stopped,
%%% and "barrel io" goes on to acknowledge and to keep the link alive. No silence of the network
%%% tells it from a living one.
%%%
%%% QUIC's idle timeout is shorter here than a freeze, so a link that outlives the freeze was kept by
%%% that thread; that it ran is read from the operating system too.
-module(frozen_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    senders_to_a_frozen_peer_wait_and_its_link_times_out/1,
    a_peer_that_freezes_while_it_sends_times_out/1,
    a_short_freeze_loses_nothing/1,
    a_node_stops_though_its_peer_is_frozen/1
]).
%% Run on nodes
-export([freeze_here/2]).

-define(WAIT_MS, 30000).
-define(SENDERS, 8).
-define(SIZE, 65536).
%% What goes to Rust or comes from it at once.
-define(BATCH, 262144).
%% Noticed in 4 to 5 seconds of `net_ticktime', with time to look around before the thaw.
-define(TICKS, [{net_ticktime, 4}]).
-define(LONG_FREEZE_MS, 9000).
-define(SHORT_FREEZE_MS, 3000).
-define(NEVER_IDLE, [{idle_timeout_ms, 600000}]).
-define(SOON_IDLE, [{idle_timeout_ms, 2500}, {keep_alive_ms, 500}]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [
        senders_to_a_frozen_peer_wait_and_its_link_times_out,
        a_peer_that_freezes_while_it_sends_times_out,
        a_short_freeze_loses_nothing,
        a_node_stops_though_its_peer_is_frozen
    ].

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

%%%===================================================================
%%% Cases
%%%===================================================================

senders_to_a_frozen_peer_wait_and_its_link_times_out(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = pair(Cluster, #{kernel => ?TICKS, env => ?SOON_IDLE}),
    C = cluster:start(Cluster, c, #{kernel => [{net_setuptime, 1}], env => ?SOON_IDLE}),
    Receiver = cluster:run(B, fun() -> spawn(fun() -> count(#{}) end) end),
    Limit = in_flight(A),
    Before = [resident(Node) || Node <- [A, B]],
    Frozen = freeze(B, ?LONG_FREEZE_MS),
    Turns = turns(B),
    Held = cluster:call(A, erlang, memory, [binary]),
    Senders = senders(A, Receiver),
    ok = all_suspended(A, Senders, Receiver),
    %% somebody else does not get in, and is told so in the time that it gives itself
    ?assertEqual(false, cluster:call(C, net_kernel, connect_node, [B])),
    Grown = [resident(Node) - Was || {Node, Was} <- lists:zip([A, B], Before)],
    ?assertEqual(net_tick_timeout, cluster:await_nodedown(A, B, ?WAIT_MS)),
    lived_by_its_thread_alone(B, Turns, Frozen),
    %% nobody waits any more, and what was held for the peer is let go
    Ends = ends(A, Senders),
    ?assertEqual([noconnect], lists:usort([Why || {Why, _} <- Ends])),
    Taken = lists:sum([Sent || {_, Sent} <- Ends]) * ?SIZE,
    ct:comment("~b bytes taken of at most ~b; the processes grew by ~b and ~b", [Taken, Limit | Grown]),
    ?assert(Taken > 0),
    ?assert(Taken =< Limit, {taken, Taken}),
    %% the copies of allocators and of both sides of the boundary, too
    ?assert(lists:max(Grown) =< 3 * Limit, {grown, Grown}),
    cluster:await(A, fun() -> binaries() - Held < Limit div 4 end, ?WAIT_MS),
    %% it finds out when it runs again
    thawed(B, A, Frozen),
    ok = cluster:connect(A, B),
    ok = cluster:connect(C, B),
    [?assertEqual(B, cluster:call(Node, erpc, call, [B, erlang, node, []])) || Node <- [A, C]].

%% What it had handed over before still arrives, and then nothing: no sign of life of its VM.
a_peer_that_freezes_while_it_sends_times_out(Config) ->
    [A, B] = pair(?config(cluster, Config), #{kernel => ?TICKS, env => ?SOON_IDLE}),
    Receiver = cluster:run(A, fun() -> spawn(fun() -> count(#{}) end) end),
    _ = senders(B, Receiver),
    cluster:await(A, fun() -> maps:size(counts(Receiver)) =:= ?SENDERS end, ?WAIT_MS),
    Frozen = freeze(B, ?LONG_FREEZE_MS),
    Turns = turns(B),
    ?assertEqual(net_tick_timeout, cluster:await_nodedown(A, B, ?WAIT_MS)),
    lived_by_its_thread_alone(B, Turns, Frozen),
    never_thaws(B, Frozen).

a_short_freeze_loses_nothing(Config) ->
    [A, B] = pair(?config(cluster, Config), #{env => ?SOON_IDLE}),
    Receiver = cluster:run(B, fun() -> spawn(fun() -> count(#{}) end) end),
    Frozen = freeze(B, ?SHORT_FREEZE_MS),
    Turns = turns(B),
    Senders = senders(A, Receiver),
    ok = all_suspended(A, Senders, Receiver),
    await_thaw(Frozen),
    ?assert(turns(B) > Turns),
    %% they flow again, until they are told to stop
    cluster:await(B, fun() -> maps:size(counts(Receiver)) =:= ?SENDERS end, ?WAIT_MS),
    cluster:run(A, fun() -> [Pid ! stop || {Pid, _} <- Senders] end),
    Ends = ends(A, Senders),
    ?assertEqual([stopped], lists:usort([Why || {Why, _} <- Ends])),
    Sent = lists:sort([Count || {_, Count} <- Ends]),
    cluster:await(B, fun() -> lists:sort(maps:values(counts(Receiver))) =:= Sent end, ?WAIT_MS),
    ?assertError({no_nodedown, _, _, []}, cluster:await_nodedown(A, B, 1)).

%% What cannot be sent holds nobody up: who stops says so to the others meanwhile.
a_node_stops_though_its_peer_is_frozen(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = pair(Cluster, #{env => ?NEVER_IDLE}),
    C = cluster:start(Cluster, c, #{env => ?NEVER_IDLE}),
    ok = cluster:connect(C, A),
    Receiver = cluster:run(B, fun() -> spawn(fun() -> count(#{}) end) end),
    Frozen = freeze(B, ?LONG_FREEZE_MS),
    Senders = senders(A, Receiver),
    ok = all_suspended(A, Senders, Receiver),
    ok = cluster:stop(A, init_stop),
    ?assertEqual(connection_closed, cluster:await_nodedown(C, A, ?WAIT_MS)),
    ?assert(is_process_alive(Frozen), thawed_too_early),
    never_thaws(B, Frozen).

pair(Cluster, Opts) ->
    [A, B] = Pair = [cluster:start(Cluster, Name, Opts) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    [ok = cluster:await_nodeup(On, Of, ?WAIT_MS) || {On, Of} <- [{A, B}, {B, A}]],
    Pair.

%%%===================================================================
%%% Freezing
%%%===================================================================

%% Blocks all schedulers of a node, as a native function that does not return and holds what
%% the others need. Answers, when it is so, a process that lives until they run again.
freeze(Node, Ms) ->
    Peer = cluster:peer(Node),
    {ok, Cwd} = cluster:call(Node, file, get_cwd, []),
    Told = filename:join(Cwd, "freezes"),
    Frozen = spawn_link(fun() -> peer:call(Peer, ?MODULE, freeze_here, [Told, Ms], infinity) end),
    true = cluster:poll(fun() -> filelib:is_regular(Told) end, ?WAIT_MS, 5),
    Frozen.

freeze_here(Told, Ms) ->
    _ = erts_debug:set_internal_state(available_internal_state, true),
    ok = file:write_file(Told, <<>>),
    erts_debug:set_internal_state(block, Ms).

%% The last word of the peer is an acknowledgement, or it would have been lost for silence.
lived_by_its_thread_alone(Node, Turns, Frozen) ->
    ?assert(turns(Node) > Turns),
    ?assert(is_process_alive(Frozen), thawed_too_early).

thawed(Node, Other, Frozen) ->
    await_thaw(Frozen),
    %% which of the two it hears first is a race
    ?assert(lists:member(cluster:await_nodedown(Node, Other, ?WAIT_MS), [connection_closed, net_tick_timeout])).

%% Nothing more is asked of it.
never_thaws(Node, Frozen) ->
    true = unlink(Frozen),
    ok = cluster:kill(Node).

await_thaw(Frozen) ->
    Monitor = erlang:monitor(process, Frozen),
    receive
        {'DOWN', Monitor, process, Frozen, _} -> ok
    after ?WAIT_MS -> error(still_frozen)
    end.

%% How often the I/O thread has waited for something to do.
turns(Node) ->
    Tasks = filelib:wildcard("/proc/" ++ cluster:os_pid(Node) ++ "/task/*"),
    lists:sum([waits(Task) || Task <- Tasks, file:read_file(Task ++ "/comm") =:= {ok, <<"barrel io\n">>}]).

waits(Task) ->
    {ok, Status} = file:read_file(Task ++ "/status"),
    {match, [Count]} = re:run(Status, "^voluntary_ctxt_switches:\\s+(\\d+)", [multiline, {capture, all_but_first, list}]),
    list_to_integer(Count).

%%%===================================================================
%%% Sending
%%%===================================================================

%% As many as flow until the peer is gone, or they are told to stop. Each is answered with
%% its monitor, which a process of the node holds.
senders(Node, Receiver) ->
    cluster:run(Node, fun() ->
        Parent = self(),
        Keeper = spawn(fun() ->
            Pids = [spawn_monitor(fun() -> send(Receiver, 0) end) || _ <- lists:seq(1, ?SENDERS)],
            Parent ! {self(), [Pid || {Pid, _} <- Pids]},
            Ends = [
                receive
                    {'DOWN', Monitor, process, Pid, End} -> End
                end
             || {Pid, Monitor} <- Pids
            ],
            receive
                {ends, From} -> From ! {self(), Ends}
            end
        end),
        receive
            {Keeper, Pids} -> [{Pid, Keeper} || Pid <- Pids]
        end
    end).

%% Bytes of its own in each message, so that what is held is there to be measured.
send(Receiver, Sent) ->
    receive
        stop -> exit({stopped, Sent})
    after 0 ->
        Bytes = binary:copy(<<Sent>>, ?SIZE),
        case erlang:send(Receiver, {bytes, self(), Sent + 1, Bytes}, [noconnect]) of
            ok -> send(Receiver, Sent + 1);
            noconnect -> exit({noconnect, Sent})
        end
    end.

ends(Node, [{_, Keeper} | _]) ->
    cluster:run(Node, fun() ->
        Keeper ! {ends, self()},
        receive
            {Keeper, Ends} -> Ends
        end
    end).

%% While the controller still takes what it may hold, all of them are suspended now and then;
%% only when it takes no more does the channel stay busy.
all_suspended(Node, Senders, Receiver) ->
    IsSuspended = fun({Pid, _}) -> erlang:process_info(Pid, status) =:= {status, suspended} end,
    IsBusy = fun() -> erlang:send(Receiver, ignored, [nosuspend]) =:= nosuspend end,
    true = cluster:await(Node, fun() -> lists:all(IsSuspended, Senders) andalso IsBusy() end, ?WAIT_MS),
    ok.

%% Counts what each sender sent, and knows no gap.
count(Counts) ->
    receive
        {bytes, From, Number, Bytes} when byte_size(Bytes) =:= ?SIZE ->
            Number = maps:get(From, Counts, 0) + 1,
            count(Counts#{From => Number});
        {counts, From} ->
            From ! {self(), Counts},
            count(Counts)
    end.

counts(Receiver) ->
    Receiver ! {counts, self()},
    receive
        {Receiver, Counts} -> Counts
    end.

%%%===================================================================
%%% Memory
%%%===================================================================

%% All that there is between a sender and a process that does not read, see ARCHITECTURE.md.
in_flight(Node) ->
    Get = fun(Key) -> cluster:call(Node, barrel_p2p_config, get, [Key]) end,
    lists:sum([
        %% each of the three queues is looked at before a batch goes in
        3 * ?BATCH,
        %% in ERTS: the limit, and one message beyond it for each sender
        cluster:call(Node, erlang, system_info, [dist_buf_busy_limit]),
        ?SENDERS * ?SIZE,
        %% in Rust: what was pulled, and what QUIC has sent
        Get(pull_budget),
        Get(send_window),
        %% at the peer: what QUIC has received, and what waits to be taken
        2 * Get(receive_window)
    ]).

resident(Node) ->
    {ok, Status} = file:read_file("/proc/" ++ cluster:os_pid(Node) ++ "/status"),
    {match, [KiB]} = re:run(Status, "VmRSS:\\s+(\\d+) kB", [{capture, all_but_first, list}]),
    list_to_integer(KiB) * 1024.

binaries() ->
    _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
    erlang:memory(binary).
