%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The application: checks, attaches to the carrier, or opens the endpoint itself.
%%%
%%% There are three ways to run. On our own carrier the endpoint is open before
%%% the application starts, and stays when it stops. On another carrier the
%%% application opens the endpoint under the name of the node, and closes it when
%%% it stops. Without a name nothing is opened.
%%%
%%% It refuses to start on the C stand-in, on an invalid configuration, and when
%%% the user asked for our carrier and does not have it.
-module(barrel_p2p_app).
-behaviour(application).

%% application
-export([start/2, stop/1]).

-type state() :: #{opened := boolean(), started := boolean()}.

-spec start(application:start_type(), term()) -> {ok, pid(), state()} | {error, term()}.
start(_Type, _Args) ->
    Steps = [
        {native, fun barrel_p2p_native:ensure_loaded/0},
        {invalid_configuration, fun barrel_p2p_config:load/0},
        {check, fun barrel_p2p_check:run/0}
    ],
    case first_error(Steps) of
        none ->
            start_processes();
        {native, Reason} ->
            refuse({native, Reason}, barrel_p2p_native:format_error(Reason));
        {invalid_configuration, Report} ->
            refuse({invalid_configuration, Report}, barrel_p2p_config:format_error(Report));
        {check, Reason} ->
            %% the finding is in the log already
            flush_log(),
            {error, Reason}
    end.

-spec stop(state()) -> ok.
stop(State) ->
    close_endpoint(State),
    stop_processes(State).

%%%===================================================================
%%% Internal
%%%===================================================================

first_error([]) ->
    none;
first_error([{Name, Step} | Steps]) ->
    case Step() of
        {error, Reason} -> {Name, Reason};
        _ -> first_error(Steps)
    end.

refuse(Reason, Text) ->
    barrel_p2p_log:report(error, "the application does not start", #{
        reason => unicode:characters_to_binary(Text)
    }),
    flush_log(),
    {error, Reason}.

%% An application that does not start ends the VM in most releases, and with it what
%% still waits in the queue of a handler.
flush_log() ->
    _ = [logger_std_h:filesync(Id) || #{id := Id, module := logger_std_h} <- logger:get_handler_config()],
    ok.

start_processes() ->
    Started = start_dist_sup(),
    case open_endpoint() of
        {ok, Opened} ->
            State = #{opened => Opened, started => Started},
            case barrel_p2p_sup:start_link() of
                {ok, Pid} ->
                    barrel_p2p_node:report_open(notice),
                    {ok, Pid, State};
                Error -> undo(State, Error)
            end;
        {error, _} = Error ->
            undo(#{opened => false, started => Started}, Error)
    end.

undo(State, {error, Reason}) ->
    ok = stop(State),
    {error, Reason};
undo(State, ignore) ->
    undo(State, {error, ignore}).

%% Below kernel_safe_sup, see barrel_p2p_dist_sup. Temporary: its end must not be the end
%% of a node that talks over another carrier.
start_dist_sup() ->
    Spec = (barrel_p2p_dist_sup:childspec())#{restart => temporary},
    case supervisor:start_child(kernel_safe_sup, Spec) of
        {ok, Pid} when is_pid(Pid) -> true;
        %% it runs below net_sup, or since an earlier start
        {ok, undefined} -> false;
        {error, {already_started, _}} -> false
    end.

%% A node that listens on our carrier is open; a client opens with its first connection.
open_endpoint() ->
    case {node(), carrier_is_ours(), barrel_p2p_node:handle()} of
        {'nonode@nohost', _, _} ->
            {ok, false};
        {_, true, _} ->
            {ok, false};
        {_, false, {ok, _}} ->
            {ok, false};
        {Node, false, {error, closed}} ->
            Spec = #{name => Node, host => barrel_p2p_discovery:host_of(Node), mode => member},
            case barrel_p2p_node:open(Spec) of
                {ok, _} -> {ok, true};
                {error, _} = Error -> Error
            end
    end.

close_endpoint(#{opened := true}) -> barrel_p2p_node:close();
close_endpoint(#{opened := false}) -> ok.

%% Distribution may have been started meanwhile and use what the application started.
stop_processes(#{started := true}) ->
    case carrier_is_ours() of
        true ->
            ok;
        false ->
            _ = supervisor:terminate_child(kernel_safe_sup, barrel_p2p_dist_sup),
            ok
    end;
stop_processes(#{started := false}) ->
    ok.

carrier_is_ours() ->
    persistent_term:get({barrel_p2p_dist, active}, false).
