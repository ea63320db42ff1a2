%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What a node holds, and whether that has grown.
%%%
%%% {@link resources/0} runs on the node that is looked at. {@link none/3} compares with an earlier
%%% answer, taken after a warm-up: the first rounds of anything load code, make atoms and fill pools.
-module(growth).

-export([resources/0, none/2, none/3]).

-export_type([resources/0, allowed/0]).

-type resources() :: #{atom() => non_neg_integer()}.
%% What may be more than before.
-type allowed() :: #{atom() => non_neg_integer()}.

%% Processes, threads and descriptors may take a moment to go.
-define(SETTLE_MS, 15000).
-define(KIB, 1024).
-define(MIB, 1024 * 1024).

-spec resources() -> resources().
resources() ->
    {ok, Fds} = file:list_dir("/proc/self/fd"),
    {ok, Tasks} = file:list_dir("/proc/self/task"),
    Tables = ets:all(),
    _ = [garbage_collect(Pid) || Pid <- processes()],
    #{
        fds => length(Fds),
        sockets => length([F || F <- Fds, {ok, "socket:" ++ _} <- [file:read_link("/proc/self/fd/" ++ F)]]),
        threads => length(Tasks),
        processes => length(processes()),
        ports => length(erlang:ports()),
        ets => length(Tables),
        ets_rows => lists:sum([N || Table <- Tables, N <- [ets:info(Table, size)], is_integer(N)]),
        persistent_terms => maps:get(count, persistent_term:info()),
        atoms => erlang:system_info(atom_count),
        %% what Erlang has allocated, in bytes; resources of native functions count by their handles
        memory => erlang:memory(total) - erlang:memory(code),
        %% what the operating system sees: both heaps, with what their allocators keep
        resident => resident()
    }.

resident() ->
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [Kib]} = re:run(Status, "VmRSS:\\s+([0-9]+) kB", [{capture, all_but_first, list}]),
    list_to_integer(Kib) * ?KIB.

%% @doc Waits until nothing is more than before.
-spec none(Before :: resources(), Look :: fun(() -> resources())) -> ok.
none(Before, Look) ->
    none(Before, Look, #{}).

-spec none(Before :: resources(), Look :: fun(() -> resources()), allowed()) -> ok.
none(Before, Look, Allowed) ->
    none(Before, Look, maps:merge(allowed(), Allowed), now_ms() + ?SETTLE_MS).

none(Before, Look, Allowed, Deadline) ->
    Now = Look(),
    case [{Key, Was, N} || {Key, N} <- maps:to_list(Now), #{Key := Was} <- [Before], N > Was + maps:get(Key, Allowed, 0)] of
        [] ->
            ok;
        Grown ->
            now_ms() < Deadline orelse error({grown, Grown}),
            none(Before, Look, Allowed, Deadline)
    end.

allowed() ->
    #{
        %% the I/O runtime keeps up to four threads for files, for some seconds
        threads => 4,
        %% log handlers, timers and shells come and go; a leak is by the round
        memory => 2 * ?MIB,
        %% the allocators of Erlang and of C keep what they have got, in blocks of megabytes
        resident => 16 * ?MIB
    }.

now_ms() ->
    erlang:monotonic_time(millisecond).
