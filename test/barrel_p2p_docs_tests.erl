%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The documents name what there is: each key of the configuration with its
%%% default, each function of the boundary, the version of Rust. Their links lead
%%% somewhere.
-module(barrel_p2p_docs_tests).

-include_lib("eunit/include/eunit.hrl").

%%%===================================================================
%%% docs/configuration.md
%%%===================================================================

every_key_of_the_schema_has_one_row_and_no_row_is_of_another_test() ->
    Keys = [Key || {Key, _, _, _} <- barrel_p2p_config:schema()],
    ?assertEqual(lists:sort(Keys), lists:sort([Key || {Key, _} <- configuration_rows()])).

the_defaults_are_those_of_the_schema_test() ->
    Rows = configuration_rows(),
    Plain = [{Key, Default} || {Key, Type, Default, _} <- barrel_p2p_config:schema(), Type =/= directory],
    Wrong = [
        {Key, Default, proplists:get_value(Key, Rows)}
     || {Key, Default} <- Plain, without_blanks(proplists:get_value(Key, Rows, "")) =/= "`" ++ text(Default) ++ "`"
    ],
    ?assertEqual([], Wrong).

directories_that_hold_the_name_of_the_node_are_shown_so_test() ->
    Rows = configuration_rows(),
    Named = [{Key, Leaf} || {Key, directory, {node_dir, Leaf}, _} <- barrel_p2p_config:schema()],
    ?assertEqual(
        [{Key, "`data/<node>/" ++ Leaf ++ "`"} || {Key, Leaf} <- Named],
        [{Key, proplists:get_value(Key, Rows)} || {Key, _} <- Named]
    ).

a_key_is_said_to_have_an_effect_when_some_module_reads_it_test() ->
    [Effective, Idle] = string:split(read("docs/configuration.md"), "## Keys without an effect yet"),
    Used = [Key || {Key, _} <- rows(Effective), is_read(Key)],
    ?assertEqual([Key || {Key, _} <- rows(Effective), is_key(Key)], Used),
    ?assertEqual([], [Key || {Key, _} <- rows(Idle), is_key(Key), is_read(Key)]).

ignored_keys_are_named_test() ->
    Text = read("docs/configuration.md"),
    [_, Section] = string:split(Text, "## Keys of the published 0.1 API"),
    [Ignored, Refused] = string:split(Section, "`cookie_only_nodes` stops the start"),
    {match, Matches} = re:run(Ignored, "`([a-z_]+)`", [global, {capture, [1], list}]),
    Names = [list_to_atom(Name) || [Name] <- Matches],
    {ok, _, Warnings} = barrel_p2p_config:validate([{Name, 1} || Name <- Names]),
    ?assertEqual(lists:sort(Names), lists:sort([Key || {Key, _Reason} <- Warnings])),
    ?assertMatch({error, [#{problem := refused}]}, barrel_p2p_config:validate([{cookie_only_nodes, []}])),
    ?assertNotEqual(<<>>, Refused).

%%%===================================================================
%%% docs/boundary.md
%%%===================================================================

every_function_of_the_boundary_has_one_row_test() ->
    Text = read("docs/boundary.md"),
    {match, Matches} = re:run(Text, "^\\| `(\\w+)/(\\d)` \\|", [global, multiline, {capture, [1, 2], list}]),
    Documented = [{list_to_atom(F), list_to_integer(A)} || [F, A] <- Matches],
    Exported = barrel_p2p_nif:module_info(exports) -- [{module_info, 0}, {module_info, 1}],
    ?assertEqual(lists:sort(Exported), lists:sort(Documented)).

%% Rust schedules a function on a dirty scheduler by an attribute above it.
functions_marked_dirty_are_those_that_rust_marks_test() ->
    Marked = matches("docs/boundary.md", "^\\| `(\\w+)/\\d` \\| dirty \\|"),
    Sources = filelib:wildcard(filename:join([root(), "native", "barrel_nif", "src", "*.rs"])),
    Dirty = lists:append([
        matches_in(File, "schedule = \"DirtyIo\"\\)\\]\\s*fn (\\w+)") || File <- Sources
    ]),
    ?assertEqual(lists:sort(Dirty), lists:sort(Marked)).

every_signal_of_the_boundary_module_is_in_the_document_test() ->
    Table = matches("erlang_src/barrel_p2p_nif.erl", "^%%% (?:node|stream|log) +(\\{?\\w+)"),
    Documented = matches("docs/boundary.md", "^\\| (?:node|stream|`log`) \\| `(\\{?\\w+)"),
    ?assertEqual(lists:sort(Table), lists:sort(Documented)).

%%%===================================================================
%%% docs/wire.md
%%%===================================================================

every_close_code_has_its_number_test() ->
    Source = matches_pairs("native/barrel_quic/src/seam.rs", "\\((\\d+), Code::\\w+, \"(\\w+)\"\\)"),
    Documented = matches_pairs("docs/wire.md", "^\\| (\\d+) \\| `(\\w+)` \\|"),
    ?assertNotEqual([], Source),
    ?assertEqual(Source, Documented).

%%%===================================================================
%%% The others
%%%===================================================================

the_readme_names_the_rust_that_is_needed_test() ->
    [Version] = matches("Cargo.toml", "^rust-version = \"([0-9.]+)\""),
    ?assertMatch({match, _}, re:run(read("README.md"), "Rust " ++ Version ++ " or\\s+newer")).

the_changelog_has_a_section_for_this_version_test() ->
    _ = application:load(barrel_p2p),
    {ok, Version} = application:get_key(barrel_p2p, vsn),
    ?assertMatch({match, _}, re:run(read("CHANGELOG.md"), "^## " ++ Version, [multiline])).

links_between_documents_lead_to_a_file_and_a_heading_test_() ->
    [{File, fun() -> ?assertEqual([], broken_links(File)) end} || File <- documents()].

%%%===================================================================
%%% Internal
%%%===================================================================

documents() ->
    ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"] ++
        ["docs/" ++ filename:basename(F) || F <- filelib:wildcard(filename:join([root(), "docs", "*.md"]))].

broken_links(File) ->
    Links = matches(File, "\\]\\(([^)\\s]+)\\)"),
    [Link || Link <- Links, not is_elsewhere(Link), not leads_somewhere(File, Link)].

is_elsewhere(Link) ->
    lists:any(fun(Scheme) -> lists:prefix(Scheme, Link) end, ["https:", "http:", "mailto:"]).

leads_somewhere(From, Link) ->
    {Name, Anchor} =
        case string:split(Link, "#") of
            [N, A] -> {N, A};
            [N] -> {N, none}
        end,
    Target =
        case Name of
            "" -> From;
            _ -> filename:join(filename:dirname(From), Name)
        end,
    filelib:is_file(filename:join(root(), Target)) andalso
        (Anchor =:= none orelse lists:member(Anchor, anchors(Target))).

%% As the common renderers make them: lower case, blanks to dashes, no punctuation.
anchors(File) ->
    [
        re:replace(
            re:replace(string:lowercase(Heading), "[^a-z0-9 _-]", "", [global, {return, list}]),
            " ", "-", [global, {return, list}]
        )
     || Heading <- matches(File, "^#+ (.+)$")
    ].

configuration_rows() ->
    [Row || {Key, _} = Row <- rows(read("docs/configuration.md")), is_key(Key)].

%% Rows of three columns that begin with a name in back quotes.
rows(Text) ->
    {match, Matches} = re:run(
        Text,
        "^\\| `(\\w+)` \\| (.+?) \\| .+ \\|$",
        [global, multiline, {capture, [1, 2], list}]
    ),
    [{list_to_atom(Key), Default} || [Key, Default] <- Matches].

is_key(Key) ->
    lists:keymember(Key, 1, barrel_p2p_config:schema()).

%% Some module but the table itself and the boundary names the key.
is_read(Key) ->
    Sources = filelib:wildcard(filename:join([root(), "erlang_src", "*.erl"])),
    Readers = [
        File
     || File <- Sources,
        not lists:member(filename:basename(File), ["barrel_p2p_config.erl", "barrel_p2p_nif.erl"]),
        matches_in(File, "(?:get|configured|raw)\\((" ++ atom_to_list(Key) ++ ")\\b") =/= []
    ],
    Readers =/= [].

text(Term) ->
    without_blanks(lists:flatten(io_lib:format("~0p", [Term]))).

without_blanks(Text) ->
    [C || C <- Text, C =/= $\s].

matches(File, Pattern) ->
    matches_in(filename:join(root(), File), Pattern).

matches_in(File, Pattern) ->
    {ok, Text} = file:read_file(File),
    case re:run(Text, Pattern, [global, multiline, {capture, [1], list}]) of
        {match, Matches} -> [Match || [Match] <- Matches];
        nomatch -> []
    end.

matches_pairs(File, Pattern) ->
    {match, Matches} = re:run(read(File), Pattern, [global, multiline, {capture, [1, 2], list}]),
    Matches.

read(File) ->
    {ok, Text} = file:read_file(filename:join(root(), File)),
    Text.

root() ->
    barrel_p2p_boundary_tests:project_root().
