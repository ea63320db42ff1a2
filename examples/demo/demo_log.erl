%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc A logger handler that keeps what this library said, so that the story can
%%% quote it.
-module(demo_log).

%% API
-export([install/0, await/2]).
%% logger
-export([log/2]).

%% @doc Starts to keep the entries of barrel_p2p.
-spec install() -> ok.
install() ->
    Pid = spawn(fun() -> keep([], []) end),
    logger:add_handler(?MODULE, ?MODULE, #{config => #{keeper => Pid}}).

%% @doc The first entry that says this, when it is there: its fields, and `what' it says.
-spec await(What :: binary(), timeout()) -> {ok, #{atom() => term()}} | {error, timeout}.
await(What, Timeout) ->
    {ok, #{config := #{keeper := Keeper}}} = logger:get_handler_config(?MODULE),
    Keeper ! {await, self(), What},
    receive
        {Keeper, Report} -> {ok, Report}
    after Timeout -> {error, timeout}
    end.

%% @private
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{msg := {report, #{what := _} = Report}}, #{config := #{keeper := Keeper}}) ->
    %% what comes from Rust has its fields in a map of their own, with binaries for names
    Fields = [{binary_to_atom(Name), Value} || {Name, Value} <- maps:to_list(maps:get(fields, Report, #{}))],
    Keeper ! {entry, maps:merge(Report, maps:from_list(Fields))},
    ok;
log(_Event, _Config) ->
    ok.

%% Entries, oldest first, and who waits for what.
keep(Entries, Waiting) ->
    receive
        {entry, #{what := What} = Report} ->
            {Now, Later} = lists:partition(fun({_, Wanted}) -> Wanted =:= What end, Waiting),
            [Pid ! {self(), Report} || {Pid, _} <- Now],
            keep(Entries ++ [Report], Later);
        {await, Pid, Wanted} ->
            case [Report || #{what := What} = Report <- Entries, What =:= Wanted] of
                [Report | _] ->
                    Pid ! {self(), Report},
                    keep(Entries, Waiting);
                [] ->
                    keep(Entries, [{Pid, Wanted} | Waiting])
            end
    end.
