%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc A node as an operating system process, spoken to over its standard input
%%% and output: the distribution then carries nothing but what the story is about.
%%%
%%% There are two parties. The teller starts a node with {@link start/3} and asks
%%% it to call functions; the node runs {@link serve/0}. A question is a line, the
%%% term in base64, and so is the answer. `peer' of OTP would serve as well, but its
%%% supervisor holds up `init:stop/0' for a second, which the story measures.
-module(demo_control).

%% The teller
-export([start/3, call/5, cast/4, await_end/2]).
%% The node
-export([serve/0]).

-export_type([control/0]).

-opaque control() :: port().

%% An answer is a few hundred bytes; a log entry a few thousand.
-define(MAX_LINE, 1048576).

%% @doc Starts a node in a directory, and waits until it serves.
-spec start(Args :: [string()], Dir :: file:filename(), timeout()) -> {ok, control()} | {error, term()}.
start(Args, Dir, Timeout) ->
    Port = open_port({spawn_executable, os:getenv("BARREL_P2P_DEMO_ERL")}, [
        {args, Args ++ ["-noshell", "-s", "demo_control", "serve"]},
        {cd, Dir},
        {line, ?MAX_LINE},
        binary,
        exit_status
    ]),
    case call(Port, erlang, node, [], Timeout) of
        {ok, _Node} -> {ok, Port};
        {error, _} = Error -> Error
    end.

%% @doc Calls a function in a process of its own in the node.
-spec call(control(), module(), atom(), [term()], timeout()) -> {ok, term()} | {error, term()}.
call(Port, Module, Function, Args, Timeout) ->
    Ref = make_ref(),
    true = port_command(Port, line({Ref, Module, Function, Args})),
    await_answer(Port, Ref, Timeout).

%% @doc Calls a function, and does not wait for its answer.
-spec cast(control(), module(), atom(), [term()]) -> ok.
cast(Port, Module, Function, Args) ->
    true = port_command(Port, line({none, Module, Function, Args})),
    ok.

%% @doc Waits until the operating system process has ended.
-spec await_end(control(), timeout()) -> ok | {error, timeout}.
await_end(Port, Timeout) ->
    receive
        {Port, {exit_status, _}} -> ok
    after Timeout -> {error, timeout}
    end.

%% @doc Answers questions until the input ends, which ends the node.
-spec serve() -> ok.
serve() ->
    _ = spawn(fun() -> serve_loop() end),
    ok.

%%%===================================================================
%%% Internal
%%%===================================================================

await_answer(Port, Ref, Timeout) ->
    receive
        {Port, {data, {eol, Line}}} ->
            case decode(Line) of
                {Ref, Answer} -> Answer;
                %% an answer that came too late, or what somebody printed
                _ -> await_answer(Port, Ref, Timeout)
            end;
        {Port, {exit_status, Status}} ->
            {error, {ended, Status}}
    after Timeout -> {error, timeout}
    end.

serve_loop() ->
    case io:get_line(standard_io, "") of
        Line when is_list(Line); is_binary(Line) ->
            _ = spawn(fun() -> answer(decode(iolist_to_binary(string:trim(Line)))) end),
            serve_loop();
        _ ->
            erlang:halt()
    end.

answer({none, Module, Function, Args}) ->
    apply(Module, Function, Args);
answer({Ref, Module, Function, Args}) ->
    Answer =
        try
            {ok, apply(Module, Function, Args)}
        catch
            Class:Reason:Stack -> {error, {Class, Reason, Stack}}
        end,
    io:put_chars(standard_io, line({Ref, Answer})).

line(Term) ->
    [base64:encode(term_to_binary(Term)), $\n].

decode(Line) ->
    try
        binary_to_term(base64:decode(Line))
    catch
        error:_ -> not_ours
    end.
