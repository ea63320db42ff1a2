%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Loading the library, and the errors a user meets. A VM loads a module's
%%% library once, so each case has a VM of its own.
-module(barrel_p2p_native_tests).

-include_lib("eunit/include/eunit.hrl").

loading_test_() ->
    {setup, fun() -> scratch("native") end, fun delete/1, fun(Dir) ->
        Stub = build_stub(Dir),
        [
            {"a missing file is named", ?_test(a_missing_file_is_named(Dir))},
            {"a garbage file is named", ?_test(a_garbage_file_is_named(Dir))},
            {"a library of another module is named", ?_test(a_foreign_library_is_named(Dir))},
            {"the stand-in is refused", ?_test(the_stand_in_is_refused(Stub))},
            {"the stand-in is taken when asked for", ?_test(the_stand_in_is_taken_when_asked_for(Stub))},
            {"a reload is refused after loading", ?_test(a_reload_is_refused_after_loading(Stub))},
            {"an older library is incomplete", ?_test(an_older_library_is_incomplete(Dir))},
            {"an archive is explained", ?_test(an_archive_is_explained())},
            {"priv is found beside any ebin", ?_test(priv_is_found_beside_any_ebin(Dir))}
        ]
    end}.

a_missing_file_is_named(Dir) ->
    File = filename:join(Dir, "missing.so"),
    with_vm([{"BARREL_P2P_NIF", File}], fun(Vm) ->
        ?assertEqual(File, peer:call(Vm, barrel_p2p_native, file, [])),
        {error, Reason} = peer:call(Vm, barrel_p2p_native, ensure_loaded, []),
        ?assertEqual({not_found, File}, Reason),
        assert_text(Reason, [File, nif_version(), "no such file", "rebar3 compile", "BARREL_P2P_NIF"])
    end).

a_garbage_file_is_named(Dir) ->
    File = filename:join(Dir, "garbage.so"),
    ok = file:write_file(File, <<"not an object file">>),
    with_vm([{"BARREL_P2P_NIF", File}], fun(Vm) ->
        {error, Reason} = peer:call(Vm, barrel_p2p_native, ensure_loaded, []),
        ?assertMatch({load_failed, File, _}, Reason),
        assert_text(Reason, [File, nif_version(), element(3, Reason), "operating system and processor"]),
        ?assertMatch({error, {load_failed, File, _}}, peer:call(Vm, barrel_p2p_native, ensure_loaded, []))
    end).

a_foreign_library_is_named(Dir) ->
    File = compile(
        Dir,
        "foreign",
        "static ERL_NIF_TERM f(ErlNifEnv *e, int c, const ERL_NIF_TERM v[])\n"
        "{ (void)c; (void)v; return enif_make_atom(e, \"ok\"); }\n"
        "static ErlNifFunc fs[] = {{\"f\", 0, f, 0}};\n"
        "ERL_NIF_INIT(some_other_module, fs, NULL, NULL, NULL, NULL)\n"
    ),
    with_vm([{"BARREL_P2P_NIF", File}], fun(Vm) ->
        {error, Reason} = peer:call(Vm, barrel_p2p_native, ensure_loaded, []),
        ?assertMatch({bad_lib, File, _}, Reason),
        assert_text(Reason, [File, element(3, Reason), "another version of barrel_p2p"])
    end).

the_stand_in_is_refused(Stub) ->
    with_vm([{"BARREL_P2P_NIF", Stub}], fun(Vm) ->
        {error, Reason} = peer:call(Vm, barrel_p2p_native, ensure_loaded, []),
        ?assertEqual({stub, Stub}, Reason),
        assert_text(Reason, [Stub, "C stand-in"]),
        ?assertEqual({error, Reason}, peer:call(Vm, barrel_p2p_native, ensure_loaded, []))
    end).

the_stand_in_is_taken_when_asked_for(Stub) ->
    with_vm([], fun(Vm) ->
        Options = #{file => Stub, stub => true},
        ?assertEqual(ok, peer:call(Vm, barrel_p2p_native, ensure_loaded, [Options])),
        ?assertEqual(ok, peer:call(Vm, barrel_p2p_native, ensure_loaded, [Options])),
        ?assertEqual(already_loaded, peer:call(Vm, barrel_p2p_nif, load, [Stub]))
    end).

a_reload_is_refused_after_loading(Stub) ->
    with_vm([], fun(Vm) ->
        Options = #{file => Stub, stub => true},
        ok = peer:call(Vm, barrel_p2p_native, ensure_loaded, [Options]),
        ?assertEqual(true, peer:call(Vm, code, is_sticky, [barrel_p2p_nif])),
        ?assertEqual({error, sticky_directory}, peer:call(Vm, code, load_file, [barrel_p2p_nif])),
        ?assertMatch(#{kind := stub}, peer:call(Vm, barrel_p2p_nif, build_info, []))
    end).

an_older_library_is_incomplete(Dir) ->
    File = compile(
        Dir,
        "older",
        "static ERL_NIF_TERM f(ErlNifEnv *e, int c, const ERL_NIF_TERM v[])\n"
        "{ (void)c; (void)v; return enif_make_atom(e, \"ok\"); }\n"
        "static ErlNifFunc fs[] = {{\"build_info\", 0, f, 0}};\n"
        "ERL_NIF_INIT(barrel_p2p_nif, fs, NULL, NULL, NULL, NULL)\n"
    ),
    with_vm([{"BARREL_P2P_NIF", File}], fun(Vm) ->
        {error, {incomplete, File, Missing} = Reason} = peer:call(Vm, barrel_p2p_native, ensure_loaded, []),
        ?assert(lists:member({dist_send, 2}, Missing)),
        ?assertNot(lists:member({build_info, 0}, Missing)),
        assert_text(Reason, [File, "dist_send/2"]),
        ?assertEqual({error, Reason}, peer:call(Vm, barrel_p2p_native, ensure_loaded, []))
    end).

an_archive_is_explained() ->
    File = "/somewhere/barrel_p2p-0.1.0.ez/barrel_p2p-0.1.0/priv/barrel_p2p_nif.so",
    assert_text({not_found, File}, [File, "archive or escript", "BARREL_P2P_NIF"]).

%% `-pa checkout/ebin': no directory of the code path is called barrel_p2p.
priv_is_found_beside_any_ebin(Dir) ->
    Ebin = filename:join([Dir, "checkout", "ebin"]),
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    [
        {ok, _} = file:copy(code:which(M), filename:join(Ebin, atom_to_list(M) ++ ".beam"))
     || M <- [barrel_p2p_nif, barrel_p2p_native]
    ],
    with_vm([], Ebin, fun(Vm) ->
        ?assertEqual(
            filename:join([Dir, "checkout", "priv", "barrel_p2p_nif.so"]),
            peer:call(Vm, barrel_p2p_native, file, [])
        )
    end).

%%%===================================================================
%%% Internal
%%%===================================================================

assert_text(Reason, Parts) ->
    Text = unicode:characters_to_list(barrel_p2p_native:format_error(Reason)),
    [?assert(is_list(string:find(Text, Part)), {missing, Part, in, Text}) || Part <- Parts].

nif_version() ->
    erlang:system_info(nif_version).

with_vm(Environment, Fun) ->
    with_vm(Environment, filename:dirname(code:which(barrel_p2p_nif)), Fun).

with_vm(Environment, Ebin, Fun) ->
    {ok, Vm, _Node} = peer:start(#{
        connection => standard_io,
        env => [{"BARREL_P2P_NIF", ""} || not lists:keymember("BARREL_P2P_NIF", 1, Environment)] ++ Environment,
        args => ["-pa", Ebin]
    }),
    try
        Fun(Vm)
    after
        peer:stop(Vm)
    end.

build_stub(Dir) ->
    File = filename:join(Dir, "stub.so"),
    Script = filename:join([barrel_p2p_boundary_tests:project_root(), "c_src_stub", "build.sh"]),
    command("sh " ++ Script ++ " " ++ File),
    File.

compile(Dir, Name, Body) ->
    Source = filename:join(Dir, Name ++ ".c"),
    File = filename:join(Dir, Name ++ ".so"),
    ok = file:write_file(Source, ["#include <erl_nif.h>\n", Body]),
    Headers = filename:join([code:root_dir(), "usr", "include"]),
    command("cc -shared -fPIC -I" ++ Headers ++ " -o " ++ File ++ " " ++ Source),
    File.

command(Command) ->
    Marked = os:cmd("{ " ++ Command ++ "; } 2>&1 && echo DONE"),
    ?assertEqual("DONE\n", Marked, Command).

scratch(Name) ->
    Unique = io_lib:format("barrel_p2p_~s_~s_~b", [Name, os:getpid(), erlang:unique_integer([positive])]),
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), lists:flatten(Unique)),
    ok = file:make_dir(Dir),
    Dir.

delete(Dir) ->
    ok = file:del_dir_r(Dir).
