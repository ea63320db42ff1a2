%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Nodes in other places than the one of the test: a network namespace, or the
%%% root of another Debian. They are `peer's over standard input and output, so
%%% nothing but the carrier under test connects them.
%%%
%%% Not a process: {@link start/1} links the peer to its caller.
-module(elsewhere).

-include_lib("stdlib/include/assert.hrl").

%% API
-export([
    start/1, stop/1, call/4, call/5, watch/2, nodedown_reason/2, is_root/0, command/1, command/2, library/0, cookie/0,
    source_root/0
]).
%% Run on the nodes, which need this module on their path
-export([start_watcher/1, ask_watcher/0]).

-define(BOOT_MS, 60000).
-define(CALL_MS, 60000).

%% Opts: name (with its host), exec (command and arguments that end in an `erl'),
%% args (more flags), env, pa (the ebin directory as the node sees it).
start(#{name := Name, pa := Pa} = Opts) ->
    Args =
        ["-name", Name, "-setcookie", cookie(), "-proto_dist", "barrel_p2p"] ++
            ["-epmd_module", "barrel_p2p_epmd", "-start_epmd", "false", "-kernel", "connect_all", "false"] ++
            ["-pa", Pa | maps:get(args, Opts, [])],
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        exec => maps:get(exec, Opts),
        args => Args,
        env => maps:get(env, Opts, []),
        wait_boot => ?BOOT_MS
    }),
    Node = list_to_atom(Name),
    ?assertEqual(Node, peer:call(Peer, erlang, node, [])),
    {Peer, Node}.

%% A node that a case has killed is gone already.
stop({Peer, _Node}) ->
    case is_process_alive(Peer) of
        true -> peer:stop(Peer);
        false -> ok
    end.

call(Vm, Module, Function, Args) ->
    call(Vm, Module, Function, Args, ?CALL_MS).

call({Peer, _Node}, Module, Function, Args, Ms) ->
    peer:call(Peer, Module, Function, Args, Ms).

%% From now on a process of the node waits for the loss of another one.
watch(Vm, Node) ->
    ?assertEqual(connected, call(Vm, ?MODULE, start_watcher, [Node])).

%% Why the watched node was lost; waits for that.
nodedown_reason(Vm, Ms) ->
    call(Vm, ?MODULE, ask_watcher, [], Ms).

start_watcher(Node) ->
    Self = self(),
    Pid = spawn(fun() ->
        ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
        Self ! {self(), net_adm:ping(Node)},
        receive
            {nodedown, Node, Info} ->
                receive
                    {From, reason} -> From ! {self(), proplists:get_value(nodedown_reason, Info)}
                end
        end
    end),
    true = register(?MODULE, Pid),
    receive
        {Pid, pong} -> connected;
        {Pid, pang} -> not_connected
    end.

ask_watcher() ->
    Watcher = whereis(?MODULE),
    Watcher ! {self(), reason},
    receive
        {Watcher, Reason} -> Reason
    end.

is_root() ->
    string:trim(os:cmd("id -u")) =:= "0".

%% A command that must succeed; answers what it said.
command(Words) ->
    case command(Words, []) of
        {0, Said} -> Said;
        {Status, Said} -> error({failed, Words, Status, Said})
    end.

command([Name | Args], Env) ->
    Port = open_port({spawn_executable, executable(Name)}, [
        {args, Args}, {env, Env}, exit_status, stderr_to_stdout, binary
    ]),
    collect(Port, []).

executable(Name) ->
    case os:find_executable(Name) of
        false ->
            [File | _] = [F || Dir <- ["/usr/sbin", "/sbin"], F <- [filename:join(Dir, Name)], filelib:is_regular(F)],
            File;
        File ->
            File
    end.

collect(Port, Acc) ->
    receive
        {Port, {data, Bytes}} -> collect(Port, [Acc, Bytes]);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(iolist_to_binary(Acc))}
    end.

%% The native library of this run.
library() ->
    filename:absname(barrel_p2p_native:file()).

cookie() ->
    "elsewhere_0123456789abcdef".

%% The checkout, from wherever Common Test was started and rebar3 put its copies.
source_root() ->
    {ok, Cwd} = file:get_cwd(),
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    [Root | _] = lists:append([search_up(filename:dirname(File)) || File <- [Source, code:which(?MODULE), Cwd ++ "/x"]]),
    Root.

search_up(Dir) ->
    case {filelib:is_regular(filename:join([Dir, "tools", "otp_root.sh"])), filename:dirname(Dir)} of
        {true, _} -> [Dir];
        {false, Dir} -> [];
        {false, Parent} -> search_up(Parent)
    end.
