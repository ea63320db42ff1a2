%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The trust store: which key belongs to which node.
%%%
%%% It is the operator's view of what Rust keeps in `<auth_key_dir>/trusted'. The
%%% functions work on the store of the running endpoint, and take effect for the
%%% next handshake; without an endpoint they work on the configured directory. It
%%% is not a process and caches nothing.
%%%
%%% Anybody may call it.
-module(barrel_p2p_dist_keys).

-include("barrel_p2p.hrl").

%% API
-export([
    store_key/2,
    store_key_if_new/2,
    lookup_key/1,
    lookup_pin/1,
    delete_key/1,
    is_trusted/2,
    list_trusted/0,
    set_trust_mode/1,
    get_trust_mode/0,
    fingerprint/1
]).

-export_type([peer_key/0, peer/0]).

-type peer_key() :: #peer_key{}.
-type peer() :: node() | binary().

%% @doc Places a key, instead of any other that the store holds for this node.
-spec store_key(peer(), binary()) -> ok | {error, invalid_key_size | term()}.
store_key(Node, Key) ->
    store(Node, Key, replace).

%% @doc Places a key unless the store holds a different one.
-spec store_key_if_new(peer(), binary()) -> ok | {error, key_mismatch | invalid_key_size | term()}.
store_key_if_new(Node, Key) ->
    store(Node, Key, new).

%% @doc The key of a node.
-spec lookup_key(peer()) -> {ok, binary()} | {error, not_found | term()}.
lookup_key(Node) ->
    with_store(fun(Store) -> barrel_p2p_nif:trust_lookup(Store, name(Node)) end).

%% @doc The key of a node, in the shape of the published API.
-spec lookup_pin(peer()) -> not_pinned | {pinned, binary()}.
lookup_pin(Node) ->
    case lookup_key(Node) of
        {ok, Key} -> {pinned, Key};
        {error, _} -> not_pinned
    end.

%% @doc Forgets a node. Under tofu its next key is pinned, under strict it is refused.
-spec delete_key(peer()) -> ok | {error, term()}.
delete_key(Node) ->
    Deleted = with_store(fun(Store) -> barrel_p2p_nif:trust_delete(Store, name(Node)) end),
    case Deleted of
        {error, not_found} -> ok;
        Result -> Result
    end.

%% @doc Whether the store holds exactly this key for this node.
-spec is_trusted(peer(), binary()) -> boolean().
is_trusted(Node, Key) ->
    lookup_pin(Node) =:= {pinned, Key}.

%% @doc All keys of the store. `last_seen' is now for a node that is linked, else when the
%% key was stored. A store does not keep who placed a key: under strict it was the operator.
-spec list_trusted() -> [peer_key()].
list_trusted() ->
    Now = erlang:system_time(millisecond),
    Linked = linked_names(),
    Listed = with_store(fun(Store) ->
        case barrel_p2p_nif:trust_list(Store) of
            {ok, Trusted} -> {ok, Trusted, level(barrel_p2p_nif:trust_mode(Store))};
            {error, _} = Error -> Error
        end
    end),
    case Listed of
        {ok, Trusted, Level} ->
            [
                #peer_key{
                    node = node_of(Name),
                    fingerprint = binary:decode_hex(Fingerprint),
                    public_key = Key,
                    added_at = AddedAt * 1000,
                    last_seen =
                        case lists:member(Name, Linked) of
                            true -> Now;
                            false -> AddedAt * 1000
                        end,
                    trust_level = Level
                }
             || #{name := Name, key := Key, fingerprint := Fingerprint, added_at := AddedAt} <- Trusted
            ];
        {error, Reason} ->
            barrel_p2p_log:report(error, "the trust store cannot be listed", #{reason => Reason}),
            []
    end.

%% @doc Changes the mode for the next handshake, and for endpoints opened later.
-spec set_trust_mode(tofu | strict) -> ok | {error, auth_disabled | term()}.
set_trust_mode(Mode) when Mode =:= tofu; Mode =:= strict ->
    case barrel_p2p_config:get(auth_enabled) of
        false ->
            {error, auth_disabled};
        true ->
            ok = application:set_env(barrel_p2p, auth_trust_mode, Mode),
            case barrel_p2p_node:trust() of
                {ok, Store} -> barrel_p2p_nif:trust_set_mode(Store, Mode);
                {error, closed} -> ok
            end
    end.

%% @doc The mode in force; `off' when `auth_enabled' is false.
-spec get_trust_mode() -> tofu | strict | off.
get_trust_mode() ->
    case barrel_p2p_node:trust() of
        {ok, Store} -> barrel_p2p_nif:trust_mode(Store);
        {error, closed} -> configured_mode()
    end.

%% @doc The SHA-256 digest of a public key; the log shows it in hexadecimal digits.
-spec fingerprint(barrel_p2p_nif:public_key()) -> <<_:256>>.
fingerprint(Key) when byte_size(Key) =:= 32 ->
    ok = barrel_p2p_native:ensure_loaded(),
    <<_:32/binary>> = binary:decode_hex(barrel_p2p_nif:fingerprint(Key)).

%%%===================================================================
%%% Internal
%%%===================================================================

store(Node, <<_:32/binary>> = Key, How) ->
    with_store(fun(Store) -> barrel_p2p_nif:trust_store(Store, name(Node), Key, How) end);
store(_Node, _Key, _How) ->
    {error, invalid_key_size}.

with_store(Fun) ->
    case open_store() of
        {ok, Store} -> Fun(Store);
        {error, _} = Error -> Error
    end.

open_store() ->
    case barrel_p2p_node:trust() of
        {ok, _} = Ok ->
            Ok;
        {error, closed} ->
            case barrel_p2p_native:ensure_loaded() of
                ok ->
                    %% in a script nobody has loaded the configuration
                    _ = application:load(barrel_p2p),
                    Dir = barrel_p2p_config:get(auth_key_dir),
                    barrel_p2p_nif:trust_open(Dir, configured_mode(), barrel_p2p_config:get(max_pins));
                {error, Reason} ->
                    {error, {native, Reason}}
            end
    end.

configured_mode() ->
    case barrel_p2p_config:get(auth_enabled) of
        true -> barrel_p2p_config:get(auth_trust_mode);
        false -> off
    end.

level(strict) -> permanent;
level(_) -> tofu.

linked_names() ->
    [Name || #{name := Name} <- barrel_p2p_node:links()].

name(Node) when is_atom(Node) -> atom_to_binary(Node, utf8);
name(Node) when is_binary(Node) -> Node.

%% Files do not make atoms.
node_of(Name) ->
    try
        binary_to_existing_atom(Name, utf8)
    catch
        error:badarg -> Name
    end.
