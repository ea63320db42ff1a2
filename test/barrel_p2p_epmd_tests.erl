%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The API of erl_epmd, answered by discovery.
-module(barrel_p2p_epmd_tests).

-include_lib("eunit/include/eunit.hrl").

%%%===================================================================
%%% Without the library
%%%===================================================================

every_function_that_otp_calls_is_there_test() ->
    Called = [
        {start_link, 0},
        {register_node, 2},
        {register_node, 3},
        {port_please, 2},
        {port_please, 3},
        {address_please, 3},
        {listen_port_please, 2},
        {names, 0},
        {names, 1}
    ],
    ?assertEqual([], Called -- barrel_p2p_epmd:module_info(exports)).

there_is_no_process_test() ->
    ?assertEqual(ignore, barrel_p2p_epmd:start_link()).

a_static_node_has_port_and_address_test() ->
    with_static('a@203.0.113.1', {"203.0.113.1", 4711}, fun() ->
        ?assertEqual({port, 4711, 6}, barrel_p2p_epmd:port_please("a", "203.0.113.1")),
        ?assertEqual({port, 4711, 6}, barrel_p2p_epmd:port_please(a, '203.0.113.1', 1000)),
        ?assertEqual({port, 4711, 6}, barrel_p2p_epmd:port_please("a", {203, 0, 113, 1}, infinity)),
        ?assertEqual({ok, {203, 0, 113, 1}, 4711, 6}, barrel_p2p_epmd:address_please("a", "203.0.113.1", inet)),
        ?assertEqual({error, eafnosupport}, barrel_p2p_epmd:address_please("a", "203.0.113.1", inet6)),
        ?assertEqual({ok, [{"a", 4711}]}, barrel_p2p_epmd:names("203.0.113.1"))
    end).

unknown_nodes_have_neither_test() ->
    with_static('a@203.0.113.1', {"203.0.113.1", 4711}, fun() ->
        ?assertEqual(noport, barrel_p2p_epmd:port_please("b", "203.0.113.1")),
        ?assertEqual({error, nxdomain}, barrel_p2p_epmd:address_please("b", "localhost", inet)),
        ?assertEqual({error, address}, barrel_p2p_epmd:names("203.0.113.2"))
    end).

nonsense_is_answered_and_never_crashes_test() ->
    with_static('a@203.0.113.1', {"203.0.113.1", 4711}, fun() ->
        ?assertEqual(noport, barrel_p2p_epmd:port_please({no, name}, 7)),
        ?assertEqual({error, nxdomain}, barrel_p2p_epmd:address_please(7, 7, 7)),
        ?assertEqual({ok, 0}, barrel_p2p_epmd:listen_port_please(7, 7)),
        ?assertEqual({error, discovery_failed}, barrel_p2p_epmd:register_node(7, 7)),
        ?assertEqual({error, address}, barrel_p2p_epmd:names(7))
    end).

a_carrier_chooses_its_port_when_nothing_is_published_test() ->
    ?assertEqual({ok, 0}, barrel_p2p_epmd:listen_port_please("nobody", "localhost")).

%%%===================================================================
%%% With endpoint files
%%%===================================================================

another_carrier_is_published_and_found_test() ->
    with_dir(fun() ->
        {ok, 0} = barrel_p2p_epmd:listen_port_please("a", "localhost"),
        ?assertEqual({ok, -1}, barrel_p2p_epmd:register_node("a", 4711, inet_tcp)),
        ?assertEqual({port, 4711, 6}, barrel_p2p_epmd:port_please("a", "localhost")),
        %% asked with an address instead of the host's name
        ?assertEqual({port, 4711, 6}, barrel_p2p_epmd:port_please("a", {127, 0, 0, 1})),
        ?assertEqual({ok, {127, 0, 0, 1}, 4711, 6}, barrel_p2p_epmd:address_please("a", "localhost", inet)),
        ?assertEqual({ok, {0, 0, 0, 0, 0, 0, 0, 1}, 4711, 6}, barrel_p2p_epmd:address_please("a", "localhost", inet6)),
        ?assertEqual({ok, [{"a", 4711}]}, barrel_p2p_epmd:names()),
        ok = barrel_p2p_discovery_file:unregister('a@localhost')
    end).

a_second_carrier_is_offered_the_port_of_the_first_test() ->
    with_dir(fun() ->
        Port = free_port(),
        ok = barrel_p2p_discovery:register(a, "localhost", Port, any),
        ?assertEqual({ok, Port}, barrel_p2p_epmd:listen_port_please("a", "localhost")),
        ?assertEqual({ok, -1}, barrel_p2p_epmd:register_node("a", Port, inet_tcp)),
        {ok, Taken} = gen_tcp:listen(Port, []),
        ?assertEqual({ok, 0}, barrel_p2p_epmd:listen_port_please("a", "localhost")),
        ok = gen_tcp:close(Taken),
        %% what was published first stays
        ?assertEqual({ok, -1}, barrel_p2p_epmd:register_node("a", Port + 1, inet_tcp)),
        ?assertEqual({port, Port, 6}, barrel_p2p_epmd:port_please("a", "localhost")),
        ok = barrel_p2p_discovery_file:unregister('a@localhost')
    end).

%% The whole thing with OTP's own TCP carrier: two nodes, no epmd.
two_nodes_over_tcp_find_each_other_test_() ->
    {timeout, 60, fun() ->
        with_dir(fun() ->
            {ok, A, NodeA} = start_vm("a"),
            {ok, B, NodeB} = start_vm("b"),
            try
                ?assertEqual(pong, peer:call(A, net_adm, ping, [NodeB])),
                ?assertEqual([NodeA], peer:call(B, erlang, nodes, [])),
                {ok, Names} = peer:call(A, net_adm, names, []),
                ?assertEqual(2, length(Names)),
                ?assertEqual(pang, peer:call(A, net_adm, ping, [nobody@localhost]))
            after
                peer:stop(A),
                peer:stop(B)
            end
        end)
    end}.

%%%===================================================================
%%% Internal
%%%===================================================================

with_static(Node, Endpoint, Fun) ->
    Backends = [{barrel_p2p_discovery_static, #{nodes => [{Node, Endpoint}]}}],
    ok = application:set_env(barrel_p2p, discovery_backends, Backends),
    try
        Fun()
    after
        application:unset_env(barrel_p2p, discovery_backends)
    end.

with_dir(Fun) ->
    ok = barrel_p2p_native:ensure_loaded(),
    Name = lists:concat(["barrel_p2p_epmd_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    ok = application:set_env(barrel_p2p, discovery_dir, Dir),
    try
        Fun()
    after
        application:unset_env(barrel_p2p, discovery_dir),
        _ = file:del_dir_r(Dir)
    end.

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

start_vm(Prefix) ->
    Path = filename:absname(filename:dirname(code:which(barrel_p2p_nif))),
    Name = lists:concat([Prefix, "_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = barrel_p2p_config:get(discovery_dir),
    peer:start_link(#{
        name => Name,
        connection => standard_io,
        args => [
            "-pa",
            Path,
            "-start_epmd",
            "false",
            "-epmd_module",
            "barrel_p2p_epmd",
            "-barrel_p2p",
            "discovery_dir",
            lists:flatten(io_lib:format("\"~ts\"", [Dir]))
        ]
    }).
