%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Runs `barrel_bare': QUIC without the BEAM, as if it were a carrier.
%%%
%%% The listener is a process of the operating system that ends when its standard
%%% input does, so it never outlives the one who started it.
-module(barrel_p2p_bench_bare).

-export([listen/2, stop/1, measure/3]).
%% Internal, exported for tests
-export([parse/1]).

-export_type([listener/0, command/0]).

%% A program, and the words before its own arguments.
-type command() :: {file:filename(), [string()]}.
-type listener() :: #{port := port(), address := string()}.

-define(PATIENCE_MS, 180000).

%% @doc Starts a listener at an IP address.
-spec listen(command(), Ip :: string()) -> listener().
listen(Command, Ip) ->
    Port = start(Command, ["listen", Ip]),
    receive
        {Port, {data, {eol, "listening " ++ Address}}} -> #{port => Port, address => Address};
        {Port, Other} -> exit({bare_does_not_listen, Other})
    after ?PATIENCE_MS -> exit(bare_does_not_listen)
    end.

-spec stop(listener()) -> ok.
stop(#{port := Port}) ->
    true = port_close(Port),
    ok.

%% @doc One measurement: a command of the program with its options. Answers what the program prints.
-spec measure(command(), Arguments :: [string()], listener()) -> #{atom() => non_neg_integer()}.
measure(Command, [Verb | Options], #{address := Address}) ->
    Port = start(Command, [Verb, Address | Options]),
    said(Port, []).

said(Port, Lines) ->
    receive
        {Port, {data, {eol, Line}}} -> said(Port, [Line | Lines]);
        {Port, {exit_status, 0}} -> parse(hd(Lines));
        {Port, {exit_status, Status}} -> exit({bare_failed, Status, lists:reverse(Lines)})
    after ?PATIENCE_MS -> exit({bare_does_not_end, lists:reverse(Lines)})
    end.

%% @private `name key=value ...'
-spec parse(string()) -> #{atom() => non_neg_integer()}.
parse(Line) ->
    [_Name | Words] = string:lexemes(Line, " "),
    maps:from_list([
        {list_to_atom(Key), list_to_integer(Value)}
     || Word <- Words, [Key, Value] <- [string:split(Word, "=")]
    ]).

start({Program, Before}, Arguments) ->
    open_port({spawn_executable, Program}, [
        {args, Before ++ Arguments}, {line, 4096}, exit_status, stderr_to_stdout
    ]).
