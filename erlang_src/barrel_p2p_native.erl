%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Loads the Rust core, and says what to do when that fails.
%%%
%%% It is not a process and keeps no state: the VM knows whether a library is
%%% loaded. It uses neither the file server nor any application, because the
%%% carrier calls it while the node boots. It never falls back to the C
%%% stand-in: one that is found is an error.
%%%
%%% Who may call: `barrel_p2p_dist' (before it listens), `barrel_p2p_app' (at
%%% start), and every module that uses `barrel_p2p_nif' outside a running
%%% application, such as `barrel_p2p_dist_auth'.
-module(barrel_p2p_native).

-include_lib("kernel/include/file.hrl").

%% API
-export([ensure_loaded/0, ensure_loaded/1, file/0, format_error/1]).

-export_type([options/0, reason/0]).

-type options() :: #{
    %% library to load instead of the one that file/0 names
    file => file:filename(),
    %% accept the C stand-in; for the contract test
    stub => boolean()
}.
-type reason() ::
    {not_found, File :: string()}
    %% what erlang:load_nif/2 said
    | {Kind :: atom(), File :: string(), Text :: string()}
    %% the library has not all functions: it belongs to another version
    | {incomplete, File :: string(), [{atom(), arity()}]}
    %% the C stand-in
    | {stub, File :: string()}.

-define(ENVIRONMENT, "BARREL_P2P_NIF").

%%%===================================================================
%%% API
%%%===================================================================

%% @doc Loads the library once; called again it answers the same at once.
-spec ensure_loaded() -> ok | {error, reason()}.
ensure_loaded() ->
    ensure_loaded(#{}).

-spec ensure_loaded(options()) -> ok | {error, reason()}.
ensure_loaded(Options) ->
    File =
        case Options of
            #{file := Given} -> Given;
            _ -> file()
        end,
    case missing() of
        [] ->
            check_kind(File, Options);
        _ ->
            case load(File) of
                ok -> check_functions(File, Options);
                {error, _} = Error -> Error
            end
    end.

%% @doc The library that {@link ensure_loaded/0} loads: the environment variable
%% `BARREL_P2P_NIF' when it is set, else `barrel_p2p_nif.so' in the priv directory.
-spec file() -> file:filename().
file() ->
    case os:getenv(?ENVIRONMENT) of
        Unset when Unset =:= false; Unset =:= "" ->
            filename:join(priv_dir(), "barrel_p2p_nif.so");
        File ->
            File
    end.

%% @doc A text for people: file, VM, what went wrong, and the remedy.
-spec format_error(reason()) -> iolist().
format_error({not_found, File} = Reason) ->
    message(File, "there is no such file", remedy(Reason));
format_error({incomplete, File, Missing}) ->
    Names = lists:join(", ", [io_lib:format("~s/~b", [F, A]) || {F, A} <- Missing]),
    message(File, ["it lacks ", Names], remedy(rebuild));
format_error({stub, File}) ->
    message(File, "it is the C stand-in, which does nothing", remedy(rebuild));
format_error({_Kind, File, Text} = Reason) ->
    message(File, Text, remedy(Reason)).

%%%===================================================================
%%% Internal
%%%===================================================================

%% The code path knows no priv directory when `-pa' names an ebin directory
%% whose parent is not called barrel_p2p; the module's own place helps then.
priv_dir() ->
    case code:priv_dir(barrel_p2p) of
        {error, bad_name} -> priv_beside(code:which(barrel_p2p_nif));
        Dir -> Dir
    end.

priv_beside(Beam) when is_list(Beam) ->
    filename:join(filename:dirname(filename:dirname(Beam)), "priv");
priv_beside(_NoFile) ->
    %% preloaded from memory or cover-compiled: nothing to go by
    "priv".

load(File) ->
    Base = filename:rootname(File, ".so"),
    case barrel_p2p_nif:load(Base) of
        ok ->
            stick();
        already_loaded ->
            ok;
        {error, {Kind, Text}} ->
            case erl_prim_loader:read_file_info(Base ++ ".so") of
                error -> {error, {not_found, Base ++ ".so"}};
                {ok, _} -> {error, {Kind, Base ++ ".so", Text}}
            end
    end.

%% A reload of the module would take its native functions away, and with them
%% every distribution channel of this node.
stick() ->
    _ = code:stick_mod(barrel_p2p_nif),
    ok.

check_functions(File, Options) ->
    case missing() of
        [] -> check_kind(File, Options);
        Missing -> {error, {incomplete, File, Missing}}
    end.

check_kind(File, Options) ->
    case {barrel_p2p_nif:build_info(), Options} of
        {#{kind := stub}, #{stub := true}} -> ok;
        {#{kind := stub}, _} -> {error, {stub, File}};
        {#{kind := native}, _} -> ok
    end.

missing() ->
    Exports = barrel_p2p_nif:module_info(exports) -- [{module_info, 0}, {module_info, 1}],
    lists:sort(Exports) -- barrel_p2p_nif:module_info(nifs).

message(File, Problem, Remedy) ->
    io_lib:format(
        "barrel_p2p cannot use its native library ~ts~n"
        "  problem: ~ts~n"
        "  this VM: OTP ~s, NIF version ~s, ~s~n"
        "  remedy:  ~ts~n",
        [
            File,
            Problem,
            erlang:system_info(otp_release),
            erlang:system_info(nif_version),
            erlang:system_info(system_architecture),
            Remedy
        ]
    ).

remedy({not_found, File}) ->
    case inside_archive(File) of
        true ->
            "an archive or escript cannot hold a library: unpack barrel_p2p, "
            "or name the file in the environment variable " ?ENVIRONMENT;
        false ->
            remedy(rebuild)
    end;
remedy(rebuild) ->
    "`rebar3 compile' builds it; " ?ENVIRONMENT " in the environment names another file";
remedy({load_failed, _File, _Text}) ->
    "it must be built for this operating system and processor: run `rebar3 compile' on this "
    "machine or one like it; a file that is cut short must be built again";
remedy({bad_lib, _File, _Text}) ->
    "it was built for another version of barrel_p2p or for a newer NIF version than this VM's: "
    "run `rebar3 compile'";
remedy({upgrade, _File, _Text}) ->
    "the module was reloaded and lost its library, which cannot be loaded twice: restart the node";
remedy(_Other) ->
    "restart the node; if it stays, run `rebar3 compile'".

inside_archive(File) ->
    lists:any(
        fun(Part) -> lists:member(filename:extension(Part), [".ez", ".escript"]) end,
        filename:split(filename:dirname(File))
    ) orelse escript_is_file(filename:dirname(File)).

%% An escript without extension: one of the parents is a file, not a directory.
escript_is_file(Path) ->
    case {filename:dirname(Path), erl_prim_loader:read_file_info(Path)} of
        {Path, _} -> false;
        {_, {ok, #file_info{type = Type}}} -> Type =:= regular;
        {Parent, error} -> escript_is_file(Parent)
    end.
