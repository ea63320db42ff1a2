%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Two runs of OTP's suite side by side, and the verdict. The rows are those of
%%% {@link conformance_events}.
%%%
%%% A failure of the carrier counts, unless no carrier made of processes and without
%%% epmd could pass the case, or inet_tcp failed it as well in the same run. A case that ran
%%% over inet_tcp only counts as failed: a run that dies must not look well.
-module(conformance_report).

-export([main/1, compare/2, unacceptable/1]).

%% Cases that cannot pass, and why.
-define(ACCEPTABLE, #{
    epmd_module => "answers TCP ports for another carrier",
    no_epmd => "wants a node without epmd not to boot; this carrier needs none",
    bad_dist_fragments => "closes the controller as a port; this one is a process",
    %% from OTP 27 on
    async_dist_proc_dctrlr => "starts its nodes with the carrier gen_tcp",
    creation_selection => "wants the creations that epmd gives out, one after the other"
}).

%% `-run': the files of both runs, inet_tcp first.
main([TcpFile, OwnFile]) ->
    Rows = compare(read(TcpFile), read(OwnFile)),
    io:format("~n~-40s ~-20s ~-20s~n", ["test case", "inet_tcp", "barrel_p2p"]),
    lists:foreach(fun print/1, Rows),
    Bad = unacceptable(Rows),
    io:format("~n~ts", [[why(Row) || Row <- Rows]]),
    io:format("inet_tcp:   ~ts~nbarrel_p2p: ~ts~n", [
        summary([T || {_, T, _, _} <- Rows]), summary([O || {_, _, O, _} <- Rows])
    ]),
    case {Rows, Bad} of
        {[], _} -> verdict("nothing was run", 1);
        {_, []} -> verdict("no failure of the carrier's own", 0);
        {_, _} -> verdict(io_lib:format("~b failed: ~0tp", [length(Bad), Bad]), 1)
    end.

%% One row per case, in the order in which inet_tcp met them.
compare(Tcp, Own) ->
    Names = unique([Name || {Name, _, _, _} <- Tcp ++ Own]),
    [{Name, find(Name, Tcp), find(Name, Own), maps:get(Name, ?ACCEPTABLE, none)} || Name <- Names].

%% The cases that the carrier must pass and did not.
unacceptable(Rows) ->
    [Name || {Name, Tcp, Own, none} <- Rows, is_failure(Own, Tcp), not is_failed(Tcp)].

is_failure({missing, _, _}, {Outcome, _, _}) -> Outcome =:= passed;
is_failure({Outcome, _, _}, _) -> Outcome =:= failed.

is_failed({Outcome, _, _}) ->
    Outcome =:= failed.

%%%===================================================================
%%% Internal
%%%===================================================================

read(File) ->
    case file:consult(File) of
        {ok, Rows} -> Rows;
        {error, _} -> []
    end.

unique(Names) ->
    lists:foldr(fun(Name, Later) -> [Name | lists:delete(Name, Later)] end, [], Names).

%% A case may leave two rows: its own, and that of something around it.
find(Name, Rows) ->
    case [{Outcome, Took, Reason} || {N, Outcome, Took, Reason} <- Rows, N =:= Name] of
        [] -> {missing, 0, ""};
        Found -> hd([R || {failed, _, _} = R <- Found] ++ Found)
    end.

print({Name, Tcp, Own, _}) ->
    io:format("~-40ts ~-20ts ~-20ts~n", [label(Name), cell(Tcp), cell(Own)]).

label(Name) when is_atom(Name) -> atom_to_list(Name);
label(Name) -> io_lib:format("~0tp", [Name]).

cell({missing, _, _}) -> "not run";
cell({failed, Took, _}) -> io_lib:format("FAILED ~8.1f s", [Took / 1000]);
cell({Outcome, Took, _}) -> io_lib:format("~s ~8.1f s", [Outcome, Took / 1000]).

why({Name, Tcp, Own, Acceptable}) ->
    [
        io_lib:format("~ts, ~s~ts:~n    ~ts~n", [label(Name), Carrier, note(Outcome, Carrier, Acceptable), Reason])
     || {Carrier, {Outcome, _, Reason}} <- [{"inet_tcp", Tcp}, {"barrel_p2p", Own}],
        Outcome =:= failed orelse Outcome =:= skipped
    ].

note(skipped, _, _) -> " (skipped)";
note(failed, "barrel_p2p", Reason) when Reason =/= none -> " (acceptable: it " ++ Reason ++ ")";
note(failed, _, _) -> "".

summary(Cells) ->
    Count = fun(Outcome) -> length([x || {O, _, _} <- Cells, O =:= Outcome]) end,
    Seconds = lists:sum([Took || {_, Took, _} <- Cells]) div 1000,
    io_lib:format("~b passed, ~b failed, ~b skipped, ~b not run, ~b s", [
        Count(passed), Count(failed), Count(skipped), Count(missing), Seconds
    ]).

verdict(Said, Status) ->
    io:format("conformance: ~ts~n", [Said]),
    halt(Status).
