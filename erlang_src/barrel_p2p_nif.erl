%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The boundary to the Rust core: native functions and nothing else.
%%%
%%% Every function here is implemented by `priv/barrel_p2p_nif.so' (crate
%%% `barrel_nif'), or by the C stand-in of `c_src_stub' which answers each call
%%% with `native_stub'. Loading is the business of {@link barrel_p2p_native},
%%% explicitly and not by `-on_load': an embedded OTP 25 release starts its
%%% distribution before it runs on_load handlers.
%%%
%%% No function blocks. Those that touch a file or a socket run on a dirty
%%% scheduler. What takes time answers later with a message
%%% `{barrel_p2p, Handle, Signal}':
%%%
%%% <pre>
%%% Handle   Signal                     to            meaning
%%% node     {secret, Id, Name}         secrets pid   a handshake asks for the cluster secret; answer with node_secret/3
%%% node     {incoming, Stream, Peer}   acceptor pid  a peer opened a dist stream; take it with dist_owner/3
%%% node     {down, Reason}             owner         the endpoint failed; the handle is dead
%%% stream   {up, Peer}                 opener        dist_open/3 succeeded
%%% stream   {failed, Reason}           opener        dist_open/3 failed
%%% stream   readable                   input         packets wait; call dist_recv/2 until it answers []
%%% stream   writable                   output        dist_send/2 may be called again
%%% stream   {closed, Reason}           output        the stream has ended
%%% log      ready                      log pid       call log_drain/0 until it answers []
%%% </pre>
%%%
%%% Who may call: `barrel_p2p_native' (loading, log), `barrel_p2p_node' (life of
%%% the endpoint), `barrel_p2p_secret', `barrel_p2p_dist' and
%%% `barrel_p2p_dist_ctrl' (one channel), `barrel_p2p_dist_keys',
%%% `barrel_p2p_dist_auth', `barrel_p2p_discovery_file', `barrel_p2p_log'.
-module(barrel_p2p_nif).

%% Library
-export([build_info/0, load/1, log_attach/1, log_drain/0, log_level/1]).
%% Identity and trust
-export([
    generate_keypair/0,
    load_keypair/1,
    save_keypair/3,
    ensure_keypair/1,
    fingerprint/1,
    trust_open/3,
    trust_set_mode/2,
    trust_mode/1,
    trust_lookup/2,
    trust_store/4,
    trust_delete/2,
    trust_check/3,
    trust_list/1
]).
%% Endpoint files
-export([lease_publish/4, lease_release/1, lease_lookup/2, lease_list/1]).
%% The endpoint
-export([
    node_open/1,
    node_close/2,
    node_acceptor/2,
    node_secret/3,
    node_info/1,
    node_links/1
]).
%% One distribution channel
-export([
    dist_open/3,
    dist_owner/3,
    dist_peer/1,
    dist_send/2,
    dist_recv/2,
    dist_tick/1,
    dist_stat/1,
    dist_close/1
]).

-export_type([
    node_handle/0, stream/0, trust/0, lease/0, public_key/0, peer/0, open_opts/0, trusted/0, log_entry/0
]).

-opaque node_handle() :: reference().
-opaque stream() :: reference().
-opaque trust() :: reference().
-opaque lease() :: reference().
-type public_key() :: <<_:256>>.
-type peer() :: #{
    %% proven node name, or for a client its host part alone
    name := binary(),
    client := boolean(),
    key := public_key(),
    incarnation := non_neg_integer(),
    %% where the peer's datagrams come from
    address := {inet:ip_address(), inet:port_number()},
    %% this side dialled the link
    dialled := boolean()
}.
-type open_opts() :: #{
    %% node name of a member, host part alone for a client
    name := binary(),
    client := boolean(),
    %% `undefined' = identity in memory
    key_dir := binary() | undefined,
    %% `undefined' = certificate in memory
    cert_dir := binary() | undefined,
    trust := trust(),
    %% `any' = IPv6 and IPv4 on one socket
    ip := any | inet:ip_address(),
    %% tried in this order; 0 = any free port
    ports := [inet:port_number()],
    owner := pid(),
    secrets := pid(),
    handshake_timeout_ms := pos_integer(),
    keep_alive_ms := pos_integer(),
    idle_timeout_ms := pos_integer(),
    icmp_hints := boolean(),
    threads := pos_integer(),
    send_window := pos_integer(),
    receive_window := pos_integer(),
    pull_budget := pos_integer(),
    max_datagram := pos_integer(),
    congestion := patient | cubic | bbr
}.
-type trusted() :: #{
    name := binary(),
    client := boolean(),
    key := public_key(),
    fingerprint := binary(),
    %% seconds since the epoch, from the file
    added_at := non_neg_integer()
}.
-type log_entry() :: {
    Level :: error | warning | notice | info | debug,
    Target :: binary(),
    Message :: binary(),
    Fields :: [{binary(), binary() | integer() | boolean()}]
}.

%%%===================================================================
%%% Library
%%%===================================================================

%% @doc What was built: `#{name, version, kind => native | stub, rustc, features}'.
-spec build_info() -> map().
build_info() -> not_loaded().

%% @doc Loads the library `File' (its name without `.so'); for `barrel_p2p_native' only.
%% The one function with a body of its own: `erlang:load_nif/2' serves the module
%% that calls it. The native version answers `already_loaded'.
-spec load(File :: string()) -> ok | already_loaded | {error, {atom(), string()}}.
load(File) ->
    case erlang:load_nif(File, 0) of
        {error, {reload, _}} -> already_loaded;
        Result -> Result
    end.

%% @doc Makes `Pid' the receiver of `{barrel_p2p, log, ready}'.
-spec log_attach(pid()) -> ok.
log_attach(_Pid) -> not_loaded().

%% @doc Takes at most 64 log entries, oldest first; `[]' arms the bell again.
-spec log_drain() -> [log_entry()].
log_drain() -> not_loaded().

%% @doc The least severe level that Rust hands up. Takes effect at once.
-spec log_level(error | warning | notice | info | debug | none) -> ok.
log_level(_Level) -> not_loaded().

%%%===================================================================
%%% Identity and trust
%%%===================================================================

%% @doc A fresh Ed25519 key pair: public key and secret seed, 32 bytes each.
-spec generate_keypair() -> {public_key(), <<_:256>>}.
generate_keypair() -> not_loaded().

%% @doc Reads and checks `Dir/node.pub' and `Dir/node.key'.
-spec load_keypair(Dir :: binary()) -> {ok, public_key(), <<_:256>>} | {error, term()}.
load_keypair(_Dir) -> not_loaded().

%% @doc Writes both files, atomically, the secret one with mode 0600.
-spec save_keypair(Dir :: binary(), public_key(), <<_:256>>) -> ok | {error, term()}.
save_keypair(_Dir, _Public, _Secret) -> not_loaded().

%% @doc Loads the pair in `Dir', or makes and saves one; answers the public key.
-spec ensure_keypair(Dir :: binary()) -> {ok, public_key()} | {error, term()}.
ensure_keypair(_Dir) -> not_loaded().

%% @doc The printable fingerprint of a public key.
-spec fingerprint(public_key()) -> binary().
fingerprint(_Key) -> not_loaded().

%% @doc Opens the trust store of a key directory; one store per directory, however often it is opened.
-spec trust_open(Dir :: binary() | undefined, tofu | strict | off, MaxPins :: pos_integer()) ->
    {ok, trust()} | {error, term()}.
trust_open(_Dir, _Mode, _MaxPins) -> not_loaded().

-spec trust_set_mode(trust(), tofu | strict | off) -> ok.
trust_set_mode(_Trust, _Mode) -> not_loaded().

-spec trust_mode(trust()) -> tofu | strict | off.
trust_mode(_Trust) -> not_loaded().

-spec trust_lookup(trust(), Name :: binary()) -> {ok, public_key()} | {error, not_found | term()}.
trust_lookup(_Trust, _Name) -> not_loaded().

%% @doc Places a key; `new' refuses to replace a different one with `key_mismatch'.
-spec trust_store(trust(), Name :: binary(), public_key(), new | replace) ->
    ok | {error, key_mismatch | too_many_pins | bad_name | term()}.
trust_store(_Trust, _Name, _Key, _How) -> not_loaded().

-spec trust_delete(trust(), Name :: binary()) -> ok | {error, term()}.
trust_delete(_Trust, _Name) -> not_loaded().

%% @doc Whether this name with this key would be admitted now.
-spec trust_check(trust(), Name :: binary(), public_key()) -> boolean().
trust_check(_Trust, _Name, _Key) -> not_loaded().

-spec trust_list(trust()) -> {ok, [trusted()]} | {error, term()}.
trust_list(_Trust) -> not_loaded().

%%%===================================================================
%%% Endpoint files: <Dir>/<node>.endpoint, locked while their node lives
%%%===================================================================

%% @doc Publishes where a node listens. `duplicate_name' when a living process holds the name.
-spec lease_publish(Dir :: binary(), Name :: binary(), Host :: binary(), inet:port_number()) ->
    {ok, lease()} | {error, duplicate_name | term()}.
lease_publish(_Dir, _Name, _Host, _Port) -> not_loaded().

%% @doc Withdraws the file. Also done when the handle is garbage-collected.
-spec lease_release(lease()) -> ok.
lease_release(_Lease) -> not_loaded().

%% @doc Where a living node listens; a file left by a dead one answers `stale'.
-spec lease_lookup(Dir :: binary(), Name :: binary()) ->
    {ok, Host :: binary(), inet:port_number()} | {error, not_found | stale | term()}.
lease_lookup(_Dir, _Name) -> not_loaded().

%% @doc All living nodes of the directory.
-spec lease_list(Dir :: binary()) -> {ok, [{Name :: binary(), Host :: binary(), inet:port_number()}]} | {error, term()}.
lease_list(_Dir) -> not_loaded().

%%%===================================================================
%%% The endpoint
%%%===================================================================

%% @doc Binds the socket, loads or makes identity and certificate, starts the I/O thread.
%% The endpoint closes when `owner' dies.
-spec node_open(open_opts()) ->
    {ok, node_handle(), #{port := inet:port_number(), key := public_key(), incarnation := non_neg_integer()}}
    | {error, term()}.
node_open(_Opts) -> not_loaded().

%% @doc Flushes what was taken, closes every link with CONNECTION_CLOSE and the socket; waits at most `Ms'.
-spec node_close(node_handle(), Ms :: non_neg_integer()) -> ok.
node_close(_Node, _Ms) -> not_loaded().

%% @doc Makes `Pid' the receiver of incoming dist streams, at first those that wait.
-spec node_acceptor(node_handle(), pid()) -> ok | {error, closed}.
node_acceptor(_Node, _Pid) -> not_loaded().

%% @doc Answers `{secret, Id, Name}'.
-spec node_secret(node_handle(), Id :: non_neg_integer(), Secret :: binary()) -> ok.
node_secret(_Node, _Id, _Secret) -> not_loaded().

-spec node_info(node_handle()) -> map() | {error, closed}.
node_info(_Node) -> not_loaded().

%% @doc One map per link: peer(), with `streams', `rtt_us', `mtu', `sent_bytes', `received_bytes', `lost_packets',
%% `doubts' (ICMP said that its port is closed), `draining'.
-spec node_links(node_handle()) -> [map()].
node_links(_Node) -> not_loaded().

%%%===================================================================
%%% One distribution channel
%%%===================================================================

%% @doc Opens a dist stream to a member, over the existing link or a new one to one of `Addresses'.
%% The caller becomes owner of both directions and hears `{up, Peer}' or `{failed, Reason}'.
-spec dist_open(node_handle(), Name :: binary(), #{
    addresses := [{inet:ip_address(), inet:port_number()}],
    secret := binary(),
    timeout_ms := pos_integer()
}) -> stream() | {error, closed}.
dist_open(_Node, _Name, _Opts) -> not_loaded().

%% @doc Hands a direction to another process; its death closes the stream.
-spec dist_owner(stream(), input | output | both, pid()) -> ok | {error, closed}.
dist_owner(_Stream, _Direction, _Pid) -> not_loaded().

-spec dist_peer(stream()) -> peer() | {error, closed}.
dist_peer(_Stream) -> not_loaded().

%% @doc Queues whole packets, each as `erlang:dist_ctrl_get_data/1' gives it with `get_size'.
%% All of them are taken, also when the answer is `busy': wait for `writable' then.
-spec dist_send(stream(), [packet()]) -> ok | busy | {error, closed}.
dist_send(_Stream, _Packets) -> not_loaded().

%% @doc Takes whole packets, oldest first, about `Max' bytes; a tick is `<<>>'. `[]' arms the bell.
-spec dist_recv(stream(), Max :: pos_integer()) -> [binary()] | {error, Reason :: term()}.
dist_recv(_Stream, _Max) -> not_loaded().

%% @doc Sends an empty packet unless something is queued anyway.
-spec dist_tick(stream()) -> ok.
dist_tick(_Stream) -> not_loaded().

%% @doc Packets received and sent, and bytes still queued here: `mf_getstat' of a dist carrier.
-spec dist_stat(stream()) -> {ok, non_neg_integer(), non_neg_integer(), non_neg_integer()}.
dist_stat(_Stream) -> not_loaded().

%% @doc Sends what is queued, then ends the stream; the peer sees its end.
-spec dist_close(stream()) -> ok.
dist_close(_Stream) -> not_loaded().

-type packet() :: {Size :: non_neg_integer(), [binary()]}.

%%%===================================================================
%%% Internal
%%%===================================================================

%% `term()', not `no_return()': dialyzer must believe that native functions return.
-spec not_loaded() -> term().
not_loaded() -> erlang:nif_error(native_not_loaded).
