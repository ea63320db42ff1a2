%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc A process on the other side: a server that adds, and sends back what it gets.
-module(demo_worker).
-behaviour(gen_server).

%% API
-export([start/0, die_when_told/0]).
%% gen_server
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {
    sum = 0 :: integer(),
    %% of the last binary that was sent back
    digest = none :: binary() | none
}).

%% @doc Starts the server of this node, under the name of this module.
-spec start() -> pid().
start() ->
    {ok, Pid} = gen_server:start({local, ?MODULE}, ?MODULE, [], []),
    Pid.

%% @doc A process that lives until it is told what to die of.
-spec die_when_told() -> no_return().
die_when_told() ->
    receive
        {die, Reason} -> exit(Reason)
    end.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, #state{}}.

-spec handle_call({add, integer()} | digest, gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({add, N}, _From, #state{sum = Sum} = State) ->
    {reply, Sum + N, State#state{sum = Sum + N}};
handle_call(digest, _From, #state{digest = Digest} = State) ->
    {reply, Digest, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

-spec handle_info({echo, pid(), term()}, #state{}) -> {noreply, #state{}}.
handle_info({echo, From, Binary}, State) when is_binary(Binary) ->
    From ! {echoed, self(), Binary},
    {noreply, State#state{digest = crypto:hash(sha256, Binary)}};
handle_info({echo, From, Term}, State) ->
    From ! {echoed, self(), Term},
    {noreply, State}.
