%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc How many rounds a case plays: few of them in `make test', all in `make prove'.
%%%
%%% The one place that reads `BARREL_P2P_PROVE' (`full', or not set). A case says both numbers
%%% with {@link rounds/2} and has its failures counted with {@link check/3}, which also writes a
%%% row for the table of `tools/prove.sh'. A suite that does so is proven when it is named there.
-module(prove).

-export([rounds/2, timetrap/2, check/3]).

-export_type([failures/0]).

%% How many rounds failed, and some of them, with all that is needed to understand them.
-type failures() :: {Count :: non_neg_integer(), Some :: [term()]}.

%% The file that collects the rows.
-define(TABLE, "BARREL_P2P_PROVE_TABLE").

-spec rounds(Reduced :: pos_integer(), Full :: pos_integer()) -> pos_integer().
rounds(Reduced, Full) ->
    case os:getenv("BARREL_P2P_PROVE") of
        false -> Reduced;
        "" -> Reduced;
        "full" -> Full;
        Other -> error({bad_value, 'BARREL_P2P_PROVE', Other})
    end.

%% @doc The same in minutes, for a suite that says how long its cases may take.
-spec timetrap(Reduced :: pos_integer(), Full :: pos_integer()) -> {timetrap, {minutes, pos_integer()}}.
timetrap(Reduced, Full) ->
    {timetrap, {minutes, rounds(Reduced, Full)}}.

%% @doc Plays the rounds, writes the row, and fails with what the fun reports.
-spec check(Kind :: string(), Rounds :: pos_integer(), fun(() -> failures())) -> ok.
check(Kind, Rounds, Play) ->
    Begin = erlang:monotonic_time(millisecond),
    try Play() of
        {Count, Some} ->
            row(Kind, Rounds, Count, Begin),
            case Count of
                0 -> ok;
                _ -> error({failed_rounds, Kind, Count, 'of', Rounds, Some})
            end
    catch
        Class:Reason:Stack ->
            row(Kind, Rounds, Rounds, Begin),
            erlang:raise(Class, Reason, Stack)
    end.

row(Kind, Rounds, Failed, Begin) ->
    Seconds = (erlang:monotonic_time(millisecond) - Begin) / 1000,
    ct:pal("~ts: ~b rounds, ~b failed, ~.1f s", [Kind, Rounds, Failed, Seconds]),
    case os:getenv(?TABLE) of
        Unset when Unset =:= false; Unset =:= "" -> ok;
        File -> ok = file:write_file(File, io_lib:format("~ts|~b|~b|~.1f~n", [Kind, Rounds, Failed, Seconds]), [append])
    end.
