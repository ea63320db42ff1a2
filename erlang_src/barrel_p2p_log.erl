%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The log: everything this library says goes through here.
%%%
%%% There are two sources: Erlang modules call {@link report/3}, and Rust hands
%%% up its events, which this process drains. Both become `logger' reports below
%%% the domain `[barrel_p2p]', the second ones in `[barrel_p2p, native]'. It is
%%% not a handler and not a filter: where reports go is the user's business.
%%%
%%% OTP's default handler drops every domain but its own. Its filters are left alone
%%% when the user wrote them; when they are OTP's, a filter `barrel_p2p' is added that
%%% lets this domain through. Early in the boot there is only OTP's simple handler,
%%% which is replaced later and which prints bare terms: what is said then is a text
%%% without a domain, the one thing that both handlers show well. An error at that
%%% time mostly ends the VM before the handler's process has printed anything, so it
%%% is written straight to the terminal instead.
%%%
%%% {@link report/3} needs no process and works in early boot. The process only
%%% drains; when it dies its supervisor starts it again and nothing is lost but
%%% what Rust could not keep.
%%%
%%% Who may call: `report' every module of the library; `set_level' the facade.
-module(barrel_p2p_log).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

%% API
-export([start_link/0, set_level/1, report/2, report/3, format_report/1]).
%% gen_server
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([level/0]).

-type level() :: none | error | warning | notice | info | debug.

%%%===================================================================
%%% API
%%%===================================================================

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Sets the least severe level of both sides, at once.
-spec set_level(level()) -> ok | {error, bad_level | {native, term()}}.
set_level(Level) ->
    case lists:member(Level, [none, error, warning, notice, info, debug]) of
        true ->
            ok = logger:set_module_level(modules(), Level),
            set_native_level(Level);
        false ->
            {error, bad_level}
    end.

%% @doc A report without fields.
-spec report(logger:level(), binary() | string()) -> ok.
report(Level, What) ->
    report(Level, What, #{}).

%% @doc Logs what happened and its fields. A field `remedy' is what to do about it.
-spec report(logger:level(), binary() | string(), map()) -> ok.
report(Level, What, Fields) ->
    log(Level, Fields#{what => unicode:characters_to_binary(What)}, [barrel_p2p]).

%% @private One line for a report, the remedy last.
-spec format_report(map()) -> {io:format(), [term()]}.
format_report(#{what := What} = Report) ->
    Fields = maps:to_list(maps:without([what, target, fields, remedy], Report)),
    Native = lists:sort(maps:to_list(maps:get(fields, Report, #{}))),
    Target = [{target, T} || #{target := T} <- [Report]],
    Remedy = [{remedy, R} || #{remedy := R} <- [Report]],
    All = Target ++ lists:sort(Fields) ++ Native ++ Remedy,
    {"barrel_p2p: ~ts~ts", [What, [[", ", text(K), ": ", value(V)] || {K, V} <- All]]}.

%%%===================================================================
%%% gen_server
%%%===================================================================

-spec init([]) -> {ok, detached, {continue, attach}}.
init([]) ->
    {ok, detached, {continue, attach}}.

-spec handle_continue(attach, detached) -> {noreply, attached | detached}.
handle_continue(attach, detached) ->
    %% Whoever needs the library reports that it is missing; here it only means silence.
    case barrel_p2p_native:ensure_loaded() of
        ok ->
            ok = barrel_p2p_nif:log_attach(self()),
            %% The modules' own level stays as the user set it, unless log_level was configured.
            Level = barrel_p2p_config:get(log_level),
            _ =
                case barrel_p2p_config:configured(log_level) of
                    true -> set_level(Level);
                    false -> set_native_level(Level)
                end,
            self() ! drain,
            {noreply, attached};
        {error, _} ->
            {noreply, detached}
    end.

-spec handle_call(term(), gen_server:from(), State) -> {reply, {error, unknown_call}, State}.
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

-spec handle_cast(term(), State) -> {noreply, State}.
handle_cast(_Message, State) ->
    {noreply, State}.

-spec handle_info(term(), State) -> {noreply, State}.
handle_info({barrel_p2p, log, ready}, State) ->
    drain(),
    {noreply, State};
handle_info(drain, State) ->
    drain(),
    {noreply, State};
handle_info(_Message, State) ->
    {noreply, State}.

%%%===================================================================
%%% Internal
%%%===================================================================

%% One batch per message, so that a flood from below does not keep the process from
%% anything else.
drain() ->
    case barrel_p2p_nif:log_drain() of
        [] ->
            ok;
        Entries ->
            lists:foreach(fun native/1, Entries),
            self() ! drain,
            ok
    end.

native({Level, Target, Message, Fields}) ->
    Report = #{what => Message, target => Target, fields => maps:from_list(Fields)},
    log(Level, Report, [barrel_p2p, native]).

log(Level, Report, Domain) ->
    case handlers() of
        simple ->
            {Format, Args} = format_report(Report),
            early(Level, unicode:characters_to_list(io_lib:format(Format, Args)));
        final ->
            ?LOG(Level, Report, #{domain => Domain, report_cb => fun ?MODULE:format_report/1})
    end.

early(error, Text) ->
    true = erlang:display_string(Text ++ "\n"),
    ok;
early(Level, Text) ->
    ?LOG(Level, Text, #{}).

handlers() ->
    case {logger:get_handler_config(default), logger:get_handler_config(simple)} of
        {{ok, #{filter_default := stop, filters := Filters}}, _} ->
            case lists:keymember(no_domain, 1, Filters) andalso not lists:keymember(barrel_p2p, 1, Filters) of
                true -> let_domain_through();
                false -> final
            end;
        {{error, _}, {ok, _}} ->
            simple;
        {_, _} ->
            final
    end.

%% Two processes may do this at once; the second hears that it exists.
let_domain_through() ->
    Filter = {fun logger_filters:domain/2, {log, sub, [barrel_p2p]}},
    _ = logger:add_handler_filter(default, barrel_p2p, Filter),
    final.

set_native_level(Level) ->
    case barrel_p2p_native:ensure_loaded() of
        ok -> barrel_p2p_nif:log_level(Level);
        {error, Reason} -> {error, {native, Reason}}
    end.

%% The application's description names its modules, unless the library runs from a bare
%% directory; then it is those that are loaded.
modules() ->
    case application:get_key(barrel_p2p, modules) of
        {ok, [_ | _] = Modules} -> Modules;
        _ -> [M || {M, _} <- code:all_loaded(), is_ours(atom_to_list(M))]
    end.

is_ours("barrel_p2p" ++ _) -> true;
is_ours(_) -> false.

text(Key) when is_atom(Key) -> atom_to_binary(Key, utf8);
text(Key) when is_binary(Key) -> Key;
text(Key) -> io_lib:format("~tp", [Key]).

value(Value) when is_binary(Value) ->
    case unicode:characters_to_list(Value) of
        Text when is_list(Text) -> Text;
        _ -> io_lib:format("~tP", [Value, 20])
    end;
%% An error of Rust: the text names file, cause and remedy, so it is shown whole.
value({Code, Text}) when is_atom(Code), is_binary(Text) ->
    [atom_to_binary(Code), ": ", value(Text)];
value(Value) ->
    io_lib:format("~0tP", [Value, 30]).
