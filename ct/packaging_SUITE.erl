%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Downstream: how the library reaches a user. A small application outside
%%% the tree depends on it by git, from a package and in `_checkouts'; it is
%%% released, two nodes of it boot in embedded mode, and they talk.
%%%
%%% All builds share one cargo directory, `target/packaging', apart from the
%%% one of the checkout: cargo tells workspaces of one name apart by time stamps only.
-module(packaging_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("kernel/include/file.hrl").
-include_lib("stdlib/include/assert.hrl").

%% Common Test
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    the_package_holds_what_a_build_needs_and_nothing_built/1,
    the_checksum_of_the_package_is_that_of_hex/1,
    a_machine_without_rust_is_told_what_to_do/1,
    an_old_rust_is_named/1,
    features_never_reach_the_library_of_the_application/1,
    an_unchanged_library_is_not_copied_again/1,
    the_stand_in_stays_out_of_the_sources/1,
    two_nodes_of_a_release_with_a_git_dependency_talk/1,
    a_release_from_the_package_holds_the_library/1,
    a_release_from_checkouts_holds_the_library/1
]).

%% A cold build of all crates on a slow machine.
-define(BUILD_MS, 900000).
%% Boot of a release, and everything it does until it says so.
-define(BOOT_MS, 60000).

suite() ->
    [{timetrap, {minutes, 20}}].

all() ->
    [
        the_package_holds_what_a_build_needs_and_nothing_built,
        the_checksum_of_the_package_is_that_of_hex,
        a_machine_without_rust_is_told_what_to_do,
        an_old_rust_is_named,
        features_never_reach_the_library_of_the_application,
        an_unchanged_library_is_not_copied_again,
        the_stand_in_stays_out_of_the_sources,
        two_nodes_of_a_release_with_a_git_dependency_talk,
        a_release_from_the_package_holds_the_library,
        a_release_from_checkouts_holds_the_library
    ].

init_per_suite(Config) ->
    Root = elsewhere:source_root(),
    [{root, Root}, {cargo_target, filename:join([Root, "target", "packaging"])} | Config].

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) ->
    Dir = filename:join(?config(priv_dir, Config), Case),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    [{dir, Dir} | Config].

end_per_testcase(_Case, Config) ->
    %% Releases with their own ERTS are large; the logs stay.
    _ = file:del_dir_r(?config(dir, Config)),
    ok.

%%%===================================================================
%%% The package
%%%===================================================================

the_package_holds_what_a_build_needs_and_nothing_built(Config) ->
    Dir = unpack_package(Config),
    Present = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "rebar.config",
        "erlang_src/barrel_p2p.app.src",
        "erlang_src/barrel_p2p_nif.erl",
        "native/build.sh",
        "native/barrel_nif/Cargo.toml",
        "native/barrel_nif/src/lib.rs",
        "native/barrel_quic/Cargo.toml",
        "c_src_stub/barrel_p2p_nif_stub.c",
        "c_src_stub/build.sh"
    ],
    ?assertEqual([], [F || F <- Present, not filelib:is_regular(filename:join(Dir, F))]),
    Files = filelib:fold_files(Dir, ".*", true, fun(F, Acc) -> [F | Acc] end, []),
    Built = "(\\.so|\\.beam|\\.o|\\.rlib|\\.tmp|\\.tar)$|/(target|_build|\\.git)/",
    ?assertEqual([], [F || F <- Files, re:run(string:prefix(F, Dir), Built, [{capture, none}]) =:= match]),
    %% these serve tests and measurements only
    ToolsOnly = ["native/barrel_bench", "native/barrel_impair", "native/barrel_sim"],
    ?assertEqual([], [D || D <- ToolsOnly, filelib:is_file(filename:join(Dir, D))]),
    %% every source of the boundary and of the crates that git knows
    case git(Config, "ls-files -- erlang_src native include c_src_stub" ++ lists:append([" ':!" ++ D ++ "'" || D <- ToolsOnly])) of
        {ok, Tracked} ->
            ?assertEqual(
                [],
                [F || F <- string:lexemes(Tracked, "\n"), not filelib:is_regular(filename:join(Dir, F))]
            );
        no_git ->
            ok
    end.

the_checksum_of_the_package_is_that_of_hex(Config) ->
    File = package(Config),
    {ok, Entries} = erl_tar:extract(File, [memory]),
    Parts = maps:from_list(Entries),
    ?assertEqual(<<"3">>, maps:get("VERSION", Parts)),
    Signed = [maps:get(P, Parts) || P <- ["VERSION", "metadata.config", "contents.tar.gz"]],
    ?assertEqual(
        binary_to_integer(maps:get("CHECKSUM", Parts), 16),
        binary:decode_unsigned(crypto:hash(sha256, Signed))
    ),
    Metadata = filename:join(?config(dir, Config), "metadata.config"),
    ok = file:write_file(Metadata, maps:get("metadata.config", Parts)),
    {ok, Terms} = file:consult(Metadata),
    ?assertEqual([<<"rebar3">>], proplists:get_value(<<"build_tools">>, Terms)),
    ?assertEqual(<<"barrel_p2p">>, proplists:get_value(<<"app">>, Terms)),
    {ok, Contents} = erl_tar:extract({binary, maps:get("contents.tar.gz", Parts)}, [memory, compressed]),
    ?assertEqual(
        lists:sort(proplists:get_value(<<"files">>, Terms)),
        lists:sort([list_to_binary(Name) || {Name, _} <- Contents])
    ),
    ?assertEqual(read(File), read(package(Config))).

%%%===================================================================
%%% The native build
%%%===================================================================

a_machine_without_rust_is_told_what_to_do(Config) ->
    Bin = bare_path(Config),
    {1, Said} = native_build(Config, [{"PATH", Bin}, {"HOME", ?config(dir, Config)}, {"CARGO_HOME", false}]),
    says(Said, ["needed", rust_version(Config), "no cargo in PATH", "rustup", "make toolchain"]),
    ?assertEqual(1, length(string:split(Said, "cannot be built", all)) - 1).

an_old_rust_is_named(Config) ->
    Bin = bare_path(Config),
    Cargo = filename:join(Bin, "cargo"),
    script(Cargo, "echo 'cargo must not run' >&2; exit 70"),
    script(filename:join(Bin, "rustc"), "echo 'rustc 1.63.0 (4b91a6ea7 2022-08-08)'"),
    {1, Said} = native_build(Config, [{"PATH", Bin}, {"HOME", ?config(dir, Config)}, {"CARGO_HOME", false}]),
    says(Said, [rust_version(Config), Cargo, "rustc 1.63.0", "rustup update"]),
    ?assertEqual(nomatch, string:find(Said, "must not run")),
    %% a good one elsewhere is found behind the old one
    Home = filename:join(?config(dir, Config), "cargo_home"),
    Good = filename:join([Home, "bin", "cargo"]),
    ok = filelib:ensure_dir(Good),
    script(Good, "exit 0"),
    script(filename:join([Home, "bin", "rustc"]), "echo 'rustc 99.0.0 (000000000 2999-01-01)'"),
    Environment = [{"PATH", Bin}, {"HOME", ?config(dir, Config)}, {"CARGO_HOME", Home}],
    ?assertEqual({0, Good ++ "\n"}, native_build(Config, Environment, "--find-cargo")).

features_never_reach_the_library_of_the_application(Config) ->
    {1, Said} = native_build(Config, [{"BARREL_P2P_FEATURES", "faults"}, {"BARREL_P2P_NIF_OUT", false}]),
    says(Said, ["BARREL_P2P_FEATURES=faults", "BARREL_P2P_NIF_OUT"]).

an_unchanged_library_is_not_copied_again(Config) ->
    Dir = ?config(dir, Config),
    Source = filename:join(Dir, "prebuilt.so"),
    Output = filename:join([Dir, "deep", "priv", "barrel_p2p_nif.so"]),
    Environment = [{"BARREL_P2P_PREBUILT", Source}, {"BARREL_P2P_NIF_OUT", Output}],
    ok = file:write_file(Source, <<"one">>),
    {0, ""} = native_build(Config, Environment),
    First = inode(Output),
    {0, ""} = native_build(Config, Environment),
    ?assertEqual(First, inode(Output)),
    ok = file:write_file(Source, <<"two">>),
    {0, ""} = native_build(Config, Environment),
    %% a new file took its place; the old one was not written to
    ?assertNotEqual(First, inode(Output)),
    ?assertEqual(<<"two">>, read(Output)),
    ?assertEqual({ok, ["barrel_p2p_nif.so"]}, file:list_dir(filename:dirname(Output))).

the_stand_in_stays_out_of_the_sources(Config) ->
    Sources = unpack_package(Config),
    Bin = bare_path(Config),
    %% no Rust on this machine
    link_tools(Bin, ["rebar3", "erl", "escript", "cc", "gcc", "as", "ld", "env", "id", "ls", "readlink", "ln", "git"]),
    Environment = [{"PATH", Bin}, {"CARGO_HOME", false}, {"HOME", ?config(dir, Config)}],
    ok = rebar3(Config, Sources, "as stub compile", Environment),
    ?assertEqual({ok, [".gitignore"]}, file:list_dir(filename:join(Sources, "priv"))),
    Private = filename:join([Sources, "_build", "stub", "lib", "barrel_p2p", "priv"]),
    ?assert(filelib:is_regular(filename:join(Private, "barrel_p2p_nif.so"))),
    {ok, Vm, _} = peer:start(#{
        connection => standard_io,
        env => [{"BARREL_P2P_NIF", ""}],
        args => ["-pa", filename:join([Sources, "_build", "stub", "lib", "barrel_p2p", "ebin"])]
    }),
    try
        ?assertMatch({error, {stub, _}}, peer:call(Vm, barrel_p2p_native, ensure_loaded, []))
    after
        peer:stop(Vm)
    end.

%%%===================================================================
%%% A user's application
%%%===================================================================

two_nodes_of_a_release_with_a_git_dependency_talk(Config) ->
    case git(Config, "rev-parse HEAD") of
        {ok, Line} ->
            Ref = string:trim(Line),
            Url = "file://" ++ ?config(root, Config),
            App = application(Config, {git, Url, {ref, Ref}}),
            ok = rebar3(Config, App, "release", []),
            Release = release(App),
            ?assert(holds_the_library(Release)),
            two_nodes_talk(Config, Release);
        no_git ->
            {skip, "needs a git checkout"}
    end.

a_release_from_the_package_holds_the_library(Config) ->
    Sources = unpack_package(Config),
    %% as a package manager leaves them: written now, whatever the archive says
    {0, _} = command(Config, Sources, "find . -type f -exec touch {} +", []),
    App = application(Config, checkouts),
    Checkout = filename:join([App, "_checkouts", "barrel_p2p"]),
    ok = filelib:ensure_dir(Checkout),
    ok = file:rename(Sources, Checkout),
    ok = rebar3(Config, App, "release", []),
    ?assert(holds_the_library(release(App))).

a_release_from_checkouts_holds_the_library(Config) ->
    Clone = filename:join(?config(dir, Config), "clone"),
    case git(Config, "clone -q . " ++ quote(Clone)) of
        {ok, _} ->
            App = application(Config, checkouts),
            Checkout = filename:join([App, "_checkouts", "barrel_p2p"]),
            ok = filelib:ensure_dir(Checkout),
            ok = file:make_symlink(Clone, Checkout),
            ok = rebar3(Config, App, "release", []),
            ?assert(holds_the_library(release(App)));
        no_git ->
            {skip, "needs a git checkout"}
    end.

two_nodes_talk(Config, Release) ->
    Suffix = integer_to_list(erlang:unique_integer([positive])) ++ "_" ++ os:getpid(),
    NameA = "downstream_a" ++ Suffix ++ "@127.0.0.1",
    NameB = "downstream_b" ++ Suffix ++ "@127.0.0.1",
    A = start_node(Config, Release, NameA, ""),
    try
        {ready, embedded, {ok, PortA}} = await_line(A, ready),
        ?assert(is_integer(PortA)),
        B = start_node(Config, Release, NameB, NameA),
        try
            {ready, embedded, {ok, PortB}} = await_line(B, ready),
            ?assertNotEqual(PortA, PortB),
            ?assertEqual({talked, pong, 42, list_to_atom(NameA)}, await_line(B, talked)),
            %% B stopped A by rpc and then itself, both in order
            ?assertEqual(0, await_exit(A)),
            ?assertEqual(0, await_exit(B))
        after
            kill(B)
        end
    after
        kill(A)
    end.

%%%===================================================================
%%% Internal: the application
%%%===================================================================

application(Config, Source) ->
    Dir = filename:join(?config(dir, Config), "downstream"),
    Dependency =
        case Source of
            checkouts -> barrel_p2p;
            _ -> {barrel_p2p, Source}
        end,
    write(Dir, "rebar.config", [
        {deps, [Dependency]},
        {relx, [
            {release, {downstream, "0.1.0"}, [downstream, sasl]},
            {mode, prod},
            {sys_config_src, "config/sys.config.src"},
            {vm_args_src, "config/vm.args.src"}
        ]}
    ]),
    write(Dir, "src/downstream.app.src", [
        {application, downstream, [
            {description, "An application that uses barrel_p2p"},
            {vsn, "0.1.0"},
            {mod, {downstream, []}},
            {applications, [kernel, stdlib, barrel_p2p]}
        ]}
    ]),
    text(
        Dir,
        "config/vm.args.src",
        "-name ${NODE_NAME}\n"
        "-setcookie packaging_suite_0123456789abcdef\n"
        "-proto_dist barrel_p2p\n"
        "-epmd_module barrel_p2p_epmd\n"
        "-start_epmd false\n"
        "-kernel connect_all false\n"
    ),
    text(
        Dir,
        "config/sys.config.src",
        "[{barrel_p2p, [{listen_port, 0}, {listen_ip, {127,0,0,1}}, {discovery_dir, \"${DISCOVERY_DIR}\"}]}].\n"
    ),
    text(
        Dir,
        "src/downstream.erl",
        "-module(downstream).\n"
        "-behaviour(application).\n"
        "-export([start/2, stop/1, multiply/2]).\n"
        "start(_, _) ->\n"
        "    Pid = spawn_link(fun run/0),\n"
        "    {ok, Pid}.\n"
        "stop(_) -> ok.\n"
        "multiply(A, B) -> A * B.\n"
        "run() ->\n"
        "    say({ready, code:get_mode(), barrel_p2p_dist:listen_port()}),\n"
        "    case os:getenv(\"PEER_NODE\") of\n"
        "        Nobody when Nobody =:= false; Nobody =:= \"\" -> ok;\n"
        "        Name -> talk(list_to_atom(Name))\n"
        "    end,\n"
        "    receive never -> ok end.\n"
        "talk(Peer) ->\n"
        "    Pong = net_adm:ping(Peer),\n"
        "    Product = rpc:call(Peer, ?MODULE, multiply, [6, 7]),\n"
        "    Node = rpc:call(Peer, erlang, node, []),\n"
        "    say({talked, Pong, Product, Node}),\n"
        "    ok = rpc:call(Peer, init, stop, []),\n"
        "    init:stop().\n"
        "say(Term) -> io:format(\"~nSAID ~0p.~n\", [Term]).\n"
    ),
    Dir.

release(App) ->
    filename:join([App, "_build", "default", "rel", "downstream"]).

holds_the_library(Release) ->
    case filelib:wildcard(filename:join([Release, "lib", "barrel_p2p-*", "priv", "barrel_p2p_nif.so"])) of
        [File] -> filelib:file_size(File) > 0;
        [] -> false
    end.

%%%===================================================================
%%% Internal: nodes
%%%===================================================================

start_node(Config, Release, Name, Peer) ->
    Dir = filename:join(?config(dir, Config), Name),
    Discovery = filename:join(?config(dir, Config), "discovery"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = filelib:ensure_dir(filename:join(Discovery, "x")),
    ok = file:change_mode(Discovery, 8#700),
    open_port({spawn_executable, filename:join([Release, "bin", "downstream"])}, [
        {args, ["foreground"]},
        {cd, Release},
        {env, environment([
            {"NODE_NAME", Name},
            {"PEER_NODE", Peer},
            {"DISCOVERY_DIR", Discovery},
            {"RELX_REPLACE_OS_VARS", "true"},
            {"RELX_OUT_FILE_PATH", Dir}
        ])},
        {line, 4096},
        exit_status,
        stderr_to_stdout,
        binary
    ]).

%% The next `SAID {Tag, ...}.' line of a node.
await_line(Port, Tag) ->
    receive
        {Port, {data, {_, <<"SAID ", Text/binary>>}}} ->
            {ok, Tokens, _} = erl_scan:string(binary_to_list(Text)),
            {ok, Term} = erl_parse:parse_term(Tokens),
            case element(1, Term) of
                Tag -> Term;
                _ -> error({unexpected, Term, instead_of, Tag})
            end;
        {Port, {data, {_, Line}}} ->
            ct:log("~p ~ts", [Port, Line]),
            await_line(Port, Tag);
        {Port, {exit_status, Status}} ->
            error({node_ended, Status, before, Tag})
    after ?BOOT_MS ->
        error({no_line, Tag})
    end.

await_exit(Port) ->
    receive
        {Port, {exit_status, Status}} ->
            Status;
        {Port, {data, {_, Line}}} ->
            ct:log("~p ~ts", [Port, Line]),
            await_exit(Port)
    after ?BOOT_MS ->
        error(node_did_not_stop)
    end.

kill(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} -> os:cmd("kill -9 " ++ integer_to_list(Pid));
        undefined -> ok
    end.

%%%===================================================================
%%% Internal: commands
%%%===================================================================

package(Config) ->
    Dir = filename:join(?config(dir, Config), "package"),
    Command = "sh tools/package.sh " ++ quote(Dir),
    {0, _} = command(Config, ?config(root, Config), Command, []),
    [File] = filelib:wildcard(filename:join(Dir, "barrel_p2p-*.tar")),
    File.

unpack_package(Config) ->
    {ok, Entries} = erl_tar:extract(package(Config), [memory]),
    {_, Contents} = lists:keyfind("contents.tar.gz", 1, Entries),
    Dir = filename:join(?config(dir, Config), "unpacked"),
    ok = erl_tar:extract({binary, Contents}, [compressed, {cwd, Dir}]),
    Dir.

rebar3(Config, Dir, Arguments, Environment) ->
    Command = quote(os:find_executable("rebar3")) ++ " " ++ Arguments,
    case command(Config, Dir, Command, Environment) of
        {0, _} -> ok;
        {Status, Said} -> error({rebar3, Arguments, Status, Said})
    end.

native_build(Config, Environment) ->
    native_build(Config, Environment, "").

native_build(Config, Environment, Arguments) ->
    Command = "sh native/build.sh " ++ Arguments,
    Unset = [{"BARREL_P2P_PREBUILT", false} || not lists:keymember("BARREL_P2P_PREBUILT", 1, Environment)],
    command(Config, ?config(root, Config), Command, Unset ++ Environment).

git(Config, Arguments) ->
    Root = ?config(root, Config),
    case filelib:is_file(filename:join(Root, ".git")) andalso command(Config, Root, "git " ++ Arguments, []) of
        false -> no_git;
        {0, Said} -> {ok, Said};
        {Status, Said} -> error({git, Arguments, Status, Said})
    end.

%% Output and exit status; the output goes to the log too.
command(Config, Dir, Command, Environment) ->
    Target = [{"BARREL_P2P_TARGET_DIR", ?config(cargo_target, Config)}],
    Port = open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", Command]},
        {cd, Dir},
        {env, environment(Target ++ Environment)},
        exit_status,
        stderr_to_stdout,
        binary
    ]),
    {Status, Said} = collect(Port, []),
    ct:log("~ts~n~ts~nexit ~b", [Command, Said, Status]),
    {Status, Said}.

collect(Port, Acc) ->
    receive
        {Port, {data, Bytes}} ->
            collect(Port, [Acc, Bytes]);
        {Port, {exit_status, Status}} ->
            Bytes = iolist_to_binary(Acc),
            case unicode:characters_to_list(Bytes) of
                Text when is_list(Text) -> {Status, Text};
                _ -> {Status, binary_to_list(Bytes)}
            end
    after ?BUILD_MS ->
        kill(Port),
        error({command_hangs, Acc})
    end.

%% What the surrounding run set for itself must not reach a user's build, but
%% for a prebuilt library, which stands for Rust where there is none.
environment(Given) ->
    Cleared = [
        "REBAR_BASE_DIR", "REBAR_PROFILE", "REBAR_BUILD_DIR", "REBAR_CONFIG", "ERL_LIBS", "ERL_FLAGS",
        "ERL_AFLAGS", "ERL_ZFLAGS", "BINDIR", "ROOTDIR", "EMU", "PROGNAME", "MAKEFLAGS", "MAKELEVEL",
        "BARREL_P2P_NIF", "BARREL_P2P_NIF_OUT", "BARREL_P2P_FEATURES"
    ],
    Given ++ [{Name, false} || Name <- Cleared, not lists:keymember(Name, 1, Given)].

%% A PATH with the tools of build.sh and no cargo.
bare_path(Config) ->
    Bin = filename:join(?config(dir, Config), "bin"),
    ok = filelib:ensure_dir(filename:join(Bin, "x")),
    link_tools(Bin, [
        "sh", "sed", "awk", "head", "cat", "dirname", "uname", "cmp", "cp", "mv", "rm", "chmod", "mkdir"
    ]),
    Bin.

link_tools(Bin, Names) ->
    [
        ok = file:make_symlink(os:find_executable(Name), filename:join(Bin, Name))
     || Name <- Names, os:find_executable(Name) =/= false
    ],
    ok.

rust_version(Config) ->
    {ok, Toml} = file:read_file(filename:join(?config(root, Config), "Cargo.toml")),
    {match, [Version]} = re:run(Toml, "^rust-version *= *\"(.*)\"", [multiline, {capture, all_but_first, list}]),
    Version.

script(File, Body) ->
    ok = file:write_file(File, ["#!/bin/sh\n", Body, "\n"]),
    ok = file:change_mode(File, 8#755).

says(Said, Parts) ->
    [?assert(is_list(string:find(Said, Part)), {missing, Part, in, Said}) || Part <- Parts],
    ok.

quote(Word) ->
    lists:flatten(["'", string:replace(Word, "'", "'\\''", all), "'"]).

write(Dir, Name, Terms) ->
    text(Dir, Name, [io_lib:format("~p.~n", [T]) || T <- Terms]).

text(Dir, Name, Text) ->
    File = filename:join(Dir, Name),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, Text).

read(File) ->
    {ok, Bytes} = file:read_file(File),
    Bytes.

inode(File) ->
    {ok, Info} = file:read_file_info(File),
    Info#file_info.inode.
