%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The supervisor of the application.
%%%
%%% <pre>
%%% barrel_p2p_sup (one_for_one)
%%%   (no children yet: what runs is below barrel_p2p_dist_sup)
%%% </pre>
%%%
%%% The endpoint is not here: on our own carrier it is older than the application
%%% and must outlive it. {@link barrel_p2p_dist_sup} has it.
-module(barrel_p2p_sup).
-behaviour(supervisor).

%% API
-export([start_link/0]).
%% supervisor
-export([init/1]).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => one_for_one, intensity => 5, period => 10}, []}}.
