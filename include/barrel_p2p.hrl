%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Records of the public API. Nobody needs them to use the library: every
%%% type is exported by its module too. They are here because programs written
%%% for the published 0.1 API match on them.

-ifndef(BARREL_P2P_HRL).
-define(BARREL_P2P_HRL, true).

%% One registration of a service.
-record(service_entry, {
    name :: term(),
    pid :: pid(),
    node :: node(),
    meta = #{} :: map()
}).

%% One key of the trust store, as barrel_p2p_dist_keys:list_trusted/0 tells it.
-record(peer_key, {
    %% a binary when the name is not an atom of this VM yet
    node :: node() | binary(),
    %% SHA-256 of the public key; the log shows it in hexadecimal digits
    fingerprint :: <<_:256>>,
    public_key :: <<_:256>>,
    %% milliseconds since the epoch
    added_at :: integer(),
    last_seen :: integer(),
    %% permanent: under strict, where only the operator places keys
    trust_level :: permanent | tofu
}).

-endif.
