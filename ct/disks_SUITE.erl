%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Disks that are full, read-only, or lose a directory, below a node that runs and below
%%% one that starts. What needs nothing new from the disk goes on; what does is refused by name;
%%% nothing half written is left. The disk is a small file system of its own, so these need root.
-module(disks_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    a_disk_that_fills_stops_first_contacts_alone/1,
    a_disk_that_becomes_read_only_stops_first_contacts_alone/1,
    a_node_does_not_start_on_a_full_disk_and_keeps_its_identity/1,
    a_node_does_not_start_on_a_read_only_disk_and_keeps_its_identity/1,
    a_key_directory_that_is_lost_is_an_identity_that_is_lost/1,
    a_discovery_directory_on_a_full_disk_leaves_the_node_working/1
]).

-define(WAIT_MS, 15000).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [
        a_disk_that_fills_stops_first_contacts_alone,
        a_disk_that_becomes_read_only_stops_first_contacts_alone,
        a_node_does_not_start_on_a_full_disk_and_keeps_its_identity,
        a_node_does_not_start_on_a_read_only_disk_and_keeps_its_identity,
        a_key_directory_that_is_lost_is_an_identity_that_is_lost,
        a_discovery_directory_on_a_full_disk_leaves_the_node_working
    ].

init_per_testcase(_Case, Config) ->
    Cluster = cluster:new(Config),
    Disk = filename:join(cluster:dir(Cluster), "disk"),
    ok = file:make_dir(Disk),
    case mount(Disk) of
        ok -> [{cluster, Cluster}, {disk, Disk} | Config];
        {error, Why} -> {skip, Why}
    end.

end_per_testcase(_Case, Config) ->
    %% the nodes first: they lock files there
    try
        cluster:stop(?config(cluster, Config))
    after
        elsewhere:command(["umount", ?config(disk, Config)])
    end.

mount(Disk) ->
    case elsewhere:is_root() of
        false ->
            {error, "needs root"};
        true ->
            case elsewhere:command(["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "tmpfs", Disk], []) of
                {0, _} -> ok;
                {_, Said} -> {error, "no file system can be mounted here: " ++ Said}
            end
    end.

%%%===================================================================
%%% Below a running node
%%%===================================================================

a_disk_that_fills_stops_first_contacts_alone(Config) ->
    stops_first_contacts_alone(Config, fun fill/1, fun make_room/1, "No space left").

a_disk_that_becomes_read_only_stops_first_contacts_alone(Config) ->
    stops_first_contacts_alone(Config, fun read_only/1, fun writable/1, "Read-only").

stops_first_contacts_alone(Config, Break, Mend, Words) ->
    {Cluster, Disk} = {?config(cluster, Config), ?config(disk, Config)},
    A = cluster:start(Cluster, a, #{env => on(Disk)}),
    [B, C, D] = [cluster:start(Cluster, Name, #{}) || Name <- [b, c, d]],
    [ok = cluster:connect(A, Node) || Node <- [B, C]],
    true = cluster:call(A, erlang, disconnect_node, [C]),
    Pins = pins(Disk),
    ok = Break(Disk),
    %% who is connected, and who is known
    ?assertEqual(B, cluster:call(A, erpc, call, [B, erlang, node, []])),
    ?assertEqual(pong, cluster:ping(A, C)),
    %% who is new, whoever dials; the other side learns that it is not to blame
    ?assertEqual([pang, pang], [cluster:ping(A, D), cluster:ping(D, A)]),
    Refusal = says(["refused", atom_to_list(D), Disk, Words]),
    #{level := Level} = cluster:await_log(A, Refusal, ?WAIT_MS),
    ?assert(logger:compare_levels(Level, warning) =/= lt, Level),
    _ = cluster:await_log(D, says(["refused", atom_to_list(A), "trust store"]), ?WAIT_MS),
    ?assertEqual(Pins, pins(Disk)),
    ok = Mend(Disk),
    ?assertEqual(pong, cluster:ping(A, D)),
    ?assertEqual(length(Pins) + 1, length(pins(Disk))).

%%%===================================================================
%%% Below a node that starts
%%%===================================================================

a_node_does_not_start_on_a_full_disk_and_keeps_its_identity(Config) ->
    does_not_start(Config, fun fill/1, fun make_room/1, "No space left").

a_node_does_not_start_on_a_read_only_disk_and_keeps_its_identity(Config) ->
    does_not_start(Config, fun read_only/1, fun writable/1, "Read-only").

does_not_start(Config, Break, Mend, Words) ->
    {Cluster, Disk} = {?config(cluster, Config), ?config(disk, Config)},
    Opts = #{env => on(Disk)},
    A = cluster:start(Cluster, a, Opts),
    B = cluster:start(Cluster, b, #{}),
    ok = cluster:connect(A, B),
    Key = key(A),
    ok = cluster:stop(A, halt),
    Files = files(Disk),
    ok = Break(Disk),
    {Status, Said} = cluster:boot_fails(Cluster, a, Opts),
    ?assertNotEqual({0, Said}, {Status, Said}),
    [?assert(string:find(Said, Part) =/= nomatch, {Said, lacks, Part}) || Part <- [Disk, Words]],
    ok = Mend(Disk),
    ?assertEqual(Files, files(Disk)),
    A = cluster:start(Cluster, a, Opts),
    ?assertEqual(Key, key(A)),
    ?assertEqual(pong, cluster:ping(A, B)).

%% The node goes on with what it has in memory; it is a stranger when it returns.
a_key_directory_that_is_lost_is_an_identity_that_is_lost(Config) ->
    {Cluster, Disk} = {?config(cluster, Config), ?config(disk, Config)},
    A = cluster:start(Cluster, a, #{env => on(Disk)}),
    [B, C] = [cluster:start(Cluster, Name, #{}) || Name <- [b, c]],
    ok = cluster:connect(A, B),
    Key = key(A),
    ok = file:del_dir_r(filename:join(Disk, "keys")),
    ?assertEqual(B, cluster:call(A, erpc, call, [B, erlang, node, []])),
    true = cluster:call(A, erlang, disconnect_node, [B]),
    ?assertEqual([pong, pong], [cluster:ping(B, A), cluster:ping(A, C)]),
    ?assertEqual(Key, key(A)),
    A = cluster:restart(Cluster, A),
    ?assertNotEqual(Key, key(A)),
    ?assertEqual([pang, pang], [cluster:ping(B, A), cluster:ping(A, B)]),
    _ = cluster:await_log(B, says([atom_to_list(A), "pinned to another key", "delete_key"]), ?WAIT_MS),
    ok = cluster:call(B, barrel_p2p_dist_keys, delete_key, [A]),
    ?assertEqual(pong, cluster:ping(B, A)).

a_discovery_directory_on_a_full_disk_leaves_the_node_working(Config) ->
    {Cluster, Disk} = {?config(cluster, Config), ?config(disk, Config)},
    Dir = filename:join(Disk, "discovery"),
    ok = file:make_dir(Dir),
    ok = file:change_mode(Dir, 8#700),
    ok = fill(Disk),
    A = cluster:start(Cluster, a, #{env => [{discovery_dir, Dir}]}),
    B = cluster:start(Cluster, b, #{}),
    #{level := warning} = cluster:await_log(A, says(["cannot find this node by its name", Dir, "No space left"]), ?WAIT_MS),
    ?assertEqual(pang, cluster:ping(B, A)),
    %% told by somebody, it is reached
    {ok, Port} = cluster:call(A, barrel_p2p_dist, listen_port, []),
    ok = cluster:call(B, application, set_env, [barrel_p2p, contact_nodes, [{A, {{127, 0, 0, 1}, Port}}]]),
    ?assertEqual(pong, cluster:ping(B, A)),
    ?assertEqual([], filelib:wildcard(filename:join(Dir, "*.endpoint"))).

%%%===================================================================
%%% Disks
%%%===================================================================

on(Disk) ->
    [{auth_key_dir, filename:join(Disk, "keys")}].

fill(Disk) ->
    {1, _} = elsewhere:command(["dd", "if=/dev/zero", "of=" ++ filler(Disk), "bs=4096"], []),
    ok.

make_room(Disk) ->
    file:delete(filler(Disk)).

filler(Disk) ->
    filename:join(Disk, "filler").

read_only(Disk) ->
    "" = elsewhere:command(["mount", "-o", "remount,ro", Disk]),
    ok.

writable(Disk) ->
    "" = elsewhere:command(["mount", "-o", "remount,rw", Disk]),
    ok.

pins(Disk) ->
    lists:sort(filelib:wildcard(filename:join([Disk, "keys", "trusted", "*"]))).

files(Disk) ->
    [{File, file:read_file(File)} || File <- lists:sort(filelib:wildcard(filename:join(Disk, "**")))].

%%%===================================================================
%%% Internal
%%%===================================================================

key(Node) ->
    {ok, Key} = cluster:call(Node, barrel_p2p_dist_auth, get_public_key, []),
    Key.

%% Whether an event says all of these, wherever in it.
says(Parts) ->
    fun(Event) ->
        Text = unicode:characters_to_list(logger_formatter:format(Event, #{single_line => true})),
        lists:all(fun(Part) -> string:find(Text, Part) =/= nomatch end, Parts)
    end.
