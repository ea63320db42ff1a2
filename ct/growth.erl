%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What a node holds, and whether that has grown.
%%%
%%% {@link resources/0} runs on the node that is looked at. {@link since/2} compares with an earlier
%%% answer, taken after a warm-up: the first rounds of anything load code, make atoms and fill pools.
%%% So does the first look.
-module(growth).

-export([resources/0, since/2]).

-export_type([resources/0, grown/0]).

-type resources() :: #{atom() => non_neg_integer()}.
-type grown() :: {atom(), Was :: non_neg_integer(), Is :: non_neg_integer()}.

%% Processes, threads and descriptors may take a moment to go.
-define(SETTLE_MS, 15000).
-define(PERIOD_MS, 100).
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

%% @doc What is more than before, and stays so.
-spec since(Before :: resources(), Look :: fun(() -> resources())) -> [grown()].
since(Before, Look) ->
    since(Before, Look, now_ms() + ?SETTLE_MS).

since(Before, Look, Deadline) ->
    Now = Look(),
    Grown = [
        {Key, Was, Is}
     || {Key, Is} <- maps:to_list(Now), #{Key := Was} <- [Before], Is > Was + maps:get(Key, allowed(), 0)
    ],
    case Grown =:= [] orelse now_ms() >= Deadline of
        true ->
            Grown;
        false ->
            receive
            after ?PERIOD_MS -> since(Before, Look, Deadline)
            end
    end.

%% What may be more than before.
allowed() ->
    #{
        %% the I/O runtime keeps up to four threads for files, for some seconds
        threads => 4,
        %% moves by some tens of kilobytes from one look to the next
        memory => 512 * ?KIB,
        %% The allocators of Erlang and of C take and keep blocks of megabytes. Over 50,000
        %% connections this stayed within 2 MiB once the first thousands had filled them.
        resident => 8 * ?MIB
    }.

now_ms() ->
    erlang:monotonic_time(millisecond).
