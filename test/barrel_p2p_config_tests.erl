%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The configuration: what is accepted, what is refused, and how it is said.
-module(barrel_p2p_config_tests).

-include_lib("eunit/include/eunit.hrl").

%%%===================================================================
%%% The table
%%%===================================================================

every_default_is_accepted_by_its_own_check_test() ->
    %% directories that hold the node's name are made later
    Defaults = [
        {Key, Default}
     || {Key, _, Default, _} <- barrel_p2p_config:schema(), not is_made_later(Default)
    ],
    ?assertMatch({ok, _, []}, barrel_p2p_config:validate(Defaults)).

every_key_is_there_once_and_explained_test() ->
    Keys = [Key || {Key, _, _, _} <- barrel_p2p_config:schema()],
    ?assertEqual(lists:usort(Keys), lists:sort(Keys)),
    ?assertEqual([], [Key || {Key, _, _, ""} <- barrel_p2p_config:schema()]).

no_legacy_key_is_a_known_key_test() ->
    Keys = [Key || {Key, _, _, _} <- barrel_p2p_config:schema()],
    {ok, _, Warnings} = barrel_p2p_config:validate([{Key, 1} || Key <- legacy_keys()]),
    ?assertEqual(lists:sort(legacy_keys()), lists:sort([Key || {Key, _} <- Warnings])),
    ?assertEqual([], [Key || Key <- legacy_keys(), lists:member(Key, Keys)]).

an_empty_environment_is_the_defaults_test() ->
    ?assertEqual({ok, barrel_p2p_config:defaults(), []}, barrel_p2p_config:validate([])).

%%%===================================================================
%%% Values
%%%===================================================================

good_values_test_() ->
    [
        {lists:flatten(io_lib:format("~w ~w", [Key, Value])),
            ?_assertMatch({ok, #{Key := Expected}, []}, barrel_p2p_config:validate([{Key, Value}]))}
     || {Key, Value, Expected} <- [
            {listen_port, auto, auto},
            {listen_port, 0, 0},
            {listen_port, 65535, 65535},
            {listen_ip, any, any},
            {listen_ip, {10, 0, 0, 1}, {10, 0, 0, 1}},
            {listen_ip, "10.0.0.1", {10, 0, 0, 1}},
            {listen_ip, "::1", {0, 0, 0, 0, 0, 0, 0, 1}},
            {listen_ip, <<"127.0.0.1">>, {127, 0, 0, 1}},
            {auth_key_dir, "/some/dir", <<"/some/dir">>},
            {auth_key_dir, <<"/some/dir">>, <<"/some/dir">>},
            {cluster_secret, undefined, undefined},
            {cluster_secret, <<255:128>>, <<255:128>>},
            {cluster_secret, "0123456789abcdef", <<"0123456789abcdef">>},
            {contact_nodes, [a@b], [a@b]},
            {contact_nodes, [{a@b, {"c", 9100}}], [{a@b, {"c", 9100}}]},
            {contact_nodes, [{a@b, {{1, 2, 3, 4}, 1}}], [{a@b, {{1, 2, 3, 4}, 1}}]},
            {discovery_backends, [my_backend, {other, [{x, 1}]}], [my_backend, {other, [{x, 1}]}]},
            {replicated_maps, [{sessions, #{}}], [{sessions, #{}}]},
            {max_datagram, 1200, 1200},
            {congestion_control, bbr, bbr},
            {metrics_port, 0, 0},
            {log_level, debug, debug},
            {log_level, none, none}
        ]
    ].

bad_values_name_key_value_and_what_is_allowed_test_() ->
    [
        {lists:flatten(io_lib:format("~w ~w", [Key, Value])), fun() ->
            {error, [Problem]} = barrel_p2p_config:validate([{Key, Value}]),
            ?assertMatch(#{key := Key, problem := invalid, value := Value, allowed := _}, Problem),
            Text = unicode:characters_to_list(barrel_p2p_config:format_error([Problem])),
            ?assertNotEqual(nomatch, string:find(Text, atom_to_list(Key))),
            ?assertNotEqual(nomatch, string:find(Text, "allowed is "))
        end}
     || {Key, Value} <- [
            {listen_port, 65536},
            {listen_port, -1},
            {listen_port, "9100"},
            {listen_ip, {1, 2, 3}},
            {listen_ip, {256, 0, 0, 1}},
            {listen_ip, "localhost"},
            {listen_ip, loopback},
            {auth_enabled, yes},
            {auth_trust_mode, loose},
            {auth_key_dir, ""},
            {auth_key_dir, data},
            {active_size, 0},
            {active_size, 2.0},
            {shuffle_period, 0},
            {idle_timeout_ms, infinity},
            {native_threads, 0},
            {send_window, 1},
            {max_datagram, 1199},
            {congestion_control, reno},
            {max_datagram, 8901},
            {contact_nodes, a@b},
            {contact_nodes, [a]},
            {contact_nodes, ['@b']},
            {contact_nodes, ['a@b@c']},
            {contact_nodes, [{a@b, {"c", 0}}]},
            {contact_nodes, [a@b | c@d]},
            {discovery_backends, my_backend},
            {discovery_backends, ["my_backend"]},
            {discovery_backends, [undefined]},
            {replicated_maps, [sessions]},
            {metrics_port, any},
            {log_level, loud}
        ]
    ].

a_secret_is_never_shown_test() ->
    {error, Report} = barrel_p2p_config:validate([{cluster_secret, "tooshort"}]),
    Text = unicode:characters_to_list(barrel_p2p_config:format_error(Report)),
    ?assertEqual(nomatch, string:find(Text, "tooshort")),
    {error, Misspelt} = barrel_p2p_config:validate([{cluster_secrt, "my precious secret"}]),
    Other = unicode:characters_to_list(barrel_p2p_config:format_error(Misspelt)),
    ?assertEqual(nomatch, string:find(Other, "precious")),
    ?assertNotEqual(nomatch, string:find(Other, "cluster_secret")).

%%%===================================================================
%%% Keys
%%%===================================================================

an_unknown_key_is_refused_with_the_nearest_name_test_() ->
    [
        ?_assertMatch(
            {error, [#{key := Key, problem := unknown, nearest := Nearest}]},
            barrel_p2p_config:validate([{Key, 1}])
        )
     || {Key, Nearest} <- [
            {listen_prot, listen_port},
            {contact_node, contact_nodes},
            {auth_keydir, auth_key_dir},
            {trust_mode, auth_trust_mode},
            {loglevel, log_level}
        ]
    ].

every_problem_is_reported_at_once_test() ->
    {error, Report} = barrel_p2p_config:validate([{nonsense, 1}, {listen_port, x}, {cookie_only_nodes, []}]),
    ?assertEqual([nonsense, listen_port, cookie_only_nodes], [Key || #{key := Key} <- Report]).

cookie_only_nodes_is_refused_with_the_reason_test() ->
    {error, [#{problem := refused}] = Report} = barrel_p2p_config:validate([{cookie_only_nodes, ['c@*']}]),
    Text = unicode:characters_to_list(barrel_p2p_config:format_error(Report)),
    ?assertNotEqual(nomatch, string:find(Text, "without proof of their key")).

strict_without_authentication_is_refused_test() ->
    ?assertMatch(
        {error, [#{key := auth_enabled, problem := conflict}]},
        barrel_p2p_config:validate([{auth_enabled, false}, {auth_trust_mode, strict}])
    ),
    ?assertMatch({ok, _, []}, barrel_p2p_config:validate([{auth_enabled, false}])),
    ?assertMatch({ok, _, []}, barrel_p2p_config:validate([{auth_trust_mode, strict}])).

a_keep_alive_slower_than_the_idle_timeout_is_refused_test() ->
    ?assertMatch(
        {error, [#{key := keep_alive_ms, problem := conflict}]},
        barrel_p2p_config:validate([{keep_alive_ms, 5000}])
    ).

distance_is_the_number_of_edits_test() ->
    ?assertEqual(0, barrel_p2p_config:distance("same", "same")),
    ?assertEqual(3, barrel_p2p_config:distance("kitten", "sitting")),
    ?assertEqual(3, barrel_p2p_config:distance("", "abc")),
    ?assertEqual(3, barrel_p2p_config:distance("abc", "")),
    ?assertEqual(1, barrel_p2p_config:distance("abc", "ab")),
    ?assertEqual(2, barrel_p2p_config:distance("ab", "ba")).

distance_is_symmetric_and_obeys_the_triangle_test() ->
    Words = ["", "a", "ab", "ba", "listen_port", "listen_ip", "log_level", "prwl"],
    D = fun barrel_p2p_config:distance/2,
    [?assertEqual(D(A, B), D(B, A)) || A <- Words, B <- Words],
    [?assert(D(A, C) =< D(A, B) + D(B, C)) || A <- Words, B <- Words, C <- Words].

%%%===================================================================
%%% Directories
%%%===================================================================

default_directories_hold_the_node_name_test() ->
    Dir = barrel_p2p_config:get(auth_key_dir, 'a@b.example'),
    ?assertEqual(absolute, filename:pathtype(Dir)),
    ?assertEqual([<<"data">>, <<"a@b.example">>, <<"keys">>], last_parts(3, Dir)),
    ?assertEqual(Dir, barrel_p2p_config:get(auth_key_dir, <<"a@b.example">>)),
    ?assertEqual([<<"x@y">>, <<"quic">>], last_parts(2, barrel_p2p_config:get(quic_cert_dir, x@y))),
    ?assertEqual([<<"x@y">>, <<"maps">>], last_parts(2, barrel_p2p_config:get(barrel_p2p_map_data_dir, x@y))).

a_configured_directory_is_used_as_it_is_test() ->
    with_env([{auth_key_dir, "/etc/node/keys"}], fun() ->
        ?assertEqual(<<"/etc/node/keys">>, barrel_p2p_config:get(auth_key_dir, a@b)),
        ?assert(barrel_p2p_config:configured(auth_key_dir)),
        ?assertNot(barrel_p2p_config:configured(quic_cert_dir))
    end).

a_relative_directory_does_not_move_with_the_current_one_test() ->
    with_env([{auth_key_dir, "keys"}], fun() ->
        Before = barrel_p2p_config:get(auth_key_dir, a@b),
        {ok, Cwd} = file:get_cwd(),
        ok = file:set_cwd("/"),
        try
            ?assertEqual(Before, barrel_p2p_config:get(auth_key_dir, a@b))
        after
            ok = file:set_cwd(Cwd)
        end
    end).

the_release_root_counts_when_code_and_boot_file_lie_in_it_test() ->
    with_dir(fun(Dir) ->
        Library = filename:join([Dir, "lib", "barrel_p2p-0.1.0"]),
        ok = filelib:ensure_dir(filename:join(Library, "x")),
        ?assertEqual(Dir, barrel_p2p_config:base_dir({Library, Dir}, "/cwd")),
        %% a boot file of another installation
        ?assertEqual("/cwd", barrel_p2p_config:base_dir({Library, "/usr"}, "/cwd")),
        %% a checkout: the code is not below lib
        ?assertEqual("/cwd", barrel_p2p_config:base_dir({filename:join(Dir, "barrel_p2p"), Dir}, "/cwd")),
        ?assertEqual("/cwd", barrel_p2p_config:base_dir(none, "/cwd"))
    end).

the_release_root_may_be_reached_by_a_link_test() ->
    with_dir(fun(Dir) ->
        Root = filename:join(Dir, "v1"),
        Link = filename:join(Dir, "current"),
        Library = filename:join([Root, "lib", "barrel_p2p-0.1.0"]),
        ok = filelib:ensure_dir(filename:join(Library, "x")),
        ok = file:make_symlink(Root, Link),
        ?assertEqual(Link, barrel_p2p_config:base_dir({Library, Link}, "/cwd"))
    end).

a_safe_runtime_directory_is_used_test() ->
    with_dir(fun(Dir) ->
        Uid = uid(Dir),
        ok = file:change_mode(Dir, 8#700),
        Expected = filename:join(list_to_binary(Dir), <<"barrel_p2p">>),
        ?assertEqual(Expected, barrel_p2p_config:discovery_dir(Dir, "/var/tmp", Uid)),
        Other = list_to_binary("/var/tmp/barrel_p2p-" ++ integer_to_list(Uid)),
        ok = file:change_mode(Dir, 8#755),
        ?assertEqual(Other, barrel_p2p_config:discovery_dir(Dir, "/var/tmp", Uid)),
        ok = file:change_mode(Dir, 8#700),
        ?assertEqual(
            list_to_binary("/var/tmp/barrel_p2p-" ++ integer_to_list(Uid + 1)),
            barrel_p2p_config:discovery_dir(Dir, "/var/tmp", Uid + 1)
        ),
        ?assertEqual(Other, barrel_p2p_config:discovery_dir(filename:join(Dir, "none"), "/var/tmp", Uid)),
        ?assertEqual(Other, barrel_p2p_config:discovery_dir("relative", "/var/tmp", Uid))
    end).

without_a_runtime_directory_it_is_below_the_temporary_one_test() ->
    ?assertEqual(<<"/var/tmp/barrel_p2p-7">>, barrel_p2p_config:discovery_dir(false, "/var/tmp", 7)),
    ?assertEqual(<<"/tmp/barrel_p2p-7">>, barrel_p2p_config:discovery_dir(false, false, 7)),
    ?assertEqual(<<"/tmp/barrel_p2p-7">>, barrel_p2p_config:discovery_dir(false, "relative", 7)).

%%%===================================================================
%%% The environment and the flags
%%%===================================================================

a_change_at_run_time_is_seen_and_a_bad_one_is_the_default_test() ->
    with_env([{active_size, 9}], fun() ->
        ?assertEqual(9, barrel_p2p_config:get(active_size)),
        ok = application:set_env(barrel_p2p, active_size, none),
        ?assertEqual(5, barrel_p2p_config:get(active_size))
    end).

load_checks_the_environment_test() ->
    with_env([{active_size, 9}], fun() ->
        ?assertMatch({ok, #{active_size := 9, passive_size := 30}}, barrel_p2p_config:load())
    end),
    with_env([{activesize, 9}], fun() ->
        ?assertMatch({error, [#{key := activesize, nearest := active_size}]}, barrel_p2p_config:load())
    end).

flags_win_over_the_environment_test() ->
    Flags = ["-barrel_p2p_dist_port", "4711", "-barrel_p2p_dist_cert_dir", "/certs", "-barrel_p2p", "listen_port", "1"],
    with_vm(Flags, fun(Vm) ->
        ?assertMatch(
            {ok, #{listen_port := 4711, quic_cert_dir := <<"/certs">>}}, peer:call(Vm, barrel_p2p_config, load, [])
        ),
        ?assertEqual(4711, peer:call(Vm, barrel_p2p_config, get, [listen_port])),
        ?assertEqual(<<"/certs">>, peer:call(Vm, barrel_p2p_config, get, [quic_cert_dir, a@b])),
        ?assert(peer:call(Vm, barrel_p2p_config, configured, [listen_port]))
    end).

a_flag_that_is_no_number_is_an_error_of_its_key_test() ->
    with_vm(["-barrel_p2p_dist_port", "many"], fun(Vm) ->
        ?assertMatch(
            {error, [#{key := listen_port, problem := invalid, value := "many"}]},
            peer:call(Vm, barrel_p2p_config, load, [])
        )
    end).

a_setting_on_the_command_line_is_an_erlang_term_test() ->
    with_vm(["-barrel_p2p", "contact_nodes", "['a@b']"], fun(Vm) ->
        ?assertMatch({ok, #{contact_nodes := ['a@b']}}, peer:call(Vm, barrel_p2p_config, load, []))
    end).

%%%===================================================================
%%% Internal
%%%===================================================================

is_made_later({node_dir, _}) -> true;
is_made_later(user_dir) -> true;
is_made_later(_) -> false.

%% The keys of the published 0.1 configuration that are not ours any more.
legacy_keys() ->
    [
        auth_timestamp_window,
        barrel_p2p_map_scan_ms,
        base_backoff_ms,
        dist_cookie,
        max_fail_count,
        member_heartbeat_ms,
        member_skew_ms,
        member_ttl_ms,
        passive_max_age_ms,
        pending_timeout_ms,
        proxy_cast_max_in_flight,
        reminder_data_dir,
        reminder_scan_ms,
        reminder_tombstone_ttl_ms,
        ring_size,
        route_cache_sweep_period_ms,
        router_max_in_flight
    ].

last_parts(N, Path) ->
    Parts = filename:split(Path),
    lists:nthtail(length(Parts) - N, Parts).

with_env(Env, Fun) ->
    _ = application:load(barrel_p2p),
    Before = application:get_all_env(barrel_p2p),
    try
        [ok = application:set_env(barrel_p2p, Key, Value) || {Key, Value} <- Env],
        Fun()
    after
        [application:unset_env(barrel_p2p, Key) || {Key, _} <- application:get_all_env(barrel_p2p)],
        [application:set_env(barrel_p2p, Key, Value) || {Key, Value} <- Before]
    end.

with_dir(Fun) ->
    Name = lists:concat(["barrel_p2p_config_", os:getpid(), "_", erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    ok = file:make_dir(Dir),
    try
        Fun(Dir)
    after
        ok = file:del_dir_r(Dir)
    end.

uid(Path) ->
    {ok, Info} = file:read_file_info(Path, [raw]),
    element(13, Info).

with_vm(Flags, Fun) ->
    {ok, Vm, _} = peer:start_link(#{connection => standard_io, args => ["-pa" | code_path()] ++ Flags}),
    try
        Fun(Vm)
    after
        peer:stop(Vm)
    end.

code_path() ->
    [filename:absname(filename:dirname(code:which(barrel_p2p_config)))].
