%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What operating system processes use, and what machine this is, as Linux tells it.
-module(barrel_p2p_bench_usage).

-export([cpu_micros/1, cpu_nanos/1, private_kib/1, processor/0, kernel/0, load/0]).
%% Internal, exported for tests
-export([stat_micros/1, status_kib/1]).

%% @doc Processor time of these processes so far, user and system, with their threads. Linux counts
%% in hundredths of a second here.
-spec cpu_micros([OsPid :: string()]) -> non_neg_integer() | unknown.
cpu_micros(OsPids) ->
    sum([micros_of(OsPid) || OsPid <- OsPids]).

micros_of(OsPid) ->
    case file:read_file(proc(OsPid, "stat")) of
        {ok, Stat} -> stat_micros(Stat);
        {error, _} -> unknown
    end.

%% @private
-spec stat_micros(binary()) -> non_neg_integer().
stat_micros(Stat) ->
    %% the second field is a name in parentheses, which may hold anything
    [_, Rest] = string:split(Stat, ")", trailing),
    [User, System] = lists:sublist(string:lexemes(Rest, " "), 12, 2),
    10000 * (binary_to_integer(User) + binary_to_integer(System)).

%% @doc The same from the scheduler of the kernel, for those who use next to nothing. The time of a
%% thread that has ended is not in it.
-spec cpu_nanos([OsPid :: string()]) -> non_neg_integer() | unknown.
cpu_nanos(OsPids) ->
    sum([
        nanos_of(File)
     || OsPid <- OsPids, File <- filelib:wildcard(proc(OsPid, "task/*/schedstat"))
    ]).

nanos_of(File) ->
    case file:read_file(File) of
        {ok, Text} -> binary_to_integer(hd(binary:split(Text, <<" ">>)));
        {error, _} -> 0
    end.

sum([]) ->
    unknown;
sum(Values) ->
    case lists:member(unknown, Values) of
        true -> unknown;
        false -> lists:sum(Values)
    end.

%% @doc Memory of a process that is in RAM and no part of a file: its own.
-spec private_kib(OsPid :: string()) -> pos_integer() | unknown.
private_kib(OsPid) ->
    case file:read_file(proc(OsPid, "status")) of
        {ok, Status} -> status_kib(Status);
        {error, _} -> unknown
    end.

%% @private
-spec status_kib(binary()) -> pos_integer() | unknown.
status_kib(Status) ->
    case re:run(Status, "^RssAnon:\\s+(\\d+) kB", [multiline, {capture, [1], binary}]) of
        {match, [KiB]} -> binary_to_integer(KiB);
        nomatch -> unknown
    end.

proc(OsPid, File) ->
    filename:join(["/proc", OsPid, File]).

-spec processor() -> string().
processor() ->
    case file:read_file("/proc/cpuinfo") of
        {ok, Text} ->
            case re:run(Text, "^model name\\s*: (.*)$", [multiline, {capture, [1], list}]) of
                {match, [Name]} -> Name;
                nomatch -> "unknown"
            end;
        {error, _} ->
            "unknown"
    end.

-spec kernel() -> string().
kernel() ->
    string:trim(os:cmd("uname -srm")).

-spec load() -> string().
load() ->
    case file:read_file("/proc/loadavg") of
        {ok, Text} -> binary_to_list(hd(binary:split(Text, <<" ">>)));
        {error, _} -> "unknown"
    end.
