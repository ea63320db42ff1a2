%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% What stands between a command line and a node that talks: configuration, port,
%%% name, native library, discovery directory, start-up check, and the log. A node that
%%% cannot come up says file, cause and remedy, and ends; it neither hangs nor dumps.
-module(boot_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    configuration_errors_stop_the_boot/1,
    configuration_errors_stop_the_application_alone_on_another_carrier/1,
    all_configuration_errors_are_said_at_once/1,
    keys_without_meaning_are_accepted_with_one_warning/1,
    a_taken_port_stops_the_boot/1,
    a_taken_name_stops_the_boot_of_the_second/1,
    a_library_that_cannot_be_used_stops_the_boot/1,
    a_library_that_cannot_be_used_stops_the_application_alone_without_distribution/1,
    an_embedded_system_boots_and_talks/1,
    findings_of_the_start_up_check_are_said_once/1,
    a_carrier_that_is_not_ours_stops_the_application/1,
    nodes_find_each_other_without_configuration/1,
    a_runtime_directory_open_to_others_is_passed_over/1,
    files_of_killed_nodes_are_recognised/1,
    an_unsafe_discovery_directory_is_refused_and_the_node_works/1,
    the_log_level_changes_while_the_node_runs/1
]).

-define(WAIT_MS, 15000).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [
        configuration_errors_stop_the_boot,
        configuration_errors_stop_the_application_alone_on_another_carrier,
        all_configuration_errors_are_said_at_once,
        keys_without_meaning_are_accepted_with_one_warning,
        a_taken_port_stops_the_boot,
        a_taken_name_stops_the_boot_of_the_second,
        a_library_that_cannot_be_used_stops_the_boot,
        a_library_that_cannot_be_used_stops_the_application_alone_without_distribution,
        an_embedded_system_boots_and_talks,
        findings_of_the_start_up_check_are_said_once,
        a_carrier_that_is_not_ours_stops_the_application,
        nodes_find_each_other_without_configuration,
        a_runtime_directory_open_to_others_is_passed_over,
        files_of_killed_nodes_are_recognised,
        an_unsafe_discovery_directory_is_refused_and_the_node_works,
        the_log_level_changes_while_the_node_runs
    ].

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

%%%===================================================================
%%% Configuration
%%%===================================================================

%% What is wrong, and what must be said about it.
errors() ->
    [
        {[{listen_prt, 1}], ["listen_prt", "listen_port"]},
        {[{auth_trust_mod, tofu}], ["auth_trust_mod:", "auth_trust_mode"]},
        {[{listen_port, 70000}], ["listen_port", "70000", "65535"]},
        {[{listen_ip, "nowhere"}], ["listen_ip", "nowhere"]},
        {[{auth_trust_mode, maybe_later}], ["auth_trust_mode", "tofu, strict"]},
        {[{contact_nodes, [nohost]}], ["contact_nodes", "nohost"]},
        {[{discovery_backends, [true]}], ["discovery_backends"]},
        {[{max_pins, 0}], ["max_pins", "from 1"]},
        {[{log_level, loud}], ["log_level", "loud"]},
        {[{auth_key_dir, 5}], ["auth_key_dir", "directory"]},
        {[{keep_alive_ms, 6000}], ["keep_alive_ms", "idle_timeout_ms"]},
        {[{cookie_only_nodes, []}], ["cookie_only_nodes", "trust store"]}
    ].

configuration_errors_stop_the_boot(Config) ->
    Cluster = ?config(cluster, Config),
    [refuses_to_boot(Cluster, a, #{env => Env}, Parts) || {Env, Parts} <- errors()],
    %% a secret is never shown
    Said = refuses_to_boot(Cluster, a, #{env => [{cluster_secret, "tooshort"}]}, ["cluster_secret", "16 bytes"]),
    ?assertEqual(nomatch, string:find(Said, "tooshort")).

configuration_errors_stop_the_application_alone_on_another_carrier(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{carrier => inet_tcp, env => [{listen_prt, 1}]}),
    ?assertMatch(
        {error, {barrel_p2p, {{invalid_configuration, [#{key := listen_prt, nearest := listen_port}]}, _}}},
        cluster:call(A, application, ensure_all_started, [barrel_p2p])
    ),
    _ = cluster:await_log(A, fun(Event) -> says(Event, ["listen_prt", "listen_port"]) end, ?WAIT_MS),
    %% the node lives, and starts the application once that is corrected
    ok = cluster:call(A, application, unset_env, [barrel_p2p, listen_prt]),
    ?assertEqual({ok, [barrel_p2p]}, cluster:call(A, application, ensure_all_started, [barrel_p2p])).

all_configuration_errors_are_said_at_once(Config) ->
    Env = [{listen_prt, 1}, {max_pins, 0}, {shuffle_period, never}],
    refuses_to_boot(?config(cluster, Config), a, #{env => Env}, ["listen_prt", "max_pins", "shuffle_period"]).

keys_without_meaning_are_accepted_with_one_warning(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{start_app => true, env => [{dist_cookie, anything}]}),
    ok = cluster:call(A, application, stop, [barrel_p2p]),
    ok = cluster:call(A, application, start, [barrel_p2p]),
    ?assertMatch([#{level := warning}], [Event || Event <- cluster:logs(A), says(Event, ["dist_cookie"])]).

%%%===================================================================
%%% Port and name
%%%===================================================================

a_taken_port_stops_the_boot(Config) ->
    {ok, Socket} = gen_udp:open(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    Cluster = ?config(cluster, Config),
    Opts = #{env => [{listen_ip, "127.0.0.1"}, {listen_port, Port}]},
    refuses_to_boot(Cluster, a, Opts, [integer_to_list(Port), "listen_port"]),
    ok = gen_udp:close(Socket),
    A = cluster:start(Cluster, a, Opts),
    ?assertEqual({ok, Port}, cluster:call(A, barrel_p2p_dist, listen_port, [])).

a_taken_name_stops_the_boot_of_the_second(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    File = filename:join(cluster:discovery_dir(Cluster), atom_to_list(A) ++ ".endpoint"),
    Published = read(File),
    refuses_to_boot(Cluster, a, #{}, ["another node of this name", File]),
    %% the first one has not suffered
    ?assertEqual(Published, read(File)),
    ?assertEqual(pong, cluster:ping(B, A)).

%%%===================================================================
%%% The native library
%%%===================================================================

a_library_that_cannot_be_used_stops_the_boot(Config) ->
    Cluster = ?config(cluster, Config),
    [
        refuses_to_boot(Cluster, a, #{os_env => [{"BARREL_P2P_NIF", File}]}, [File, nif_version(), Remedy])
     || {File, Remedy} <- bad_libraries(Cluster)
    ],
    ?assertEqual([], filelib:wildcard(filename:join(cluster:discovery_dir(Cluster), "*.endpoint"))).

a_library_that_cannot_be_used_stops_the_application_alone_without_distribution(Config) ->
    Cluster = ?config(cluster, Config),
    [
        with_node(Cluster, ["-pa", ebin()], [{"BARREL_P2P_NIF", File}], fun(Peer) ->
            {error, {barrel_p2p, {{native, Reason}, _}}} =
                peer:call(Peer, application, ensure_all_started, [barrel_p2p]),
            Text = lists:flatten(peer:call(Peer, barrel_p2p_native, format_error, [Reason])),
            [?assert(is_list(string:find(Text, Part)), {Text, lacks, Part}) || Part <- [File, nif_version(), Remedy]]
        end)
     || {File, Remedy} <- bad_libraries(Cluster)
    ].

bad_libraries(Cluster) ->
    Dir = cluster:dir(Cluster),
    Missing = filename:join(Dir, "missing.so"),
    Text = filename:join(Dir, "text.so"),
    Stub = filename:join(Dir, "stub.so"),
    ok = file:write_file(Text, <<"not a library">>),
    Script = filename:join([elsewhere:source_root(), "c_src_stub", "build.sh"]),
    {0, _} = elsewhere:command(["sh", Script, Stub], []),
    [{Missing, "rebar3 compile"}, {Text, "operating system and processor"}, {Stub, "stand-in"}].

nif_version() ->
    "NIF version " ++ erlang:system_info(nif_version).

%%%===================================================================
%%% Embedded mode
%%%===================================================================

%% As a release boots: every module from the boot script, before the kernel's processes.
an_embedded_system_boots_and_talks(Config) ->
    Cluster = ?config(cluster, Config),
    B = cluster:start(Cluster, b, #{}),
    Boot = boot_script(Cluster),
    Arguments = ["-mode", "embedded", "-boot", Boot | without_logger(cluster:arguments(Cluster, a, #{}))],
    with_node(Cluster, Arguments, [], fun(Peer) ->
        ?assertEqual(embedded, peer:call(Peer, code, get_mode, [])),
        ?assertMatch({ok, _}, peer:call(Peer, barrel_p2p_dist, listen_port, [])),
        ?assert(lists:keymember(barrel_p2p, 1, peer:call(Peer, application, which_applications, []))),
        ?assertEqual(pong, peer:call(Peer, net_adm, ping, [B])),
        A = peer:call(Peer, erlang, node, []),
        ?assertEqual(A, cluster:call(B, erpc, call, [A, erlang, node, []]))
    end).

boot_script(Cluster) ->
    Name = filename:join(cluster:dir(Cluster), "embedded"),
    Versions = [
        begin
            _ = application:load(App),
            {ok, Version} = application:get_key(App, vsn),
            {App, Version}
        end
     || App <- [kernel, stdlib, barrel_p2p]
    ],
    Release = {release, {"embedded", "1"}, {erts, erlang:system_info(version)}, Versions},
    ok = file:write_file(Name ++ ".rel", io_lib:format("~p.~n", [Release])),
    {ok, systools_make, _} = systools:make_script("embedded", [
        silent, local, no_warn_sasl, {path, [ebin(), cluster:dir(Cluster)]}, {outdir, cluster:dir(Cluster)}
    ]),
    Name.

%% The logger handler of clusters is a module that the boot script does not hold.
without_logger(["-kernel", "logger", _ | Arguments]) -> Arguments;
without_logger([Argument | Arguments]) -> [Argument | without_logger(Arguments)].

%%%===================================================================
%%% The start-up check
%%%===================================================================

findings_of_the_start_up_check_are_said_once(Config) ->
    Cluster = ?config(cluster, Config),
    Cases = [
        {a, #{kernel => [{connect_all, true}]}, full_mesh},
        {b, #{cookie => "short"}, cookie_trivial},
        {c, #{cookie => "ABCDEFGHIJKLMNOPQRST"}, cookie_generated},
        {d, #{env => [{auth_enabled, false}]}, auth_disabled}
    ],
    lists:foreach(
        fun({Name, Opts, Finding}) ->
            Node = cluster:start(Cluster, Name, Opts#{start_app => true}),
            ok = cluster:call(Node, application, stop, [barrel_p2p]),
            ok = cluster:call(Node, application, start, [barrel_p2p]),
            ?assertMatch([{Finding, _}], findings(Node)),
            [{Finding, Report}] = findings(Node),
            ?assertMatch(#{what := <<_, _/binary>>, remedy := <<_, _/binary>>}, Report)
        end,
        Cases
    ),
    %% nothing to say of a node without any of this
    Good = cluster:start(Cluster, e, #{start_app => true}),
    ?assertEqual([], findings(Good)).

findings(Node) ->
    [{Finding, Report} || #{msg := {report, #{finding := Finding} = Report}} <- cluster:logs(Node)].

%% OTP 25 ignores a flag that is given twice and talks in clear text; later ones take the first.
a_carrier_that_is_not_ours_stops_the_application(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{args => ["-proto_dist", "inet_tcp"]}),
    Started = cluster:call(A, application, ensure_all_started, [barrel_p2p]),
    case list_to_integer(erlang:system_info(otp_release)) of
        25 ->
            ?assertMatch({error, {barrel_p2p, {{unsafe, carrier_not_used}, _}}}, Started),
            [{carrier_not_used, Report}] = findings(A),
            ?assert(says(Report, ["CLEAR TEXT", "once"]));
        _ ->
            ?assertEqual({ok, [barrel_p2p]}, Started),
            ?assertMatch([{proto_dist_repeated, _}], findings(A))
    end.

%%%===================================================================
%%% Discovery
%%%===================================================================

nodes_find_each_other_without_configuration(Config) ->
    Cluster = ?config(cluster, Config),
    Runtime = directory(Cluster, "runtime", 8#700),
    with_two_homes(Cluster, [{"XDG_RUNTIME_DIR", Runtime}], fun(One, Two) ->
        Other = peer:call(Two, erlang, node, []),
        ?assertEqual(pong, peer:call(One, net_adm, ping, [Other])),
        Expected = unicode:characters_to_binary(filename:join(Runtime, "barrel_p2p")),
        ?assertEqual([Expected, Expected], [discovery_dir(Peer) || Peer <- [One, Two]]),
        Homes = [maps:get(key_dir, maps:get(endpoint, peer:call(Peer, barrel_p2p, info, []))) || Peer <- [One, Two]],
        ?assertMatch([A, B] when A =/= B, [filename:dirname(filename:dirname(filename:dirname(Home))) || Home <- Homes]),
        ?assertMatch({ok, [{"one", _}, {"two", _}]}, peer:call(One, barrel_p2p_epmd, names, []))
    end).

%% The specification of the variable wants a directory of this user alone; another one is not used.
a_runtime_directory_open_to_others_is_passed_over(Config) ->
    Cluster = ?config(cluster, Config),
    Runtime = directory(Cluster, "runtime", 8#777),
    Temporary = directory(Cluster, "temporary", 8#700),
    with_two_homes(Cluster, [{"XDG_RUNTIME_DIR", Runtime}, {"TMPDIR", Temporary}], fun(One, Two) ->
        Other = peer:call(Two, erlang, node, []),
        ?assertEqual(pong, peer:call(One, net_adm, ping, [Other])),
        ?assertEqual(Temporary, unicode:characters_to_list(filename:dirname(discovery_dir(One)))),
        ?assertEqual({ok, []}, file:list_dir(Runtime))
    end).

files_of_killed_nodes_are_recognised(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    File = filename:join(cluster:discovery_dir(Cluster), atom_to_list(A) ++ ".endpoint"),
    ?assertMatch({ok, [{"a", _}, {"b", _}]}, cluster:call(B, barrel_p2p_epmd, names, [])),
    cluster:kill(A),
    ?assert(filelib:is_regular(File)),
    ?assertMatch({ok, [{"b", _}]}, cluster:call(B, barrel_p2p_epmd, names, [])),
    ?assertMatch(
        {error, {no_address, #{tried := [_ | _]}}}, cluster:call(B, barrel_p2p_discovery, resolve, [A, 1000])
    ),
    ?assertEqual(pang, cluster:ping(B, A)),
    %% no obstacle for the next of that name
    A = cluster:restart(Cluster, A),
    ?assertEqual(pong, cluster:ping(B, A)),
    cluster:stop(A, init_stop),
    ?assertNot(filelib:is_regular(File)).

an_unsafe_discovery_directory_is_refused_and_the_node_works(Config) ->
    Cluster = ?config(cluster, Config),
    B = cluster:start(Cluster, b, #{}),
    Open = directory(Cluster, "open", 8#777),
    Linked = filename:join(cluster:dir(Cluster), "linked"),
    ok = file:make_symlink(directory(Cluster, "target", 8#700), Linked),
    Foreign = directory(Cluster, "foreign", 8#700),
    Cases =
        [{open, Open}, {linked, Linked}] ++
            case elsewhere:is_root() of
                true ->
                    "" = elsewhere:command(["chown", "65534", Foreign]),
                    [{foreign, Foreign}];
                %% only root can give a directory away
                false ->
                    []
            end,
    lists:foreach(
        fun({Name, Dir}) ->
            A = cluster:start(Cluster, Name, #{env => [{discovery_dir, Dir}]}),
            _ = cluster:await_log(
                A,
                fun(#{level := Level} = Event) ->
                    Level =:= warning andalso says(Event, ["cannot find this node by its name", Dir, "0700"])
                end,
                ?WAIT_MS
            ),
            ?assertEqual({Name, pang}, {Name, cluster:ping(B, A)}),
            %% told by somebody, it is reached
            {ok, Port} = cluster:call(A, barrel_p2p_dist, listen_port, []),
            ok = cluster:call(B, application, set_env, [barrel_p2p, contact_nodes, [{A, {{127, 0, 0, 1}, Port}}]]),
            ?assertEqual({Name, pong}, {Name, cluster:ping(B, A)}),
            ?assertEqual({Name, []}, {Name, filelib:wildcard(filename:join(Dir, "*.endpoint"))})
        end,
        Cases
    ).

discovery_dir(Peer) ->
    peer:call(Peer, barrel_p2p_config, get, [discovery_dir]).

%% Two nodes with nothing configured, each in a directory of its own.
with_two_homes(#{cookie := Cookie} = Cluster, Env, Fun) ->
    Start = fun(Name, Continue) ->
        Home = directory(Cluster, Name, 8#700),
        Arguments =
            ["-sname", Name, "-setcookie", Cookie, "-pa", ebin()] ++
                ["-proto_dist", "barrel_p2p", "-epmd_module", "barrel_p2p_epmd", "-start_epmd", "false"] ++
                ["-kernel", "connect_all", "false"],
        with_node(Cluster#{data => Home}, Arguments, Env, Continue)
    end,
    Start("one", fun(One) -> Start("two", fun(Two) -> Fun(One, Two) end) end).

%%%===================================================================
%%% The log
%%%===================================================================

the_log_level_changes_while_the_node_runs(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B, C] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b, c]],
    D = cluster:start(Cluster, d, #{cookie => "another_cookie_of_good_length"}),
    Level = fun(To) -> cluster:call(A, barrel_p2p, set_log_level, [To]) end,
    LinkUp = fun(#{msg := {report, #{what := What}}}) -> What =:= <<"link up">>;
                (_) -> false
    end,
    Refused = fun(#{msg := {report, #{what := What}}}) -> What =:= <<"a peer was refused">>;
                 (_) -> false
    end,
    Count = fun(Which) -> length(lists:filter(Which, cluster:logs(A))) end,
    %% quiet by default
    ok = cluster:connect(B, A),
    ?assertEqual(0, Count(LinkUp)),
    ok = Level(info),
    ok = cluster:connect(C, A),
    _ = cluster:await_log(A, LinkUp, ?WAIT_MS),
    ok = Level(none),
    ?assertEqual(pang, cluster:ping(D, A)),
    ok = Level(notice),
    ?assertEqual(0, Count(Refused)),
    ?assertEqual({error, bad_level}, Level(loud)),
    %% Erlang's own reports obey too
    Report = fun(Text) -> cluster:call(A, barrel_p2p_log, report, [info, Text]) end,
    ok = Report("unheard"),
    ok = Level(debug),
    ok = Report("heard"),
    _ = cluster:await_log(A, fun(Event) -> says(Event, ["heard"]) end, ?WAIT_MS),
    ?assertEqual([], [Event || Event <- cluster:logs(A), says(Event, ["unheard"])]).

%%%===================================================================
%%% Internal
%%%===================================================================

%% The node ends by itself, with another status than 0, without a crash dump, and says all this.
refuses_to_boot(Cluster, Name, Opts, Parts) ->
    Env = maps:get(os_env, Opts, []),
    {Status, Said} = cluster:boot_fails(Cluster, Name, Opts#{os_env => [{"ERL_CRASH_DUMP_BYTES", "1000000"} | Env]}),
    ?assertNotEqual({0, Said}, {Status, Said}),
    [?assert(is_list(string:find(Said, Part)), {Said, lacks, Part}) || Part <- Parts],
    Dump = filename:join(cluster:dir(Cluster), "erl_crash.dump"),
    ?assertNot(filelib:is_regular(Dump), Said),
    Said.

%% A node that is no part of the cluster's table: started by arguments of its own.
with_node(#{data := Dir}, Arguments, Env, Fun) ->
    {Shell, Before} = cluster:in_directory(Dir, cluster:erl(#{})),
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io, exec => {Shell, Before}, args => Arguments, env => Env, wait_boot => 60000
    }),
    try
        Fun(Peer)
    after
        peer:stop(Peer)
    end.

%% Whether an event or a report says all of these, wherever in it.
says(Term, Parts) ->
    Text = text(Term),
    lists:all(fun(Part) -> is_list(string:find(Text, Part)) end, Parts).

text(#{msg := {report, Report}}) -> text(Report);
text(#{msg := {string, Text}}) -> unicode:characters_to_list(Text);
text(#{msg := {Format, Args}}) -> lists:flatten(io_lib:format(Format, Args));
text(Report) -> lists:flatten([[text_of(Value), "\n"] || Value <- maps:values(Report)]).

text_of(Value) when is_binary(Value) ->
    case unicode:characters_to_list(Value) of
        Text when is_list(Text) -> Text;
        _ -> io_lib:format("~0tp", [Value])
    end;
text_of(Value) when is_map(Value) -> text(Value);
text_of(Value) ->
    io_lib:format("~0tp", [Value]).

ebin() ->
    filename:absname(filename:dirname(code:where_is_file("barrel_p2p.app"))).

directory(Cluster, Name, Mode) ->
    Dir = filename:join(cluster:dir(Cluster), Name),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:change_mode(Dir, Mode),
    Dir.

read(File) ->
    {ok, Bytes} = file:read_file(File),
    Bytes.
