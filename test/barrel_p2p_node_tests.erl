%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The owner of the endpoint: opening, closing, failing, opening again.
-module(barrel_p2p_node_tests).

-include_lib("eunit/include/eunit.hrl").

%%%===================================================================
%%% Ports and pauses
%%%===================================================================

a_configured_number_is_the_only_port_test() ->
    ?assertEqual([4711], barrel_p2p_node:ports(4711, undefined, undefined)),
    ?assertEqual([4711], barrel_p2p_node:ports(4711, 1000, 2000)),
    ?assertEqual([0], barrel_p2p_node:ports(0, undefined, undefined)).

auto_takes_the_well_known_port_and_then_any_test() ->
    ?assertEqual([9100, 0], barrel_p2p_node:ports(auto, undefined, undefined)).

auto_keeps_to_the_range_of_the_kernel_parameters_test() ->
    ?assertEqual([1000, 1001, 1002], barrel_p2p_node:ports(auto, 1000, 1002)),
    ?assertEqual([1000], barrel_p2p_node:ports(auto, 1000, 1000)),
    ?assertEqual([1000], barrel_p2p_node:ports(auto, 1000, undefined)),
    ?assertEqual(1024, length(barrel_p2p_node:ports(auto, 1, 65535))).

a_senseless_range_is_no_range_test() ->
    ?assertEqual([9100, 0], barrel_p2p_node:ports(auto, 2000, 1000)),
    ?assertEqual([9100, 0], barrel_p2p_node:ports(auto, "1000", "2000")),
    ?assertEqual([9100, 0], barrel_p2p_node:ports(auto, undefined, 2000)).

pauses_grow_up_to_five_seconds_test() ->
    Pauses = [barrel_p2p_node:backoff(N) || N <- lists:seq(0, 50)],
    ?assertEqual(Pauses, lists:sort(Pauses)),
    ?assertEqual(50, hd(Pauses)),
    ?assertEqual(5000, lists:last(Pauses)).

%%%===================================================================
%%% Without processes
%%%===================================================================

without_a_process_every_call_answers_test() ->
    ?assertEqual(undefined, whereis(barrel_p2p_node)),
    ?assertEqual({error, not_started}, barrel_p2p_node:open(member("x"))),
    ?assertEqual({error, not_started}, barrel_p2p_node:ensure_client('undefined@localhost')),
    ?assertEqual({error, not_started}, barrel_p2p_node:acceptor(self())),
    ?assertEqual(ok, barrel_p2p_node:close()),
    ?assertEqual({error, closed}, barrel_p2p_node:handle()),
    ?assertEqual({error, closed}, barrel_p2p_node:trust()),
    ?assertEqual({error, closed}, barrel_p2p_node:key()),
    ?assertEqual({error, closed}, barrel_p2p_node:info()),
    ?assertEqual(undefined, barrel_p2p_node:port()),
    ?assertEqual([], barrel_p2p_node:links()),
    ?assertEqual(some@node, barrel_p2p_node:name(some@node)).

%%%===================================================================
%%% Members
%%%===================================================================

a_member_opens_and_closes_test() ->
    with_processes([{listen_port, 0}], fun(Dir) ->
        {ok, #{port := Port, key := Key, incarnation := Incarnation}} = barrel_p2p_node:open(member("m")),
        ?assert(Port > 0),
        ?assertEqual(32, byte_size(Key)),
        ?assert(is_integer(Incarnation)),
        {ok, Handle} = barrel_p2p_node:handle(),
        ?assertEqual({ok, Port}, barrel_p2p_node:port()),
        ?assertEqual({ok, Key}, barrel_p2p_node:key()),
        ?assertEqual('m@localhost', barrel_p2p_node:name(nonode@nohost)),
        ?assertMatch(#{mode := member, node := 'm@localhost', port := Port}, barrel_p2p_node:info()),
        ?assertEqual([], barrel_p2p_node:links()),
        ?assertEqual({ok, {<<"localhost">>, Port}}, barrel_p2p_discovery_file:lookup('m@localhost', "localhost")),
        ?assertMatch({ok, <<_:32/binary>>}, file:read_file(filename:join([Dir, "keys", "node.pub"]))),
        ok = barrel_p2p_node:close(),
        ?assertEqual({error, closed}, barrel_p2p_node:handle()),
        ?assertEqual({error, closed}, barrel_p2p_nif:node_info(Handle)),
        ?assertMatch({error, _}, barrel_p2p_discovery_file:lookup('m@localhost', "localhost")),
        ?assertEqual(ok, barrel_p2p_node:close())
    end).

opening_again_is_a_new_incarnation_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, #{key := Key, incarnation := First}} = barrel_p2p_node:open(member("m")),
        {ok, Old} = barrel_p2p_node:handle(),
        {ok, #{key := Key, incarnation := Second}} = barrel_p2p_node:open(member("m")),
        ?assert(Second > First),
        ?assertEqual({error, closed}, barrel_p2p_nif:node_info(Old)),
        {ok, #{key := Key}} = barrel_p2p_node:open(member("other")),
        ?assertEqual('other@localhost', barrel_p2p_node:name(nonode@nohost)),
        ?assertMatch({error, _}, barrel_p2p_discovery_file:lookup('m@localhost', "localhost"))
    end).

a_whole_node_name_is_taken_too_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, _} = barrel_p2p_node:open(#{name => 'm@localhost', host => "localhost", mode => member}),
        ?assertEqual('m@localhost', barrel_p2p_node:name(nonode@nohost))
    end).

a_name_that_is_taken_closes_the_endpoint_again_test() ->
    with_processes([{listen_port, 0}], fun(Dir) ->
        {ok, Vm, _} = start_vm(Dir),
        try
            ok = peer:call(Vm, barrel_p2p_discovery_file, publish, ['m@localhost', <<"localhost">>, 1]),
            ?assertEqual({error, duplicate_name}, barrel_p2p_node:open(member("m"))),
            ?assertEqual({error, closed}, barrel_p2p_node:handle())
        after
            peer:stop(Vm)
        end,
        %% the operating-system process ends a little later
        await(fun() ->
            element(1, barrel_p2p_discovery_file:lookup('m@localhost', "localhost")) =:= error
        end),
        ?assertMatch({ok, _}, barrel_p2p_node:open(member("m")))
    end).

a_port_that_is_taken_is_an_error_test() ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    with_processes([{listen_port, Port}, {listen_ip, {127, 0, 0, 1}}], fun(_) ->
        ?assertMatch({error, {bind, <<_/binary>>}}, barrel_p2p_node:open(member("m"))),
        ?assertEqual({error, closed}, barrel_p2p_node:handle()),
        ok = gen_udp:close(Socket),
        ?assertMatch({ok, #{port := Port}}, barrel_p2p_node:open(member("m")))
    end).

a_key_that_others_may_read_is_refused_test() ->
    with_processes([{listen_port, 0}], fun(Dir) ->
        {ok, _} = barrel_p2p_node:open(member("m")),
        ok = barrel_p2p_node:close(),
        File = filename:join([Dir, "keys", "node.key"]),
        {ok, Info} = file:read_file_info(File),
        ?assertEqual(8#600, element(8, Info) band 8#777),
        ok = file:change_mode(File, 8#644),
        ?assertMatch({error, _}, barrel_p2p_node:open(member("m"))),
        ok = file:change_mode(File, 8#600),
        ?assertMatch({ok, _}, barrel_p2p_node:open(member("m")))
    end).

an_invalid_configuration_opens_nothing_test() ->
    with_processes([{listen_prot, 0}], fun(_) ->
        ?assertMatch(
            {error, {invalid_configuration, [#{key := listen_prot}]}}, barrel_p2p_node:open(member("m"))
        )
    end).

the_identity_outlives_the_endpoint_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, #{key := Key}} = barrel_p2p_node:open(member("m")),
        ok = barrel_p2p_node:close(),
        ?assertMatch({ok, #{key := Key}}, barrel_p2p_node:open(member("m")))
    end).

%%%===================================================================
%%% Failure
%%%===================================================================

a_crash_of_the_owner_opens_the_same_port_again_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, #{port := Port, key := Key}} = barrel_p2p_node:open(member("m")),
        {ok, Old} = barrel_p2p_node:handle(),
        exit(whereis(barrel_p2p_node), kill),
        await(fun() -> barrel_p2p_node:handle() =/= {ok, Old} andalso barrel_p2p_node:port() =:= {ok, Port} end),
        ?assertEqual({ok, Key}, barrel_p2p_node:key()),
        ?assertEqual({ok, {<<"localhost">>, Port}}, barrel_p2p_discovery_file:lookup('m@localhost', "localhost"))
    end).

a_failure_of_the_endpoint_opens_it_again_without_a_restart_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, #{port := Port}} = barrel_p2p_node:open(member("m")),
        {ok, Old} = barrel_p2p_node:handle(),
        Owner = whereis(barrel_p2p_node),
        ok = barrel_p2p_nif:node_close(Old, 0),
        Owner ! {barrel_p2p, Old, {down, test}},
        await(fun() -> barrel_p2p_node:handle() =/= {ok, Old} andalso barrel_p2p_node:port() =:= {ok, Port} end),
        ?assertEqual(Owner, whereis(barrel_p2p_node))
    end).

a_signal_of_an_older_endpoint_is_ignored_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, _} = barrel_p2p_node:open(member("m")),
        {ok, Old} = barrel_p2p_node:handle(),
        {ok, _} = barrel_p2p_node:open(member("m")),
        {ok, New} = barrel_p2p_node:handle(),
        barrel_p2p_node ! {barrel_p2p, Old, {down, test}},
        %% a call comes back after the message was handled
        {ok, _} = barrel_p2p_node:ensure_client('undefined@localhost'),
        {error, unknown_call} = gen_server:call(barrel_p2p_node, sync),
        ?assertEqual({ok, New}, barrel_p2p_node:handle())
    end).

what_was_closed_stays_closed_after_a_crash_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, _} = barrel_p2p_node:open(member("m")),
        ok = barrel_p2p_node:close(),
        Owner = whereis(barrel_p2p_node),
        exit(Owner, kill),
        await(fun() -> not lists:member(whereis(barrel_p2p_node), [undefined, Owner]) end),
        {error, unknown_call} = gen_server:call(barrel_p2p_node, sync),
        ?assertEqual({error, closed}, barrel_p2p_node:handle())
    end).

an_orderly_end_closes_and_withdraws_the_name_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, _} = barrel_p2p_node:open(member("m")),
        {ok, Handle} = barrel_p2p_node:handle(),
        ok = supervisor:terminate_child(barrel_p2p_dist_sup, barrel_p2p_node),
        ?assertEqual({error, closed}, barrel_p2p_nif:node_info(Handle)),
        ?assertMatch({error, _}, barrel_p2p_discovery_file:lookup('m@localhost', "localhost"))
    end).

%%%===================================================================
%%% Clients
%%%===================================================================

a_client_opens_once_for_all_who_ask_test() ->
    with_processes([], fun(Dir) ->
        Self = self(),
        Ask = fun() -> Self ! {handle, barrel_p2p_node:ensure_client('undefined@localhost')} end,
        [spawn_link(Ask) || _ <- lists:seq(1, 8)],
        Handles = [receive {handle, H} -> H end || _ <- lists:seq(1, 8)],
        ?assertMatch([{ok, _}], lists:usort(Handles)),
        ?assertMatch(#{mode := client, node := undefined}, barrel_p2p_node:info()),
        ?assertEqual(nonode@nohost, barrel_p2p_node:name(nonode@nohost)),
        %% nothing of a client is found by others
        ?assertEqual({ok, []}, barrel_p2p_discovery_file:list_nodes("localhost")),
        ?assert(filelib:is_dir(Dir) =:= false orelse not filelib:is_file(filename:join([Dir, "quic", "node.key"])))
    end).

a_client_has_an_identity_in_memory_test() ->
    with_processes([], fun(_) ->
        application:unset_env(barrel_p2p, auth_key_dir),
        {ok, _} = barrel_p2p_node:ensure_client('undefined@localhost'),
        {ok, First} = barrel_p2p_node:key(),
        ok = barrel_p2p_node:close(),
        {ok, _} = barrel_p2p_node:ensure_client('undefined@localhost'),
        {ok, Second} = barrel_p2p_node:key(),
        ?assertNotEqual(First, Second)
    end).

a_client_with_a_configured_directory_keeps_its_identity_test() ->
    with_processes([], fun(_) ->
        {ok, _} = barrel_p2p_node:ensure_client('undefined@localhost'),
        {ok, Key} = barrel_p2p_node:key(),
        ok = barrel_p2p_node:close(),
        {ok, _} = barrel_p2p_node:ensure_client('undefined@localhost'),
        ?assertEqual({ok, Key}, barrel_p2p_node:key())
    end).

a_member_is_its_own_client_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        {ok, _} = barrel_p2p_node:open(member("m")),
        ?assertEqual(barrel_p2p_node:handle(), barrel_p2p_node:ensure_client('m@localhost'))
    end).

%%%===================================================================
%%% The acceptor
%%%===================================================================

an_acceptor_is_kept_for_the_next_endpoint_test() ->
    with_processes([{listen_port, 0}], fun(_) ->
        Acceptor = spawn(fun() -> receive stop -> ok end end),
        ?assertEqual({error, closed}, barrel_p2p_node:acceptor(Acceptor)),
        {ok, _} = barrel_p2p_node:open(member("m")),
        ?assertEqual(ok, barrel_p2p_node:acceptor(Acceptor)),
        %% its end is noticed and does no harm
        Acceptor ! stop,
        ?assertMatch({ok, _}, barrel_p2p_node:open(member("m")))
    end).

%%%===================================================================
%%% Internal
%%%===================================================================

member(Name) ->
    #{name => list_to_atom(Name), host => "localhost", mode => member}.

with_processes(Env, Fun) ->
    ok = barrel_p2p_native:ensure_loaded(),
    Unique = lists:concat(["barrel_p2p_node_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), Unique),
    All =
        [
            {discovery_dir, filename:join(Dir, "discovery")},
            {auth_key_dir, filename:join(Dir, "keys")},
            {quic_cert_dir, filename:join(Dir, "quic")}
        ] ++ Env,
    [ok = application:set_env(barrel_p2p, Key, Value) || {Key, Value} <- All],
    {ok, Sup} = barrel_p2p_dist_sup:start_link(),
    unlink(Sup),
    try
        Fun(Dir)
    after
        Monitor = erlang:monitor(process, Sup),
        exit(Sup, shutdown),
        receive
            {'DOWN', Monitor, process, Sup, _} -> ok
        end,
        [application:unset_env(barrel_p2p, Key) || {Key, _} <- All],
        _ = file:del_dir_r(Dir)
    end.

start_vm(Dir) ->
    Path = filename:absname(filename:dirname(code:which(barrel_p2p_nif))),
    {ok, Vm, Node} = peer:start_link(#{
        connection => standard_io,
        args => ["-pa", Path, "-barrel_p2p", "discovery_dir", "\"" ++ filename:join(Dir, "discovery") ++ "\""]
    }),
    ok = peer:call(Vm, application, load, [barrel_p2p]),
    ok = peer:call(Vm, barrel_p2p_native, ensure_loaded, []),
    {ok, Vm, Node}.

%% Looks again at each change of the world that this process can wait for: a message to
%% itself after 5 ms. The deadline is far.
await(Holds) ->
    await(Holds, erlang:monotonic_time(millisecond) + 20000).

await(Holds, Deadline) ->
    case Holds() of
        true ->
            ok;
        false ->
            erlang:monotonic_time(millisecond) < Deadline orelse error(deadline),
            _ = erlang:send_after(5, self(), look_again),
            receive
                look_again -> await(Holds, Deadline)
            end
    end.
