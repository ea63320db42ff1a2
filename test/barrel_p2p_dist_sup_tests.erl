%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The supervisor below the carrier.
-module(barrel_p2p_dist_sup_tests).

-include_lib("eunit/include/eunit.hrl").

the_specification_is_good_test() ->
    ?assertEqual(ok, supervisor:check_childspecs([barrel_p2p_dist_sup:childspec()])),
    with_sup(fun(Sup) ->
        ?assertEqual(
            [barrel_p2p_log, barrel_p2p_node, barrel_p2p_secret], lists:sort(maps:keys(children(Sup)))
        )
    end).

a_second_start_is_ignored_test() ->
    with_sup(fun(_) -> ?assertEqual(ignore, barrel_p2p_dist_sup:start_link()) end).

who_knows_the_secrets_is_older_than_the_endpoint_test() ->
    with_sup(fun(Sup) ->
        Secret = whereis(barrel_p2p_secret),
        Node = whereis(barrel_p2p_node),
        Log = whereis(barrel_p2p_log),
        %% the log alone
        ended(Log),
        #{barrel_p2p_secret := Secret, barrel_p2p_node := Node} = children(Sup),
        %% the endpoint's owner, with the log after it
        ended(Node),
        #{barrel_p2p_secret := Secret, barrel_p2p_node := NewNode} = children(Sup),
        ?assertNotEqual(Node, NewNode),
        %% all: the endpoint must hear of the new process
        ended(Secret),
        #{barrel_p2p_secret := NewSecret, barrel_p2p_node := LastNode} = children(Sup),
        ?assertNotEqual(Secret, NewSecret),
        ?assertNotEqual(NewNode, LastNode)
    end).

%%%===================================================================
%%% Internal
%%%===================================================================

with_sup(Fun) ->
    {ok, Sup} = barrel_p2p_dist_sup:start_link(),
    unlink(Sup),
    try
        Fun(Sup)
    after
        ended(Sup, shutdown)
    end.

%% A call after the end: the supervisor has restarted what it restarts.
children(Sup) ->
    maps:from_list([{Id, Pid} || {Id, Pid, _, _} <- supervisor:which_children(Sup)]).

ended(Pid) ->
    ended(Pid, kill).

ended(Pid, Reason) ->
    Monitor = erlang:monitor(process, Pid),
    exit(Pid, Reason),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.
