%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc A bad path between two nodes, or between two network namespaces: a
%%% harness around `barrel_impair'.
%%%
%%% A path is a process that owns the program. It ends, and the program with it, by
%%% {@link stop/1} or when its owner ends: a case that fails leaves nothing behind. The
%%% program removes what it made when its standard input ends, so this holds for
%%% a test VM that is killed, too.
%%%
%%% `udp' paths join nodes that run anywhere, and need no root. {@link between/3}:
%%%
%%% ```
%%% Path = impaired:between(A, B, #{settings => [{both, loss, 0.03}]}),
%%% cluster:connect(A, B),
%%% ok = impaired:set(Path, forward, delay, 20)
%%% '''
%%%
%%% `tun' paths carry IP packets, so other protocols too, between two namespaces that they
%%% make. They need root. Nodes are started in them by {@link start_node/4}, other programs with
%%% the words of {@link inside/1}:
%%%
%%% ```
%%% Path = impaired:start(tun, #{mtu => 9000, settings => [{both, delay, 20}]}),
%%% {Near, Far} = impaired:places(Path),
%%% A = impaired:start_node(Config, Near, "a", []),
%%% B = impaired:start_node(Config, Far, "b", [])
%%% '''
%%%
%%% The settings are explained in docs/impairment.md.
-module(impaired).

%% Paths
-export([start/2, stop/1, set/4, blackout/2, rebind/1, stats/1, addresses/1, os_pid/1]).
%% Between nodes of a cluster
-export([between/3]).
%% Between namespaces
-export([places/1, inside/1, start_node/4]).
%% The program
-export([program/0, unavailable/1]).

-export_type([path/0, place/0, direction/0, setting/0, options/0, address/0]).

-type path() :: pid().
%% A namespace, and the addresses in it.
-type place() :: #{ns := string(), v4 := string(), v6 := string()}.
-type direction() :: forward | backward | both.
-type setting() :: {direction(), Key :: atom(), Value :: number() | boolean() | off}.
-type address() :: {inet:ip_address(), inet:port_number()}.
-type options() :: #{
    %% udp: what the clients on the near side reach, each by a port of the relay
    forward => [address()],
    %% udp: what the clients on the far side reach
    backward => [address()],
    %% tun: the largest packet of the devices; 9000
    mtu => pos_integer(),
    seed => non_neg_integer(),
    settings => [setting()],
    %% the path ends when this process does; the default is the one that starts it
    owner => pid()
}.

%% The program answers at once; a machine with everything else on it does not.
-define(ANSWER_MS, 30000).
%% From nothing, on a slow machine.
-define(BUILD_MS, 600000).

%%%===================================================================
%%% Paths
%%%===================================================================

%% @doc Starts a path; packets pass when this returns.
-spec start(udp | tun, options()) -> path().
start(Mode, Opts) ->
    {ok, Program} = program(),
    Arguments = [atom_to_list(Mode) | arguments(Mode, Opts)],
    Starter = self(),
    Owner = maps:get(owner, Opts, Starter),
    {Path, Monitor} = spawn_monitor(fun() -> guard(Starter, Owner, Program, Arguments) end),
    receive
        {Path, ready} ->
            true = erlang:demonitor(Monitor, [flush]),
            Path;
        {'DOWN', Monitor, process, Path, Reason} ->
            error({no_path, Reason})
    end.

%% @doc Ends a path and removes what was made for it; returns when that is done.
-spec stop(path()) -> ok.
stop(Path) ->
    Monitor = erlang:monitor(process, Path),
    Path ! stop,
    receive
        {'DOWN', Monitor, process, Path, Reason} when Reason =:= normal; Reason =:= noproc -> ok;
        {'DOWN', Monitor, process, Path, Reason} -> error({path_ended, Reason})
    end.

-spec set(path(), direction(), Key :: atom(), Value :: number() | boolean() | off) -> ok.
set(Path, Direction, Key, Value) ->
    {ok, ""} = ask(Path, "set " ++ setting({Direction, Key, Value})),
    ok.

%% @doc Lets nothing pass, or all again.
-spec blackout(path(), boolean()) -> ok.
blackout(Path, On) ->
    set(Path, both, blackout, On).

%% @doc Gives the near side another address; answers what it is now.
-spec rebind(path()) -> [string()].
rebind(Path) ->
    {ok, Said} = ask(Path, "rebind"),
    string:lexemes(Said, " ").

%% @doc The counts of packets since the start.
-spec stats(path()) ->
    #{forward := #{atom() => non_neg_integer()}, backward := #{atom() => non_neg_integer()}, atom() => non_neg_integer()}.
stats(Path) ->
    {ok, Said} = ask(Path, "stats"),
    lists:foldl(fun count/2, #{forward => #{}, backward => #{}}, string:lexemes(Said, " ")).

count(Word, Stats) ->
    [Name, Value] = string:split(Word, "="),
    Count = list_to_integer(Value),
    case [list_to_atom(N) || N <- string:split(Name, ".")] of
        [Direction, Key] -> Stats#{Direction := (maps:get(Direction, Stats))#{Key => Count}};
        [Key] -> Stats#{Key => Count}
    end.

%% @doc Where a udp path listens, for its mappings in their order, first all `forward' ones.
-spec addresses(path()) -> [address()].
addresses(Path) ->
    {ok, Said} = ask(Path, addresses),
    [address(Word) || Word <- string:lexemes(Said, " ")].

%% @doc The operating system's number of the program.
-spec os_pid(path()) -> pos_integer().
os_pid(Path) ->
    {ok, OsPid} = ask(Path, os_pid),
    OsPid.

%%%===================================================================
%%% Between nodes of a cluster
%%%===================================================================

%% @doc From now on these two nodes of a cluster reach each other through a path only. `A' is on the
%% near side. Neither may know the other one yet. It holds for the time that they run: after a restart of a node
%% make a new one.
-spec between(cluster:node_ref(), cluster:node_ref(), options()) -> path().
between(A, B, Opts) ->
    Path = start(udp, Opts#{forward => [listens(B)], backward => [listens(A)]}),
    [ToB, ToA] = addresses(Path),
    ok = knows(A, B, ToB),
    ok = knows(B, A, ToA),
    Path.

listens(Node) ->
    {ok, Port} = cluster:call(Node, barrel_p2p_dist, listen_port, []),
    {{127, 0, 0, 1}, Port}.

%% Nothing else may answer: the discovery directory knows the way around the path.
knows(Node, Other, Address) ->
    Backends = [{barrel_p2p_discovery_static, #{nodes => [{Other, Address}]}}],
    cluster:call(Node, application, set_env, [barrel_p2p, discovery_backends, Backends, [{persistent, true}]]).

%%%===================================================================
%%% Between namespaces
%%%===================================================================

%% @doc The near and the far side.
-spec places(path()) -> {Near :: place(), Far :: place()}.
places(Path) ->
    {ok, Said} = ask(Path, addresses),
    [Near, Far] = string:lexemes(Said, " "),
    {
        #{ns => Near, v4 => "10.91.0.1", v6 => "fd91::1"},
        #{ns => Far, v4 => "10.91.0.2", v6 => "fd91::2"}
    }.

%% @doc A program and its first arguments, which run what follows them in the namespace.
-spec inside(place()) -> {file:filename(), [string()]}.
inside(#{ns := Ns}) ->
    Ip = os:find_executable("ip", os:getenv("PATH") ++ ":/usr/sbin:/sbin"),
    {Ip, ["netns", "exec", Ns]}.

%% @doc Starts a node with default ports and nothing configured but its name. It has directories of
%% its own below `priv_dir'.
-spec start_node(Config :: list(), place(), Name :: string(), Arguments :: [string()]) -> {Peer :: pid(), node()}.
start_node(Config, #{ns := Ns, v4 := V4} = Place, Name, Arguments) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Ns ++ Name),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:change_mode(Dir, 8#700),
    {Ip, Words} = inside(Place),
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    elsewhere:start(#{
        name => Name ++ "@" ++ V4,
        exec => {Ip, Words ++ ["sh", "-c", "cd \"$0\" && exec \"$@\"", Dir, Erl]},
        env => [{"XDG_RUNTIME_DIR", Dir}, {"BARREL_P2P_NIF", elsewhere:library()}],
        pa => filename:dirname(code:which(barrel_p2p)),
        args => ["-pa", filename:dirname(code:which(?MODULE)) | Arguments]
    }).

%%%===================================================================
%%% The program
%%%===================================================================

%% @doc Where it is, built by cargo when it is older than its sources.
-spec program() -> {ok, file:filename()} | {error, string()}.
program() ->
    case {os:getenv("BARREL_P2P_IMPAIR"), persistent_term:get(?MODULE, none)} of
        {false, none} -> build();
        {false, Built} -> Built;
        {Given, _} -> {ok, Given}
    end.

%% @doc Why there is none, for a suite that is to be skipped.
-spec unavailable(udp | tun) -> false | {true, string()}.
unavailable(Mode) ->
    case {program(), Mode} of
        {{error, Said}, _} -> {true, Said};
        {{ok, _}, udp} -> false;
        {{ok, _}, tun} -> no_tunnel()
    end.

%% The program knows best what is missing.
no_tunnel() ->
    try
        ok = stop(start(tun, #{})),
        false
    catch
        error:{no_path, {not_ready, Said, _}} -> {true, Said}
    end.

build() ->
    Root = root(),
    Script =
        "cargo=$(sh native/build.sh --find-cargo) && PATH=$(dirname \"$cargo\"):$PATH && export PATH && "
        "\"$cargo\" build --quiet --release --locked --package barrel_impair",
    Built =
        case run(Root, Script) of
            {0, _} -> {ok, filename:join([target(Root), "release", "barrel_impair"])};
            {_, Said} -> {error, "barrel_impair cannot be built: " ++ Said}
        end,
    persistent_term:put(?MODULE, Built),
    Built.

%% As cargo takes it, which runs in the root.
target(Root) ->
    case os:getenv("CARGO_TARGET_DIR") of
        false -> filename:join(Root, "target");
        Dir -> filename:absname(Dir, Root)
    end.

run(Dir, Script) ->
    Port = open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", Script]}, {cd, Dir}, exit_status, stderr_to_stdout, binary
    ]),
    output(Port, []).

output(Port, Acc) ->
    receive
        {Port, {data, Bytes}} -> output(Port, [Acc, Bytes]);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(iolist_to_binary(Acc))}
    after ?BUILD_MS -> {timeout, unicode:characters_to_list(iolist_to_binary(Acc))}
    end.

%% rebar3 may have copied the suites away from the sources.
root() ->
    {ok, Cwd} = file:get_cwd(),
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    hd(lists:append([above(filename:dirname(File)) || File <- [Source, filename:join(Cwd, "x"), code:which(?MODULE)]])).

above(Dir) ->
    case {filelib:is_regular(filename:join([Dir, "native", "barrel_impair", "Cargo.toml"])), filename:dirname(Dir)} of
        {true, _} -> [Dir];
        {false, Dir} -> [];
        {false, Parent} -> above(Parent)
    end.

%%%===================================================================
%%% The process
%%%===================================================================

guard(Starter, Owner, Program, Arguments) ->
    Monitor = erlang:monitor(process, Owner),
    Port = open_port({spawn_executable, Program}, [{args, Arguments}, {line, 65536}, exit_status, stderr_to_stdout]),
    case line(Port) of
        "ready " ++ Ready ->
            Starter ! {self(), ready},
            serve(Port, Monitor, Ready);
        Said ->
            exit({not_ready, Said, rest(Port)})
    end.

serve(Port, Monitor, Ready) ->
    receive
        {ask, From, addresses} ->
            answer(From, {ok, Ready}),
            serve(Port, Monitor, Ready);
        {ask, From, os_pid} ->
            {os_pid, OsPid} = erlang:port_info(Port, os_pid),
            answer(From, {ok, OsPid}),
            serve(Port, Monitor, Ready);
        {ask, From, Line} ->
            true = port_command(Port, [Line, $\n]),
            answer(From, answered(line(Port))),
            serve(Port, Monitor, Ready);
        {Port, Unexpected} ->
            exit({program_ended, Unexpected});
        stop ->
            finish(Port);
        {'DOWN', Monitor, process, _, _} ->
            finish(Port)
    end.

%% The program ends when it has removed what it made.
finish(Port) ->
    true = port_command(Port, "quit\n"),
    case rest(Port) of
        {0, []} -> ok;
        Ended -> exit({bad_end, Ended})
    end.

answered("ok") -> {ok, ""};
answered("ok " ++ Said) -> {ok, Said};
answered("error " ++ Said) -> {error, Said}.

line(Port) ->
    receive
        {Port, {data, {eol, Line}}} -> Line;
        {Port, {exit_status, Status}} -> exit({program_ended, Status})
    after ?ANSWER_MS -> exit(no_answer)
    end.

%% What it still says, and its exit status.
rest(Port) ->
    rest(Port, []).

rest(Port, Lines) ->
    receive
        {Port, {data, {_, Line}}} -> rest(Port, [Line | Lines]);
        {Port, {exit_status, Status}} -> {Status, lists:reverse(Lines)}
    after ?ANSWER_MS -> exit({does_not_end, lists:reverse(Lines)})
    end.

ask(Path, Question) ->
    Monitor = erlang:monitor(process, Path),
    Path ! {ask, {self(), Monitor}, Question},
    receive
        {Monitor, Answer} ->
            true = erlang:demonitor(Monitor, [flush]),
            Answer;
        {'DOWN', Monitor, process, Path, Reason} ->
            error({path_ended, Reason})
    end.

answer({Pid, Ref}, Answer) ->
    Pid ! {Ref, Answer}.

%%%===================================================================
%%% Its arguments
%%%===================================================================

arguments(Mode, Opts) ->
    Settings = [["--set", setting(S)] || S <- maps:get(settings, Opts, [])],
    Seed = [["--seed", integer_to_list(N)] || N <- [maps:get(seed, Opts, 1)]],
    lists:append(mode_arguments(Mode, Opts) ++ Seed ++ Settings).

mode_arguments(udp, Opts) ->
    [
        ["--" ++ atom_to_list(Direction), listen(Target) ++ "=" ++ written(Target)]
     || Direction <- [forward, backward], Target <- maps:get(Direction, Opts, [])
    ];
mode_arguments(tun, Opts) ->
    Unique = os:getpid() ++ "x" ++ integer_to_list(erlang:unique_integer([positive])),
    [
        ["--create", "yes"],
        ["--near", "near" ++ Unique],
        ["--far", "far" ++ Unique],
        ["--mtu", integer_to_list(maps:get(mtu, Opts, 9000))]
    ].

setting({Direction, Key, Value}) ->
    lists:flatten(io_lib:format("~s ~s ~s", [Direction, Key, value(Value)])).

value(true) -> "on";
value(false) -> "off";
value(off) -> "off";
value(Number) -> io_lib:format("~w", [Number]).

%% The relay listens beside its target.
listen({{_, _, _, _}, _}) -> "127.0.0.1:0";
listen({_, _}) -> "[::1]:0".

written({{_, _, _, _} = Ip, Port}) -> inet:ntoa(Ip) ++ ":" ++ integer_to_list(Port);
written({Ip, Port}) -> "[" ++ inet:ntoa(Ip) ++ "]:" ++ integer_to_list(Port).

address(Word) ->
    [Host, Port] = string:split(Word, ":", trailing),
    {ok, Ip} = inet:parse_address(string:trim(Host, both, "[]")),
    {Ip, list_to_integer(Port)}.
