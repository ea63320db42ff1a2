#!/usr/bin/env escript
%%! -noinput
%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% A Hex package, format 3, from the file list of the application resource
%%% file. The same sources give the same bytes: times and owners are zero.

main([Root, Output]) ->
    ok = file:set_cwd(Root),
    {ok, [{application, App, Keys}]} = file:consult("erlang_src/barrel_p2p.app.src"),
    Version = proplists:get_value(vsn, Keys),
    Excluded = [compile(P) || P <- proplists:get_value(exclude_patterns, Keys, [])],
    Files = [F || F <- expand(proplists:get_value(files, Keys)), not excluded(F, Excluded)],
    Name = atom_to_list(App) ++ "-" ++ Version ++ ".tar",
    File = filename:join(Output, Name),
    ok = filelib:ensure_dir(File),

    Format = <<"3">>,
    Metadata = unicode:characters_to_binary(metadata(atom_to_binary(App), Keys, Files)),
    Contents = zlib:gzip(tar([{F, read(F), mode(F)} || F <- Files])),
    Checksum = crypto:hash(sha256, [Format, Metadata, Contents]),
    ok = file:write_file(
        File,
        tar([
            {"VERSION", Format, 8#644},
            {"CHECKSUM", << <<(hex(D))>> || <<D:4>> <= Checksum >>, 8#644},
            {"metadata.config", Metadata, 8#644},
            {"contents.tar.gz", Contents, 8#644}
        ])
    ),
    io:format("package: ~ts (~b files, ~b bytes)~n", [File, length(Files), filelib:file_size(File)]);
main(_) ->
    io:put_chars(standard_error, "usage: package.escript ROOT OUTPUT_DIRECTORY\n"),
    halt(2).

%% Files and directories of the list, sorted; what is not there is an error.
expand(Names) ->
    lists:usort(lists:append([walk(N) || N <- Names])).

walk(Name) ->
    case {filelib:is_dir(Name), filelib:is_regular(Name)} of
        {true, _} ->
            {ok, Entries} = file:list_dir_all(Name),
            lists:append([walk(filename:join(Name, E)) || E <- Entries]);
        {false, true} ->
            [Name];
        {false, false} ->
            io:format(standard_error, "package: ~ts is in the file list and not here~n", [Name]),
            halt(1)
    end.

compile(Pattern) ->
    {ok, Compiled} = re:compile(Pattern),
    Compiled.

excluded(File, Patterns) ->
    lists:any(fun(P) -> re:run(File, P, [{capture, none}]) =:= match end, Patterns).

metadata(App, Keys, Files) ->
    Strings = fun(L) -> [list_to_binary(S) || S <- L] end,
    Terms = [
        {<<"name">>, App},
        {<<"app">>, App},
        {<<"version">>, list_to_binary(proplists:get_value(vsn, Keys))},
        {<<"description">>, list_to_binary(proplists:get_value(description, Keys))},
        {<<"licenses">>, Strings(proplists:get_value(licenses, Keys))},
        {<<"links">>, [{list_to_binary(K), list_to_binary(V)} || {K, V} <- proplists:get_value(links, Keys)]},
        {<<"build_tools">>, [<<"rebar3">>]},
        {<<"requirements">>, []},
        {<<"files">>, Strings(Files)}
    ],
    [io_lib:format("~p.~n", [T]) || T <- Terms].

tar(Entries) ->
    File = filename:join(
        os:getenv("TMPDIR", "/tmp"),
        "barrel_p2p_package_" ++ os:getpid() ++ "_" ++ integer_to_list(erlang:unique_integer([positive]))
    ),
    {ok, Tar} = erl_tar:open(File, [write]),
    try
        [
            ok = erl_tar:add(Tar, Bytes, Name, [{mode, Mode}, {mtime, 0}, {atime, 0}, {ctime, 0}, {uid, 0}, {gid, 0}])
         || {Name, Bytes, Mode} <- Entries
        ],
        ok = erl_tar:close(Tar),
        read(File)
    after
        ok = file:delete(File)
    end.

read(File) ->
    {ok, Bytes} = file:read_file(File),
    Bytes.

mode(File) ->
    {ok, Info} = file:read_file_info(File),
    %% record file_info: mode is the eighth element
    case element(8, Info) band 8#100 of
        0 -> 8#644;
        _ -> 8#755
    end.

hex(D) when D < 10 -> $0 + D;
hex(D) -> $A + D - 10.
