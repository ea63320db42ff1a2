%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What the nodes of the demo do when the story asks them to.
%%%
%%% Every function runs in a process of its own in the node that it is about.
-module(demo_node).
-compile({no_auto_import, [halt/0]}).

-export([
    fingerprint/0,
    link_to/1,
    pin/1,
    echo/2,
    round_trips/2,
    watch_a_death/2,
    bulk/2,
    watch_nodes/0,
    await_nodedown/2,
    halt/0,
    stop/0
]).

%% A wait for another node of this machine.
-define(WAIT_MS, 15000).

%% @doc The fingerprint of this node's public key, in hexadecimal digits.
-spec fingerprint() -> binary().
fingerprint() ->
    {ok, Key} = barrel_p2p_dist_auth:get_public_key(),
    hex(barrel_p2p_dist_keys:fingerprint(Key)).

%% @doc What the link to a node has proven.
-spec link_to(node()) -> {ok, #{key := binary(), mtu := pos_integer()}} | {error, not_found}.
link_to(Node) ->
    Name = atom_to_binary(Node),
    case [Link || #{name := N} = Link <- barrel_p2p_node:links(), N =:= Name] of
        [#{key := Key, mtu := Mtu}] ->
            {ok, #{key => hex(barrel_p2p_dist_keys:fingerprint(Key)), mtu => Mtu}};
        [] ->
            {error, not_found}
    end.

%% @doc The fingerprint of the key that this node keeps for another one.
-spec pin(node()) -> not_pinned | {pinned, binary()}.
pin(Node) ->
    case barrel_p2p_dist_keys:lookup_pin(Node) of
        {pinned, Key} -> {pinned, hex(barrel_p2p_dist_keys:fingerprint(Key))};
        not_pinned -> not_pinned
    end.

%% @doc Sends a term to a worker and waits for it to come back.
-spec echo(pid(), term()) -> {ok, term()} | timeout.
echo(Worker, Term) ->
    Worker ! {echo, self(), Term},
    receive
        {echoed, Worker, Back} -> {ok, Back}
    after ?WAIT_MS -> timeout
    end.

%% @doc Median and 99th percentile of round trips, in microseconds.
-spec round_trips(pid(), pos_integer()) -> {P50 :: non_neg_integer(), P99 :: non_neg_integer()}.
round_trips(Worker, Count) ->
    Micros = lists:sort([
        begin
            {Time, {ok, N}} = timer:tc(?MODULE, echo, [Worker, N]),
            Time
        end
     || N <- lists:seq(1, Count)
    ]),
    {lists:nth(Count div 2, Micros), lists:nth(Count * 99 div 100, Micros)}.

%% @doc Links to a process of another node, monitors it, has it die, and answers what came.
-spec watch_a_death(node(), Reason :: term()) -> {Exit :: term(), Down :: term()}.
watch_a_death(Node, Reason) ->
    process_flag(trap_exit, true),
    Victim = spawn_link(Node, demo_worker, die_when_told, []),
    Monitor = erlang:monitor(process, Victim),
    Victim ! {die, Reason},
    Exit =
        receive
            {'EXIT', Victim, ExitReason} -> ExitReason
        after ?WAIT_MS -> no_exit_signal
        end,
    Down =
        receive
            {'DOWN', Monitor, process, Victim, DownReason} -> DownReason
        after ?WAIT_MS -> no_down_message
        end,
    {Exit, Down}.

%% @doc Random bytes to a worker and back, with the digests of what was sent, of what
%% arrived there, and of what came back. The time is that of both transfers.
-spec bulk(pid(), Size :: pos_integer()) ->
    #{micros := pos_integer(), sent := binary(), there := binary(), back := binary()}.
bulk(Worker, Size) ->
    Data = crypto:strong_rand_bytes(Size),
    Sent = crypto:hash(sha256, Data),
    {Micros, {ok, Back}} = timer:tc(?MODULE, echo, [Worker, Data]),
    #{
        micros => Micros,
        sent => Sent,
        there => gen_server:call(Worker, digest, ?WAIT_MS),
        back => crypto:hash(sha256, Back)
    }.

%% @doc Notes from now on when nodes go down. The first call starts the process that does.
-spec watch_nodes() -> ok.
watch_nodes() ->
    Asker = self(),
    {_, Monitor} = spawn_monitor(fun() ->
        true = register(demo_watch, self()),
        ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
        Asker ! watching,
        watch_loop()
    end),
    receive
        watching ->
            true = erlang:demonitor(Monitor, [flush]),
            ok;
        {'DOWN', Monitor, process, _, Reason} ->
            exit(Reason)
    end.

watch_loop() ->
    receive
        {nodedown, Node, Info} ->
            Time = os:system_time(microsecond),
            receive
                {await, Asker, Node} -> Asker ! {went_down, Node, Time, proplists:get_value(nodedown_reason, Info)}
            end,
            watch_loop()
    end.

%% @doc When, in microseconds since the epoch, and why a node went down.
-spec await_nodedown(node(), timeout()) -> {ok, Time :: integer(), Reason :: term()} | {error, timeout}.
await_nodedown(Node, Timeout) ->
    demo_watch ! {await, self(), Node},
    receive
        {went_down, Node, Time, Reason} -> {ok, Time, Reason}
    after Timeout -> {error, timeout}
    end.

%% @doc Ends this node at once, after it has answered when that was.
-spec halt() -> Time :: integer().
halt() ->
    Answerer = self(),
    _ = spawn(fun() ->
        Monitor = erlang:monitor(process, Answerer),
        receive
            {'DOWN', Monitor, process, Answerer, _} -> erlang:halt()
        end
    end),
    os:system_time(microsecond).

%% @doc Ends this node step by step, and answers when that began.
-spec stop() -> Time :: integer().
stop() ->
    Time = os:system_time(microsecond),
    ok = init:stop(),
    Time.

hex(Digest) ->
    string:lowercase(binary:encode_hex(Digest)).
