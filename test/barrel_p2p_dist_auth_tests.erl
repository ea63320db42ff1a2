%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Key pairs on the disk.
-module(barrel_p2p_dist_auth_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("kernel/include/file.hrl").

a_generated_pair_belongs_together_test() ->
    {Public, Secret} = barrel_p2p_dist_auth:generate_keypair(),
    {Public2, Secret2} = barrel_p2p_dist_auth:generate_keypair(),
    ?assertEqual({32, 32}, {byte_size(Public), byte_size(Secret)}),
    ?assertNotEqual({Public, Secret}, {Public2, Secret2}),
    ?assertEqual({Public, Secret}, crypto:generate_key(eddsa, ed25519, Secret)).

a_saved_pair_is_loaded_and_closed_to_others_test() ->
    with_dir(fun(Dir) ->
        {Public, Secret} = barrel_p2p_dist_auth:generate_keypair(),
        ok = barrel_p2p_dist_auth:save_keypair(Dir, Public, Secret),
        ?assertEqual({ok, Public, Secret}, barrel_p2p_dist_auth:load_keypair(Dir)),
        ?assertEqual({ok, Public, Secret}, barrel_p2p_dist_auth:load_keypair(list_to_binary(Dir))),
        ?assertEqual({ok, Public}, file:read_file(filename:join(Dir, "node.pub"))),
        {ok, #file_info{mode = Mode}} = file:read_file_info(filename:join(Dir, "node.key")),
        ?assertEqual(8#600, Mode band 8#777)
    end).

keys_of_the_wrong_size_are_refused_test() ->
    ?assertEqual({error, invalid_key_size}, barrel_p2p_dist_auth:save_keypair("/nowhere", <<1>>, <<0:256>>)),
    ?assertEqual({error, invalid_key_size}, barrel_p2p_dist_auth:save_keypair("/nowhere", <<0:256>>, <<1>>)).

a_pair_that_does_not_belong_together_is_refused_test() ->
    with_dir(fun(Dir) ->
        {Public, Secret} = barrel_p2p_dist_auth:generate_keypair(),
        {Other, _} = barrel_p2p_dist_auth:generate_keypair(),
        ok = barrel_p2p_dist_auth:save_keypair(Dir, Public, Secret),
        ok = file:write_file(filename:join(Dir, "node.pub"), Other),
        ?assertMatch({error, _}, barrel_p2p_dist_auth:load_keypair(Dir))
    end).

an_empty_directory_has_no_pair_test() ->
    with_dir(fun(Dir) ->
        ?assertMatch({error, _}, barrel_p2p_dist_auth:load_keypair(Dir)),
        ?assertMatch({error, _}, barrel_p2p_dist_auth:get_public_key())
    end).

a_pair_is_made_once_test() ->
    with_dir(fun(Dir) ->
        ?assertEqual(ok, barrel_p2p_dist_auth:ensure_keypair()),
        {ok, Public} = barrel_p2p_dist_auth:get_public_key(),
        ?assertEqual(ok, barrel_p2p_dist_auth:ensure_keypair()),
        ?assertEqual({ok, Public}, barrel_p2p_dist_auth:get_public_key()),
        ?assertMatch({ok, Public, _}, barrel_p2p_dist_auth:load_keypair(Dir))
    end).

with_dir(Fun) ->
    ok = barrel_p2p_native:ensure_loaded(),
    Name = lists:concat(["barrel_p2p_auth_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    ok = application:set_env(barrel_p2p, auth_key_dir, Dir),
    try
        Fun(Dir)
    after
        application:unset_env(barrel_p2p, auth_key_dir),
        _ = file:del_dir_r(Dir)
    end.
