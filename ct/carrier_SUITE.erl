%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What OTP asks of a carrier, on real nodes: every way to start one, names
%%% and addresses, cookies, options, ports, ticks and incarnations.
-module(carrier_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("kernel/include/net_address.hrl").
-include_lib("stdlib/include/assert.hrl").

%% Common Test
-export([all/0, groups/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
%% Ways to start
-export([
    two_nodes_with_the_three_flags_connect/1,
    no_epmd_is_enough/1,
    long_names_connect/1,
    a_short_and_a_long_name_do_not_connect_and_say_why/1,
    a_dynamic_name_is_given_by_the_first_peer/1,
    a_remote_shell_evaluates_on_its_node/1,
    a_hidden_node_stays_hidden/1,
    a_node_that_does_not_listen_connects_and_cannot_be_reached/1,
    the_distribution_starts_and_stops_at_run_time/1,
    a_peer_reports_over_the_distribution/1,
    a_node_serves_two_carriers/1,
    a_name_in_use_is_refused/1,
    a_repeated_carrier_flag_is_not_taken_silently/1
]).
%% Cookies and permissions
-export([
    a_cookie_per_node_connects/1,
    a_wrong_cookie_is_refused_and_both_sides_say_so/1,
    allow_is_heeded_in_both_directions/1,
    automatic_connections_can_be_forbidden/1,
    automatic_connections_can_be_made_once/1
]).
%% What the node says of its connections
-export([
    net_kernel_shows_connections/1,
    options_of_connections_are_set_and_read/1,
    callbacks_judge_without_raising/1,
    names_lists_the_living/1,
    unknown_names_are_not_reached/1
]).
%% Ports and interfaces
-export([
    auto_takes_the_well_known_port_when_it_is_free/1,
    a_configured_port_is_taken_as_it_is/1,
    a_taken_port_stops_the_boot_and_is_named/1,
    ports_keep_to_the_range_of_the_kernel_parameters/1,
    the_interface_of_the_kernel_parameter_is_used/1,
    nodes_on_ipv6_alone_connect/1
]).
%% Life
-export([
    idle_connections_stay_up_by_ticks/1,
    a_stopped_process_is_a_closed_connection/1,
    a_stopped_process_is_a_tick_timeout_when_quic_waits_longer/1,
    a_hung_vm_is_a_tick_timeout_while_its_endpoint_lives/1,
    every_end_of_a_node_is_a_closed_connection/1,
    creations_have_32_bits_and_differ/1,
    a_restarted_node_is_reached_at_once/1
]).

%% An event that must come; how long it takes is not what is tested.
-define(SOON, 30000).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [{group, start}, {group, permission}, {group, picture}, {group, address}, {group, life}].

groups() ->
    [
        {start, [], [
            two_nodes_with_the_three_flags_connect,
            no_epmd_is_enough,
            long_names_connect,
            a_short_and_a_long_name_do_not_connect_and_say_why,
            a_dynamic_name_is_given_by_the_first_peer,
            a_remote_shell_evaluates_on_its_node,
            a_hidden_node_stays_hidden,
            a_node_that_does_not_listen_connects_and_cannot_be_reached,
            the_distribution_starts_and_stops_at_run_time,
            a_peer_reports_over_the_distribution,
            a_node_serves_two_carriers,
            a_name_in_use_is_refused,
            a_repeated_carrier_flag_is_not_taken_silently
        ]},
        {permission, [], [
            a_cookie_per_node_connects,
            a_wrong_cookie_is_refused_and_both_sides_say_so,
            allow_is_heeded_in_both_directions,
            automatic_connections_can_be_forbidden,
            automatic_connections_can_be_made_once
        ]},
        {picture, [], [
            net_kernel_shows_connections,
            options_of_connections_are_set_and_read,
            callbacks_judge_without_raising,
            names_lists_the_living,
            unknown_names_are_not_reached
        ]},
        {address, [], [
            auto_takes_the_well_known_port_when_it_is_free,
            a_configured_port_is_taken_as_it_is,
            a_taken_port_stops_the_boot_and_is_named,
            ports_keep_to_the_range_of_the_kernel_parameters,
            the_interface_of_the_kernel_parameter_is_used,
            nodes_on_ipv6_alone_connect
        ]},
        {life, [], [
            idle_connections_stay_up_by_ticks,
            a_stopped_process_is_a_closed_connection,
            a_stopped_process_is_a_tick_timeout_when_quic_waits_longer,
            a_hung_vm_is_a_tick_timeout_while_its_endpoint_lives,
            every_end_of_a_node_is_a_closed_connection,
            creations_have_32_bits_and_differ,
            a_restarted_node_is_reached_at_once
        ]}
    ].

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    try
        cluster:stop(?config(cluster, Config))
    catch
        error:Reason -> {fail, Reason}
    end.

%%%===================================================================
%%% Ways to start
%%%===================================================================

two_nodes_with_the_three_flags_connect(Config) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, #{}) || Name <- [a, b]],
    ?assertEqual(pong, cluster:call(A, net_adm, ping, [B])),
    ok = cluster:await_nodeup(A, B, ?SOON),
    ok = cluster:await_nodeup(B, A, ?SOON),
    ?assertEqual([B], cluster:call(A, erlang, nodes, [])),
    ?assertEqual([A], cluster:call(B, erlang, nodes, [])),
    ?assertEqual(B, cluster:call(A, erpc, call, [B, erlang, node, []])),
    ?assertEqual(A, cluster:call(B, erpc, call, [A, erlang, node, []])),
    %% over our carrier, and nothing else of the distribution listens
    [#{dialled := true, client := false}] = cluster:call(A, barrel_p2p_node, links, []),
    [#{dialled := false, client := false}] = cluster:call(B, barrel_p2p_node, links, []),
    ?assertEqual([], cluster:run(A, fun tcp_listeners/0)).

tcp_listeners() ->
    [P || P <- erlang:ports(), erlang:port_info(P, name) =:= {name, "tcp_inet"}].

no_epmd_is_enough(Config) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, #{args => ["-no_epmd"]}) || Name <- [a, b]],
    ?assertEqual(undefined, cluster:call(A, erlang, whereis, [erl_epmd])),
    ok = cluster:connect(A, B),
    ok = cluster:connect(B, A),
    ?assertEqual([B], cluster:call(A, erlang, nodes, [])).

long_names_connect(Config) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, #{longnames => true}) || Name <- [a, b]],
    ?assertEqual('a@127.0.0.1', A),
    ok = cluster:connect(A, B),
    ?assertEqual([A], cluster:call(B, erlang, nodes, [])).

a_short_and_a_long_name_do_not_connect_and_say_why(Config) ->
    C = ?config(cluster, Config),
    Short = cluster:start(C, short, #{}),
    Long = cluster:start(C, long, #{longnames => true}),
    ?assertEqual(false, cluster:call(Short, net_kernel, connect_node, [Long])),
    ?assertEqual(false, cluster:call(Long, net_kernel, connect_node, [Short])),
    _ = cluster:await_log(Short, says("System NOT running to use fully qualified hostnames"), ?SOON),
    _ = cluster:await_log(Long, says("System running to use fully qualified hostnames"), ?SOON).

a_dynamic_name_is_given_by_the_first_peer(Config) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, #{}) || Name <- [a, b]],
    D = cluster:start(C, d, #{dynamic => true}),
    ?assertEqual('nonode@nohost', cluster:call(D, erlang, node, [])),
    ?assertEqual(true, cluster:call(D, net_kernel, connect_node, [A])),
    Name = cluster:call(D, erlang, node, []),
    ?assertNotEqual('nonode@nohost', Name),
    ok = cluster:await_nodeup(A, Name, ?SOON),
    ?assertEqual([], cluster:call(A, erlang, nodes, [])),
    ?assertEqual([Name], cluster:call(A, erlang, nodes, [hidden])),
    ?assertEqual(Name, cluster:call(A, erpc, call, [Name, erlang, node, []])),
    ?assertEqual(undefined, cluster:call(D, barrel_p2p_dist, listen_port, [])),
    %% it keeps that name towards a second node
    ?assertEqual(true, cluster:call(D, net_kernel, connect_node, [B])),
    ?assertEqual(Name, cluster:call(B, erpc, call, [Name, erlang, node, []])),
    %% and loses it, and all connections, with the one to the giver
    true = cluster:call(D, erlang, disconnect_node, [A]),
    connection_closed = cluster:await_nodedown(A, Name, ?SOON),
    connection_closed = cluster:await_nodedown(B, Name, ?SOON),
    true = cluster:await(D, fun() -> node() =:= 'nonode@nohost' end, ?SOON),
    ?assertEqual(true, cluster:call(D, net_kernel, connect_node, [B])),
    Second = cluster:call(D, erlang, node, []),
    ?assertEqual(Second, cluster:call(B, erpc, call, [Second, erlang, node, []])),
    %% a client leaves nothing on the disk
    Names = [filename:basename(F) || F <- filelib:wildcard(filename:join([cluster:dir(C), "data", "*"]))],
    ?assertEqual(lists:sort([atom_to_list(A), atom_to_list(B)]), lists:sort(Names)).

%% As a user types it, in a terminal.
a_remote_shell_evaluates_on_its_node(Config) ->
    case terminals() of
        false ->
            {skip, "needs script(1) and pseudo-terminals"};
        Script ->
            C = ?config(cluster, Config),
            A = cluster:start(C, a, #{}),
            Erl = cluster:erl(#{}),
            Words = [Erl, "-remsh", atom_to_list(A) | cluster:arguments(C, shell, #{nameless => true})],
            {Shell, Before} = cluster:in_directory(cluster:dir(C), Script),
            Port = open_port({spawn_executable, Shell}, [
                {args, Before ++ ["-qec", lists:join(" ", [quote(W) || W <- Words]), "/dev/null"]},
                {env, [{"TERM", "xterm"}]},
                exit_status,
                stderr_to_stdout,
                binary
            ]),
            Prompt = atom_to_list(A) ++ ")1> ",
            await_output(Port, Prompt, <<>>),
            true = port_command(Port, "{remsh, node(), 6 * 7}.\n"),
            await_output(Port, "{remsh," ++ atom_to_list(A) ++ ",42}", <<>>),
            [Client] = cluster:call(A, erlang, nodes, [hidden]),
            true = port_command(Port, [7]),
            await_output(Port, "-->", <<>>),
            true = port_command(Port, "q\n"),
            ?assertEqual(0, await_status(Port)),
            connection_closed = cluster:await_nodedown(A, Client, ?SOON),
            ?assertEqual(A, cluster:call(A, erlang, node, []))
    end.

%% A bare chroot has none.
terminals() ->
    case os:find_executable("script") of
        false ->
            false;
        Script ->
            case os:cmd(Script ++ " -qec 'echo made' /dev/null 2>&1") of
                "made" ++ _ -> Script;
                _ -> false
            end
    end.

a_hidden_node_stays_hidden(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    H = cluster:start(C, h, #{hidden => true}),
    ok = cluster:connect(A, H),
    ?assertEqual([], cluster:call(A, erlang, nodes, [])),
    ?assertEqual([H], cluster:call(A, erlang, nodes, [hidden])),
    ?assertEqual([A], cluster:call(H, erlang, nodes, [hidden])),
    %% it listens all the same
    true = cluster:call(A, erlang, disconnect_node, [H]),
    _ = cluster:await_nodedown(H, A, ?SOON),
    ok = cluster:connect(A, H),
    ?assertEqual(H, cluster:call(A, erpc, call, [H, erlang, node, []])).

a_node_that_does_not_listen_connects_and_cannot_be_reached(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    D = cluster:start(C, deaf, #{listen => false}),
    ?assertEqual(undefined, cluster:call(D, barrel_p2p_dist, listen_port, [])),
    ?assertEqual(false, cluster:call(A, net_kernel, connect_node, [D])),
    ok = cluster:connect(D, A),
    ?assertEqual(undefined, cluster:call(D, barrel_p2p_dist, listen_port, [])),
    ?assertEqual([D], cluster:call(A, erlang, nodes, [hidden])),
    ?assertEqual(D, cluster:call(A, erpc, call, [D, erlang, node, []])),
    ?assertEqual({ok, [{"a", port_of(A)}]}, cluster:call(A, net_adm, names, [])),
    true = cluster:call(A, erlang, disconnect_node, [D]),
    connection_closed = cluster:await_nodedown(D, A, ?SOON),
    ?assertEqual(false, cluster:call(A, net_kernel, connect_node, [D])),
    ok = cluster:connect(D, A).

the_distribution_starts_and_stops_at_run_time(Config) ->
    C = ?config(cluster, Config),
    B = cluster:start(C, b, #{}),
    N = cluster:start(C, n, #{nameless => true}),
    ?assertEqual('nonode@nohost', cluster:call(N, erlang, node, [])),
    First = started(N, x),
    ok = cluster:connect(N, B),
    ok = cluster:connect(B, First),
    Creation = cluster:call(N, erlang, system_info, [creation]),
    ok = stopped(N),
    connection_closed = cluster:await_nodedown(B, First, ?SOON),
    ?assertEqual(undefined, cluster:call(N, barrel_p2p_dist, listen_port, [])),
    ?assertEqual(false, cluster:call(B, net_kernel, connect_node, [First])),
    %% under another name, and connected to from outside at first
    Second = started(N, y),
    ?assertNotEqual(First, Second),
    ?assertNotEqual(Creation, cluster:call(N, erlang, system_info, [creation])),
    ok = cluster:connect(B, Second),
    ?assertEqual(Second, cluster:call(B, erpc, call, [Second, erlang, node, []])),
    ?assertEqual(false, cluster:call(B, net_kernel, connect_node, [First])),
    ok = stopped(N),
    connection_closed = cluster:await_nodedown(B, Second, ?SOON),
    %% under the first name again, and again
    [
        begin
            First = started(N, x),
            ok = cluster:connect(N, B),
            ?assertEqual(First, cluster:call(B, erpc, call, [First, erlang, node, []])),
            ok = stopped(N),
            connection_closed = cluster:await_nodedown(B, First, ?SOON)
        end
     || _ <- lists:seq(1, 5)
    ],
    %% with options: not listening, so a client, and one may not take the name of a member
    {ok, _} = cluster:call(N, net_kernel, start, [x, #{name_domain => shortnames, dist_listen => false}]),
    ?assertEqual(false, cluster:call(N, net_kernel, connect_node, [B])),
    _ = cluster:await_log(B, says("its name belongs to a member"), ?SOON),
    ok = stopped(N),
    {ok, _} = cluster:call(N, net_kernel, start, [z, #{name_domain => shortnames, dist_listen => false}]),
    Third = cluster:call(N, erlang, node, []),
    ok = cluster:connect(N, B),
    ?assertEqual([Third], cluster:call(B, erlang, nodes, [hidden])),
    ok = stopped(N),
    connection_closed = cluster:await_nodedown(B, Third, ?SOON).

started(N, Name) ->
    {ok, _} = cluster:call(N, net_kernel, start, [Name, #{name_domain => shortnames}]),
    {ok, Port} = cluster:call(N, barrel_p2p_dist, listen_port, []),
    ?assert(Port > 0),
    cluster:call(N, erlang, node, []).

stopped(N) ->
    ok = cluster:call(N, net_kernel, stop, []),
    'nonode@nohost' = cluster:call(N, erlang, node, []),
    ok.

%% `peer' hears of the boot and stops the node over the distribution.
a_peer_reports_over_the_distribution(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    Args = cluster:arguments(C, child, #{nameless => true}),
    {Peer, Child} = cluster:run(A, fun() ->
        {ok, P, N} = peer:start(#{name => child, args => Args}),
        {P, N}
    end),
    ok = cluster:await_nodeup(A, Child, ?SOON),
    ?assertEqual({Child, [A]}, cluster:run(A, fun() -> erpc:call(Child, fun() -> {node(), nodes()} end) end)),
    OsPid = cluster:call(A, erpc, call, [Child, os, getpid, []]),
    ?assertEqual(running, cluster:call(A, peer, get_state, [Peer])),
    ok = cluster:call(A, peer, stop, [Peer]),
    connection_closed = cluster:await_nodedown(A, Child, ?SOON),
    true = cluster:await(A, fun() -> os:cmd("kill -0 " ++ OsPid ++ " 2>&1") =/= "" end, ?SOON),
    %% nobody had to be disconnected by force
    ?assertEqual([], [E || E <- cluster:logs(A), (says("timed out waiting for disconnect"))(E)]).

a_node_serves_two_carriers(Config) ->
    C = ?config(cluster, Config),
    Both = cluster:start(C, both, #{carrier => [barrel_p2p, inet_tcp]}),
    Quic = cluster:start(C, quic, #{}),
    Tcp = cluster:start(C, tcp, #{carrier => inet_tcp}),
    ok = cluster:connect(Quic, Both),
    ok = cluster:connect(Tcp, Both),
    {ok, QuicInfo} = cluster:call(Both, net_kernel, node_info, [Quic]),
    {ok, TcpInfo} = cluster:call(Both, net_kernel, node_info, [Tcp]),
    ?assertMatch(#net_address{protocol = barrel_p2p}, proplists:get_value(address, QuicInfo)),
    ?assertMatch(#net_address{protocol = tcp}, proplists:get_value(address, TcpInfo)),
    ?assertEqual([{Both, true}, {Both, true}], [{cluster:call(N, erpc, call, [Both, erlang, node, []]), true} || N <- [Quic, Tcp]]).

a_name_in_use_is_refused(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    {Status, Said} = cluster:boot_fails(C, a, #{}),
    ?assertEqual(1, Status),
    mentions(Said, atom_to_list(A)),
    mentions(Said, "in use"),
    %% the living one goes on
    B = cluster:start(C, b, #{}),
    ok = cluster:connect(B, A).

%% OTP 25 takes repeated flags for none, and speaks clear text over TCP.
a_repeated_carrier_flag_is_not_taken_silently(Config) ->
    C = ?config(cluster, Config),
    Opts = #{args => ["-proto_dist", "barrel_p2p"], start_app => true},
    case erlang:system_info(otp_release) of
        "25" ->
            {Status, Said} = cluster:boot_fails(C, a, Opts),
            ?assertEqual(1, Status),
            mentions(Said, "CLEAR TEXT"),
            mentions(Said, "give -proto_dist once");
        _ ->
            A = cluster:start(C, a, Opts),
            _ = cluster:await_log(A, says("-proto_dist was given more than once"), ?SOON)
    end.

%%%===================================================================
%%% Cookies and permissions
%%%===================================================================

a_cookie_per_node_connects(Config) ->
    C = ?config(cluster, Config),
    Cookie = "another_cookie_0123456789",
    A = cluster:start(C, a, #{}),
    B = cluster:start(C, b, #{cookie => Cookie}),
    X = cluster:start(C, x, #{}),
    ?assertEqual(false, cluster:call(A, net_kernel, connect_node, [B])),
    ?assertEqual(false, cluster:call(B, net_kernel, connect_node, [A])),
    true = cluster:call(A, erlang, set_cookie, [B, list_to_atom(Cookie)]),
    ok = cluster:connect(A, B),
    ok = disconnected(A, B),
    %% also when the other side dials
    ok = cluster:connect(B, A),
    ok = disconnected(A, B),
    %% and for that node alone
    ok = cluster:connect(A, X),
    ?assertEqual(false, cluster:call(X, net_kernel, connect_node, [B])).

a_wrong_cookie_is_refused_and_both_sides_say_so(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    B = cluster:start(C, b, #{cookie => "not_the_cookie_of_a_0123456789"}),
    ?assertEqual(false, cluster:call(B, net_kernel, connect_node, [A])),
    Refused = cluster:await_log(A, mentions_peer(B), ?SOON),
    Refusal = cluster:await_log(B, mentions_peer(A), ?SOON),
    [?assert(is_severe(E), E) || E <- [Refused, Refusal]],
    [mentions(text(E), "cookie") || E <- [Refused, Refusal]],
    ?assertEqual([], cluster:call(A, erlang, nodes, [connected])),
    ?assertEqual([], cluster:call(B, erlang, nodes, [connected])),
    %% the secret itself is in no log
    [?assertEqual(nomatch, string:find(text(E), maps:get(cookie, C))) || N <- [A, B], E <- cluster:logs(N)].

allow_is_heeded_in_both_directions(Config) ->
    C = ?config(cluster, Config),
    [A, B, X] = [cluster:start(C, Name, #{}) || Name <- [a, b, x]],
    ok = cluster:call(A, net_kernel, allow, [[B]]),
    ?assertEqual(false, cluster:call(X, net_kernel, connect_node, [A])),
    _ = cluster:await_log(A, says("net_kernel:allow/1"), ?SOON),
    ?assertEqual(false, cluster:call(A, net_kernel, connect_node, [X])),
    ok = cluster:connect(B, A),
    ok = disconnected(A, B),
    ok = cluster:connect(A, B),
    %% more can be allowed later
    ok = cluster:call(A, net_kernel, allow, [[X]]),
    ok = cluster:connect(X, A).

automatic_connections_can_be_forbidden(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{kernel => [{dist_auto_connect, never}]}),
    B = cluster:start(C, b, #{}),
    ?assertEqual({badrpc, nodedown}, cluster:call(A, rpc, call, [B, erlang, node, []])),
    ok = cluster:connect(A, B),
    ?assertEqual(B, cluster:call(A, rpc, call, [B, erlang, node, []])).

automatic_connections_can_be_made_once(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{kernel => [{dist_auto_connect, once}]}),
    B = cluster:start(C, b, #{}),
    ?assertEqual(B, cluster:call(A, rpc, call, [B, erlang, node, []])),
    ok = disconnected(B, A),
    ?assertEqual({badrpc, nodedown}, cluster:call(A, rpc, call, [B, erlang, node, []])),
    ok = cluster:connect(A, B),
    ?assertEqual(B, cluster:call(A, rpc, call, [B, erlang, node, []])).

%%%===================================================================
%%% What the node says of its connections
%%%===================================================================

net_kernel_shows_connections(Config) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, #{}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    Port = port_of(B),
    {ok, [{B, Info}]} = cluster:call(A, net_kernel, nodes_info, []),
    ?assertMatch(
        #net_address{address = {_, Port}, protocol = barrel_p2p, family = inet},
        proplists:get_value(address, Info)
    ),
    ?assertEqual(up, proplists:get_value(state, Info)),
    ?assertEqual(normal, proplists:get_value(type, Info)),
    ?assert(is_pid(proplists:get_value(owner, Info))),
    ok = cluster:await_nodeup(A, B, ?SOON),
    %% messages are counted, on both sides
    {ok, In} = cluster:call(B, net_kernel, node_info, [A, in]),
    {ok, Out} = cluster:call(A, net_kernel, node_info, [B, out]),
    100 = cluster:run(A, fun() -> length([ok || _ <- lists:seq(1, 100), ok =:= erpc:call(B, logger, set_module_level, [lists, all])]) end),
    {ok, In2} = cluster:call(B, net_kernel, node_info, [A, in]),
    {ok, Out2} = cluster:call(A, net_kernel, node_info, [B, out]),
    ?assert(In2 >= In + 100, {In, In2}),
    ?assert(Out2 >= Out + 100, {Out, Out2}),
    Printed = cluster:run(A, fun() -> printed(fun net_kernel:i/0) end),
    mentions(Printed, atom_to_list(B)),
    mentions(cluster:run(A, fun() -> printed(fun() -> net_kernel:i(B) end) end), ":" ++ integer_to_list(Port)).

%% What a fun prints.
printed(Fun) ->
    {ok, Device} = file:open([], [ram, read, write, binary]),
    ok = file:close(Device),
    Self = self(),
    Leader = spawn_link(fun() -> collect_output(Self, []) end),
    Before = group_leader(),
    group_leader(Leader, self()),
    try
        Fun()
    after
        group_leader(Before, self())
    end,
    Leader ! {self(), done},
    receive
        {Leader, Printed} -> Printed
    end.

collect_output(Owner, Acc) ->
    receive
        {io_request, From, Ref, {put_chars, Encoding, M, F, A}} ->
            collect_output(Owner, From, Ref, [Acc, unicode:characters_to_binary(apply(M, F, A), Encoding)]);
        {io_request, From, Ref, {put_chars, Encoding, Chars}} ->
            collect_output(Owner, From, Ref, [Acc, unicode:characters_to_binary(Chars, Encoding)]);
        {Owner, done} ->
            Owner ! {self(), unicode:characters_to_list(iolist_to_binary(Acc))}
    end.

collect_output(Owner, From, Ref, Acc) ->
    From ! {io_reply, Ref, ok},
    collect_output(Owner, Acc).

options_of_connections_are_set_and_read(Config) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, #{}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    ?assertEqual({ok, [{nodelay, true}]}, cluster:call(A, net_kernel, getopts, [B, [nodelay]])),
    ?assertEqual(ok, cluster:call(A, net_kernel, setopts, [B, [{nodelay, false}]])),
    ?assertEqual({ok, [{nodelay, false}]}, cluster:call(A, net_kernel, getopts, [B, [nodelay]])),
    ?assertMatch({error, _}, cluster:call(A, net_kernel, setopts, [B, [{packet, 0}]])),
    %% what is set for new connections holds for those, and not for this one
    ?assertEqual(ok, cluster:call(A, net_kernel, setopts, [new, [{nodelay, false}]])),
    X = cluster:start(C, x, #{}),
    ok = cluster:connect(A, X),
    ?assertEqual({ok, [{nodelay, false}]}, cluster:call(A, net_kernel, getopts, [X, [nodelay]])),
    ?assertEqual({ok, [{nodelay, true}]}, cluster:call(B, net_kernel, getopts, [A, [nodelay]])),
    ?assertMatch({error, _}, cluster:call(A, net_kernel, setopts, [new, [{active, once}]])),
    ?assertEqual({error, noconnection}, cluster:call(A, net_kernel, getopts, ['nobody@localhost', [nodelay]])),
    %% and the connection is none the worse for it
    ?assertEqual(B, cluster:call(A, erpc, call, [B, erlang, node, []])).

%% They run inside net_kernel, where a crash is the end of the node.
callbacks_judge_without_raising(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    Select = fun(Node) -> cluster:call(A, barrel_p2p_dist, select, [Node]) end,
    Good = ['a@b', 'a-b_C9@host.example.org', 'a@127.0.0.1', 'a@::1', 'x@127_0_0_1'],
    Bad = ['', a, '@b', 'a@', 'a@b@c', 'a b@c', 'a@.', 'a@b/../c', 'a@b c'],
    ?assertEqual([], [N || N <- Good, Select(N) =/= true]),
    ?assertEqual([], [N || N <- Bad, Select(N) =/= false]),
    ?assertMatch({ok, [#{id := _}]}, cluster:call(A, barrel_p2p_dist, childspecs, [])),
    ?assertMatch(#net_address{host = "h", protocol = barrel_p2p}, cluster:call(A, barrel_p2p_dist, address, ["h"])),
    {ok, Host} = inet:gethostname(),
    ?assertMatch(#net_address{host = Host, protocol = barrel_p2p}, cluster:call(A, barrel_p2p_dist, address, [])),
    %% net_kernel asks the same way
    ?assertEqual(false, cluster:call(A, net_kernel, connect_node, ['a@b/../c'])),
    ?assertEqual(A, cluster:call(A, erlang, node, [])).

names_lists_the_living(Config) ->
    C = ?config(cluster, Config),
    [A, B, X] = [cluster:start(C, Name, #{}) || Name <- [a, b, x]],
    All = lists:sort([{"a", port_of(A)}, {"b", port_of(B)}, {"x", port_of(X)}]),
    {ok, Names} = cluster:call(A, net_adm, names, []),
    ?assertEqual(All, lists:sort(Names)),
    {ok, Local} = cluster:call(A, net_adm, names, ["localhost"]),
    ?assertEqual(All, lists:sort(Local)),
    {port, Port, Version} = cluster:call(A, barrel_p2p_epmd, port_please, ["b", "localhost"]),
    ?assertEqual({port_of(B), true}, {Port, Version >= 5}),
    ok = cluster:stop(X, init_stop),
    ok = cluster:kill(B),
    ?assertEqual({ok, [{"a", port_of(A)}]}, cluster:call(A, net_adm, names, [])),
    ?assertEqual(noport, cluster:call(A, barrel_p2p_epmd, port_please, ["b", "localhost"])).

unknown_names_are_not_reached(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    [_, Host] = string:split(atom_to_list(A), "@"),
    Unknown = list_to_atom("nobody@" ++ Host),
    {Micros, Result} = cluster:call(A, timer, tc, [net_adm, ping, [Unknown]]),
    ct:comment("an unknown local name fails in ~b us", [Micros]),
    ?assertEqual(pang, Result),
    %% a name that died is one, too
    B = cluster:start(C, b, #{}),
    ok = cluster:connect(A, B),
    ok = cluster:kill(B),
    _ = cluster:await_nodedown(A, B, ?SOON),
    {Micros2, pang} = cluster:call(A, timer, tc, [net_adm, ping, [B]]),
    ct:log("a name that was left behind fails in ~b us", [Micros2]).

%%%===================================================================
%%% Ports and interfaces
%%%===================================================================

auto_takes_the_well_known_port_when_it_is_free(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{env => [{listen_port, auto}]}),
    case port_of(A) of
        9100 -> ok;
        %% somebody else has it
        _ -> ?assertMatch({error, eaddrinuse}, gen_udp:open(9100))
    end,
    B = cluster:start(C, b, #{env => [{listen_port, auto}]}),
    ?assertNotEqual(9100, port_of(B)),
    ok = cluster:connect(A, B).

a_configured_port_is_taken_as_it_is(Config) ->
    C = ?config(cluster, Config),
    [P1, P2] = free_ports(2),
    A = cluster:start(C, a, #{env => [{listen_port, P1}]}),
    B = cluster:start(C, b, #{env => [], args => ["-barrel_p2p_dist_port", integer_to_list(P2)]}),
    ?assertEqual([P1, P2], [port_of(N) || N <- [A, B]]),
    ok = cluster:connect(A, B).

a_taken_port_stops_the_boot_and_is_named(Config) ->
    C = ?config(cluster, Config),
    {ok, Socket} = gen_udp:open(0),
    {ok, Port} = inet:port(Socket),
    {Status, Said} = cluster:boot_fails(C, a, #{env => [{listen_port, Port}]}),
    ok = gen_udp:close(Socket),
    ?assertEqual(1, Status),
    mentions(Said, integer_to_list(Port)),
    %% free again, it is taken
    A = cluster:start(C, a, #{env => [{listen_port, Port}]}),
    ?assertEqual(Port, port_of(A)).

ports_keep_to_the_range_of_the_kernel_parameters(Config) ->
    C = ?config(cluster, Config),
    Min = free_pair(),
    Opts = #{
        env => [{listen_port, auto}],
        kernel => [{inet_dist_listen_min, Min}, {inet_dist_listen_max, Min + 1}]
    },
    [A, B] = [cluster:start(C, Name, Opts) || Name <- [a, b]],
    ?assertEqual([Min, Min + 1], lists:sort([port_of(N) || N <- [A, B]])),
    ok = cluster:connect(A, B),
    {1, Said} = cluster:boot_fails(C, x, Opts),
    mentions(Said, integer_to_list(Min + 1)).

the_interface_of_the_kernel_parameter_is_used(Config) ->
    C = ?config(cluster, Config),
    Opts = #{kernel => [{inet_dist_use_interface, {127, 0, 0, 1}}]},
    [A, B] = [cluster:start(C, Name, Opts) || Name <- [a, b]],
    Port = port_of(A),
    ?assertMatch(#{address := {{127, 0, 0, 1}, Port}}, cluster:call(A, barrel_p2p_node, info, [])),
    %% another address of this machine is free
    {ok, Socket} = gen_udp:open(Port, [{ip, {127, 0, 0, 2}}]),
    ok = gen_udp:close(Socket),
    ?assertEqual({error, eaddrinuse}, gen_udp:open(Port, [{ip, {127, 0, 0, 1}}])),
    ok = cluster:connect(A, B),
    ok = cluster:connect(B, A).

nodes_on_ipv6_alone_connect(Config) ->
    case gen_udp:open(0, [inet6, {ip, {0, 0, 0, 0, 0, 0, 0, 1}}]) of
        {error, Reason} ->
            {skip, io_lib:format("needs IPv6: ~p", [Reason])};
        {ok, Socket} ->
            ok = gen_udp:close(Socket),
            C = ?config(cluster, Config),
            Opts = #{env => [{listen_ip, {0, 0, 0, 0, 0, 0, 0, 1}}]},
            [A, B] = [cluster:start(C, Name, Opts) || Name <- [a, b]],
            Port = port_of(B),
            ok = cluster:connect(A, B),
            ?assertMatch([#{address := {{0, 0, 0, 0, 0, 0, 0, 1}, Port}}], cluster:call(A, barrel_p2p_node, links, [])),
            %% a name that is an address, with a contact that needs no file
            D = cluster:start(C, d, #{
                longnames => true,
                host => "::1",
                env => [{listen_ip, {0, 0, 0, 0, 0, 0, 0, 1}}, {discovery_backends, [barrel_p2p_discovery_static]}]
            }),
            ?assertEqual('d@::1', D),
            E = cluster:start(C, e, #{
                longnames => true,
                host => "::1",
                env => [
                    {listen_ip, {0, 0, 0, 0, 0, 0, 0, 1}},
                    {discovery_backends, [{barrel_p2p_discovery_static, #{nodes => [{D, {"::1", port_of(D)}}]}}]}
                ]
            }),
            ok = cluster:connect(E, D),
            ?assertEqual(D, cluster:call(E, erpc, call, [D, erlang, node, []]))
    end.

%%%===================================================================
%%% Life
%%%===================================================================

%% Four tick times and more, with nothing said but ticks: also beside a hidden node, which
%% is ticked by another rule.
idle_connections_stay_up_by_ticks(Config) ->
    C = ?config(cluster, Config),
    Kernel = [{net_ticktime, 4}],
    [A, B] = [cluster:start(C, Name, #{kernel => Kernel}) || Name <- [a, b]],
    H = cluster:start(C, h, #{kernel => Kernel, hidden => true}),
    [ok = cluster:connect(A, N) || N <- [B, H]],
    Before = [{N, counters(A, N)} || N <- [B, H]] ++ [{A, counters(B, A)}],
    Ticked = fun(On, Of) ->
        {_, {In, Out}} = lists:keyfind(Of, 1, Before),
        cluster:await(
            On,
            fun() ->
                {ok, In2} = net_kernel:node_info(Of, in),
                {ok, Out2} = net_kernel:node_info(Of, out),
                In2 >= In + 16 andalso Out2 >= Out + 16
            end,
            60000
        )
    end,
    [true = Ticked(On, Of) || {On, Of} <- [{A, B}, {A, H}, {B, A}]],
    %% nothing went down meanwhile
    ?assertEqual(lists:sort([B, H]), lists:sort(cluster:call(A, erlang, nodes, [connected]))),
    [ok = cluster:await_nodeup(A, N, ?SOON) || N <- [B, H]],
    ?assertError({no_nodedown, _, _, []}, cluster:await_nodedown(A, B, 1)).

counters(On, Of) ->
    {ok, In} = cluster:call(On, net_kernel, node_info, [Of, in]),
    {ok, Out} = cluster:call(On, net_kernel, node_info, [Of, out]),
    {In, Out}.

a_stopped_process_is_a_closed_connection(Config) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, #{}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    ok = cluster:signal(B, "STOP"),
    ?assertEqual(connection_closed, cluster:await_nodedown(A, B, ?SOON)),
    ok = cluster:signal(B, "CONT"),
    ?assertEqual(connection_closed, cluster:await_nodedown(B, A, ?SOON)),
    ok = cluster:connect(A, B).

a_stopped_process_is_a_tick_timeout_when_quic_waits_longer(Config) ->
    C = ?config(cluster, Config),
    Opts = #{kernel => [{net_ticktime, 4}], env => [{idle_timeout_ms, 60000}]},
    [A, B] = [cluster:start(C, Name, Opts) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    ok = cluster:signal(B, "STOP"),
    ?assertEqual(net_tick_timeout, cluster:await_nodedown(A, B, ?SOON)),
    ok = cluster:signal(B, "CONT"),
    ?assert(lists:member(cluster:await_nodedown(B, A, ?SOON), [connection_closed, net_tick_timeout])),
    ok = cluster:connect(A, B).

%% The I/O thread goes on acknowledging and keeping alive; nobody may take that for life.
a_hung_vm_is_a_tick_timeout_while_its_endpoint_lives(Config) ->
    C = ?config(cluster, Config),
    [A, B] = [cluster:start(C, Name, #{kernel => [{net_ticktime, 4}]}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    _ = cluster:call(B, erts_debug, set_internal_state, [available_internal_state, true]),
    %% longer than it takes A to notice
    ok = peer:cast(cluster:peer(B), erts_debug, set_internal_state, [block, 9000]),
    ?assertEqual(net_tick_timeout, cluster:await_nodedown(A, B, ?SOON)),
    ?assert(lists:member(cluster:await_nodedown(B, A, ?SOON), [connection_closed, net_tick_timeout])),
    ok = cluster:connect(A, B).

every_end_of_a_node_is_a_closed_connection(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    B = cluster:start(C, b, #{start_app => true}),
    [
        begin
            ok = cluster:connect(A, B),
            ok = cluster:await_nodeup(A, B, ?SOON),
            ok = cluster:stop(B, How),
            ?assertEqual({How, connection_closed}, {How, cluster:await_nodedown(A, B, ?SOON)}),
            B = cluster:restart(C, B)
        end
     || How <- [halt, init_stop, sigterm, sigkill, {mfa, erlang, halt, [0, [{flush, false}]]}]
    ],
    ok = cluster:connect(B, A).

creations_have_32_bits_and_differ(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    B = cluster:start(C, b, #{}),
    Incarnation = fun() ->
        ok = cluster:connect(A, B),
        Creation = cluster:call(B, erlang, system_info, [creation]),
        ?assert(Creation >= 4 andalso Creation =< 16#ffffffff, Creation),
        %% pids hold it, in the new format
        <<131, 88, 100, Length:16, Name:Length/binary, _Id:32, _Serial:32, Creation:32>> =
            cluster:run(B, fun() -> term_to_binary(self(), [{minor_version, 1}]) end),
        ?assertEqual(atom_to_binary(B), Name),
        {Creation, cluster:call(A, erpc, call, [B, erlang, whereis, [init]])}
    end,
    Lives = [
        begin
            Life = Incarnation(),
            ok = cluster:stop(B, How),
            _ = cluster:await_nodedown(A, B, ?SOON),
            B = cluster:restart(C, B),
            Life
        end
     || How <- [halt, sigkill, init_stop, halt]
    ],
    {Creations, Pids} = lists:unzip(Lives ++ [Incarnation()]),
    ?assertEqual(length(Creations), length(lists:usort(Creations))),
    %% the same process number of another life is another process
    ?assertEqual(length(Pids), length(lists:usort(Pids))),
    ?assert(lists:any(fun(Creation) -> Creation > 16#ffff end, Creations), Creations).

a_restarted_node_is_reached_at_once(Config) ->
    C = ?config(cluster, Config),
    A = cluster:start(C, a, #{}),
    B = cluster:start(C, b, #{}),
    ok = cluster:connect(A, B),
    ok = cluster:await_nodeup(A, B, ?SOON),
    [
        begin
            ok = cluster:stop(B, How),
            B = cluster:restart(C, B),
            %% no wait for a nodedown: A may still take the old connection for alive
            ok = cluster:connect(B, A),
            connection_closed = cluster:await_nodedown(A, B, ?SOON),
            ok = cluster:await_nodeup(A, B, ?SOON),
            ?assertEqual(A, cluster:call(B, erpc, call, [A, erlang, node, []])),
            ?assertEqual(B, cluster:call(A, erpc, call, [B, erlang, node, []]))
        end
     || How <- [halt, sigkill, init_stop, sigkill, halt]
    ],
    %% from the other side: at once after the nodedown
    [
        begin
            ok = cluster:stop(B, How),
            B = cluster:restart(C, B),
            connection_closed = cluster:await_nodedown(A, B, ?SOON),
            ok = cluster:connect(A, B),
            ok = cluster:await_nodeup(A, B, ?SOON),
            ?assertEqual(B, cluster:call(A, erpc, call, [B, erlang, node, []]))
        end
     || How <- [halt, sigkill]
    ].

%%%===================================================================
%%% Internal
%%%===================================================================

port_of(Node) ->
    {ok, Port} = cluster:call(Node, barrel_p2p_dist, listen_port, []),
    Port.

disconnected(A, B) ->
    ok = cluster:await_nodeup(A, B, ?SOON),
    ok = cluster:await_nodeup(B, A, ?SOON),
    true = cluster:call(A, erlang, disconnect_node, [B]),
    disconnect = cluster:await_nodedown(A, B, ?SOON),
    connection_closed = cluster:await_nodedown(B, A, ?SOON),
    ok.

%% Ports that were free a moment ago, on every address.
free_ports(N) ->
    Sockets = [element(2, gen_udp:open(0)) || _ <- lists:seq(1, N)],
    Ports = [element(2, inet:port(S)) || S <- Sockets],
    lists:foreach(fun gen_udp:close/1, Sockets),
    Ports.

free_pair() ->
    {ok, One} = gen_udp:open(0),
    {ok, Port} = inet:port(One),
    Two = gen_udp:open(Port + 1),
    ok = gen_udp:close(One),
    case Two of
        {ok, Socket} ->
            ok = gen_udp:close(Socket),
            Port;
        {error, _} ->
            free_pair()
    end.

%% A log event as text. Exported funs would need no closure; these carry their text along.
text(#{msg := _} = Event) ->
    unicode:characters_to_list(logger_formatter:format(Event, #{single_line => true})).

says(Part) ->
    fun(Event) ->
        Text = unicode:characters_to_list(logger_formatter:format(Event, #{single_line => true})),
        string:find(Text, Part) =/= nomatch
    end.

%% A report of this library about that peer.
mentions_peer(Peer) ->
    Name = atom_to_binary(Peer),
    fun
        (#{msg := {report, #{peer := P}}}) -> P =:= Peer orelse P =:= Name;
        (#{msg := {report, #{fields := #{<<"peer">> := P}}}}) -> P =:= Name;
        (_) -> false
    end.

is_severe(#{level := Level}) ->
    logger:compare_levels(Level, warning) =/= lt.

mentions(Text, Part) ->
    ?assert(string:find(Text, Part) =/= nomatch, {missing, Part, in, Text}).

await_output(Port, Text, Seen) ->
    case string:find(Seen, Text) of
        nomatch ->
            receive
                {Port, {data, Bytes}} -> await_output(Port, Text, <<Seen/binary, Bytes/binary>>);
                {Port, {exit_status, Status}} -> error({ended, Status, before, Text, Seen})
            after ?SOON -> error({no_output, Text, Seen})
            end;
        _ ->
            ok
    end.

await_status(Port) ->
    receive
        {Port, {data, _}} -> await_status(Port);
        {Port, {exit_status, Status}} -> Status
    after ?SOON -> error(still_runs)
    end.

quote(Word) ->
    lists:flatten(["'", string:replace(Word, "'", "'\\''", all), "'"]).
