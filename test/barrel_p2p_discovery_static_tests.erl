%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Addresses from the configuration.
-module(barrel_p2p_discovery_static_tests).

-include_lib("eunit/include/eunit.hrl").

both_shapes_of_entries_are_taken_test() ->
    Opts = #{nodes => [{a@h, {"203.0.113.1", 1}}, {b@h, "203.0.113.2", 2}]},
    ?assertEqual({ok, [{"203.0.113.1", 1}]}, lookup(a@h, Opts)),
    ?assertEqual({ok, [{"203.0.113.2", 2}]}, lookup(b@h, Opts)),
    ?assertEqual({error, not_found}, lookup(c@h, Opts)).

a_property_list_works_too_test() ->
    ?assertEqual({ok, [{{203, 0, 113, 1}, 1}]}, lookup(a@h, [{nodes, [{a@h, {{203, 0, 113, 1}, 1}}]}])).

several_entries_of_one_node_are_all_answered_test() ->
    Opts = #{nodes => [{a@h, {"203.0.113.1", 1}}, {a@h, {"203.0.113.2", 1}}]},
    ?assertEqual({ok, [{"203.0.113.1", 1}, {"203.0.113.2", 1}]}, lookup(a@h, Opts)).

an_entry_that_is_none_does_no_harm_test() ->
    ?assertEqual({ok, [{"203.0.113.1", 1}]}, lookup(a@h, #{nodes => [nonsense, {a@h, x}, {a@h, {"203.0.113.1", 1}}]})),
    ?assertEqual({error, not_found}, lookup(a@h, whatever)).

contacts_with_an_address_count_test() ->
    with_env(contact_nodes, [plain@h, {a@h, {"203.0.113.1", 1}}], fun() ->
        ?assertEqual({ok, [{"203.0.113.1", 1}]}, lookup(a@h, #{})),
        ?assertEqual({error, not_found}, lookup(plain@h, #{}))
    end).

the_published_functions_use_the_configured_options_test() ->
    Backends = [barrel_p2p_discovery_dns, {barrel_p2p_discovery_static, #{nodes => [{a@h, {"203.0.113.1", 1}}]}}],
    with_env(discovery_backends, Backends, fun() ->
        ?assertEqual({ok, [{"203.0.113.1", 1}]}, barrel_p2p_discovery_static:lookup(a@h, "h")),
        ?assertEqual({ok, [{a@h, 1}]}, barrel_p2p_discovery_static:list_nodes("h"))
    end),
    ?assertEqual({error, not_found}, barrel_p2p_discovery_static:lookup(a@h, "h")).

lookup(Node, Opts) ->
    barrel_p2p_discovery_static:lookup(Node, "h", #{opts => Opts, timeout_ms => 1, local => false}).

with_env(Key, Value, Fun) ->
    ok = application:set_env(barrel_p2p, Key, Value),
    try
        Fun()
    after
        application:unset_env(barrel_p2p, Key)
    end.
