%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The boundary is the same in Erlang, in Rust and in the C stand-in: what
%%% `barrel_p2p_nif' exports is what each library implements.
-module(barrel_p2p_nif_contract_tests).

-include_lib("eunit/include/eunit.hrl").

the_stand_in_test_() ->
    {setup, fun start_stub/0, fun stop/1, fun({_, Vm, _}) ->
        [
            {"it has every export", ?_test(every_export_is_native(Vm))},
            {"it says that it is a stub", ?_assertMatch(#{kind := stub}, build_info(Vm))}
            | [
                {lists:concat(["native_stub from ", F, "/", A]), ?_test(raises_native_stub(Vm, F, A))}
             || {F, A} <- exports() -- [{build_info, 0}, {load, 1}]
            ]
        ]
    end}.

the_real_library_test_() ->
    {setup, fun start_real/0, fun stop/1, fun({_, Vm, _}) ->
        [
            {"it has every export", ?_test(every_export_is_native(Vm))},
            {"it says what it is", ?_test(it_says_what_it_is(Vm))},
            {"it is loaded once",
                ?_assertEqual(already_loaded, peer:call(Vm, barrel_p2p_nif, load, ["elsewhere"]))}
        ]
    end}.

%% A function that is not replaced raises `native_not_loaded', never returns.
without_a_library_nothing_answers_test() ->
    {ok, Vm, _} = start_vm(),
    try
        [
            ?assertError(native_not_loaded, peer:call(Vm, barrel_p2p_nif, F, arguments(A)), {F, A})
         || {F, A} <- exports() -- [{load, 1}]
        ]
    after
        peer:stop(Vm)
    end.

every_export_is_native(Vm) ->
    ?assertEqual(exports(), lists:sort(peer:call(Vm, barrel_p2p_nif, module_info, [nifs]))).

raises_native_stub(Vm, Function, Arity) ->
    ?assertError(native_stub, peer:call(Vm, barrel_p2p_nif, Function, arguments(Arity))).

it_says_what_it_is(Vm) ->
    Info = build_info(Vm),
    ?assertMatch(
        #{kind := native, name := barrel_p2p_nif, version := <<_/binary>>, rustc := <<"rustc ", _/binary>>, features := []},
        Info
    ),
    {ok, [{application, barrel_p2p, Keys}]} =
        file:consult(filename:join(filename:dirname(code:which(barrel_p2p_nif)), "barrel_p2p.app")),
    {vsn, Version} = lists:keyfind(vsn, 1, Keys),
    ?assertEqual(list_to_binary(Version), maps:get(version, Info)).

%%%===================================================================
%%% Internal
%%%===================================================================

exports() ->
    lists:sort(barrel_p2p_nif:module_info(exports) -- [{module_info, 0}, {module_info, 1}]).

arguments(Arity) ->
    lists:duplicate(Arity, undefined).

build_info(Vm) ->
    peer:call(Vm, barrel_p2p_nif, build_info, []).

start_stub() ->
    Name = lists:concat(["barrel_p2p_contract_", os:getpid(), "_", erlang:unique_integer([positive]), ".so"]),
    File = filename:join(os:getenv("TMPDIR", "/tmp"), Name),
    Script = filename:join([barrel_p2p_boundary_tests:project_root(), "c_src_stub", "build.sh"]),
    "" = os:cmd("sh " ++ Script ++ " " ++ File ++ " 2>&1"),
    {ok, Vm, Node} = start_vm(),
    ok = peer:call(Vm, barrel_p2p_native, ensure_loaded, [#{file => File, stub => true}]),
    {File, Vm, Node}.

start_real() ->
    {ok, Vm, Node} = start_vm(),
    case peer:call(Vm, barrel_p2p_native, ensure_loaded, []) of
        ok ->
            {none, Vm, Node};
        {error, Reason} ->
            peer:stop(Vm),
            error({no_native_library, unicode:characters_to_list(barrel_p2p_native:format_error(Reason))})
    end.

start_vm() ->
    peer:start(#{
        connection => standard_io,
        args => ["-pa", filename:dirname(code:which(barrel_p2p_nif))]
    }).

stop({File, Vm, _Node}) ->
    peer:stop(Vm),
    [ok = file:delete(File) || File =/= none],
    ok.
