%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The start-up check: settings that work, and are not what the user thinks.
%%%
%%% {@link facts/0} looks, {@link findings/1} judges and is pure, {@link run/0}
%%% does both and logs each finding once per VM with its remedy. A finding that
%%% means clear text on the network is fatal: the application does not start.
%%% It is not the check of the configuration, which is in `barrel_p2p_config'.
%%%
%%% Called by `barrel_p2p_app' when it starts.
-module(barrel_p2p_check).

-include_lib("kernel/include/file.hrl").

%% API
-export([run/0, facts/0, findings/1]).

-export_type([facts/0, finding/0]).

-type facts() :: #{
    otp_release := pos_integer(),
    %% `init:get_argument(proto_dist)'
    proto_dist := error | {ok, [[string()]]},
    %% our carrier listens, or was asked for its address
    carrier_active := boolean(),
    alive := boolean(),
    connect_all := boolean(),
    prevent_overlapping_partitions := boolean(),
    cookie := atom(),
    cluster_secret := boolean(),
    %% secret keys on the disk and their permission bits
    key_files := [{file:name_all(), Mode :: non_neg_integer()}],
    auth_enabled := boolean()
}.
-type finding() :: #{
    id := atom(),
    level := error | warning,
    fatal := boolean(),
    what := binary(),
    remedy := binary(),
    details := map()
}.

%% Shorter cookies are guessed by trying, since the proof can be checked offline.
-define(MIN_COOKIE, 16).

%% @doc Looks, judges and logs. The error names the first fatal finding.
-spec run() -> ok | {error, {unsafe, Id :: atom()}}.
run() ->
    Findings = findings(facts()),
    lists:foreach(fun report_once/1, Findings),
    case [Id || #{id := Id, fatal := true} <- Findings] of
        [] -> ok;
        [Id | _] -> {error, {unsafe, Id}}
    end.

%% @doc What is judged.
-spec facts() -> facts().
facts() ->
    #{
        otp_release => list_to_integer(erlang:system_info(otp_release)),
        proto_dist => init:get_argument(proto_dist),
        carrier_active => persistent_term:get({barrel_p2p_dist, active}, false),
        alive => node() =/= 'nonode@nohost',
        connect_all => connect_all(),
        prevent_overlapping_partitions => application:get_env(kernel, prevent_overlapping_partitions, true),
        cookie => erlang:get_cookie(),
        cluster_secret => barrel_p2p_config:get(cluster_secret) =/= undefined,
        key_files => key_files(),
        auth_enabled => barrel_p2p_config:get(auth_enabled)
    }.

%% @doc What is wrong, most severe first.
-spec findings(facts()) -> [finding()].
findings(Facts) ->
    Checks = [
        fun carrier/1,
        fun key_modes/1,
        fun auth_enabled/1,
        fun cookie/1,
        fun partial_mesh/1
    ],
    lists:append([Check(Facts) || Check <- Checks]).

%%%===================================================================
%%% The carrier
%%%===================================================================

%% Nobody asked for our carrier: the library stands beside another one.
carrier(#{proto_dist := error, carrier_active := false}) ->
    [];
carrier(#{alive := false}) ->
    [];
carrier(#{proto_dist := {ok, [["barrel_p2p" | _]]}, carrier_active := true}) ->
    [];
carrier(#{proto_dist := {ok, [_, _ | _] = Flags}, carrier_active := Active, otp_release := Otp}) ->
    case {Active, lists:any(fun(Values) -> lists:member("barrel_p2p", Values) end, Flags)} of
        {false, true} ->
            [
                finding(
                    carrier_not_used,
                    fatal,
                    "-proto_dist was given more than once, so OTP ignores it: this node talks in CLEAR TEXT over TCP",
                    "give -proto_dist once; look at the command line, vm.args, ERL_AFLAGS, ERL_FLAGS and ERL_ZFLAGS",
                    #{proto_dist => Flags, otp_release => Otp}
                )
            ];
        {true, _} ->
            [
                finding(
                    proto_dist_repeated,
                    warning,
                    "-proto_dist was given more than once; on OTP 25 the same flags mean clear text over TCP",
                    "give -proto_dist once; look at the command line, vm.args, ERL_AFLAGS, ERL_FLAGS and ERL_ZFLAGS",
                    #{proto_dist => Flags, otp_release => Otp}
                )
            ];
        {false, false} ->
            []
    end;
carrier(#{proto_dist := {ok, [Protocols]}, carrier_active := false}) ->
    case lists:member("barrel_p2p", Protocols) of
        true ->
            [
                finding(
                    carrier_not_used,
                    fatal,
                    "-proto_dist names barrel_p2p, but the running distribution is not this carrier",
                    "see the errors before this one; barrel_p2p must be in the code path when the node boots",
                    #{proto_dist => Protocols}
                )
            ];
        false ->
            []
    end;
carrier(#{proto_dist := {ok, [["barrel_p2p" | _] | _]}}) ->
    [];
carrier(#{proto_dist := {ok, [Protocols]}}) ->
    %% Active and not first: nodes are asked for the others first.
    [
        finding(
            carrier_not_first,
            warning,
            "this carrier is not the first one of -proto_dist, so connections may use another",
            "write barrel_p2p first, or alone",
            #{proto_dist => Protocols}
        )
    ];
carrier(_) ->
    [].

%%%===================================================================
%%% Keys and secrets
%%%===================================================================

key_modes(#{key_files := Files}) ->
    [
        finding(
            key_readable,
            error,
            "a secret key can be read or written by other users",
            io_lib:format("chmod 600 ~ts, and make a new key if somebody may have read it", [File]),
            #{file => File, mode => iolist_to_binary(io_lib:format("~4.8.0b", [Mode band 8#7777]))}
        )
     || {File, Mode} <- Files, Mode band 8#077 =/= 0
    ].

auth_enabled(#{auth_enabled := true}) ->
    [];
auth_enabled(#{auth_enabled := false}) ->
    [
        finding(
            auth_disabled,
            error,
            "auth_enabled is false: pinned keys are NOT consulted, whoever holds the secret may take any name",
            "remove auth_enabled from the configuration; a changed key is accepted with barrel_p2p_dist_keys:delete_key/1",
            #{}
        )
    ].

cookie(#{alive := false}) ->
    [];
cookie(#{cluster_secret := true}) ->
    [];
cookie(#{cookie := Cookie}) ->
    Text = atom_to_list(Cookie),
    Remedy =
        "configure cluster_secret with 32 random bytes, the same on all nodes, or auth_trust_mode strict",
    case Text of
        "nocookie" ->
            [finding(cookie_trivial, error, "this node has no cookie: nobody can prove membership", Remedy, #{})];
        _ when length(Text) < ?MIN_COOKIE ->
            What = "the cookie is the cluster's secret and short enough to be guessed",
            [finding(cookie_trivial, error, What, Remedy, #{length => length(Text)})];
        _ ->
            case is_generated(Text) of
                true ->
                    What = "the cookie was generated by OTP and holds only about 36 bits of chance",
                    [finding(cookie_generated, warning, What, Remedy, #{})];
                false ->
                    []
            end
    end.

%% What OTP writes to ~/.erlang.cookie: 20 capital letters from a small generator.
is_generated(Text) ->
    length(Text) =:= 20 andalso lists:all(fun(C) -> C >= $A andalso C =< $Z end, Text).

%%%===================================================================
%%% The mesh
%%%===================================================================

partial_mesh(#{alive := true, connect_all := true, prevent_overlapping_partitions := Prevent}) ->
    More =
        case Prevent of
            true -> ", and a lost connection makes global disconnect nodes that are well";
            false -> ""
        end,
    [
        finding(
            full_mesh,
            warning,
            ["connect_all is true: global connects every node with every other", More],
            "start every node with -kernel connect_all false; keep it only for a small full mesh",
            #{connect_all => true, prevent_overlapping_partitions => Prevent}
        )
    ];
partial_mesh(_) ->
    [].

%%%===================================================================
%%% Looking
%%%===================================================================

%% OTP still takes the old flag beside the kernel parameter.
connect_all() ->
    case init:get_argument(connect_all) of
        {ok, [["false" | _] | _]} -> false;
        _ -> application:get_env(kernel, connect_all, true)
    end.

key_files() ->
    [
        {File, Mode}
     || Key <- [auth_key_dir, quic_cert_dir],
        File <- [filename:join(barrel_p2p_config:get(Key), "node.key")],
        {ok, #file_info{mode = Mode}} <- [prim_file:read_file_info(File)]
    ].

%%%===================================================================
%%% Internal
%%%===================================================================

finding(Id, fatal, What, Remedy, Details) ->
    (finding(Id, error, What, Remedy, Details))#{fatal := true};
finding(Id, Level, What, Remedy, Details) ->
    #{
        id => Id,
        level => Level,
        fatal => false,
        what => unicode:characters_to_binary(What),
        remedy => unicode:characters_to_binary(Remedy),
        details => Details
    }.

%% A fatal finding is said at each attempt to start, the others once per VM.
report_once(#{id := Id, level := Level, fatal := Fatal, what := What, remedy := Remedy, details := Details}) ->
    Said = {?MODULE, Id, Details},
    case Fatal orelse not persistent_term:get(Said, false) of
        true ->
            persistent_term:put(Said, true),
            barrel_p2p_log:report(Level, What, Details#{finding => Id, remedy => Remedy});
        false ->
            ok
    end.
