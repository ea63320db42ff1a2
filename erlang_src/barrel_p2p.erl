%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The facade: what applications call.
-module(barrel_p2p).

%% API
-export([info/0, set_log_level/1]).

%% @doc What runs here: the endpoint and its links.
-spec info() -> #{endpoint := map() | closed, links := [map()]}.
info() ->
    Endpoint =
        case barrel_p2p_node:info() of
            {error, closed} -> closed;
            Info -> Info
        end,
    #{endpoint => Endpoint, links => barrel_p2p_node:links()}.

%% @doc Sets the least severe level that this library logs, in Erlang and in Rust, at once.
-spec set_log_level(barrel_p2p_log:level()) -> ok | {error, bad_level | {native, term()}}.
set_log_level(Level) ->
    barrel_p2p_log:set_level(Level).
