%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The supervisor of the application.
-module(barrel_p2p_sup_tests).

-include_lib("eunit/include/eunit.hrl").

its_children_are_well_specified_test() ->
    {ok, {_, Children}} = barrel_p2p_sup:init([]),
    ?assertEqual(ok, supervisor:check_childspecs(Children)).

it_starts_once_test() ->
    {ok, Sup} = barrel_p2p_sup:start_link(),
    ?assertMatch({error, {already_started, Sup}}, barrel_p2p_sup:start_link()),
    unlink(Sup),
    Monitor = erlang:monitor(process, Sup),
    exit(Sup, shutdown),
    receive
        {'DOWN', Monitor, process, Sup, Reason} -> ?assertEqual(shutdown, Reason)
    end.
