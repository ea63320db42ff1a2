%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The trust store as operators see it, without an endpoint.
-module(barrel_p2p_dist_keys_tests).

-include_lib("eunit/include/eunit.hrl").
-include("barrel_p2p.hrl").

a_key_of_the_wrong_size_is_refused_test() ->
    ?assertEqual({error, invalid_key_size}, barrel_p2p_dist_keys:store_key(a@h, <<1>>)),
    ?assertEqual({error, invalid_key_size}, barrel_p2p_dist_keys:store_key_if_new(a@h, <<0:264>>)),
    ?assertEqual({error, invalid_key_size}, barrel_p2p_dist_keys:store_key(a@h, not_a_key)).

a_stored_key_is_found_and_on_the_disk_test() ->
    with_dir(fun(Dir) ->
        Key = key(),
        ?assertEqual({error, not_found}, barrel_p2p_dist_keys:lookup_key(a@h)),
        ?assertEqual(not_pinned, barrel_p2p_dist_keys:lookup_pin(a@h)),
        ok = barrel_p2p_dist_keys:store_key(a@h, Key),
        ?assertEqual({ok, Key}, barrel_p2p_dist_keys:lookup_key(a@h)),
        ?assertEqual({ok, Key}, barrel_p2p_dist_keys:lookup_key(<<"a@h">>)),
        ?assertEqual({pinned, Key}, barrel_p2p_dist_keys:lookup_pin(a@h)),
        ?assertEqual({ok, Key}, file:read_file(filename:join([Dir, "trusted", "a@h.pub"])))
    end).

only_a_new_key_is_stored_if_new_test() ->
    with_dir(fun(_) ->
        {First, Second} = {key(), key()},
        ok = barrel_p2p_dist_keys:store_key_if_new(a@h, First),
        ok = barrel_p2p_dist_keys:store_key_if_new(a@h, First),
        ?assertEqual({error, key_mismatch}, barrel_p2p_dist_keys:store_key_if_new(a@h, Second)),
        ?assertEqual({ok, First}, barrel_p2p_dist_keys:lookup_key(a@h)),
        ok = barrel_p2p_dist_keys:store_key(a@h, Second),
        ?assertEqual({ok, Second}, barrel_p2p_dist_keys:lookup_key(a@h))
    end).

a_deleted_key_is_gone_and_deleting_twice_is_fine_test() ->
    with_dir(fun(Dir) ->
        ok = barrel_p2p_dist_keys:store_key(a@h, key()),
        ?assertEqual(ok, barrel_p2p_dist_keys:delete_key(a@h)),
        ?assertEqual(not_pinned, barrel_p2p_dist_keys:lookup_pin(a@h)),
        ?assertNot(filelib:is_file(filename:join([Dir, "trusted", "a@h.pub"]))),
        ?assertEqual(ok, barrel_p2p_dist_keys:delete_key(a@h))
    end).

trusted_is_exactly_the_stored_key_test() ->
    with_dir(fun(_) ->
        Key = key(),
        ?assertNot(barrel_p2p_dist_keys:is_trusted(a@h, Key)),
        ok = barrel_p2p_dist_keys:store_key(a@h, Key),
        ?assert(barrel_p2p_dist_keys:is_trusted(a@h, Key)),
        ?assertNot(barrel_p2p_dist_keys:is_trusted(a@h, key())),
        ?assertNot(barrel_p2p_dist_keys:is_trusted(b@h, Key))
    end).

the_list_holds_what_the_published_record_holds_test() ->
    with_dir(fun(_) ->
        Key = key(),
        ?assertEqual([], barrel_p2p_dist_keys:list_trusted()),
        ok = barrel_p2p_dist_keys:store_key(a@h, Key),
        [Entry] = barrel_p2p_dist_keys:list_trusted(),
        ?assertMatch(#peer_key{node = a@h, public_key = Key, trust_level = tofu}, Entry),
        ?assertEqual(barrel_p2p_dist_keys:fingerprint(Key), Entry#peer_key.fingerprint),
        ?assert(Entry#peer_key.added_at =< erlang:system_time(millisecond)),
        ?assert(Entry#peer_key.added_at > 1600000000000),
        ?assertEqual(Entry#peer_key.added_at, Entry#peer_key.last_seen),
        ok = barrel_p2p_dist_keys:set_trust_mode(strict),
        ?assertMatch([#peer_key{trust_level = permanent}], barrel_p2p_dist_keys:list_trusted())
    end).

a_file_does_not_make_an_atom_test() ->
    with_dir(fun(_) ->
        Name = <<"list_", (integer_to_binary(erlang:unique_integer([positive])))/binary, "@unheard-of">>,
        ok = barrel_p2p_dist_keys:store_key(Name, key()),
        ?assertMatch([#peer_key{node = Name}], barrel_p2p_dist_keys:list_trusted()),
        ?assertError(badarg, binary_to_existing_atom(Name, utf8))
    end).

a_bad_name_is_refused_test() ->
    with_dir(fun(_) ->
        [?assertMatch({error, _}, barrel_p2p_dist_keys:store_key(Name, key())) || Name <- [<<"../x">>, <<"a@../b">>, <<>>, nohost]]
    end).

the_mode_changes_at_once_test() ->
    with_dir(fun(_) ->
        ?assertEqual(tofu, barrel_p2p_dist_keys:get_trust_mode()),
        ok = barrel_p2p_dist_keys:set_trust_mode(strict),
        ?assertEqual(strict, barrel_p2p_dist_keys:get_trust_mode()),
        ok = barrel_p2p_dist_keys:set_trust_mode(tofu),
        ?assertEqual(tofu, barrel_p2p_dist_keys:get_trust_mode()),
        ?assertError(function_clause, barrel_p2p_dist_keys:set_trust_mode(off))
    end).

without_authentication_the_mode_cannot_change_test() ->
    with_dir(fun(_) ->
        ok = application:set_env(barrel_p2p, auth_enabled, false),
        ?assertEqual({error, auth_disabled}, barrel_p2p_dist_keys:set_trust_mode(strict)),
        ?assertEqual(off, barrel_p2p_dist_keys:get_trust_mode())
    end).

a_fingerprint_is_the_sha256_of_the_key_test() ->
    ok = barrel_p2p_native:ensure_loaded(),
    Key = key(),
    ?assertEqual(crypto:hash(sha256, Key), barrel_p2p_dist_keys:fingerprint(Key)).

%%%===================================================================
%%% Internal
%%%===================================================================

key() ->
    {Public, _} = barrel_p2p_dist_auth:generate_keypair(),
    Public.

with_dir(Fun) ->
    ok = barrel_p2p_native:ensure_loaded(),
    Name = lists:concat(["barrel_p2p_keys_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    ok = application:set_env(barrel_p2p, auth_key_dir, Dir),
    try
        Fun(Dir)
    after
        [application:unset_env(barrel_p2p, Key) || Key <- [auth_key_dir, auth_trust_mode, auth_enabled]],
        _ = file:del_dir_r(Dir)
    end.
