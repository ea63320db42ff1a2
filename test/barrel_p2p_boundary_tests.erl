%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The modules that call `barrel_p2p_nif' are those that ARCHITECTURE.md
%%% lists, one reason each, between two marker comments.
-module(barrel_p2p_boundary_tests).

-include_lib("eunit/include/eunit.hrl").

%% For other tests
-export([project_root/0]).

-define(OPEN, "<!-- boundary-callers -->").
-define(CLOSE, "<!-- /boundary-callers -->").

the_callers_of_the_boundary_are_those_that_architecture_lists_test() ->
    ?assertEqual(documented_callers(), actual_callers()).

every_caller_has_a_reason_test() ->
    ?assertEqual([], [Row || {_Module, ""} = Row <- rows()]).

%% @doc The directory of the sources, wherever rebar3 builds and runs.
-spec project_root() -> file:filename().
project_root() ->
    {ok, Cwd} = file:get_cwd(),
    Source = proplists:get_value(source, ?MODULE:module_info(compile), Cwd),
    Starts = [Cwd, filename:dirname(code:which(barrel_p2p_nif)), filename:dirname(Source)],
    case lists:append([search_up(filename:absname(S)) || S <- Starts]) of
        [Root | _] -> Root;
        [] -> error({no_project_root_above, Starts})
    end.

%%%===================================================================
%%% Internal
%%%===================================================================

search_up(Dir) ->
    Marks = ["rebar.config", "Cargo.toml", "erlang_src"],
    case {lists:all(fun(M) -> filelib:is_file(filename:join(Dir, M)) end, Marks), filename:dirname(Dir)} of
        {true, _} -> [Dir];
        {false, Dir} -> [];
        {false, Parent} -> search_up(Parent)
    end.

actual_callers() ->
    {ok, Server} = xref:start([]),
    try
        ok = xref:set_default(Server, [{warnings, false}, {verbose, false}]),
        {ok, _} = xref:add_directory(Server, filename:dirname(code:which(barrel_p2p_nif))),
        {ok, Modules} = xref:q(Server, "domain (ME || \"barrel_p2p_nif\" : Mod)"),
        lists:sort(Modules -- [barrel_p2p_nif])
    after
        xref:stop(Server)
    end.

documented_callers() ->
    lists:sort([Module || {Module, _Reason} <- rows()]).

rows() ->
    File = filename:join(project_root(), "ARCHITECTURE.md"),
    {ok, Text} = file:read_file(File),
    [_, Rest] = string:split(Text, ?OPEN),
    [Table, _] = string:split(Rest, ?CLOSE),
    [
        {list_to_atom(Name), string:trim(Reason)}
     || Line <- string:lexemes(unicode:characters_to_list(Table), "\n"),
        {match, [Name, Reason]} <- [
            re:run(Line, "^\\|\\s*`(\\w+)`\\s*\\|([^|]*)\\|", [{capture, all_but_first, list}])
        ]
    ].
