%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The application on another carrier and without one.
-module(barrel_p2p_app_tests).

-include_lib("eunit/include/eunit.hrl").

without_a_name_it_starts_and_opens_nothing_test() ->
    with_vm([], fun(Vm, _) ->
        ?assertMatch({ok, _}, start(Vm)),
        ?assertEqual({error, closed}, peer:call(Vm, barrel_p2p_node, handle, [])),
        ?assertMatch(#{endpoint := closed, links := []}, peer:call(Vm, barrel_p2p, info, [])),
        ?assertEqual(ok, peer:call(Vm, application, stop, [barrel_p2p])),
        ?assertEqual(undefined, peer:call(Vm, erlang, whereis, [barrel_p2p_dist_sup])),
        ?assertMatch({ok, _}, start(Vm))
    end).

on_another_carrier_it_opens_the_endpoint_and_closes_it_test() ->
    with_vm(distributed(), fun(Vm, _) ->
        ?assertMatch({ok, _}, start(Vm)),
        Node = peer:call(Vm, erlang, node, []),
        ?assertMatch(#{endpoint := #{mode := member, node := Node}}, peer:call(Vm, barrel_p2p, info, [])),
        {ok, Port} = peer:call(Vm, barrel_p2p_node, port, []),
        Host = barrel_p2p_discovery:host_of(Node),
        ?assertMatch({ok, {_, Port}}, peer:call(Vm, barrel_p2p_discovery_file, lookup, [Node, Host])),
        ?assertEqual(ok, peer:call(Vm, application, stop, [barrel_p2p])),
        ?assertEqual({error, closed}, peer:call(Vm, barrel_p2p_node, handle, [])),
        ?assertMatch({error, _}, peer:call(Vm, barrel_p2p_discovery_file, lookup, [Node, Host]))
    end).

an_invalid_configuration_does_not_start_test() ->
    with_vm(["-barrel_p2p", "listen_prot", "1"], fun(Vm, _) ->
        {error, Reason} = start(Vm),
        ?assertMatch({barrel_p2p, {{{invalid_configuration, [#{key := listen_prot, nearest := listen_port}]}, _}, _}}, wrap(Reason)),
        ?assertEqual(undefined, peer:call(Vm, erlang, whereis, [barrel_p2p_dist_sup]))
    end).

%% As with two flags on OTP 25: our carrier was asked for, another one runs.
a_carrier_that_is_not_ours_does_not_start_test() ->
    with_vm(["-proto_dist", "inet_tcp", "-proto_dist", "barrel_p2p" | distributed()], fun(Vm, _) ->
        {error, Reason} = start(Vm),
        ?assertMatch({barrel_p2p, {{{unsafe, carrier_not_used}, _}, _}}, wrap(Reason)),
        ?assertEqual({error, closed}, peer:call(Vm, barrel_p2p_node, handle, []))
    end).

the_stand_in_does_not_start_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "stub.so"),
        Script = filename:join([barrel_p2p_boundary_tests:project_root(), "c_src_stub", "build.sh"]),
        ok = filelib:ensure_dir(File),
        "" = os:cmd("sh " ++ Script ++ " " ++ File ++ " 2>&1"),
        with_vm([], [{"BARREL_P2P_NIF", File}], fun(Vm, _) ->
            {error, Reason} = start(Vm),
            ?assertMatch({barrel_p2p, {{{native, {stub, _}}, _}, _}}, wrap(Reason))
        end)
    end).

%% Distribution that starts later must find the processes and may keep them.
processes_survive_the_application_when_the_carrier_uses_them_test() ->
    with_vm([], fun(Vm, _) ->
        {ok, _} = start(Vm),
        ignore = peer:call(Vm, barrel_p2p_dist_sup, start_link, []),
        ok = peer:call(Vm, persistent_term, put, [{barrel_p2p_dist, active}, true]),
        ok = peer:call(Vm, application, stop, [barrel_p2p]),
        ?assert(is_pid(peer:call(Vm, erlang, whereis, [barrel_p2p_dist_sup]))),
        ?assertMatch({ok, _}, start(Vm))
    end).

%%%===================================================================
%%% Internal
%%%===================================================================

start(Vm) ->
    peer:call(Vm, application, ensure_all_started, [barrel_p2p]).

%% ensure_all_started and the application master each add a layer.
wrap({barrel_p2p, {{_, _} = Inner, _}}) -> {barrel_p2p, {{Inner, x}, x}};
wrap(Other) -> Other.

%% A node on OTP's carrier that neither needs epmd nor takes a port.
distributed() ->
    Name = lists:concat(["app_", os:getpid(), "_", erlang:unique_integer([positive])]),
    ["-sname", Name, "-start_epmd", "false", "-dist_listen", "false", "-setcookie", "a_cookie_of_the_test"].

with_vm(Args, Fun) ->
    with_vm(Args, [], Fun).

with_vm(Args, Env, Fun) ->
    with_dir(fun(Dir) ->
        Path = filename:absname(filename:dirname(code:which(barrel_p2p_app))),
        Settings = lists:append([
            ["-barrel_p2p", Key, lists:flatten(io_lib:format("\"~ts\"", [filename:join(Dir, Key)]))]
         || Key <- ["discovery_dir", "auth_key_dir", "quic_cert_dir"]
        ]),
        {ok, Vm, _} = peer:start_link(#{
            connection => standard_io,
            env => Env,
            args => ["-pa", Path, "-barrel_p2p_dist_port", "0" | Settings ++ Args]
        }),
        try
            Fun(Vm, Dir)
        after
            peer:stop(Vm)
        end
    end).

with_dir(Fun) ->
    Name = lists:concat(["barrel_p2p_app_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    try
        Fun(Dir)
    after
        _ = file:del_dir_r(Dir)
    end.
