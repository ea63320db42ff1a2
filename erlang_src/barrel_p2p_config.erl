%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The configuration: one table of keys, and the functions that read it.
%%%
%%% What it is: the schema of the application environment of `barrel_p2p', its
%%% check at boot, and the way every other module asks for a value. What it is
%%% not: a process or a cache. A value is read from the environment each time,
%%% so that a change at run time is seen; a value that became invalid after the
%%% boot check is answered with the default. Anybody may call it, also in early
%%% boot before the file server runs: it uses `prim_file' only.
%%%
%%% A boot flag wins over the environment: `-barrel_p2p_dist_port P' over
%%% `listen_port', `-barrel_p2p_dist_cert_dir DIR' over `quic_cert_dir'.
%%%
%%% Relative directories are relative to the release root where there is one,
%%% else to the current directory of the boot. There is a release root R when
%%% both hold: the code of this application lies in `R/lib/', and the VM was
%%% booted with a `-boot' file below `R/releases/'. Every release script passes
%%% such a flag; a checkout and a system-wide Erlang do not. No environment
%%% variable is asked, because a shell started inside a release inherits those
%%% for nodes that have nothing to do with it.
-module(barrel_p2p_config).

%% API
-export([
    load/0,
    get/1,
    get/2,
    configured/1,
    schema/0,
    defaults/0,
    format_error/1
]).
%% Internal, exported for tests
-export([validate/1, nearest/2, distance/2, base_dir/2, discovery_dir/3]).

-export_type([key/0, config/0, problem/0, report/0, type/0]).

-type key() :: atom().
-type config() :: #{key() => term()}.
-type type() ::
    boolean
    | {integer, Min :: integer(), Max :: integer()}
    | {one_of, [atom()]}
    | listen_port
    | listen_ip
    | optional_port
    | directory
    | optional_secret
    | contacts
    | backends
    | maps.
-type problem() :: #{
    key := key(),
    problem := unknown | invalid | refused | conflict,
    value => term(),
    allowed => iodata(),
    nearest => key(),
    reason => iodata()
}.
-type report() :: [problem(), ...].

-include_lib("kernel/include/file.hrl").

-define(APP, barrel_p2p).
-define(BASE_DIR, {?MODULE, base_dir}).
%% Milliseconds: a year. Longer periods are mistakes, and erlang:send_after/3 is bounded too.
-define(MAX_MS, 31536000000).
%% Bytes: quinn's variable-length integers carry more, but no node needs a window of 1 GiB.
-define(MAX_BYTES, 1073741824).

%%%===================================================================
%%% The table
%%%===================================================================

%% @doc Every key: name, type, default, meaning. Nothing else is accepted.
-spec schema() -> [{key(), type(), Default :: term(), Doc :: string()}].
schema() ->
    [
        %% Network
        {listen_port, listen_port, auto, "UDP port; auto takes 9100 when it is free, else any; 0 is any"},
        {listen_ip, listen_ip, any, "address to bind; any is IPv6 and IPv4"},
        {native_threads, {integer, 1, 64}, 1, "I/O threads of the endpoint"},
        {keep_alive_ms, ms(), 1000, "period of QUIC keep-alives"},
        {idle_timeout_ms, ms(), 5000, "silence after which a link is dead"},
        {icmp_hints, boolean, true, "ask a peer at once when ICMP says that its port is closed"},
        %% 0.5 to 1 MiB out and 1 to 2 MiB in keep the queueing delay low at full speed on
        %% loopback (measured on a prototype); long fat paths want more.
        {send_window, bytes(), 1048576, "bytes sent and not acknowledged, per link"},
        {receive_window, bytes(), 2097152, "bytes received and not read, per stream; four times as much per link"},
        {pull_budget, bytes(), 4194304, "bytes a dist channel takes from the VM before it waits"},
        %% 8900 are the jumbo frames of data-centre networks, less the headers. QUIC promises
        %% its peers 1200.
        {max_datagram, {integer, 1200, 8900}, 8900, "largest datagram, bytes of UDP payload; discovery finds what fits"},
        {congestion_control, {one_of, [patient, cubic, bbr]}, patient, "how the sending rate of a link is found"},
        {migration_enabled, boolean, true, "links may move to another address"},
        %% Membership
        {contact_nodes, contacts, [], "nodes joined at start, and again whenever alone"},
        {contact_retry_ms, ms(), 5000, "first wait between two attempts"},
        {active_size, {integer, 1, 255}, 5, "neighbours that gossip is sent to"},
        {passive_size, {integer, 1, 65535}, 30, "spare neighbours"},
        {small_cluster_size, {integer, 0, 255}, 8, "up to this size everybody is a neighbour"},
        {arwl, {integer, 1, 255}, 6, "active random walk length"},
        {prwl, {integer, 1, 255}, 3, "passive random walk length"},
        {shuffle_length, {integer, 1, 255}, 8, "entries exchanged per shuffle"},
        {shuffle_period, ms(), 10000, "milliseconds between shuffles"},
        {probe_period_ms, ms(), 10000, "milliseconds between liveness probes"},
        {suspect_timeout_ms, ms(), 3000, "how long a suspect may contradict"},
        {drain_timeout_ms, ms(), 30000, "a VM that hears nothing for so long leaves the overlay"},
        {departed_ttl_ms, ms(), 86400000, "how long departed members are remembered"},
        {max_members, {integer, 1, 1048576}, 16384, "bound of the directory"},
        {max_remote_atoms, {integer, 0, 1048576}, 50000, "new atoms that peers may cause"},
        {max_clock_drift_ms, ms(), 500, "clock difference that is accepted"},
        %% Identity
        {cluster_secret, optional_secret, undefined, "shared secret, instead of the cookie"},
        {auth_enabled, boolean, true, "pins are consulted"},
        {auth_trust_mode, {one_of, [tofu, strict]}, tofu, "pin on first use, or placed keys only"},
        {auth_key_dir, directory, {node_dir, "keys"}, "identity and trust store"},
        {quic_cert_dir, directory, {node_dir, "quic"}, "certificate"},
        {auth_handshake_timeout, ms(), 10000, "bound of one handshake"},
        {max_pins, {integer, 1, 1048576}, 16384, "bound of the trust store"},
        %% Discovery
        {discovery_backends, backends,
            [barrel_p2p_discovery_static, barrel_p2p_discovery_file, barrel_p2p_discovery_dns],
            "where node names become addresses, in this order"},
        {discovery_dir, directory, user_dir, "endpoint files of this machine"},
        %% Dist channels
        {dist_gc_sweep_period_ms, ms(), 60000, "milliseconds between sweeps"},
        {dist_gc_min_age_ms, ms(), 300000, "silence after which a dist channel may be closed"},
        %% Stores
        {replicated_maps, maps, [], "maps started at boot"},
        {barrel_p2p_map_data_dir, directory, {node_dir, "maps"}, "files of persistent maps"},
        {barrel_p2p_map_tombstone_ttl_ms, ms(), 3600000, "how long removals are remembered"},
        {replica_anti_entropy_ms, ms(), 30000, "milliseconds between full comparisons"},
        %% Operation
        {admin_socket, boolean, true, "local socket for operators"},
        {metrics_port, optional_port, undefined, "TCP port of the metrics page"},
        {log_level, {one_of, [none, error, warning, notice, info, debug]}, notice, "least severe level logged"}
    ].

ms() -> {integer, 1, ?MAX_MS}.
bytes() -> {integer, 65536, ?MAX_BYTES}.

%% Keys of the published 0.1 configuration that have no meaning here, and why.
legacy() ->
    #{
        auth_timestamp_window => "the handshake is bound to the TLS session and needs no clock",
        dist_cookie => "the cookie is the VM's own: use -setcookie, or cluster_secret",
        max_fail_count => "replaced by the liveness probes",
        base_backoff_ms => "replaced by the built-in backoff",
        passive_max_age_ms => "replaced by the liveness probes",
        pending_timeout_ms => "replaced by auth_handshake_timeout",
        router_max_in_flight => "lookups are local reads, nothing is routed",
        proxy_cast_max_in_flight => "there are no service proxies",
        route_cache_sweep_period_ms => "there is no route cache",
        ring_size => "sharded placement is not part of this library",
        member_heartbeat_ms => "replaced by probe_period_ms",
        member_ttl_ms => "replaced by suspect_timeout_ms",
        member_skew_ms => "replaced by max_clock_drift_ms",
        reminder_scan_ms => "reminders are not part of this library",
        reminder_tombstone_ttl_ms => "reminders are not part of this library",
        reminder_data_dir => "reminders are not part of this library",
        barrel_p2p_map_scan_ms => "tombstones are dropped without a scan",
        hlc_max_drift_ms => "replaced by max_clock_drift_ms"
    }.

refused() ->
    #{
        cookie_only_nodes =>
            "it would let peers in without proof of their key; place the keys of such peers in the trust store instead"
    }.

%%%===================================================================
%%% API
%%%===================================================================

%% @doc Checks the whole environment and answers all values.
%% Loads the application's description first, so that it works before the
%% application is started. Keys without meaning are named in the log once per VM.
-spec load() -> {ok, config()} | {error, report()}.
load() ->
    _ = application:load(?APP),
    case validate(environment()) of
        {ok, Config, Warnings} ->
            lists:foreach(fun warn_once/1, Warnings),
            {ok, Config};
        {error, _} = Error ->
            Error
    end.

%% @doc The value of a key for the node that this VM is, or will be once its name is known.
-spec get(key()) -> term().
get(Key) ->
    get(Key, current_node()).

%% @doc The value of a key for a node: directories named by default hold its name.
%% Directories are absolute and binaries.
-spec get(key(), node() | binary()) -> term().
get(Key, Node) ->
    {Key, Type, Default, _} = lists:keyfind(Key, 1, schema()),
    Value =
        case raw(Key) of
            undefined ->
                Default;
            {ok, Raw} ->
                case check(Type, Raw) of
                    {ok, Checked} -> Checked;
                    {error, _} -> Default
                end
        end,
    finish(Type, Value, Node).

%% @doc Whether a key was given a value by the user.
-spec configured(key()) -> boolean().
configured(Key) ->
    raw(Key) =/= undefined.

%% @doc Every key with its default, as the application's environment would hold it.
-spec defaults() -> config().
defaults() ->
    maps:from_list([{Key, Default} || {Key, _, Default, _} <- schema()]).

%% @doc A text for people: one line per problem.
-spec format_error(report()) -> iodata().
format_error(Report) ->
    [
        "invalid configuration of barrel_p2p:\n"
        | [["  ", format_problem(P), "\n"] || P <- Report]
    ].

%%%===================================================================
%%% The check
%%%===================================================================

%% @private Pure: checks a list of keys and values.
-spec validate([{key(), term()}]) ->
    {ok, config(), [{key(), Reason :: iodata()}]} | {error, report()}.
validate(Env) ->
    Start = {defaults(), [], []},
    {Config, Warnings, Problems} = lists:foldl(fun validate_one/2, Start, Env),
    case lists:reverse(Problems) ++ conflicts(Config) of
        [] -> {ok, Config, lists:reverse(Warnings)};
        Report -> {error, Report}
    end.

validate_one({Key, Value}, {Config, Warnings, Problems}) ->
    case lists:keyfind(Key, 1, schema()) of
        {Key, Type, _, _} ->
            case check(Type, Value) of
                {ok, Checked} ->
                    {Config#{Key := Checked}, Warnings, Problems};
                {error, Allowed} ->
                    Problem = #{
                        key => Key,
                        problem => invalid,
                        value => redact(Type, Value),
                        allowed => Allowed
                    },
                    {Config, Warnings, [Problem | Problems]}
            end;
        false ->
            validate_foreign(Key, Value, {Config, Warnings, Problems})
    end.

validate_foreign(Key, Value, {Config, Warnings, Problems}) ->
    case {legacy(), refused()} of
        {#{Key := Reason}, _} ->
            {Config, [{Key, Reason} | Warnings], Problems};
        {_, #{Key := Reason}} ->
            Problem = #{key => Key, problem => refused, reason => Reason},
            {Config, Warnings, [Problem | Problems]};
        {_, _} ->
            Problem = #{
                key => Key,
                problem => unknown,
                value => Value,
                nearest => nearest(Key, [K || {K, _, _, _} <- schema()])
            },
            {Config, Warnings, [Problem | Problems]}
    end.

conflicts(#{auth_enabled := false, auth_trust_mode := strict}) ->
    [
        #{
            key => auth_enabled,
            problem => conflict,
            value => false,
            reason => "auth_trust_mode is strict, which consults the placed keys that auth_enabled false ignores"
        }
    ];
conflicts(#{keep_alive_ms := KeepAlive, idle_timeout_ms := Idle}) when KeepAlive >= Idle ->
    [
        #{
            key => keep_alive_ms,
            problem => conflict,
            value => KeepAlive,
            reason => io_lib:format(
                "it must be less than idle_timeout_ms (~w), or an idle link dies", [Idle]
            )
        }
    ];
conflicts(_) ->
    [].

-spec check(type(), term()) -> {ok, term()} | {error, Allowed :: iodata()}.
check(boolean, Value) when is_boolean(Value) ->
    {ok, Value};
check(boolean, _) ->
    {error, "true or false"};
check({integer, Min, Max}, Value) when is_integer(Value), Value >= Min, Value =< Max ->
    {ok, Value};
check({integer, Min, Max}, _) ->
    {error, io_lib:format("an integer from ~w to ~w", [Min, Max])};
check({one_of, Allowed}, Value) ->
    case lists:member(Value, Allowed) of
        true -> {ok, Value};
        false -> {error, ["one of ", lists:join(", ", [atom_to_list(A) || A <- Allowed])]}
    end;
check(listen_port, auto) ->
    {ok, auto};
check(listen_port, Value) when is_integer(Value), Value >= 0, Value =< 65535 ->
    {ok, Value};
check(listen_port, _) ->
    {error, "auto, or a port number from 0 to 65535"};
check(listen_ip, any) ->
    {ok, any};
check(listen_ip, Value) ->
    case parse_ip(Value) of
        {ok, _} = Ok -> Ok;
        error -> {error, "any, or an IP address as a tuple or a string"}
    end;
check(optional_port, undefined) ->
    {ok, undefined};
check(optional_port, Value) when is_integer(Value), Value >= 0, Value =< 65535 ->
    {ok, Value};
check(optional_port, _) ->
    {error, "undefined, or a port number from 0 to 65535"};
check(directory, Value) ->
    case text(Value) of
        {ok, <<_, _/binary>> = Text} -> {ok, Text};
        _ -> {error, "the name of a directory, a string or a binary"}
    end;
check(optional_secret, undefined) ->
    {ok, undefined};
check(optional_secret, Value) ->
    %% 16 bytes are 128 bits at best; shorter ones are guessed.
    case secret(Value) of
        {ok, Secret} when byte_size(Secret) >= 16 -> {ok, Secret};
        _ -> {error, "undefined, or a binary or string of at least 16 bytes (32 random ones are best)"}
    end;
check(contacts, Value) ->
    check_list(fun is_contact/1, Value, "a list of node names and {Node, {Host, Port}}");
check(backends, Value) ->
    check_list(fun is_backend/1, Value, "a list of modules and {Module, Opts}");
check(maps, Value) ->
    check_list(fun is_map_spec/1, Value, "a list of {Name, Opts}, Name an atom, Opts a map").

check_list(IsGood, Value, Allowed) ->
    case is_proper(Value) andalso lists:all(IsGood, Value) of
        true -> {ok, Value};
        false -> {error, Allowed}
    end.

is_proper(Value) ->
    try length(Value) of
        _ -> true
    catch
        error:badarg -> false
    end.

is_contact({Node, {Host, Port}}) ->
    is_node_name(Node) andalso is_host(Host) andalso is_port_number(Port);
is_contact(Node) ->
    is_node_name(Node).

is_node_name(Node) when is_atom(Node) ->
    case string:split(atom_to_list(Node), "@", all) of
        [[_ | _], [_ | _]] -> true;
        _ -> false
    end;
is_node_name(_) ->
    false.

is_host(Host) ->
    parse_ip(Host) =/= error orelse
        case text(Host) of
            {ok, <<_, _/binary>>} -> true;
            _ -> false
        end.

is_port_number(Port) -> is_integer(Port) andalso Port > 0 andalso Port =< 65535.

is_backend({Module, _Opts}) -> is_module_name(Module);
is_backend(Module) -> is_module_name(Module).

is_module_name(Module) ->
    is_atom(Module) andalso not lists:member(Module, [true, false, undefined, '']).

is_map_spec({Name, Opts}) -> is_atom(Name) andalso is_map(Opts);
is_map_spec(_) -> false.

parse_ip(Ip) when is_tuple(Ip) ->
    case inet:is_ip_address(Ip) of
        true -> {ok, Ip};
        false -> error
    end;
parse_ip(Value) when is_list(Value); is_binary(Value) ->
    case text(Value) of
        {ok, Text} ->
            case inet:parse_strict_address(unicode:characters_to_list(Text)) of
                {ok, Ip} -> {ok, Ip};
                {error, _} -> error
            end;
        error ->
            error
    end;
parse_ip(_) ->
    error.

text(Value) when is_binary(Value); is_list(Value) ->
    try unicode:characters_to_binary(Value) of
        Text when is_binary(Text) -> {ok, Text};
        _ -> error
    catch
        error:_ -> error
    end;
text(_) ->
    error.

%% A binary is taken as it is: random bytes are seldom UTF-8.
secret(Value) when is_binary(Value) -> {ok, Value};
secret(Value) -> text(Value).

%% A secret does not belong in a log, a wrong one neither: it may be right for another key.
redact(optional_secret, _) -> '<not shown>';
redact(_, Value) -> Value.

format_problem(#{problem := unknown, key := Key, value := Value, nearest := Nearest}) ->
    %% The value of an unknown key may be a secret with a misspelt name.
    Shown =
        case Nearest of
            cluster_secret -> "";
            _ -> io_lib:format(" (value ~tP)", [Value, 12])
        end,
    io_lib:format("~tw: unknown key~ts; the nearest known one is ~tw", [Key, Shown, Nearest]);
format_problem(#{problem := invalid, key := Key, value := Value, allowed := Allowed}) ->
    io_lib:format("~tw: bad value ~tP; allowed is ~ts", [Key, Value, 12, Allowed]);
format_problem(#{problem := refused, key := Key, reason := Reason}) ->
    io_lib:format("~tw: refused, because ~ts", [Key, Reason]);
format_problem(#{problem := conflict, key := Key, value := Value, reason := Reason}) ->
    io_lib:format("~tw: ~tw does not go with the rest: ~ts", [Key, Value, Reason]).

warn_once({Key, Reason}) ->
    Seen = {?MODULE, warned, Key},
    case persistent_term:get(Seen, false) of
        true ->
            ok;
        false ->
            persistent_term:put(Seen, true),
            barrel_p2p_log:report(warning, "configuration key without meaning is ignored", #{
                key => Key, reason => iolist_to_binary(Reason), remedy => "remove it"
            })
    end.

%%%===================================================================
%%% The nearest name
%%%===================================================================

%% @private The candidate with the smallest edit distance, the first of equals.
-spec nearest(atom(), [atom(), ...]) -> atom().
nearest(Key, Candidates) ->
    Text = atom_to_list(Key),
    {_, Nearest} = lists:min([
        {distance(Text, atom_to_list(C)), C}
     || C <- Candidates
    ]),
    Nearest.

%% @private Levenshtein's edit distance, one row at a time.
-spec distance(string(), string()) -> non_neg_integer().
distance(A, B) ->
    lists:last(lists:foldl(fun(Ch, Row) -> next_row(Ch, B, Row) end, lists:seq(0, length(B)), A)).

next_row(Ch, B, [Above | _] = Row) ->
    next_row(Ch, B, Row, [Above + 1]).

next_row(_, [], [_], Done) ->
    lists:reverse(Done);
next_row(Ch, [B | Bs], [Diagonal, Above | Row], [Left | _] = Done) ->
    Cost =
        case Ch of
            B -> 0;
            _ -> 1
        end,
    Cell = lists:min([Above + 1, Left + 1, Diagonal + Cost]),
    next_row(Ch, Bs, [Above | Row], [Cell | Done]).

%%%===================================================================
%%% Where values come from
%%%===================================================================

environment() ->
    %% `included_applications' is put there by the application controller.
    Env = lists:keydelete(included_applications, 1, application:get_all_env(?APP)),
    Flags = [{Key, Value} || Key <- [listen_port, quic_cert_dir], {ok, Value} <- [flag(Key)]],
    lists:ukeymerge(1, lists:ukeysort(1, Flags), lists:ukeysort(1, Env)).

raw(Key) ->
    case flag(Key) of
        {ok, _} = Ok -> Ok;
        undefined -> application:get_env(?APP, Key)
    end.

%% A flag that is no number stays a string, for the check to name.
flag(listen_port) ->
    case last_argument(barrel_p2p_dist_port) of
        {ok, "auto"} -> {ok, auto};
        {ok, Text} -> {ok, to_integer(Text)};
        undefined -> undefined
    end;
flag(quic_cert_dir) ->
    last_argument(barrel_p2p_dist_cert_dir);
flag(_) ->
    undefined.

to_integer(Text) ->
    try
        list_to_integer(Text)
    catch
        error:badarg -> Text
    end.

last_argument(Flag) ->
    case init:get_argument(Flag) of
        {ok, Occurrences} ->
            case [Last || [_ | _] = Values <- Occurrences, Last <- [lists:last(Values)]] of
                [] -> undefined;
                Found -> {ok, lists:last(Found)}
            end;
        error ->
            undefined
    end.

current_node() ->
    case node() of
        'nonode@nohost' -> barrel_p2p_node:name('nonode@nohost');
        Node -> Node
    end.

%%%===================================================================
%%% Directories
%%%===================================================================

finish(directory, {node_dir, Leaf}, Node) ->
    absolute(filename:join([<<"data">>, node_binary(Node), list_to_binary(Leaf)]));
finish(directory, user_dir, _Node) ->
    discovery_dir(os:getenv("XDG_RUNTIME_DIR"), os:getenv("TMPDIR"), uid());
finish(directory, Dir, _Node) ->
    absolute(Dir);
finish(_, Value, _Node) ->
    Value.

node_binary(Node) when is_atom(Node) -> atom_to_binary(Node, utf8);
node_binary(Node) when is_binary(Node) -> Node.

%% `filename:absname/1' would ask the file server, which early boot does not have.
absolute(Dir) ->
    filename:absname(Dir, base_dir()).

%% Remembered at first use: directories must not move when a program changes the
%% current directory of the VM.
base_dir() ->
    case persistent_term:get(?BASE_DIR, undefined) of
        undefined ->
            {ok, Cwd} = prim_file:get_cwd(),
            Boot = last_argument(boot),
            Dir = unicode:characters_to_binary(base_dir(release_of(Boot), Cwd)),
            persistent_term:put(?BASE_DIR, Dir),
            Dir;
        Dir ->
            Dir
    end.

%% @private The release root when the library lies in its `lib', else the current directory.
-spec base_dir({Library :: string(), BootRoot :: string()} | none, file:filename()) -> file:filename().
base_dir({Library, BootRoot}, Cwd) ->
    Root = filename:dirname(filename:dirname(Library)),
    case filename:basename(filename:dirname(Library)) of
        "lib" ->
            case same_directory(Root, BootRoot) of
                true -> BootRoot;
                false -> Cwd
            end;
        _ ->
            Cwd
    end;
base_dir(none, Cwd) ->
    Cwd.

release_of({ok, Boot}) ->
    case {code:lib_dir(?APP), boot_root(filename:split(Boot), [])} of
        {Library, {ok, Root}} when is_list(Library) -> {Library, Root};
        _ -> none
    end;
release_of(undefined) ->
    none.

%% What stands before the last "releases" of the boot file's name.
boot_root(Parts, []) ->
    case lists:splitwith(fun(P) -> P =/= "releases" end, lists:reverse(Parts)) of
        {[_ | _], ["releases", Top | Above]} ->
            {ok, filename:join(lists:reverse([Top | Above]))};
        _ ->
            none
    end.

%% Names differ when links lie between, the directory does not.
same_directory(A, B) ->
    case {identity(A), identity(B)} of
        {{ok, Same}, {ok, Same}} -> true;
        _ -> false
    end.

identity(Dir) ->
    case prim_file:read_file_info(Dir) of
        {ok, #file_info{type = Type, major_device = Device, inode = Inode}} ->
            {ok, {Type, Device, Inode}};
        {error, _} ->
            error
    end.

%% @private Where nodes of one user on one machine meet. The runtime directory counts only
%% when it is the user's own and closed to others, as its specification asks.
-spec discovery_dir(string() | false, string() | false, non_neg_integer()) -> binary().
discovery_dir([$/ | _] = Runtime, Tmp, Uid) ->
    case prim_file:read_file_info(Runtime) of
        {ok, #file_info{type = directory, uid = Uid, mode = Mode}} when Mode band 8#077 =:= 0 ->
            unicode:characters_to_binary(filename:join(Runtime, "barrel_p2p"));
        _ ->
            discovery_dir(false, Tmp, Uid)
    end;
discovery_dir(_, [$/ | _] = Tmp, Uid) ->
    unicode:characters_to_binary(filename:join(Tmp, "barrel_p2p-" ++ integer_to_list(Uid)));
discovery_dir(_, _, Uid) ->
    discovery_dir(false, "/tmp", Uid).

%% The user this VM runs as: owner of its own entry in /proc where there is one, else of
%% the home directory. Early boot can start no program to ask.
uid() ->
    case [Uid || Path <- ["/proc/self", home()], {ok, Uid} <- [owner(Path)]] of
        [Uid | _] -> Uid;
        [] -> 0
    end.

owner(Path) ->
    case prim_file:read_file_info(Path) of
        {ok, #file_info{uid = Uid}} -> {ok, Uid};
        {error, _} = Error -> Error
    end.

home() ->
    case os:getenv("HOME") of
        false -> "/";
        Home -> Home
    end.
