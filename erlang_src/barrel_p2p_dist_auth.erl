%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The identity of this node: its Ed25519 key pair.
%%%
%%% It is for operators and tools, such as a script that makes keys before the
%%% first boot. The handshake itself never comes here: it runs in Rust, which
%%% reads the secret key itself. {@link load_keypair/1} is the only way a secret
%%% key reaches Erlang.
%%%
%%% Anybody may call it.
-module(barrel_p2p_dist_auth).

%% API
-export([get_public_key/0, ensure_keypair/0, generate_keypair/0, load_keypair/1, save_keypair/3]).

%% @doc The public key of the running endpoint, else the one in the configured directory.
-spec get_public_key() -> {ok, binary()} | {error, term()}.
get_public_key() ->
    case barrel_p2p_node:key() of
        {ok, _} = Ok ->
            Ok;
        {error, closed} ->
            case load_keypair(configured_dir()) of
                {ok, Public, _Secret} -> {ok, Public};
                {error, _} = Error -> Error
            end
    end.

%% @doc Makes and saves a key pair in the configured directory unless there is one.
-spec ensure_keypair() -> ok | {error, term()}.
ensure_keypair() ->
    native(fun() ->
        case barrel_p2p_nif:ensure_keypair(configured_dir()) of
            {ok, _Public} -> ok;
            {error, _} = Error -> Error
        end
    end).

%% @doc A fresh key pair, not saved: public key and secret seed.
-spec generate_keypair() -> {Public :: binary(), Secret :: binary()}.
generate_keypair() ->
    ok = barrel_p2p_native:ensure_loaded(),
    barrel_p2p_nif:generate_keypair().

%% @doc Reads and checks the key pair of a directory.
-spec load_keypair(file:name_all()) -> {ok, Public :: binary(), Secret :: binary()} | {error, term()}.
load_keypair(Dir) ->
    native(fun() -> barrel_p2p_nif:load_keypair(directory(Dir)) end).

%% @doc Writes a key pair, the secret key readable by this user alone.
-spec save_keypair(file:name_all(), Public :: binary(), Secret :: binary()) -> ok | {error, term()}.
save_keypair(Dir, <<Public:32/binary>>, <<Secret:32/binary>>) ->
    native(fun() -> barrel_p2p_nif:save_keypair(directory(Dir), Public, Secret) end);
save_keypair(_Dir, _Public, _Secret) ->
    {error, invalid_key_size}.

configured_dir() ->
    %% in a script nobody has loaded the configuration
    _ = application:load(barrel_p2p),
    barrel_p2p_config:get(auth_key_dir).

native(Fun) ->
    case barrel_p2p_native:ensure_loaded() of
        ok -> Fun();
        {error, Reason} -> {error, {native, Reason}}
    end.

directory(Dir) ->
    unicode:characters_to_binary(filename:absname(Dir)).
