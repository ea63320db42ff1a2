%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The supervisor below the carrier.
%%%
%%% <pre>
%%% net_sup (OTP, one_for_all, no restart allowed)
%%%   barrel_p2p_dist_sup (this, rest_for_one)
%%%     barrel_p2p_secret   answers Rust's questions for the cluster secret
%%%     barrel_p2p_node     owns the endpoint
%%%     barrel_p2p_log      drains the events of Rust
%%%   barrel_p2p_epmd, auth, net_kernel (OTP)
%%% </pre>
%%%
%%% On another carrier the application starts the same supervisor below
%%% `kernel_safe_sup', and not below its own: when distribution is started later
%%% at run time, the carrier finds it there and may go on using it after the
%%% application has stopped.
%%%
%%% The order is that of need: the endpoint is told the process that knows the
%%% secrets when it opens, so it opens again when that one is replaced; the log
%%% needs nobody and nobody needs it.
%%%
%%% The table of `barrel_p2p_node' belongs to this process, so that what is open and
%%% what was asked for outlive a crash of the endpoint's owner.
%%%
%%% `net_sup' allows no restart at all: the end of this supervisor halts the
%%% node. So it allows many restarts itself, 20 in 10 seconds. That number is a
%%% guess between two harms: a node halted by a passing fault, and a node that
%%% looks alive while its endpoint fails for ever. The endpoint's own failures do
%%% not count, `barrel_p2p_node' handles them without dying.
-module(barrel_p2p_dist_sup).
-behaviour(supervisor).

%% API
-export([start_link/0, childspec/0]).
%% supervisor
-export([init/1]).

%% @doc Starts it; `ignore' when it runs already, because a supervisor that starts it
%% must not fail for that.
-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {error, {already_started, _}} -> ignore;
        Result -> Result
    end.

%% @doc What `barrel_p2p_dist:childspecs/0' hands to `net_sup'.
-spec childspec() -> supervisor:child_spec().
childspec() ->
    #{
        id => ?MODULE,
        start => {?MODULE, start_link, []},
        restart => permanent,
        shutdown => infinity,
        type => supervisor,
        modules => [?MODULE]
    }.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    ok = barrel_p2p_node:create_table(),
    Flags = #{strategy => rest_for_one, intensity => 20, period => 10},
    {ok, {Flags, [worker(barrel_p2p_secret), worker(barrel_p2p_node), worker(barrel_p2p_log)]}}.

worker(Module) ->
    #{
        id => Module,
        start => {Module, start_link, []},
        restart => permanent,
        %% closing the endpoint waits 200 ms at most
        shutdown => 2000,
        type => worker,
        modules => [Module]
    }.
