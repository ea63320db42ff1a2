%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The chain: order, isolation of backends, local names. This module is itself
%%% a backend; what it does is in its options.
-module(barrel_p2p_discovery_tests).
-behaviour(barrel_p2p_discovery).

-include_lib("eunit/include/eunit.hrl").

%% barrel_p2p_discovery
-export([lookup/3, init/1, register/3, unregister/1, list_nodes/1]).

%%%===================================================================
%%% The backend
%%%===================================================================

-spec lookup(node(), string(), barrel_p2p_discovery:context()) -> barrel_p2p_discovery:answer().
lookup(Node, Host, #{opts := Fun} = Context) -> Fun(Node, Host, Context).

-spec init(term()) -> {ok, term()}.
init(Fun) -> {ok, Fun}.

-spec register(node(), inet:port_number(), term()) -> {ok, term()}.
register(Node, Port, Fun) ->
    Fun(register, Node, Port),
    {ok, Fun}.

-spec unregister(node()) -> ok.
unregister(Node) ->
    unregistered = Node,
    ok.

-spec list_nodes(string()) -> {ok, list()}.
list_nodes(_Host) -> {ok, [{'far@203.0.113.7', 7}]}.

%%%===================================================================
%%% Order
%%%===================================================================

the_first_hit_wins_test() ->
    First = {barrel_p2p_discovery_static, #{nodes => [{'n@203.0.113.1', {{203, 0, 113, 9}, 4}}]}},
    Second = {?MODULE, fun(_, _, _) -> {ok, {{203, 0, 113, 8}, 5}} end},
    ?assertEqual({ok, [{{203, 0, 113, 9}, 4}]}, resolve([First, Second], 'n@203.0.113.1')),
    ?assertEqual({ok, [{{203, 0, 113, 8}, 5}]}, resolve([First, Second], 'm@203.0.113.1')),
    ?assertEqual({ok, [{{203, 0, 113, 8}, 5}]}, resolve([Second, First], 'n@203.0.113.1')).

a_backend_is_given_node_host_options_and_time_test() ->
    Self = self(),
    Backend = {?MODULE, fun(Node, Host, Context) ->
        Self ! {asked, Node, Host, Context},
        {error, not_found}
    end},
    {error, _} = resolve([Backend], 'n@203.0.113.1'),
    receive
        {asked, Node, Host, #{timeout_ms := Ms, local := Local}} ->
            ?assertEqual({'n@203.0.113.1', "203.0.113.1", false}, {Node, Host, Local}),
            ?assert(Ms > 0 andalso Ms =< 5000)
    after 0 -> error(not_asked)
    end.

a_miss_names_each_backend_and_its_reason_test() ->
    Backends = [
        barrel_p2p_discovery_static,
        {?MODULE, fun(_, _, _) -> {error, closed_today} end}
    ],
    {error, {no_address, Details}} = resolve(Backends, 'n@203.0.113.1'),
    ?assertEqual(
        #{
            node => <<"n@203.0.113.1">>,
            host => "203.0.113.1",
            tried => [{barrel_p2p_discovery_static, not_found}, {?MODULE, closed_today}]
        },
        Details
    ).

several_addresses_keep_their_order_and_lose_doubles_test() ->
    A = {{203, 0, 113, 1}, 1},
    B = {{203, 0, 113, 2}, 1},
    ?assertEqual({ok, [B, A]}, resolve([{?MODULE, fun(_, _, _) -> {ok, [B, A, B]} end}], 'n@203.0.113.1')).

an_answer_may_be_a_text_test() ->
    ?assertEqual({ok, [{{203, 0, 113, 1}, 1}]}, resolve([{?MODULE, fun(_, _, _) -> {ok, {"203.0.113.1", 1}} end}], 'n@x.invalid')),
    ?assertEqual({ok, [{{203, 0, 113, 1}, 1}]}, resolve([{?MODULE, fun(_, _, _) -> {ok, {<<"203.0.113.1">>, 1}} end}], 'n@x.invalid')).

at_most_sixteen_addresses_are_dialled_test() ->
    Many = [{{203, 0, 113, N}, 1} || N <- lists:seq(1, 40)],
    {ok, Dialled} = resolve([{?MODULE, fun(_, _, _) -> {ok, Many} end}], 'n@203.0.113.1'),
    ?assertEqual(lists:sublist(Many, 16), Dialled).

%%%===================================================================
%%% Isolation
%%%===================================================================

a_backend_that_crashes_is_a_miss_of_its_own_test_() ->
    [
        {Name, fun() ->
            Good = {barrel_p2p_discovery_static, #{nodes => [{'n@203.0.113.1', {{203, 0, 113, 9}, 4}}]}},
            ?assertEqual({ok, [{{203, 0, 113, 9}, 4}]}, resolve([{?MODULE, Crash}, Good], 'n@203.0.113.1')),
            ?assertMatch(
                {error, {no_address, #{tried := [{?MODULE, crashed}]}}}, resolve([{?MODULE, Crash}], 'n@203.0.113.1')
            )
        end}
     || {Name, Crash} <- [
            {"error", fun(_, _, _) -> error(broken) end},
            {"exit", fun(_, _, _) -> exit(broken) end},
            {"throw", fun(_, _, _) -> throw(broken) end},
            {"kill", fun(_, _, _) -> exit(self(), kill) end},
            {"link", fun(_, _, _) ->
                spawn_link(fun() -> exit(broken) end),
                receive
                after infinity -> ok
                end
            end}
        ]
    ].

a_nonsense_answer_is_a_miss_test() ->
    ?assertMatch(
        {error, {no_address, #{tried := [{?MODULE, {bad_answer, whatever}}]}}},
        resolve([{?MODULE, fun(_, _, _) -> whatever end}], 'n@203.0.113.1')
    ).

a_module_that_does_not_exist_is_a_miss_test() ->
    ?assertMatch({error, {no_address, #{tried := [{no_such_module, crashed}]}}}, resolve([no_such_module], 'n@203.0.113.1')).

a_backend_that_hangs_is_ended_and_leaves_nothing_test() ->
    Self = self(),
    Hangs = fun(_, _, _) ->
        Self ! {worker, self()},
        receive
        after infinity -> ok
        end
    end,
    with_backends([{?MODULE, Hangs}], fun() ->
        {error, {no_address, #{tried := Tried}}} = barrel_p2p_discovery:resolve('n@203.0.113.1', 50),
        ?assertEqual([{?MODULE, timeout}], Tried)
    end),
    Worker = receive {worker, W} -> W end,
    await_end(Worker),
    ?assertEqual([], mailbox()).

a_backend_ends_with_its_caller_test() ->
    Self = self(),
    Hangs = fun(_, _, _) ->
        Self ! {worker, self()},
        receive
        after infinity -> ok
        end
    end,
    with_backends([{?MODULE, Hangs}], fun() ->
        Caller = spawn(fun() -> barrel_p2p_discovery:resolve('n@203.0.113.1', 600000) end),
        receive
            {worker, Worker} ->
                exit(Caller, remarked),
                await_end(Worker)
        end
    end).

registration_of_a_user_backend_does_not_hold_up_the_caller_test() ->
    Self = self(),
    Backend = {?MODULE, fun(register, Node, Port) ->
        Self ! {register, self(), Node, Port},
        receive
            go_on -> Self ! went_on
        end
    end},
    with_backends([Backend], fun() ->
        ?assertEqual(ok, barrel_p2p_discovery:register(n, "203.0.113.1", 4, any)),
        receive
            {register, Pid, Node, Port} ->
                ?assertEqual({'n@203.0.113.1', 4}, {Node, Port}),
                Pid ! go_on
        end,
        receive
            went_on -> ok
        end
    end).

%%%===================================================================
%%% This machine
%%%===================================================================

local_hosts_are_recognised_test() ->
    {ok, Name} = inet:gethostname(),
    {ok, Interfaces} = inet:getifaddrs(),
    Own = [inet:ntoa(Ip) || {_, Options} <- Interfaces, {addr, Ip} <- Options],
    ?assertEqual([], [H || H <- ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1", Name | Own], not local(H)]).

other_hosts_are_not_local_test() ->
    ?assertEqual([], [H || H <- ["203.0.113.1", "2001:db8::1", "example.invalid", "nohost", ""], local(H)]).

a_local_name_is_never_asked_from_dns_test() ->
    ?assertMatch(
        {error, {no_address, #{tried := [{barrel_p2p_discovery_static, not_found}, {barrel_p2p_discovery_dns, local_name}]}}},
        resolve([barrel_p2p_discovery_static, barrel_p2p_discovery_dns], unknown@localhost)
    ),
    ?assertMatch(
        {error, {no_address, #{tried := [{barrel_p2p_discovery_dns, local_name}]}}},
        resolve([barrel_p2p_discovery_dns], 'unknown@127.0.0.1')
    ).

a_local_endpoint_without_address_is_dialled_at_both_loopbacks_test() ->
    Backend = {?MODULE, fun(_, _, _) -> {ok, {"localhost", 4}} end},
    ?assertEqual(
        {ok, [{{127, 0, 0, 1}, 4}, {{0, 0, 0, 0, 0, 0, 0, 1}, 4}]},
        resolve([Backend], n@localhost)
    ).

a_local_endpoint_with_an_address_is_dialled_there_test() ->
    Backend = {?MODULE, fun(_, _, _) -> {ok, {<<"127.0.0.9">>, 4}} end},
    ?assertEqual({ok, [{{127, 0, 0, 9}, 4}]}, resolve([Backend], n@localhost)).

%%%===================================================================
%%% The published functions
%%%===================================================================

the_published_lookup_answers_one_address_test() ->
    with_backends([{?MODULE, fun(_, _, _) -> {ok, [{{203, 0, 113, 1}, 1}, {{203, 0, 113, 2}, 1}]} end}], fun() ->
        ?assertEqual({ok, {{203, 0, 113, 1}, 1}}, barrel_p2p_discovery:lookup('n@203.0.113.1', "203.0.113.1"))
    end),
    with_backends([], fun() ->
        ?assertEqual({error, not_found}, barrel_p2p_discovery:lookup('n@203.0.113.1', "203.0.113.1"))
    end).

names_are_those_of_the_host_test() ->
    Static = {barrel_p2p_discovery_static, #{nodes => [{'near@203.0.113.6', {"203.0.113.6", 6}}]}},
    with_backends([Static, {?MODULE, nothing}], fun() ->
        ?assertEqual({ok, [{"far", 7}]}, barrel_p2p_discovery:names("203.0.113.7")),
        ?assertEqual({ok, [{"near", 6}]}, barrel_p2p_discovery:names("203.0.113.6")),
        ?assertEqual({ok, []}, barrel_p2p_discovery:names("203.0.113.5"))
    end).

the_default_port_is_the_configured_one_test() ->
    ?assertEqual(9100, barrel_p2p_discovery:default_port()),
    try
        ok = application:set_env(barrel_p2p, listen_port, 4711),
        ?assertEqual(4711, barrel_p2p_discovery:default_port()),
        ok = application:set_env(barrel_p2p, listen_port, 0),
        ?assertEqual(9100, barrel_p2p_discovery:default_port())
    after
        application:unset_env(barrel_p2p, listen_port)
    end.

%%%===================================================================
%%% Internal
%%%===================================================================

resolve(Backends, Node) ->
    with_backends(Backends, fun() -> barrel_p2p_discovery:resolve(Node, 5000) end).

with_backends(Backends, Fun) ->
    ok = application:set_env(barrel_p2p, discovery_backends, Backends),
    try
        Fun()
    after
        application:unset_env(barrel_p2p, discovery_backends)
    end.

local(Host) ->
    barrel_p2p_discovery:is_local_host(Host).

await_end(Pid) ->
    Monitor = erlang:monitor(process, Pid),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    after 5000 -> error(still_alive)
    end.

mailbox() ->
    receive
        Message -> [Message | mailbox()]
    after 0 -> []
    end.
