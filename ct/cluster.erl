%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Real nodes for Common Test.
%%%
%%% A *cluster* is a directory below the `priv_dir' of a case: the discovery
%%% directory, the current directory of its nodes (their `data', a crash dump) and
%%% one text log per node. It shares a cookie. Clusters of different cases do not
%%% see each other, so the nodes of each may be called `a' and `b'.
%%%
%%% Nodes are started with OTP's `peer'. The control channel is their standard
%%% input and output, so {@link call/4} works whatever happens to the
%%% distribution, and the test node itself may be `nonode@nohost'.
%%%
%%% On every node two processes listen from its boot on: one collects log events
%%% ({@link logs/1}, {@link await_log/3}), the other `nodeup' and `nodedown'
%%% ({@link await_nodeup/3}, {@link await_nodedown/3}). An await takes the first
%%% such event that was not taken before, so nothing is missed between a cause and
%%% the wait for its effect.
%%%
%%% What is known of nodes is in a table of the test VM, keyed by node name and by
%%% the process of `peer'; a node that boots without a name has the latter only.
-module(cluster).

-include_lib("common_test/include/ct.hrl").
-include_lib("kernel/include/file.hrl").

%% Clusters
-export([new/1, new/2, stop/1, dir/1, discovery_dir/1]).
%% Nodes
-export([start/3, stop/2, kill/1, restart/2, restart/3, boot_fails/3, os_pid/1, peer/1, signal/2, await_exit/2]).
%% What happens on them
-export([
    call/4,
    call/5,
    run/2,
    run/3,
    connect/2,
    ping/2,
    at_once/1,
    await/3,
    await_nodeup/3,
    await_nodedown/3,
    events/1,
    forget_events/1,
    logs/1,
    await_log/3
]).
%% The command line, for programs that a test starts itself
-export([erl/1, arguments/3, in_directory/2]).
%% On the nodes
-export([adding_handler/1, log/2, ask/2, poll/3]).

-export_type([cluster/0, node_ref/0, options/0]).

-type cluster() :: #{
    dir := file:filename(),
    discovery := file:filename(),
    data := file:filename(),
    cookie := string()
}.
-type node_ref() :: node() | pid().
-type carrier() :: barrel_p2p | inet_tcp | inet_tls.
-type options() :: #{
    %% several share a node
    carrier => carrier() | [carrier()],
    %% host part of the name; the default is the system's for short names, 127.0.0.1 for long ones
    host => string(),
    longnames => boolean(),
    %% further arguments of erl; they come last
    args => [string()],
    %% application environment
    env => [{atom(), term()}],
    kernel => [{atom(), term()}],
    %% `-sname undefined'
    dynamic => boolean(),
    %% no name at all: `net_kernel:start/2' gives it one, or `-remsh'
    nameless => boolean(),
    hidden => boolean(),
    listen => boolean(),
    start_app => boolean(),
    cookie => string(),
    %% another erl
    erl => file:filename(),
    %% environment of the operating system
    os_env => [{string(), string()}]
}.

-record(node, {ref, peer, os_pid, cluster, name, opts}).

%% A boot takes a second; a machine with everything else on it many.
-define(BOOT_MS, 60000).
-define(CALL_MS, 120000).
-define(END_MS, 30000).
-define(LOG, cluster_log).
-define(EVENTS, cluster_events).

%%%===================================================================
%%% Clusters
%%%===================================================================

-spec new(Config :: list()) -> cluster().
new(Config) ->
    new(Config, "c").

%% @doc The prefix tells several clusters of one case apart in the log directory.
-spec new(Config :: list(), Prefix :: string()) -> cluster().
new(Config, Prefix) ->
    ok = ensure_table(),
    Number = integer_to_list(erlang:unique_integer([positive])),
    Dir = filename:absname(filename:join(?config(priv_dir, Config), Prefix ++ Number)),
    Discovery = filename:join(Dir, "d"),
    Data = filename:join(Dir, "n"),
    ok = filelib:ensure_dir(filename:join(Discovery, "x")),
    ok = filelib:ensure_dir(filename:join(Data, "x")),
    ok = file:change_mode(Discovery, 8#700),
    #{
        dir => Dir,
        discovery => Discovery,
        data => Data,
        cookie => binary_to_list(binary:encode_hex(crypto:strong_rand_bytes(16)))
    }.

%% @doc Stops every node of the cluster and checks that nothing of them is left.
-spec stop(cluster()) -> ok.
stop(#{dir := Dir, data := Data}) ->
    Nodes = [N || #node{cluster = #{dir := D}} = N <- known(), D =:= Dir],
    Stuck = [N#node.ref || N <- Nodes, not ended(N)],
    lists:foreach(fun forget/1, Nodes),
    Left = [N#node.ref || N <- Nodes, runs(N#node.os_pid)],
    Crashes = filelib:wildcard(filename:join(Data, "erl_crash.dump")),
    case {Stuck, Left, Crashes} of
        {[], [], []} -> ok;
        _ -> error({cluster_not_clean, #{stuck => Stuck, left => Left, crash_dumps => Crashes}})
    end.

%% A node may have been suspended by the case that is over. One that does not
%% stop by itself is ended, and named.
ended(#node{peer = Peer, os_pid = OsPid}) ->
    Monitor = erlang:monitor(process, Peer),
    _ = os:cmd("kill -CONT " ++ OsPid ++ " 2>&1"),
    peer:cast(Peer, erlang, halt, []),
    receive
        {'DOWN', Monitor, process, Peer, _} -> true
    after ?END_MS ->
        _ = os:cmd("kill -KILL " ++ OsPid),
        receive
            {'DOWN', Monitor, process, Peer, _} -> false
        end
    end.

%% @doc The current directory of the nodes.
-spec dir(cluster()) -> file:filename().
dir(#{data := Data}) ->
    Data.

-spec discovery_dir(cluster()) -> file:filename().
discovery_dir(#{discovery := Dir}) ->
    Dir.

%%%===================================================================
%%% Nodes
%%%===================================================================

%% @doc Starts a node and answers its name; without one that stays, the process of `peer'.
-spec start(cluster(), Name :: atom(), options()) -> node_ref().
start(#{data := Data} = Cluster, Name, Opts) ->
    {Shell, Before} = in_directory(Data, erl(Opts)),
    {ok, Peer, Node} = peer:start(#{
        connection => standard_io,
        exec => {Shell, Before},
        args => arguments(Cluster, Name, Opts),
        env => maps:get(os_env, Opts, []),
        wait_boot => ?BOOT_MS
    }),
    Ref =
        case Node of
            'nonode@nohost' -> Peer;
            _ -> Node
        end,
    OsPid = peer:call(Peer, os, getpid, [], ?CALL_MS),
    Known = #node{ref = Ref, peer = Peer, os_pid = OsPid, cluster = Cluster, name = Name, opts = Opts},
    true = ets:insert(?MODULE, [{Ref, Known}, {Peer, Known}]),
    case Opts of
        #{start_app := true} ->
            {ok, _} = call(Ref, application, ensure_all_started, [barrel_p2p]),
            Ref;
        _ ->
            Ref
    end.

%% @doc Stops a node and waits for the end of its operating system process.
-spec stop(node_ref(), halt | init_stop | sigterm | sigkill | {mfa, module(), atom(), list()}) -> ok.
stop(Ref, How) ->
    #node{peer = Peer, os_pid = OsPid} = find(Ref),
    Monitor = erlang:monitor(process, Peer),
    case How of
        halt -> peer:cast(Peer, erlang, halt, []);
        init_stop -> peer:cast(Peer, init, stop, []);
        sigterm -> "" = os:cmd("kill -TERM " ++ OsPid);
        sigkill -> "" = os:cmd("kill -KILL " ++ OsPid);
        {mfa, M, F, A} -> peer:cast(Peer, M, F, A)
    end,
    receive
        {'DOWN', Monitor, process, Peer, _} -> ok
    after ?END_MS ->
        error({not_stopped, Ref, How})
    end.

%% @doc As a power failure would: `kill -9'.
-spec kill(node_ref()) -> ok.
kill(Ref) ->
    stop(Ref, sigkill).

%% @doc Waits until a node has ended by itself.
-spec await_exit(node_ref(), timeout()) -> ok.
await_exit(Ref, Ms) ->
    #node{peer = Peer} = find(Ref),
    Monitor = erlang:monitor(process, Peer),
    receive
        {'DOWN', Monitor, process, Peer, _} -> ok
    after Ms ->
        error({still_runs, Ref})
    end.

%% @doc Sends a signal, such as `"STOP"' and `"CONT"', to the process of a node.
-spec signal(node_ref(), string()) -> ok.
signal(Ref, Signal) ->
    "" = os:cmd("kill -" ++ Signal ++ " " ++ os_pid(Ref)),
    ok.

%% @doc Starts a stopped node again: same name, same directories, same options.
-spec restart(cluster(), node_ref()) -> node_ref().
restart(Cluster, Ref) ->
    restart(Cluster, Ref, #{}).

%% @doc The same with some other options.
-spec restart(cluster(), node_ref(), options()) -> node_ref().
restart(Cluster, Ref, More) ->
    #node{name = Name, opts = Opts, os_pid = OsPid} = find(Ref),
    case runs(OsPid) of
        true -> stop(Ref, halt);
        false -> ok
    end,
    start(Cluster, Name, maps:merge(Opts, More)).

%% @doc Runs a node that must not come up: exit status and what it said. Status 0
%% means that it did boot.
-spec boot_fails(cluster(), Name :: atom(), options()) -> {Status :: non_neg_integer(), Output :: string()}.
boot_fails(#{data := Data} = Cluster, Name, Opts) ->
    {Shell, Before} = in_directory(Data, erl(Opts)),
    Booted =
        case Opts of
            #{start_app := true} -> "{ok, _} = application:ensure_all_started(barrel_p2p), erlang:halt(0).";
            _ -> "erlang:halt(0)."
        end,
    Port = open_port({spawn_executable, Shell}, [
        {args, Before ++ plain_arguments(Cluster, Name, Opts) ++ ["-noinput", "-eval", Booted]},
        {env, [{"ERL_CRASH_DUMP_BYTES", "0"} | maps:get(os_env, Opts, [])]},
        exit_status,
        stderr_to_stdout,
        binary
    ]),
    collect(Port, []).

collect(Port, Acc) ->
    receive
        {Port, {data, Bytes}} ->
            collect(Port, [Acc, Bytes]);
        {Port, {exit_status, Status}} ->
            {Status, unicode:characters_to_list(iolist_to_binary(Acc))}
    after ?BOOT_MS ->
        {os_pid, OsPid} = erlang:port_info(Port, os_pid),
        _ = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
        error({still_boots, iolist_to_binary(Acc)})
    end.

-spec os_pid(node_ref()) -> string().
os_pid(Ref) ->
    (find(Ref))#node.os_pid.

-spec peer(node_ref()) -> pid().
peer(Ref) ->
    (find(Ref))#node.peer.

%%%===================================================================
%%% What happens on them
%%%===================================================================

%% @doc Calls through the control channel; an exception there is one here.
-spec call(node_ref(), module(), atom(), list()) -> term().
call(Ref, M, F, A) ->
    call(Ref, M, F, A, ?CALL_MS).

-spec call(node_ref(), module(), atom(), list(), timeout()) -> term().
call(Ref, M, F, A, Ms) ->
    peer:call(peer(Ref), M, F, A, Ms).

%% @doc Runs a fun of a test suite on a node.
-spec run(node_ref(), fun(() -> Result)) -> Result.
run(Ref, Fun) ->
    call(Ref, erlang, apply, [Fun, []]).

-spec run(node_ref(), fun((...) -> Result), list()) -> Result.
run(Ref, Fun, Args) ->
    call(Ref, erlang, apply, [Fun, Args]).

%% @doc Connects two nodes, and waits until both know it, if both were started by their names.
-spec connect(node_ref(), node()) -> ok.
connect(From, To) ->
    %% not by a ping: a node with a dynamic name connects when it is told to only
    true = call(From, net_kernel, connect_node, [To]),
    case is_atom(From) andalso ets:member(?MODULE, To) of
        true -> true = await(To, {lists, member, [From, {erlang, nodes, [connected]}]}, ?END_MS);
        false -> true
    end,
    ok.

%% @doc What `net_adm:ping/1' answers there.
-spec ping(node_ref(), node()) -> pong | pang.
ping(From, To) ->
    call(From, net_adm, ping, [To]).

%% @doc Runs all of them side by side, and answers what they do in their order.
-spec at_once([fun(() -> Result)]) -> [Result].
at_once(Funs) ->
    Running = [spawn_monitor(fun() -> exit({done, Fun()}) end) || Fun <- Funs],
    [
        receive
            {'DOWN', Monitor, process, Pid, {done, Result}} -> Result;
            {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
        end
     || {Pid, Monitor} <- Running
    ].

%% @doc Asks on the node, until the answer is `true' or `{ok, _}', and returns that. For
%% conditions that no event tells of; an argument that is an `{M, F, A}' is called each time.
-spec await(node_ref(), fun(() -> term()) | {module(), atom(), list()}, Ms :: pos_integer()) -> true | {ok, term()}.
await(Ref, Condition, Ms) ->
    case call(Ref, ?MODULE, poll, [Condition, Ms, 10], Ms + ?CALL_MS) of
        {late, Last} -> error({not_within, Ms, Ref, Condition, Last});
        Answer -> Answer
    end.

-spec await_nodeup(node_ref(), Other :: node(), Ms :: pos_integer()) -> ok.
await_nodeup(Ref, Other, Ms) ->
    case call(Ref, ?MODULE, ask, [?EVENTS, {take, nodeup, Other, Ms}], Ms + ?CALL_MS) of
        {ok, _} -> ok;
        {late, Seen} -> error({no_nodeup, Ref, Other, Seen})
    end.

%% @doc The `nodedown_reason' with which `Ref' lost `Other'.
-spec await_nodedown(node_ref(), Other :: node(), Ms :: pos_integer()) -> Reason :: term().
await_nodedown(Ref, Other, Ms) ->
    case call(Ref, ?MODULE, ask, [?EVENTS, {take, nodedown, Other, Ms}], Ms + ?CALL_MS) of
        {ok, Info} -> proplists:get_value(nodedown_reason, Info);
        {late, Seen} -> error({no_nodedown, Ref, Other, Seen})
    end.

%% @doc The `nodeup' and `nodedown' that no await has taken, oldest first.
-spec events(node_ref()) -> [{nodeup | nodedown, node(), list()}].
events(Ref) ->
    call(Ref, ?MODULE, ask, [?EVENTS, all]).

%% @doc Forgets what no await has taken.
-spec forget_events(node_ref()) -> ok.
forget_events(Ref) ->
    call(Ref, ?MODULE, ask, [?EVENTS, forget]).

%% @doc All log events of a node since its boot, oldest first.
-spec logs(node_ref()) -> [logger:log_event()].
logs(Ref) ->
    call(Ref, ?MODULE, ask, [?LOG, all]).

%% @doc The first log event, past or to come, for which the fun of a test suite says `true'.
-spec await_log(node_ref(), fun((logger:log_event()) -> boolean()), Ms :: pos_integer()) -> logger:log_event().
await_log(Ref, Fun, Ms) ->
    case call(Ref, ?MODULE, ask, [?LOG, {first, Fun, Ms}], Ms + ?CALL_MS) of
        {ok, Event} -> Event;
        late -> error({no_such_log, Ref, [maps:get(msg, E) || E <- logs(Ref)]})
    end.

%%%===================================================================
%%% The command line
%%%===================================================================

-spec erl(options()) -> file:filename().
erl(Opts) ->
    maps:get(erl, Opts, filename:join([code:root_dir(), "bin", "erl"])).

%% @doc A program and its first arguments, to run another one in a directory. The flags of
%% the surrounding Erlang must not reach it.
-spec in_directory(file:filename(), Program :: file:filename()) -> {file:filename(), [string()]}.
in_directory(Dir, Program) ->
    Script = "unset ERL_FLAGS ERL_AFLAGS ERL_ZFLAGS ERL_LIBS && cd \"$0\" && exec \"$@\"",
    {"/bin/sh", ["-c", Script, Dir, Program]}.

%% @doc The arguments with which {@link start/3} starts a node.
-spec arguments(cluster(), Name :: atom(), options()) -> [string()].
arguments(#{data := Data} = Cluster, Name, Opts) ->
    File = filename:join(Data, atom_to_list(Name) ++ ".log"),
    Handler = {handler, default, ?MODULE, #{config => #{file => File}}},
    plain_arguments(Cluster, Name, Opts#{kernel => [{logger, [Handler]} | maps:get(kernel, Opts, [])]}).

plain_arguments(#{cookie := Cookie} = Cluster, Name, Opts) ->
    lists:append([
        ["-pa", ebin(barrel_p2p), "-pa", ebin(?MODULE)],
        name(Name, Opts),
        ["-setcookie", maps:get(cookie, Opts, Cookie)],
        carrier(maps:get(carrier, Opts, barrel_p2p), Cluster),
        ["-hidden" || maps:get(hidden, Opts, false)],
        case maps:get(listen, Opts, true) of
            true -> [];
            false -> ["-dist_listen", "false"]
        end,
        flags("-kernel", [{connect_all, false}], maps:get(kernel, Opts, [])),
        flags("-barrel_p2p", environment(Cluster), maps:get(env, Opts, [])),
        maps:get(args, Opts, [])
    ]).

%% Ports are given by the system: several runs on one machine must not want the same one.
environment(#{discovery := Discovery}) ->
    [{discovery_dir, Discovery}, {listen_port, 0}].

name(_Name, #{nameless := true}) ->
    [];
name(_Name, #{dynamic := true} = Opts) ->
    [name_flag(Opts), "undefined"];
name(Name, #{host := Host} = Opts) ->
    [name_flag(Opts), atom_to_list(Name) ++ "@" ++ Host];
name(Name, #{longnames := true} = Opts) ->
    [name_flag(Opts), atom_to_list(Name) ++ "@127.0.0.1"];
name(Name, Opts) ->
    [name_flag(Opts), atom_to_list(Name)].

name_flag(#{longnames := true}) -> "-name";
name_flag(_) -> "-sname".

%% Names come from the discovery directory with every carrier: no test starts the epmd daemon.
carrier(Carrier, Cluster) when is_atom(Carrier) ->
    carrier([Carrier], Cluster);
carrier(Carriers, Cluster) ->
    ["-proto_dist" | [atom_to_list(C) || C <- Carriers]] ++
        ["-epmd_module", "barrel_p2p_epmd", "-start_epmd", "false"] ++
        lists:append([["-ssl_dist_optfile", tls_options(Cluster)] || inet_tls <- Carriers]).

flags(Flag, Defaults, Given) ->
    Pairs = lists:ukeymerge(1, lists:ukeysort(1, Given), lists:ukeysort(1, Defaults)),
    lists:append([[Flag, atom_to_list(K), lists:flatten(io_lib:format("~0tp", [V]))] || {K, V} <- Pairs]).

ebin(Module) ->
    File = code:where_is_file(atom_to_list(Module) ++ ".beam"),
    filename:absname(filename:dirname(File)).

%% Both sides prove a certificate of one authority, as a user of inet_tls would have it.
tls_options(#{dir := Dir}) ->
    File = filename:join(Dir, "tls.conf"),
    case filelib:is_regular(File) of
        true -> ok;
        false -> write_tls_options(Dir, File)
    end,
    File.

write_tls_options(Dir, File) ->
    Key = {namedCurve, secp256r1},
    Chain = #{root => [{key, Key}], intermediates => [], peer => [{key, Key}]},
    #{server_config := Config} = public_key:pkix_test_data(#{server_chain => Chain, client_chain => Chain}),
    {KeyType, KeyDer} = proplists:get_value(key, Config),
    Pem = public_key:pem_encode([
        {'Certificate', proplists:get_value(cert, Config), not_encrypted}, {KeyType, KeyDer, not_encrypted}
    ]),
    PemFile = filename:join(Dir, "tls.pem"),
    ok = file:write_file(PemFile, Pem),
    ok = file:change_mode(PemFile, 8#600),
    Side = [{certfile, PemFile}, {verify, verify_none}],
    ok = file:write_file(File, io_lib:format("~p.~n", [[{server, Side}, {client, Side}]])).

%%%===================================================================
%%% On the nodes: collecting
%%%===================================================================

%% @doc Callback of logger. It is the default handler, so it is given what was logged before.
-spec adding_handler(logger:handler_config()) -> {ok, logger:handler_config()}.
adding_handler(#{config := #{file := File}} = Config) ->
    start_collector(?LOG, fun() -> log_loop(open_log(File), [], []) end),
    start_collector(?EVENTS, fun() ->
        ok = net_kernel:monitor_nodes(true, [{node_type, all}, nodedown_reason]),
        event_loop([], [])
    end),
    {ok, Config}.

%% @doc Callback of logger.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(Event, _Config) ->
    ?LOG ! {log, Event},
    ok.

%% @doc Asks a collector of this node.
-spec ask(atom(), term()) -> term().
ask(Name, Question) ->
    Monitor = erlang:monitor(process, Name),
    Name ! {ask, {self(), Monitor}, Question},
    receive
        {Monitor, Answer} ->
            true = erlang:demonitor(Monitor, [flush]),
            Answer;
        {'DOWN', Monitor, process, _, Reason} ->
            error({Name, Reason})
    end.

start_collector(Name, Fun) ->
    {_Pid, Monitor} = spawn_monitor(fun() -> collector(Name, Fun) end),
    receive
        {'DOWN', Monitor, process, _, Reason} -> normal = Reason
    end.

%% Registered when this returns, and linked to nobody.
collector(Name, Fun) ->
    Parent = self(),
    Pid = spawn(fun() ->
        true = register(Name, self()),
        Parent ! registered,
        Fun()
    end),
    Monitor = erlang:monitor(process, Pid),
    receive
        registered -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> exit(Reason)
    end.

%% The text is for whoever reads the log directory of a failed case. Early boot has no file server.
open_log(File) ->
    {ok, Fd} = prim_file:open(File, [append]),
    Fd.

log_loop(Fd, Events, Waiting) ->
    receive
        {log, Event} ->
            ok = prim_file:write(Fd, unicode:characters_to_binary(logger_formatter:format(Event, #{}))),
            {Met, Still} = lists:partition(fun({_, Fun}) -> Fun(Event) end, Waiting),
            _ = [answer(From, {ok, Event}) || {From, _} <- Met],
            log_loop(Fd, [Event | Events], Still);
        {ask, From, all} ->
            answer(From, lists:reverse(Events)),
            log_loop(Fd, Events, Waiting);
        {ask, From, {first, Fun, Ms}} ->
            case lists:search(Fun, lists:reverse(Events)) of
                {value, Event} ->
                    answer(From, {ok, Event}),
                    log_loop(Fd, Events, Waiting);
                false ->
                    _ = erlang:send_after(Ms, self(), {late, From}),
                    log_loop(Fd, Events, [{From, Fun} | Waiting])
            end;
        {late, From} ->
            case lists:keytake(From, 1, Waiting) of
                {value, _, Still} ->
                    answer(From, late),
                    log_loop(Fd, Events, Still);
                false ->
                    log_loop(Fd, Events, Waiting)
            end
    end.

%% Events wait here, oldest first, until an await takes them, or an await for them.
event_loop(Events, Waiting) ->
    receive
        {Kind, Node, Info} when Kind =:= nodeup; Kind =:= nodedown ->
            case lists:search(fun({_, K, N}) -> {K, N} =:= {Kind, Node} end, Waiting) of
                {value, {From, _, _} = Waiter} ->
                    answer(From, {ok, Info}),
                    event_loop(Events, lists:delete(Waiter, Waiting));
                false ->
                    event_loop(Events ++ [{Kind, Node, Info}], Waiting)
            end;
        {ask, From, {take, Kind, Node, Ms}} ->
            case lists:splitwith(fun({K, N, _}) -> {K, N} =/= {Kind, Node} end, Events) of
                {Before, [{_, _, Info} | After]} ->
                    answer(From, {ok, Info}),
                    %% what the same node did before that is past
                    event_loop([E || {_, N, _} = E <- Before, N =/= Node] ++ After, Waiting);
                {_, []} ->
                    _ = erlang:send_after(Ms, self(), {late, From}),
                    event_loop(Events, Waiting ++ [{From, Kind, Node}])
            end;
        {ask, From, all} ->
            answer(From, Events),
            event_loop(Events, Waiting);
        {ask, From, forget} ->
            answer(From, ok),
            event_loop([], Waiting);
        {late, From} ->
            case lists:keytake(From, 1, Waiting) of
                {value, _, Still} ->
                    answer(From, {late, Events}),
                    event_loop(Events, Still);
                false ->
                    event_loop(Events, Waiting)
            end
    end.

answer({Pid, Ref}, Answer) ->
    Pid ! {Ref, Answer}.

%% @doc Asks again and again until it holds.
-spec poll(fun(() -> term()) | {module(), atom(), list()}, Ms :: integer(), Period :: pos_integer()) ->
    true | {ok, term()} | {late, Last :: term()}.
poll(Condition, Ms, Period) ->
    poll_until(Condition, erlang:monotonic_time(millisecond) + Ms, Period).

poll_until(Condition, Deadline, Period) ->
    case evaluate(Condition) of
        true ->
            true;
        {ok, _} = Ok ->
            Ok;
        Other ->
            case erlang:monotonic_time(millisecond) >= Deadline of
                true ->
                    {late, Other};
                false ->
                    receive
                    after Period -> poll_until(Condition, Deadline, Period)
                    end
            end
    end.

evaluate({M, F, A}) when is_atom(M), is_atom(F), is_list(A) -> apply(M, F, [evaluate_argument(X) || X <- A]);
evaluate(Fun) -> Fun().

evaluate_argument({M, F, A} = MFA) when is_atom(M), is_atom(F), is_list(A) -> evaluate(MFA);
evaluate_argument(Argument) -> Argument.

%%%===================================================================
%%% What is known
%%%===================================================================

%% Cases, and the functions before and after them, run in processes of their own:
%% the table needs an owner that outlives them all.
ensure_table() ->
    case ets:whereis(?MODULE) of
        undefined ->
            Parent = self(),
            Pid = spawn(fun() ->
                ?MODULE = ets:new(?MODULE, [named_table, public]),
                Parent ! {self(), made},
                receive
                    never -> ok
                end
            end),
            receive
                {Pid, made} -> ok
            end;
        _ ->
            ok
    end.

find(Ref) ->
    case ets:lookup(?MODULE, Ref) of
        [{_, Node}] -> Node;
        [] -> error({unknown_node, Ref})
    end.

%% Every start of every node: one that ended may have left a process, and a restart must not hide it.
known() ->
    [Node || {Key, Node} <- ets:tab2list(?MODULE), is_pid(Key)].

forget(#node{ref = Ref, peer = Peer}) ->
    true = ets:delete(?MODULE, Ref),
    true = ets:delete(?MODULE, Peer),
    ok.

runs(OsPid) ->
    "" =:= os:cmd("kill -0 " ++ OsPid ++ " 2>&1").
