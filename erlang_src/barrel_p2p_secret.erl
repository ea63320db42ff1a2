%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Answers which secret proves that a peer belongs to this cluster.
%%%
%%% Rust asks once per incoming handshake, because cookies change at run time;
%%% the side that dials asks {@link secret_for/1} in its own process. The secret
%%% is `cluster_secret' when it is configured, else the cookie this node holds
%%% for the peer, else the node's own. It is not a store: nothing is kept.
%%%
%%% A name that a stranger sent never becomes an atom here. A node without any
%%% secret answers nothing, and the handshake ends at its deadline: an empty or
%%% well-known secret would admit everybody.
%%%
%%% Requests are served one after the other. Each may ask the `auth' server of
%%% the kernel, which answers from its own table and waits for nobody, so one
%%% handshake cannot hold up another.
%%%
%%% Who may call: `barrel_p2p_dist' before it dials; the supervisor.
-module(barrel_p2p_secret).
-behaviour(gen_server).

%% API
-export([start_link/0, secret_for/1, find_secret/1]).
%% gen_server
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%%%===================================================================
%%% API
%%%===================================================================

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The secret shared with a node. Raises `no_secret' when this node has none,
%% which does not happen while distribution runs.
-spec secret_for(node() | binary()) -> binary().
secret_for(Node) ->
    case find_secret(Node) of
        {ok, Secret} -> Secret;
        {error, Reason} -> error(Reason)
    end.

%% @doc The secret shared with a peer, by node name or by host for a client.
-spec find_secret(node() | binary()) -> {ok, binary()} | {error, no_secret}.
find_secret(Peer) ->
    case barrel_p2p_config:get(cluster_secret) of
        undefined -> cookie_secret(cookie(Peer));
        Secret -> {ok, Secret}
    end.

%%%===================================================================
%%% gen_server
%%%===================================================================

-spec init([]) -> {ok, nothing}.
init([]) ->
    {ok, nothing}.

-spec handle_call(term(), gen_server:from(), State) -> {reply, {error, unknown_call}, State}.
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), State) -> {noreply, State}.
handle_cast(_Message, State) ->
    {noreply, State}.

-spec handle_info(term(), State) -> {noreply, State}.
handle_info({barrel_p2p, Endpoint, {secret, Id, Name}}, State) ->
    case find_secret(Name) of
        {ok, Secret} ->
            ok = barrel_p2p_nif:node_secret(Endpoint, Id, Secret);
        {error, no_secret} ->
            report_once(Name)
    end,
    {noreply, State};
handle_info(_Message, State) ->
    {noreply, State}.

%%%===================================================================
%%% Internal
%%%===================================================================

cookie(Peer) when is_binary(Peer) ->
    %% Only a node name may have a cookie of its own; a client sends its host.
    case binary:match(Peer, <<"@">>) of
        nomatch ->
            own_cookie();
        _ ->
            try binary_to_existing_atom(Peer, utf8) of
                Node -> cookie(Node)
            catch
                error:badarg -> own_cookie()
            end
    end;
cookie(Node) when is_atom(Node) ->
    try
        erlang:get_cookie(Node)
    catch
        %% distribution stops at this moment
        exit:_ -> nocookie
    end.

own_cookie() ->
    try
        erlang:get_cookie()
    catch
        exit:_ -> nocookie
    end.

cookie_secret(nocookie) ->
    {error, no_secret};
cookie_secret(Cookie) ->
    case atom_to_binary(Cookie, utf8) of
        <<>> -> {error, no_secret};
        Secret -> {ok, Secret}
    end.

%% Strangers cause this, so it is said once per VM.
report_once(Name) ->
    case persistent_term:get({?MODULE, reported}, false) of
        true ->
            ok;
        false ->
            persistent_term:put({?MODULE, reported}, true),
            barrel_p2p_log:report(error, "a peer was refused because this node has no secret", #{
                peer => Name,
                remedy => <<"configure cluster_secret, since a node without distribution has no cookie">>
            })
    end.
