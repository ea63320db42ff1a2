%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% An event handler of Common Test that writes one term per finished case to a
%%% file, at once: what a run that dies has done is there.
%%%
%%% A row is `{Case, Outcome, Milliseconds, Reason}'. Functions around the cases
%%% leave a row when they fail. A case that Common Test itself gave up, because
%%% something before it failed, has failed; one that chose not to run is skipped.
-module(conformance_events).
-behaviour(gen_event).

-include_lib("common_test/include/ct_event.hrl").

%% gen_event
-export([init/1, handle_event/2, handle_call/2, handle_info/2, terminate/2]).

-record(state, {file, started = #{}}).

init([File]) ->
    {ok, #state{file = File}}.

handle_event(#event{name = tc_start, data = {_Suite, Function}}, #state{started = Started} = State) ->
    {ok, State#state{started = Started#{name(Function) => now_ms()}}};
handle_event(#event{name = tc_done, data = {_Suite, Function, Result}}, State) ->
    Name = name(Function),
    case {is_case(Function), outcome(Result)} of
        {true, {Outcome, Reason}} -> write(Name, Outcome, Reason, State);
        {false, {failed, Reason}} -> write(Name, failed, Reason, State);
        {false, _} -> ok
    end,
    {ok, State};
handle_event(#event{name = tc_auto_skip, data = {_Suite, Function, Reason}}, State) ->
    write(name(Function), failed, {not_run, Reason}, State),
    {ok, State};
handle_event(#event{name = tc_user_skip, data = {_Suite, Function, Reason}}, State) ->
    write(name(Function), skipped, Reason, State),
    {ok, State};
handle_event(_, State) ->
    {ok, State}.

handle_call(_, State) ->
    {ok, ok, State}.

handle_info(_, State) ->
    {ok, State}.

terminate(_, _) ->
    ok.

%%%===================================================================
%%% Internal
%%%===================================================================

name({Case, _Group}) -> Case;
name({Function, Group, _Properties}) -> {Function, Group};
name(Function) -> Function.

is_case({_, _, _}) -> false;
is_case({Case, _Group}) -> is_case(Case);
is_case(Function) -> not lists:member(Function, [init_per_suite, end_per_suite, init_per_group, end_per_group]).

outcome(ok) -> {passed, ok};
outcome({failed, Reason}) -> {failed, Reason};
outcome({auto_skipped, Reason}) -> {failed, {not_run, Reason}};
outcome({skipped, {failed, _} = Reason}) -> {failed, {not_run, Reason}};
outcome({skipped, Reason}) -> {skipped, Reason}.

write(Name, Outcome, Reason, #state{file = File, started = Started}) ->
    Took =
        case Started of
            #{Name := From} -> now_ms() - From;
            _ -> 0
        end,
    ok = file:write_file(File, io_lib:format("~p.~n", [{Name, Outcome, Took, text(Reason)}]), [append]).

%% Reasons hold pids, references and funs, which cannot be read again.
text(ok) -> "";
text(Reason) -> lists:flatten(io_lib:format("~0tP", [Reason, 60])).

now_ms() ->
    erlang:monotonic_time(millisecond).
