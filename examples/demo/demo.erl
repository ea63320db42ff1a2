%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The story of the demo, told and checked.
%%%
%%% This runs in a node without a name, which speaks with the nodes of the story
%%% through {@link demo_control}. What happens inside those is in {@link demo_node}.
%%%
%%% A step that goes wrong throws; the demo then prints the logs of the nodes and
%%% ends with exit code 1. `run.sh' ends whatever still runs.
-module(demo).

%% API
-export([main/0]).

-define(HOST, "127.0.0.1").
%% A machine that boots a node in more than this is too slow to enjoy the demo.
-define(BOOT_MS, 30000).
-define(CALL_MS, 20000).
%% An entry is there within milliseconds of what it is about.
-define(LOG_MS, 5000).
%% Bound of the whole story; it takes about 15 s.
-define(STORY_MS, 120000).
-define(BULK_MIB, 64).
-define(ROUND_TRIPS, 2000).

-record(node, {
    name :: node(),
    control :: demo_control:control(),
    os_pid :: string(),
    fingerprint :: binary()
}).

%%%===================================================================
%%% API
%%%===================================================================

%% @doc Tells the story, then halts this node.
-spec main() -> no_return().
main() ->
    {Teller, Monitor} = spawn_monitor(fun story/0),
    receive
        {'DOWN', Monitor, process, Teller, normal} -> halt(0);
        {'DOWN', Monitor, process, Teller, {failed, Why}} -> failed(Why);
        {'DOWN', Monitor, process, Teller, Reason} -> failed(io_lib:format("~tp", [Reason]))
    after ?STORY_MS ->
        failed(io_lib:format("the story did not end within ~b s", [?STORY_MS div 1000]))
    end.

%%%===================================================================
%%% The story
%%%===================================================================

story() ->
    say("~nbarrel_p2p: Erlang nodes on this machine, talking over authenticated QUIC~n"),
    say("OTP ~s, no epmd, no certificates to hand out: names, a cookie, free UDP ports~n", [
        erlang:system_info(otp_release)
    ]),
    Cookie = binary_to_list(string:lowercase(binary:encode_hex(crypto:strong_rand_bytes(16)))),

    step(1, "Three nodes boot, and each makes an identity"),
    Ada = introduce(boot("ada", "ada", Cookie)),
    Bob = introduce(boot("bob", "bob", Cookie)),
    Cleo = introduce(boot("cleo", "cleo", Cookie)),
    private_keys(["ada", "bob", "cleo"]),

    authentication(Ada, Bob, Cleo),
    messages(Ada, Bob, Cleo),
    calls(Ada, Bob),
    links_and_monitors(Ada, Bob),
    bulk(Ada, Bob),
    killed(Ada, Cleo),
    impostor(Ada, Cleo, Cookie),
    Cleo2 = return(Ada, Cleo, Cookie),
    orderly(Ada, Bob, Cleo2),

    step(11, "The end"),
    stop(Ada),
    say("    All nodes have ended.~n").

authentication(Ada, Bob, Cleo) ->
    step(2, "They meet, and each proves who it is"),
    {Micros, Pong} = timed(fun() -> call(Ada, net_adm, ping, [Bob#node.name]) end),
    check(Pong =:= pong, "bob does not answer a ping"),
    check(call(Ada, net_adm, ping, [Cleo#node.name]) =:= pong, "cleo does not answer a ping"),
    say("    ada pings bob: pong. QUIC, TLS 1.3, keys and cookie took ~.1f ms.~n", [Micros / 1000]),
    say("    ada pings cleo: pong.~n"),
    lists:foreach(
        fun({At, Of}) ->
            #{key := Proven, mtu := Mtu} = link_of(At, Of),
            check(Proven =:= Of#node.fingerprint, "a node proved another key than its own"),
            {pinned, Pinned} = call(At, demo_node, pin, [Of#node.name]),
            check(Pinned =:= Of#node.fingerprint, "a node pinned another key than the proven one"),
            say("    ~-4s knows ~-4s by key ~s, proven and pinned; datagrams of ~b bytes~n", [
                short(At), short(Of), brief(Proven), Mtu
            ])
        end,
        [{Ada, Bob}, {Bob, Ada}, {Ada, Cleo}, {Cleo, Ada}]
    ).

messages(Ada, Bob, Cleo) ->
    step(3, "Pid ! Message"),
    Worker = call(Bob, demo_worker, start, []),
    {P50, P99} = call(Ada, demo_node, round_trips, [Worker, ?ROUND_TRIPS]),
    say("    ~b messages from ada to a process of bob and back:~n", [?ROUND_TRIPS]),
    say("    half of them within ~b us, 99 of 100 within ~b us.~n", [P50, P99]),
    check(call(Bob, erlang, nodes, []) =:= [Ada#node.name], "bob should know ada only"),
    Stranger = call(Cleo, demo_worker, start, []),
    check(call(Bob, demo_node, echo, [Stranger, hello]) =:= {ok, hello}, "cleo's process did not answer bob"),
    say("    bob and cleo never met. bob sends to a pid of cleo, and that connects them.~n").

calls(Ada, Bob) ->
    step(4, "gen_server:call and rpc"),
    Server = {demo_worker, Bob#node.name},
    Sums = [call(Ada, gen_server, call, [Server, {add, N}]) || N <- [20, 20, 2]],
    check(Sums =:= [20, 40, 42], "the server of bob cannot add"),
    say("    ada calls a server of bob: add 20, add 20, add 2: ~w.~n", [lists:last(Sums)]),
    There = call(Ada, rpc, call, [Bob#node.name, os, getpid, []]),
    check(There =:= Bob#node.os_pid, "rpc ran somewhere else"),
    check(call(Ada, erpc, call, [Bob#node.name, erlang, node, []]) =:= Bob#node.name, "erpc ran somewhere else"),
    say("    ada asks bob by rpc for its process number: ~s. It is.~n", [There]).

links_and_monitors(Ada, Bob) ->
    step(5, "Links and monitors"),
    Reason = {out_of, tea},
    {Exit, Down} = call(Ada, demo_node, watch_a_death, [Bob#node.name, Reason]),
    check(Exit =:= Reason, "the link gave another reason"),
    check(Down =:= Reason, "the monitor gave another reason"),
    say("    A process of bob dies of ~w.~n", [Reason]),
    say("    ada's linked process gets the exit signal, ada's monitor the 'DOWN': both ~w.~n", [Reason]).

bulk(Ada, Bob) ->
    step(6, "64 MiB there and back"),
    Worker = call(Bob, erlang, whereis, [demo_worker]),
    #{micros := Micros, sent := Sent, there := There, back := Back} =
        call(Ada, demo_node, bulk, [Worker, ?BULK_MIB bsl 20]),
    check(Sent =:= There, "bob received other bytes"),
    check(Sent =:= Back, "other bytes came back"),
    say("    SHA-256 at ada, at bob, and at ada again:~n"),
    [say("      ~s~n", [hex(Digest)]) || Digest <- [Sent, There, Back]],
    say("    Equal. ~b MiB in ~.2f s: ~b MiB/s, encrypted.~n", [
        2 * ?BULK_MIB, Micros / 1.0e6, round(2 * ?BULK_MIB * 1.0e6 / Micros)
    ]).

killed(Ada, Cleo) ->
    step(7, "cleo is killed with -9"),
    ok = call(Ada, demo_node, watch_nodes, []),
    At = os:system_time(microsecond),
    check(os:cmd("kill -9 " ++ Cleo#node.os_pid) =:= "", "kill refused"),
    say("    No goodbye, no FIN. The host says that the port is closed; ada asks, and hears nothing.~n"),
    {NoticedAt, Reason} = nodedown(Ada, Cleo),
    say("    ada: nodedown of cleo after ~.1f s, ~w (the idle timeout is 5 s).~n", [
        (NoticedAt - At) / 1.0e6, Reason
    ]),
    wait_for_end(Cleo).

impostor(Ada, Cleo, Cookie) ->
    step(8, "An impostor: cleo's name, the right cookie, another key"),
    Impostor = boot("impostor", "cleo", Cookie),
    check(Impostor#node.fingerprint =/= Cleo#node.fingerprint, "the impostor has cleo's key"),
    say("    It boots as ~s with key ~s.~n", [Impostor#node.name, brief(Impostor#node.fingerprint)]),
    check(call(Impostor, net_kernel, connect_node, [Ada#node.name]) =:= false, "ada let the impostor in"),
    check(call(Ada, net_adm, ping, [Cleo#node.name]) =:= pang, "ada takes the impostor for cleo"),
    check(not lists:member(Cleo#node.name, call(Ada, erlang, nodes, [])), "the impostor is connected"),
    say("    It dials ada: refused. ada dials it: refused too.~n"),
    #{cause := Cause} = At = logged(Ada, <<"a peer was refused">>),
    check(maps:get(fingerprint, At) =:= Impostor#node.fingerprint, "ada's log names another key than the impostor's"),
    check(binary:match(Cause, Cleo#node.fingerprint) =/= nomatch, "ada's log does not name the pinned key"),
    quote("ada logged", At),
    quote("The impostor logged", logged(Impostor, <<"a peer refused this node">>)),
    stop(Impostor).

return(Ada, Cleo, Cookie) ->
    step(9, "The true cleo returns"),
    Returned = boot("cleo", "cleo", Cookie),
    check(Returned#node.fingerprint =:= Cleo#node.fingerprint, "cleo lost its key"),
    check(call(Returned, net_adm, ping, [Ada#node.name]) =:= pong, "ada refuses the true cleo"),
    say("    Same directory, same key ~s: admitted.~n", [brief(Returned#node.fingerprint)]),
    Returned.

orderly(Ada, Bob, Cleo) ->
    step(10, "Orderly ends"),
    Halted = ended(Ada, Bob, halt),
    say("    bob calls halt/0; ada: nodedown after ~.1f ms.~n", [Halted]),
    Stopped = ended(Ada, Cleo, stop),
    say("    cleo calls init:stop/0; ada: nodedown after ~.1f ms, most of which OTP's own~n", [Stopped]),
    say("    shutdown takes. Both said goodbye, so nobody waited for silence.~n").

%% Milliseconds from the end, by the clock of this machine, to the nodedown at `At'.
ended(At, Node, How) ->
    Begin = call(Node, demo_node, How, []),
    {NoticedAt, connection_closed} = nodedown(At, Node),
    wait_for_end(Node),
    (NoticedAt - Begin) / 1000.

%%%===================================================================
%%% Nodes
%%%===================================================================

boot(Dir, Short, Cookie) ->
    ok = filelib:ensure_dir(filename:join(Dir, "log")),
    Args = [
        "-name", Short ++ "@" ++ ?HOST,
        "-proto_dist", "barrel_p2p",
        "-epmd_module", "barrel_p2p_epmd",
        "-start_epmd", "false",
        "-kernel", "connect_all", "false",
        "logger", "[{handler,default,logger_std_h,#{config=>#{file=>\"log\"}}}]",
        "-barrel_p2p", "listen_port", "0",
        "-setcookie", Cookie,
        "-boot", "no_dot_erlang",
        "+Bi",
        "-pa", os:getenv("BARREL_P2P_DEMO_EBIN"), filename:absname("ebin")
    ],
    case demo_control:start(Args, Dir, ?BOOT_MS) of
        {ok, Control} ->
            Node = #node{name = list_to_atom(Short ++ "@" ++ ?HOST), control = Control},
            ok = call(Node, demo_log, install, []),
            {ok, _} = call(Node, application, ensure_all_started, [barrel_p2p]),
            Node#node{os_pid = call(Node, os, getpid, []), fingerprint = call(Node, demo_node, fingerprint, [])};
        {error, Reason} ->
            fail(io_lib:format("~s does not boot: ~tp", [Short, Reason]))
    end.

introduce(#node{name = Name, fingerprint = Fingerprint} = Node) ->
    {ok, Port} = call(Node, barrel_p2p_dist, listen_port, []),
    say("    ~-14s UDP port ~b, key ~s~n", [Name, Port, brief(Fingerprint)]),
    Node.

private_keys(Names) ->
    lists:foreach(
        fun(Name) ->
            File = filename:join([Name, "data", Name ++ "@" ++ ?HOST, "keys", "node.key"]),
            {ok, Info} = file:read_file_info(File),
            %% #file_info.mode
            check(element(8, Info) band 8#777 =:= 8#600, "a secret key has other modes than 0600")
        end,
        Names
    ),
    say("    Ed25519 key pairs in data/<node>/keys, readable by this user alone.~n").

call(#node{control = Control, name = Name}, M, F, A) ->
    case demo_control:call(Control, M, F, A, ?CALL_MS) of
        {ok, Result} -> Result;
        {error, Reason} -> fail(io_lib:format("~w:~w/~b at ~s: ~tp", [M, F, length(A), Name, Reason]))
    end.

link_of(At, #node{name = Name}) ->
    case call(At, demo_node, link_to, [Name]) of
        {ok, Link} -> Link;
        {error, not_found} -> fail("there is no link")
    end.

%% What a node has said, as a map.
logged(At, What) ->
    case call(At, demo_log, await, [What, ?LOG_MS]) of
        {ok, Report} -> Report;
        {error, timeout} -> fail(io_lib:format("~s did not log \"~s\"", [At#node.name, What]))
    end.

nodedown(At, #node{name = Name}) ->
    case call(At, demo_node, await_nodedown, [Name, ?CALL_MS - 1000]) of
        {ok, Time, Reason} -> {Time, Reason};
        {error, timeout} -> fail("no nodedown came")
    end.

stop(#node{control = Control} = Node) ->
    ok = demo_control:cast(Control, init, stop, []),
    wait_for_end(Node).

wait_for_end(#node{control = Control, name = Name}) ->
    case demo_control:await_end(Control, ?CALL_MS) of
        ok -> ok;
        {error, timeout} -> fail(io_lib:format("~s does not end", [Name]))
    end.

short(#node{name = Name}) ->
    hd(string:split(atom_to_list(Name), "@")).

%%%===================================================================
%%% Checks
%%%===================================================================

check(true, _Otherwise) -> ok;
check(false, Otherwise) -> fail(Otherwise).

-spec fail(iodata()) -> no_return().
fail(Why) ->
    exit({failed, Why}).

-spec failed(iodata()) -> no_return().
failed(Why) ->
    say("~ndemo: FAILED: ~ts~n", [Why]),
    lists:foreach(
        fun(File) ->
            {ok, Text} = file:read_file(File),
            say("~n--- ~ts~n~ts", [File, Text])
        end,
        filelib:wildcard("*/log")
    ),
    halt(1).

%%%===================================================================
%%% Telling
%%%===================================================================

step(Number, Title) ->
    {On, Off} =
        case os:getenv("BARREL_P2P_DEMO_BOLD") of
            "" -> {"", ""};
            _ -> {"\e[1m", "\e[0m"}
        end,
    say("~n~s~2b. ~s~s~n", [On, Number, Title, Off]).

say(Format) ->
    say(Format, []).

say(Format, Args) ->
    io:format(Format, Args).

%% A log entry: what happened, to whom, and why.
quote(Who, #{what := What} = Report) ->
    say("    ~s: ~ts~n", [Who, What]),
    [
        say("      ~-12s ~ts~n", [Title, Line])
     || Key <- [peer, fingerprint, cause],
        #{Key := Value} <- [Report],
        Value =/= <<"unknown">>,
        {Title, Line} <- titled(Key, wrap(Value))
    ].

titled(Key, [First | Rest]) ->
    [{Key, First} | [{"", Line} || Line <- Rest]].

wrap(Text) ->
    [Word | Words] = string:split(Text, " ", all),
    wrap(Words, Word).

wrap([Word | Words], Line) ->
    case string:length(Line) + 1 + string:length(Word) of
        Width when Width > 64 -> [Line | wrap(Words, Word)];
        _ -> wrap(Words, <<Line/binary, " ", Word/binary>>)
    end;
wrap([], Line) ->
    [Line].

%% The first 64 of 256 bits, for reading aloud.
brief(<<A:4/binary, B:4/binary, C:4/binary, D:4/binary, _/binary>>) ->
    lists:join(" ", [A, B, C, D]).

hex(Digest) ->
    string:lowercase(binary:encode_hex(Digest)).

timed(Fun) ->
    Start = erlang:monotonic_time(microsecond),
    Result = Fun(),
    {erlang:monotonic_time(microsecond) - Start, Result}.
