%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The processes of `order_SUITE', on its nodes.
%%%
%%% {@link run/4} starts *receivers*, each with rounds of its own. In a round of the common
%%% kinds a receiver plans some messages at random, starts a *sender* for them on the other
%%% node, writes down all that comes, in the order in which it comes, and compares. The
%%% sender sends the messages numbered, to the pid, the name or an alias of the receiver, and ends as
%%% planned. Everything that tells of its end must come behind its last message.
%%%
%%% Three kinds have other roles. In `requests' the receiver is who sends: what it asked for by a
%%% monitor, a link or their contrary must be in force when a later message is read. In `kills' the
%%% messages go to a victim that the last signal kills; a trace tells what had reached it. In `calls'
%%% a server answers and stops.
%%%
%%% A message that arrives after its round has ended is found by a later one as a stray.
-module(order_node).
-behaviour(gen_server).

-export([run/4]).
%% Entry points of processes
-export([sender/3, target/2, source/2]).
%% gen_server
-export([init/1, handle_call/3, handle_cast/2]).

-export_type([kind/0]).

-type kind() ::
    pids | names | aliases | monitors | links | unlinks | exits | fragments | requests | kills | calls.

%% All that one receiver needs to know.
-record(pair, {
    kind :: kind(),
    other :: node(),
    number :: pos_integer(),
    %% registered names: of the receiver or victim here, of the sender, target or server there
    here :: atom(),
    there :: atom(),
    alias :: reference(),
    source :: pid() | undefined
}).

%% What must come, and how long that takes is not what is tested.
-define(SOON, 120000).
%% A message above 64 KiB leaves in several packets.
-define(LARGE, 66000).
%% Failures that are told in full.
-define(TOLD, 5).

%% @doc Plays rounds of a kind with processes of the other node, by so many pairs at once.
-spec run(kind(), Other :: node(), Rounds :: pos_integer(), Pairs :: pos_integer()) -> prove:failures().
run(Kind, Other, Rounds, Pairs) ->
    Receivers = [
        spawn_monitor(fun() -> exit({played, receiver(Kind, Other, Number, share(Rounds, Pairs, Number))}) end)
     || Number <- lists:seq(1, Pairs)
    ],
    lists:foldl(
        fun({Pid, Monitor}, {Count, Some}) ->
            receive
                {'DOWN', Monitor, process, Pid, {played, Failures}} ->
                    {Count + length(Failures), lists:sublist(Some ++ Failures, ?TOLD)};
                {'DOWN', Monitor, process, Pid, Reason} ->
                    {Count + 1, [#{kind => Kind, on => node(), receiver_died => Reason} | Some]}
            end
        end,
        {0, []},
        Receivers
    ).

share(Rounds, Pairs, Number) ->
    (Rounds + Pairs - Number) div Pairs.

%%%===================================================================
%%% The receiver
%%%===================================================================

receiver(Kind, Other, Number, Rounds) ->
    _ = process_flag(trap_exit, true),
    Here = name("order_here_", Number),
    Kind =:= kills orelse register(Here, self()),
    Pair = #pair{
        kind = Kind,
        other = Other,
        number = Number,
        here = Here,
        there = name("order_there_", Number),
        alias = alias()
    },
    play(with_source(Pair), rand:seed_s(exsss, {erlang:phash2(Kind), Number, erlang:phash2(node())}), 1, Rounds, []).

name(Prefix, Number) ->
    list_to_atom(Prefix ++ integer_to_list(Number)).

with_source(#pair{kind = calls, other = Other, there = There} = Pair) ->
    Pair#pair{source = spawn_link(Other, ?MODULE, source, [self(), There])};
with_source(Pair) ->
    Pair.

play(_Pair, _Random, Round, Rounds, Failures) when Round > Rounds ->
    lists:reverse(Failures);
play(Pair, Random, Round, Rounds, Failures) ->
    {Plan, Next} = plan(Pair#pair.kind, Round, Random),
    {First, Last} = expected(Pair#pair.kind, Plan),
    Came = [short(Event) || Event <- round(Pair, Round, Plan)],
    case came(Came, First, Last) of
        true -> play(Pair, Next, Round + 1, Rounds, Failures);
        false -> play(Pair, Next, Round + 1, Rounds, [failure(Pair, Round, Plan, Came, First, Last) | Failures])
    end.

%% The messages in their order, then the signals; these have no order among themselves.
came(Came, First, Last) ->
    {Before, After} = lists:split(min(length(First), length(Came)), Came),
    Before =:= First andalso lists:sort(After) =:= lists:sort(Last).

failure(#pair{kind = Kind, number = Number}, Round, Plan, Came, First, Last) ->
    #{
        kind => Kind,
        on => node(),
        pair => Number,
        round => Round,
        plan => maps:map(fun(_, Value) -> short(Value) end, Plan),
        came => Came,
        must_come => First,
        and_then => Last
    }.

%% Large binaries are told by size and hash.
short(Bytes) when is_binary(Bytes), byte_size(Bytes) > 64 -> {bytes, byte_size(Bytes), erlang:phash2(Bytes)};
short(Tuple) when is_tuple(Tuple) -> list_to_tuple(short(tuple_to_list(Tuple)));
short([Head | Tail]) -> [short(Head) | short(Tail)];
short(Term) -> Term.

%%%===================================================================
%%% Plans
%%%===================================================================

%% What the parties will do: the steps of who sends, and its end.
plan(Kind, Round, Random0) ->
    {Count, Random1} = between(0, 12, Random0),
    {Steps, Random2} = lists:mapfoldl(fun(I, R) -> step(Kind, I, R) end, Random1, lists:seq(1, Count)),
    {How, Random3} = pick(ends(Kind), Random2),
    {Also, Random4} = pick(also(Kind), Random3),
    {Where, Random5} = between(0, Count, Random4),
    {#{steps => put_in(Also, Where, Steps), how => how(How, Round), also => Also}, Random5}.

step(Kind, I, Random0) ->
    {Path, Random1} = pick(paths(Kind), Random0),
    {Dice, Random2} = between(1, 1000, Random1),
    {{send, I, Path, size(Kind, Dice)}, Random2}.

paths(pids) -> [pid];
paths(names) -> [name];
paths(aliases) -> [alias];
paths(_) -> [pid, name, alias].

%% Bytes of a message beside its number.
size(fragments, Dice) when Dice =< 150 -> ?LARGE;
size(_, Dice) when Dice =< 3 -> ?LARGE;
size(_, Dice) -> Dice rem 100.

ends(fragments) -> [normal, exit, kill, large];
ends(exits) -> [normal, exit, exit, large];
ends(calls) -> [stop, reply_stop, reply_kill];
ends(_) -> [normal, exit, exit, kill].

%% Something between the messages.
also(unlinks) -> [unlink];
also(requests) -> [monitor, monitor_name, link, demonitor, demonitor_name, unlink];
also(calls) -> [pid, name, request];
also(_) -> [nothing].

%% For `unlinks' a step of its own, at a random place.
put_in(unlink, Where, Steps) ->
    {Before, After} = lists:split(Where, Steps),
    Before ++ [unlink | After];
put_in(_, _, Steps) ->
    Steps.

how(exit, Round) -> {exit, {stopped, Round}};
how(large, Round) -> {exit, {stopped, Round, binary:copy(<<Round:32>>, ?LARGE div 4)}};
how(How, _Round) -> How.

between(From, To, Random0) ->
    {N, Random} = rand:uniform_s(To - From + 1, Random0),
    {From + N - 1, Random}.

pick(List, Random0) ->
    {N, Random} = rand:uniform_s(length(List), Random0),
    {lists:nth(N, List), Random}.

%%%===================================================================
%%% What must come
%%%===================================================================

expected(calls, _Plan) ->
    {[replied], []};
expected(requests, #{steps := Steps, also := Also}) ->
    Got = {got, [I || {send, I, _, _} <- Steps]},
    {[], [{ended, Got} | [{told, Got} || lists:member(Also, [monitor, monitor_name, link])]]};
expected(kills, #{steps := Steps}) ->
    {messages(Steps), [{ended, killed}]};
expected(exits, #{steps := Steps, how := How}) ->
    {messages(Steps), [{exit, short(exit_reason(How))}]};
expected(Kind, #{steps := Steps, how := How}) ->
    Reason = short(exit_reason(How)),
    {messages(Steps), [{tells(Watch), Reason} || Watch <- watches(Kind), {Kind, Watch} =/= {unlinks, link}]}.

messages(Steps) ->
    [{message, I, Path, Size} || {send, I, Path, Size} <- Steps].

exit_reason(normal) -> normal;
exit_reason(kill) -> killed;
exit_reason({exit, Reason}) -> Reason.

%% How the receiver will hear of the end of the sender.
watches(monitors) -> [monitor, monitor_name];
watches(links) -> [link];
watches(unlinks) -> [monitor, link];
watches(fragments) -> [monitor, link];
watches(exits) -> [];
watches(_) -> [monitor].

tells(link) -> exit;
tells(_) -> down.

%%%===================================================================
%%% Rounds
%%%===================================================================

round(#pair{kind = requests} = Pair, Round, Plan) -> requests(Pair, Round, Plan);
round(#pair{kind = kills} = Pair, Round, Plan) -> kills(Pair, Round, Plan);
round(#pair{kind = calls} = Pair, Round, Plan) -> calls(Pair, Round, Plan);
round(Pair, Round, Plan) -> messages(Pair, Round, Plan).

%%--------------------------------------------------------------------
%% A sender sends and ends

messages(#pair{kind = Kind, other = Other, there = There} = Pair, Round, Plan) ->
    Watches = watches(Kind),
    ByName = lists:member(monitor_name, Watches),
    Start = #{
        round => Round,
        to => addresses(Pair),
        register => [There || ByName],
        %% alive and waiting until this process has said go, where that is needed
        wait => ByName orelse Kind =:= links
    },
    Options = [Watch || Watch <- Watches, Watch =:= monitor orelse (Watch =:= link andalso Kind =/= links)],
    Sender = pid_of(spawn_opt(Other, ?MODULE, sender, [Start, with_exit(Kind, Plan), self()], Options)),
    case Start of
        #{wait := true} ->
            receive
                {ready, Sender} -> ok
            end,
            _ = [monitor(process, {There, Other}) || ByName],
            Kind =:= links andalso link(Sender),
            Sender ! go;
        _ ->
            ok
    end,
    {_, Last} = expected(Kind, Plan),
    collect(Round, length(Last), []).

%% The sender of an exit signal ends by itself afterwards, unwatched.
with_exit(exits, #{steps := Steps, how := How} = Plan) ->
    Plan#{steps => Steps ++ [{exit_receiver, exit_reason(How)}], how => normal};
with_exit(_, Plan) ->
    Plan.

addresses(#pair{here = Here, alias = Alias}) ->
    #{pid => self(), name => {Here, node()}, alias => Alias}.

pid_of({Pid, Monitor}) when is_reference(Monitor) -> Pid;
pid_of(Pid) -> Pid.

%% All that comes, until so many signals have come.
collect(_Round, 0, Came) ->
    lists:reverse(Came);
collect(Round, Ends, Came) ->
    receive
        {order, Round, I, Path, Bytes} ->
            collect(Round, Ends, [message(I, Path, Bytes) | Came]);
        {'DOWN', _, process, _, Reason} ->
            collect(Round, Ends - 1, [{down, Reason} | Came]);
        {'EXIT', _, Reason} ->
            collect(Round, Ends - 1, [{exit, Reason} | Came]);
        Stray ->
            collect(Round, Ends, [{stray, Stray} | Came])
    after ?SOON ->
        lists:reverse([nothing_more | Came])
    end.

message(I, Path, Bytes) ->
    Size = byte_size(Bytes),
    case bytes(I, Size) of
        Bytes -> {message, I, Path, Size};
        _ -> {damaged, I, Path, Bytes}
    end.

bytes(I, Size) ->
    binary:copy(<<I>>, Size).

%% @private On the other node.
sender(#{round := Round, to := To, register := Names, wait := Wait}, #{steps := Steps, how := How}, Receiver) ->
    _ = [true = register(Name, self()) || Name <- Names],
    case Wait of
        true ->
            Receiver ! {ready, self()},
            receive
                go -> ok
            end;
        false ->
            ok
    end,
    [act(Step, Round, To) || Step <- Steps],
    finish(How).

act({send, I, Path, Size}, Round, To) -> maps:get(Path, To) ! {order, Round, I, Path, bytes(I, Size)};
act(unlink, _Round, #{pid := Receiver}) -> unlink(Receiver);
act({exit_receiver, Reason}, _Round, #{pid := Receiver}) -> exit(Receiver, Reason).

finish(normal) ->
    ok;
finish({exit, Reason}) ->
    exit(Reason);
finish(kill) ->
    exit(self(), kill),
    receive
        never -> ok
    end.

%%--------------------------------------------------------------------
%% Monitors and links, set and taken back by the sender itself

requests(#pair{other = Other, there = There}, Round, #{steps := Steps, also := Also}) ->
    {Target, Ended} = spawn_opt(Other, ?MODULE, target, [self(), There], [monitor]),
    receive
        {ready, Target, Alias} -> ok
    end,
    Watch = watch(Also, Target, {There, Other}),
    To = #{pid => Target, name => {There, Other}, alias => Alias},
    _ = [act(Step, Round, To) || Step <- Steps],
    Told = unwatch(Also, Watch, Target),
    Target ! finish,
    requests_end(#{ended => Ended, told => Watch}, Target, Told, []).

watch(How, Target, _Name) when How =:= monitor; How =:= demonitor -> monitor(process, Target);
watch(How, _Target, Name) when How =:= monitor_name; How =:= demonitor_name -> monitor(process, Name);
watch(_, Target, _Name) -> link(Target).

%% How many signals are to come. Not flushed: one that was sent all the same is found.
unwatch(How, Monitor, _Target) when How =:= demonitor; How =:= demonitor_name ->
    true = demonitor(Monitor),
    1;
unwatch(unlink, _, Target) ->
    true = unlink(Target),
    1;
unwatch(_, _, _) ->
    2.

requests_end(_Watches, _Target, 0, Came) ->
    lists:reverse(Came);
requests_end(#{ended := Ended, told := Told} = Watches, Target, Left, Came) ->
    receive
        {'DOWN', Ended, process, _, Reason} -> requests_end(Watches, Target, Left - 1, [{ended, Reason} | Came]);
        {'DOWN', Told, process, _, Reason} -> requests_end(Watches, Target, Left - 1, [{told, Reason} | Came]);
        {'EXIT', Target, Reason} -> requests_end(Watches, Target, Left - 1, [{told, Reason} | Came]);
        Stray -> requests_end(Watches, Target, Left, [{stray, Stray} | Came])
    after ?SOON ->
        lists:reverse([nothing_more | Came])
    end.

%% @private On the other node. Its exit reason is what it got.
target(Receiver, Name) ->
    true = register(Name, self()),
    Receiver ! {ready, self(), alias()},
    target_loop([]).

target_loop(Got) ->
    receive
        {order, _Round, I, Path, Bytes} ->
            case message(I, Path, Bytes) of
                {message, I, Path, _} -> target_loop([I | Got]);
                Damaged -> target_loop([short(Damaged) | Got])
            end;
        finish ->
            exit({got, lists:reverse(Got)})
    end.

%%--------------------------------------------------------------------
%% A signal that kills

%% A killed process cannot tell what it had got, and what it had not read is gone with it. A
%% trace does: each message is told when it is taken from the queue of signals, before the kill.
kills(#pair{here = Here, other = Other} = Pair, Round, Plan) ->
    Self = self(),
    Victim = spawn(fun() ->
        Self ! {victim, self(), alias()},
        receive
            never -> ok
        end
    end),
    Alias =
        receive
            {victim, Victim, A} -> A
        end,
    true = register(Here, Victim),
    1 = erlang:trace(Victim, true, ['receive', procs]),
    To = (addresses(Pair))#{pid => Victim, alias => Alias},
    Start = #{round => Round, to => To, register => [], wait => false},
    #{steps := Steps} = Plan,
    _ = spawn(Other, ?MODULE, sender, [Start, Plan#{steps => Steps ++ [{exit_receiver, kill}], how => normal}, self()]),
    kills_end(Victim, Round, []).

kills_end(Victim, Round, Came) ->
    receive
        {trace, Victim, 'receive', {order, Round, I, Path, Bytes}} ->
            kills_end(Victim, Round, [message(I, Path, Bytes) | Came]);
        {trace, Victim, exit, Reason} ->
            %% the name is free for the next victim
            receive
                {trace, Victim, unregister, _} -> lists:reverse([{ended, Reason} | Came])
            end;
        Stray ->
            kills_end(Victim, Round, [{stray, Stray} | Came])
    after ?SOON ->
        lists:reverse([nothing_more | Came])
    end.

%%--------------------------------------------------------------------
%% A server that answers and stops

calls(#pair{source = Source, there = There, other = Other}, Round, #{steps := Steps, how := How, also := Also}) ->
    Source ! {start, self(), Round},
    Server =
        receive
            {server, Round, Pid} -> Pid
        end,
    Size = lists:sum([S || {send, _, _, S} <- Steps]),
    Request = {How, Round, Size},
    Answer =
        try
            case Also of
                pid -> gen_server:call(Server, Request, ?SOON);
                name -> gen_server:call({There, Other}, Request, ?SOON);
                request -> gen_server:receive_response(gen_server:send_request(Server, Request), ?SOON)
            end
        catch
            exit:Reason -> {exited, Reason}
        end,
    Bytes = bytes(Round rem 256, Size),
    [
        case Answer of
            {answer, Round, Bytes} -> replied;
            {reply, {answer, Round, Bytes}} -> replied;
            _ -> Answer
        end
        | strays()
    ].

strays() ->
    receive
        Stray -> [{stray, Stray} | strays()]
    after 0 -> []
    end.

%% @private On the other node: starts one server after another. It ends with its receiver.
source(Receiver, Name) ->
    receive
        {start, Receiver, Round} ->
            {ok, Server} = gen_server:start({local, Name}, ?MODULE, [], []),
            Monitor = monitor(process, Server),
            Receiver ! {server, Round, Server},
            receive
                {'DOWN', Monitor, process, Server, _} -> source(Receiver, Name)
            end
    end.

%% @private
init([]) ->
    {ok, none}.

%% @private
handle_call({stop, Round, Size}, _From, State) ->
    {stop, normal, answer(Round, Size), State};
handle_call({reply_stop, Round, Size}, From, State) ->
    gen_server:reply(From, answer(Round, Size)),
    {stop, {shutdown, Round}, State};
handle_call({reply_kill, Round, Size}, From, State) ->
    gen_server:reply(From, answer(Round, Size)),
    exit(self(), kill),
    {noreply, State}.

answer(Round, Size) ->
    {answer, Round, bytes(Round rem 256, Size)}.

%% @private
handle_cast(_, State) ->
    {noreply, State}.
