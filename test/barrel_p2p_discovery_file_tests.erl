%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Endpoint files: found while their node lives, and not longer.
-module(barrel_p2p_discovery_file_tests).

-include_lib("eunit/include/eunit.hrl").

a_published_node_is_found_test() ->
    with_dir(fun(_) ->
        ?assertEqual({error, not_found}, barrel_p2p_discovery_file:lookup('a@localhost', "localhost")),
        ok = barrel_p2p_discovery_file:publish('a@localhost', <<"localhost">>, 4711),
        ?assertEqual({ok, {<<"localhost">>, 4711}}, barrel_p2p_discovery_file:lookup('a@localhost', "localhost")),
        ?assertEqual({ok, 4711}, barrel_p2p_discovery_file:published('a@localhost')),
        ?assertEqual({ok, [{<<"a@localhost">>, 4711}]}, barrel_p2p_discovery_file:list_nodes("localhost")),
        ok = barrel_p2p_discovery_file:unregister('a@localhost'),
        ?assertEqual({error, not_found}, barrel_p2p_discovery_file:lookup('a@localhost', "localhost")),
        ?assertEqual({error, not_found}, barrel_p2p_discovery_file:published('a@localhost')),
        ?assertEqual({ok, []}, barrel_p2p_discovery_file:list_nodes("localhost"))
    end).

unregistering_twice_is_fine_test() ->
    with_dir(fun(_) -> ?assertEqual(ok, barrel_p2p_discovery_file:unregister('a@localhost')) end).

publishing_again_replaces_the_own_lease_test() ->
    with_dir(fun(_) ->
        ok = barrel_p2p_discovery_file:publish('a@localhost', <<"localhost">>, 1),
        ok = barrel_p2p_discovery_file:publish('a@localhost', <<"localhost">>, 2),
        ?assertEqual({ok, {<<"localhost">>, 2}}, barrel_p2p_discovery_file:lookup('a@localhost', "localhost")),
        ok = barrel_p2p_discovery_file:unregister('a@localhost')
    end).

the_published_shape_registers_the_host_of_the_name_test() ->
    with_dir(fun(_) ->
        {ok, State} = barrel_p2p_discovery_file:init([]),
        {ok, State} = barrel_p2p_discovery_file:register('a@203.0.113.1', 4711, State),
        ?assertEqual({ok, {<<"203.0.113.1">>, 4711}}, barrel_p2p_discovery_file:lookup('a@203.0.113.1', "203.0.113.1")),
        ok = barrel_p2p_discovery_file:unregister('a@203.0.113.1')
    end).

a_name_of_a_living_vm_is_a_duplicate_until_it_ends_test() ->
    with_dir(fun(Dir) ->
        {ok, Vm, _} = start_vm(Dir),
        ok = peer:call(Vm, barrel_p2p_discovery_file, publish, ['a@localhost', <<"localhost">>, 1]),
        ?assertEqual({ok, {<<"localhost">>, 1}}, barrel_p2p_discovery_file:lookup('a@localhost', "localhost")),
        ?assertEqual(
            {error, duplicate_name}, barrel_p2p_discovery_file:publish('a@localhost', <<"localhost">>, 2)
        ),
        ?assertEqual({error, duplicate_name}, barrel_p2p_discovery:register(a, "localhost", 2, any)),
        kill_vm(Vm),
        ?assertEqual({error, stale}, barrel_p2p_discovery_file:lookup('a@localhost', "localhost")),
        ?assertEqual({ok, []}, barrel_p2p_discovery_file:list_nodes("localhost")),
        ok = barrel_p2p_discovery_file:publish('a@localhost', <<"localhost">>, 2),
        ok = barrel_p2p_discovery_file:unregister('a@localhost')
    end).

the_chain_dials_a_local_node_at_the_loopbacks_test() ->
    with_dir(fun(_) ->
        ok = barrel_p2p_discovery:register(a, "localhost", 4711, any),
        ?assertEqual(
            {ok, [{{127, 0, 0, 1}, 4711}, {{0, 0, 0, 0, 0, 0, 0, 1}, 4711}]},
            barrel_p2p_discovery:resolve('a@localhost', 1000)
        ),
        ?assertEqual({ok, [{"a", 4711}]}, barrel_p2p_discovery:names("localhost")),
        ok = barrel_p2p_discovery:unregister('a@localhost')
    end).

a_node_bound_to_one_address_is_dialled_there_test() ->
    with_dir(fun(_) ->
        ok = barrel_p2p_discovery:register(a, "localhost", 4711, {127, 0, 0, 9}),
        ?assertEqual({ok, [{{127, 0, 0, 9}, 4711}]}, barrel_p2p_discovery:resolve('a@localhost', 1000)),
        ok = barrel_p2p_discovery:unregister('a@localhost')
    end).

%% Two network namespaces may share the directory.
a_node_of_another_host_is_dialled_at_its_own_address_test() ->
    with_dir(fun(_) ->
        ok = barrel_p2p_discovery:register(a, "203.0.113.1", 4711, any),
        ?assertEqual({ok, [{{203, 0, 113, 1}, 4711}]}, barrel_p2p_discovery:resolve('a@203.0.113.1', 1000)),
        ok = barrel_p2p_discovery:unregister('a@203.0.113.1')
    end).

%%%===================================================================
%%% Internal
%%%===================================================================

with_dir(Fun) ->
    ok = barrel_p2p_native:ensure_loaded(),
    Name = lists:concat(["barrel_p2p_file_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    ok = application:set_env(barrel_p2p, discovery_dir, Dir),
    try
        Fun(Dir)
    after
        application:unset_env(barrel_p2p, discovery_dir),
        _ = file:del_dir_r(Dir)
    end.

start_vm(Dir) ->
    Path = filename:absname(filename:dirname(code:which(barrel_p2p_nif))),
    {ok, Vm, Node} = peer:start(#{
        connection => standard_io,
        args => ["-pa", Path, "-barrel_p2p", "discovery_dir", "\"" ++ Dir ++ "\""]
    }),
    ok = peer:call(Vm, application, load, [barrel_p2p]),
    ok = peer:call(Vm, barrel_p2p_native, ensure_loaded, []),
    {ok, Vm, Node}.

%% As a crash would end it: nothing is said or released.
kill_vm(Vm) ->
    Pid = peer:call(Vm, os, getpid, []),
    Monitor = erlang:monitor(process, Vm),
    "" = os:cmd("kill -9 " ++ Pid),
    receive
        {'DOWN', Monitor, process, Vm, _} -> ok
    after 10000 -> error(still_alive)
    end.
