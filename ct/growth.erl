%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc What a node holds, and whether that has grown.
%%%
%%% {@link resources/0} runs on the node that is looked at. {@link since/3} compares with an earlier
%%% answer, taken after a warm-up: the first rounds of anything load code, make atoms and fill pools.
%%% So does the first look.
-module(growth).

-export([resources/0, since/2, since/3]).

-export_type([resources/0, allowed/0, grown/0]).

-type resources() :: #{atom() => non_neg_integer()}.
%% What may be more than before.
-type allowed() :: #{atom() => non_neg_integer()}.
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
    since(Before, Look, #{}).

-spec since(Before :: resources(), Look :: fun(() -> resources()), allowed()) -> [grown()].
since(Before, Look, Allowed) ->
    since(Before, Look, maps:merge(allowed(), Allowed), now_ms() + ?SETTLE_MS).

since(Before, Look, Allowed, Deadline) ->
    Now = Look(),
    Grown = [
        {Key, Was, Is}
     || {Key, Is} <- maps:to_list(Now), #{Key := Was} <- [Before], Is > Was + maps:get(Key, Allowed, 0)
    ],
    case Grown =:= [] orelse now_ms() >= Deadline of
        true ->
            Grown;
        false ->
            receive
            after ?PERIOD_MS -> since(Before, Look, Allowed, Deadline)
            end
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
