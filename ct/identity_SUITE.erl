%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Who may come in: keys on the disk, pins, strict trust, secrets, names and
%%% certificates, with real nodes. Each refusal is looked at on both sides.
-module(identity_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("kernel/include/file.hrl").
-include_lib("public_key/include/public_key.hrl").
-include_lib("stdlib/include/assert.hrl").
-include("barrel_p2p.hrl").

%% common_test
-export([suite/0, all/0, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    the_first_boot_makes_keys_that_are_closed_to_others/1,
    key_files_open_to_others_are_refused/1,
    a_public_key_that_does_not_belong_is_refused/1,
    a_key_directory_that_cannot_be_made_is_refused/1,
    a_full_disk_is_named/1,
    the_first_contact_pins/1,
    a_changed_key_is_refused_until_its_pin_is_deleted/1,
    an_impostor_is_refused_and_harms_nobody/1,
    strict_trust_takes_placed_keys_only/1,
    strict_trust_takes_placed_clients_only/1,
    the_trust_mode_changes_while_the_node_runs/1,
    without_authentication_pins_are_not_consulted/1,
    another_cookie_is_refused/1,
    the_cluster_secret_comes_before_cookies/1,
    our_own_key_is_refused/1,
    one_key_under_two_names_is_refused/1,
    a_client_may_not_take_the_name_of_a_member/1,
    an_address_of_another_node_is_refused/1,
    a_full_trust_store_refuses_strangers/1,
    the_trust_store_answers_operators/1,
    the_identity_answers_operators/1,
    the_operators_certificate_is_used/1,
    an_expired_certificate_is_renewed/1,
    secret_keys_appear_nowhere/1
]).

-define(WAIT_MS, 15000).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [
        the_first_boot_makes_keys_that_are_closed_to_others,
        key_files_open_to_others_are_refused,
        a_public_key_that_does_not_belong_is_refused,
        a_key_directory_that_cannot_be_made_is_refused,
        a_full_disk_is_named,
        the_first_contact_pins,
        a_changed_key_is_refused_until_its_pin_is_deleted,
        an_impostor_is_refused_and_harms_nobody,
        strict_trust_takes_placed_keys_only,
        strict_trust_takes_placed_clients_only,
        the_trust_mode_changes_while_the_node_runs,
        without_authentication_pins_are_not_consulted,
        another_cookie_is_refused,
        the_cluster_secret_comes_before_cookies,
        our_own_key_is_refused,
        one_key_under_two_names_is_refused,
        a_client_may_not_take_the_name_of_a_member,
        an_address_of_another_node_is_refused,
        a_full_trust_store_refuses_strangers,
        the_trust_store_answers_operators,
        the_identity_answers_operators,
        the_operators_certificate_is_used,
        an_expired_certificate_is_renewed,
        secret_keys_appear_nowhere
    ].

init_per_testcase(_Case, Config) ->
    [{cluster, cluster:new(Config)} | Config].

end_per_testcase(_Case, Config) ->
    cluster:stop(?config(cluster, Config)).

%%%===================================================================
%%% Keys on the disk
%%%===================================================================

the_first_boot_makes_keys_that_are_closed_to_others(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{}),
    Keys = keys(Cluster, A),
    Certs = filename:join(filename:dirname(Keys), "quic"),
    ?assertEqual([8#700, 8#700], [mode(Dir) || Dir <- [Keys, Certs]]),
    Secrets = [filename:join(Dir, "node.key") || Dir <- [Keys, Certs]],
    ?assertEqual([8#600, 8#600], [mode(File) || File <- Secrets]),
    ?assertEqual(32, filelib:file_size(filename:join(Keys, "node.key"))),
    {ok, Public} = file:read_file(filename:join(Keys, "node.pub")),
    ?assertEqual({ok, Public}, cluster:call(A, barrel_p2p_dist_auth, get_public_key, [])),
    [{'Certificate', Der, not_encrypted}] = public_key:pem_decode(read(filename:join(Certs, "node.crt"))),
    ?assertEqual(nomatch, binary:match(Der, atom_to_binary(A))),
    %% and they stay
    A = cluster:restart(Cluster, A),
    ?assertEqual({ok, Public}, cluster:call(A, barrel_p2p_dist_auth, get_public_key, [])).

key_files_open_to_others_are_refused(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{}),
    Keys = keys(Cluster, A),
    Certs = filename:join(filename:dirname(Keys), "quic"),
    cluster:stop(A, halt),
    [
        begin
            File = filename:join(Dir, "node.key"),
            ok = file:change_mode(File, Mode),
            refuses_to_boot(Cluster, a, #{}, [File, "chmod 600"]),
            ok = file:change_mode(File, 8#600)
        end
     || Dir <- [Keys, Certs], Mode <- [8#640, 8#604, 8#620]
    ],
    ?assertEqual(A, cluster:restart(Cluster, A)).

a_public_key_that_does_not_belong_is_refused(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    [cluster:stop(Node, halt) || Node <- [A, B]],
    File = filename:join(keys(Cluster, A), "node.pub"),
    Own = read(File),
    {ok, _} = file:copy(filename:join(keys(Cluster, B), "node.pub"), File),
    refuses_to_boot(Cluster, a, #{}, [keys(Cluster, A), "node.pub", "backup"]),
    ok = file:write_file(File, <<"short">>),
    refuses_to_boot(Cluster, a, #{}, [File, "5 bytes instead of 32"]),
    ok = file:delete(File),
    refuses_to_boot(Cluster, a, #{}, [File, "is missing"]),
    ok = file:write_file(File, Own),
    ?assertEqual(A, cluster:restart(Cluster, A)).

%% Modes mean nothing to root: a file stands where the directory should be.
a_key_directory_that_cannot_be_made_is_refused(Config) ->
    Cluster = ?config(cluster, Config),
    Taken = filename:join(cluster:dir(Cluster), "taken"),
    ok = file:write_file(Taken, <<"a file">>),
    refuses_to_boot(Cluster, a, #{env => [{auth_key_dir, Taken}]}, [Taken, "ot a directory"]),
    Below = filename:join(Taken, "below"),
    refuses_to_boot(Cluster, a, #{env => [{quic_cert_dir, Below}]}, [Taken, "ot a directory"]),
    ?assertEqual(<<"a file">>, read(Taken)).

a_full_disk_is_named(Config) ->
    Cluster = ?config(cluster, Config),
    Disk = filename:join(cluster:dir(Cluster), "disk"),
    ok = file:make_dir(Disk),
    case {elsewhere:is_root(), elsewhere:is_root() andalso mount(Disk)} of
        {false, _} ->
            {skip, "needs root"};
        {true, {0, _}} ->
            try
                Filler = filename:join(Disk, "filler"),
                _ = elsewhere:command(["dd", "if=/dev/zero", "of=" ++ Filler, "bs=4096"], []),
                Dir = filename:join(Disk, "keys"),
                refuses_to_boot(Cluster, a, #{env => [{auth_key_dir, Dir}]}, [Disk, "space"]),
                ok = file:delete(Filler),
                %% nothing half written was left behind
                A = cluster:start(Cluster, a, #{env => [{auth_key_dir, Dir}]}),
                cluster:stop(A, halt)
            after
                elsewhere:command(["umount", Disk])
            end;
        {true, {_, Said}} ->
            {skip, "no file system can be mounted here: " ++ Said}
    end.

mount(Dir) ->
    elsewhere:command(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", Dir], []).

%%%===================================================================
%%% Trust on first use
%%%===================================================================

the_first_contact_pins(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    ?assertEqual([not_pinned, not_pinned], [pin(A, B), pin(B, A)]),
    ok = cluster:connect(A, B),
    ?assertEqual([{pinned, key(B)}, {pinned, key(A)}], [pin(A, B), pin(B, A)]),
    File = filename:join([keys(Cluster, A), "trusted", atom_to_list(B) ++ ".pub"]),
    ?assertEqual(key(B), read(File)),
    ?assertEqual(8#700, mode(filename:dirname(File))),
    %% the pin outlives the node
    A = cluster:restart(Cluster, A),
    ?assertEqual({pinned, key(B)}, pin(A, B)).

a_changed_key_is_refused_until_its_pin_is_deleted(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    Old = key(B),
    cluster:stop(B, halt),
    connection_closed = cluster:await_nodedown(A, B, ?WAIT_MS),
    ok = file:del_dir_r(keys(Cluster, B)),
    B = cluster:restart(Cluster, B),
    New = key(B),
    ?assertNotEqual(Old, New),
    Attempts = [cluster:ping(From, To) || _ <- lists:seq(1, 10), {From, To} <- [{A, B}, {B, A}]],
    ?assertEqual([pang], lists:usort(Attempts)),
    Refused = refusal(A, B, <<"changed_key">>),
    ?assertEqual(fingerprint(New), maps:get(<<"fingerprint">>, Refused)),
    says(maps:get(<<"cause">>, Refused), [fingerprint(Old), "delete_key"]),
    says(maps:get(<<"cause">>, refused_by(B, A)), ["changed_key", "delete it there"]),
    %% twenty attempts, few lines
    [?assertMatch(Lines when length(Lines) =< 2, refusals(Node)) || Node <- [A, B]],
    ?assertEqual({pinned, Old}, pin(A, B)),
    ok = cluster:call(A, barrel_p2p_dist_keys, delete_key, [B]),
    ?assertEqual(pong, cluster:ping(A, B)),
    ?assertEqual({pinned, New}, pin(A, B)).

%% Two nodes of one name on one machine are found out earlier, so the impostor stands outside
%% the discovery directory and was told the address.
an_impostor_is_refused_and_harms_nobody(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    with_outsider(Config, Cluster, b, #{}, fun(Impostor) ->
        know(Impostor, A),
        ?assertEqual(B, peer:call(Impostor, erlang, node, [])),
        ?assertEqual(pang, peer:call(Impostor, net_adm, ping, [A])),
        Refused = refusal(A, B, <<"changed_key">>),
        Key = peer:call(Impostor, barrel_p2p_dist_auth, get_public_key, []),
        ?assertEqual({ok, Key}, {ok, {ok, unprint(A, maps:get(<<"fingerprint">>, Refused), Key)}}),
        ?assertEqual({pinned, key(B)}, pin(A, B)),
        %% the true node never lost its connection
        ?assertEqual([B], cluster:call(A, erlang, nodes, [])),
        ?assertEqual(pong, cluster:ping(B, A)),
        ?assertError({no_nodedown, _, _, _}, cluster:await_nodedown(A, B, 1))
    end).

%% The key, when the fingerprint is its own.
unprint(Node, Fingerprint, {ok, Key}) ->
    Fingerprint = cluster:call(Node, barrel_p2p_nif, fingerprint, [Key]),
    Key.

%%%===================================================================
%%% Strict trust, and none
%%%===================================================================

strict_trust_takes_placed_keys_only(Config) ->
    Cluster = ?config(cluster, Config),
    Opts = #{env => [{auth_trust_mode, strict}]},
    [A, B] = [cluster:start(Cluster, Name, Opts) || Name <- [a, b]],
    ?assertEqual([pang, pang], [cluster:ping(A, B), cluster:ping(B, A)]),
    Refused = refusal(B, A, <<"unknown_key">>),
    ?assertEqual(fingerprint(key(A)), maps:get(<<"fingerprint">>, Refused)),
    says(maps:get(<<"cause">>, Refused), ["strict", "trusted/"]),
    says(maps:get(<<"cause">>, refused_by(A, B)), ["unknown_key", "place the public key"]),
    %% one side is not enough
    ok = cluster:call(A, barrel_p2p_dist_keys, store_key, [B, key(B)]),
    ?assertEqual([pang, pang], [cluster:ping(A, B), cluster:ping(B, A)]),
    ok = cluster:call(B, barrel_p2p_dist_keys, store_key, [A, key(A)]),
    ?assertEqual(pong, cluster:ping(A, B)),
    %% placed by a tool, while the nodes run
    C = cluster:start(Cluster, c, Opts),
    ?assertEqual(pang, cluster:ping(C, A)),
    place(Cluster, C, A, atom_to_list(C) ++ ".pub"),
    place(Cluster, A, C, atom_to_list(A) ++ ".pub"),
    ?assertEqual(pong, cluster:ping(C, A)).

strict_trust_takes_placed_clients_only(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{env => [{auth_trust_mode, strict}]}),
    Keys = filename:join(cluster:dir(Cluster), "client"),
    Client = cluster:start(Cluster, remsh, #{dynamic => true, env => [{auth_key_dir, Keys}]}),
    %% it has no name before its first connection, so it cannot ping
    ?assertEqual(false, cluster:call(Client, net_kernel, connect_node, [A])),
    Refused = await_refusal(A, fun(#{<<"code">> := Code}) -> Code =:= <<"unknown_key">> end),
    says(maps:get(<<"cause">>, Refused), ["trusted/clients/"]),
    Public = read(filename:join(Keys, "node.pub")),
    ?assertEqual(fingerprint(Public), maps:get(<<"fingerprint">>, Refused)),
    Placed = filename:join([keys(Cluster, A), "trusted", "clients", "operator.pub"]),
    ok = filelib:ensure_dir(Placed),
    [ok = file:change_mode(Dir, 8#700) || Dir <- [filename:dirname(Placed), filename:dirname(filename:dirname(Placed))]],
    ok = file:write_file(Placed, Public),
    ?assertEqual(true, cluster:call(Client, net_kernel, connect_node, [A])),
    ?assertEqual([Public], [Key || #peer_key{public_key = Key} <- trusted(A)]),
    %% a client's key opens no member's door
    B = cluster:start(Cluster, b, #{env => [{auth_key_dir, Keys}]}),
    ?assertEqual(Public, key(B)),
    ?assertEqual(pang, cluster:ping(B, A)),
    _ = refusal(A, B, <<"unknown_key">>).

the_trust_mode_changes_while_the_node_runs(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B, C] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b, c]],
    ?assertEqual(tofu, cluster:call(A, barrel_p2p_dist_keys, get_trust_mode, [])),
    ok = cluster:connect(A, B),
    ok = cluster:call(A, barrel_p2p_dist_keys, set_trust_mode, [strict]),
    ?assertEqual(strict, cluster:call(A, barrel_p2p_dist_keys, get_trust_mode, [])),
    ?assertEqual(pang, cluster:ping(C, A)),
    _ = refusal(A, C, <<"unknown_key">>),
    %% what was pinned before counts as placed
    ?assertEqual(pong, cluster:ping(B, A)),
    ok = cluster:call(A, barrel_p2p_dist_keys, set_trust_mode, [tofu]),
    ?assertEqual(pong, cluster:ping(C, A)).

without_authentication_pins_are_not_consulted(Config) ->
    Cluster = ?config(cluster, Config),
    Off = #{env => [{auth_enabled, false}], start_app => true},
    [A, B] = [cluster:start(Cluster, Name, Off) || Name <- [a, b]],
    Loud = fun(#{level := Level, msg := {report, #{finding := Finding}}}) -> {Level, Finding} =:= {error, auth_disabled};
              (_) -> false
    end,
    _ = cluster:await_log(A, Loud, ?WAIT_MS),
    ok = cluster:connect(A, B),
    ?assertEqual(off, cluster:call(A, barrel_p2p_dist_keys, get_trust_mode, [])),
    ?assertEqual({error, auth_disabled}, cluster:call(A, barrel_p2p_dist_keys, set_trust_mode, [strict])),
    ok = cluster:call(A, barrel_p2p_dist_keys, store_key, [B, key(A)]),
    cluster:stop(B, halt),
    connection_closed = cluster:await_nodedown(A, B, ?WAIT_MS),
    ok = file:del_dir_r(keys(Cluster, B)),
    B = cluster:restart(Cluster, B),
    ?assertEqual(pong, cluster:ping(A, B)),
    %% the secret is still proven
    C = cluster:start(Cluster, c, Off#{cookie => "another_cookie_of_good_length"}),
    ?assertEqual(pang, cluster:ping(C, A)),
    refuses_to_boot(Cluster, d, #{env => [{auth_enabled, false}, {auth_trust_mode, strict}]}, ["auth_enabled", "strict"]).

%%%===================================================================
%%% Secrets
%%%===================================================================

another_cookie_is_refused(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{}),
    B = cluster:start(Cluster, b, #{cookie => "another_cookie_of_good_length"}),
    ?assertEqual([pang, pang], [cluster:ping(A, B), cluster:ping(B, A)]),
    says(maps:get(<<"cause">>, refusal(A, B, <<"refused">>)), ["cluster secret", "cookie"]),
    says(maps:get(<<"cause">>, refused_by(B, A)), ["refused", "cookie"]),
    ?assertEqual([not_pinned, not_pinned], [pin(A, B), pin(B, A)]),
    %% cookies change while nodes run, also for one peer
    true = cluster:call(A, erlang, set_cookie, [B, another_cookie_of_good_length]),
    true = cluster:call(B, erlang, set_cookie, [A, another_cookie_of_good_length]),
    ?assertEqual(pong, cluster:ping(A, B)).

%% With it the cookie is proven only by the distribution's own handshake, over the link.
the_cluster_secret_comes_before_cookies(Config) ->
    Cluster = ?config(cluster, Config),
    Secret = {cluster_secret, "0123456789abcdef0123456789abcdef"},
    Other = {cluster_secret, "fedcba9876543210fedcba9876543210"},
    A = cluster:start(Cluster, a, #{env => [Secret]}),
    B = cluster:start(Cluster, b, #{env => [Secret], cookie => "another_cookie_of_good_length"}),
    C = cluster:start(Cluster, c, #{env => [Other]}),
    D = cluster:start(Cluster, d, #{env => [Secret]}),
    ?assertEqual(pang, cluster:ping(B, A)),
    ?assertEqual({pinned, key(B)}, pin(A, B)),
    %% same cookie, another secret
    ?assertEqual([pang, pang], [cluster:ping(C, A), cluster:ping(A, C)]),
    says(maps:get(<<"cause">>, refusal(A, C, <<"refused">>)), ["cluster secret"]),
    ?assertEqual(not_pinned, pin(A, C)),
    ?assertEqual(pong, cluster:ping(D, A)).

%%%===================================================================
%%% Names
%%%===================================================================

our_own_key_is_refused(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{}),
    B = cluster:start(Cluster, b, #{env => [{auth_key_dir, copy_keys(Cluster, A)}]}),
    ?assertEqual(key(A), key(B)),
    ?assertEqual([pang, pang], [cluster:ping(B, A), cluster:ping(A, B)]),
    says(maps:get(<<"cause">>, refusal(A, B, <<"refused">>)), ["our own key", "key directory"]).

one_key_under_two_names_is_refused(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    C = cluster:start(Cluster, c, #{env => [{auth_key_dir, copy_keys(Cluster, B)}]}),
    ?assertEqual([pang, pang], [cluster:ping(C, A), cluster:ping(A, C)]),
    says(maps:get(<<"cause">>, refusal(A, C, <<"conflict">>)), [atom_to_list(B)]),
    says(maps:get(<<"cause">>, refused_by(C, A)), ["conflict"]),
    ?assertEqual([B], cluster:call(A, erlang, nodes, [])),
    %% and after the first has gone too: its name has the pin
    cluster:stop(B, halt),
    connection_closed = cluster:await_nodedown(A, B, ?WAIT_MS),
    ?assertEqual([pang, pang], [cluster:ping(C, A), cluster:ping(A, C)]).

a_client_may_not_take_the_name_of_a_member(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    with_outsider(Config, Cluster, b, #{listen => false}, fun(Client) ->
        know(Client, A),
        ?assertEqual(B, peer:call(Client, erlang, node, [])),
        ?assertEqual(pang, peer:call(Client, net_adm, ping, [A])),
        Name = atom_to_binary(B),
        Said = fun
            (#{msg := {report, #{what := <<"a client was refused", _/binary>>, peer := Peer}}}) -> Peer =:= Name;
            (_) -> false
        end,
        #{msg := {report, Report}} = cluster:await_log(A, Said, ?WAIT_MS),
        ?assertMatch(#{fingerprint := <<_:64/bytes>>, remedy := <<_/binary>>}, Report),
        ?assertEqual([B], cluster:call(A, erlang, nodes, [connected])),
        ?assertEqual(pong, cluster:ping(B, A)),
        %% also when the member is away
        cluster:stop(B, halt),
        connection_closed = cluster:await_nodedown(A, B, ?WAIT_MS),
        ?assertEqual(pang, peer:call(Client, net_adm, ping, [A]))
    end),
    %% a name that is nobody's is fine
    with_outsider(Config, Cluster, z, #{listen => false}, fun(Client) ->
        know(Client, A),
        ?assertEqual(pong, peer:call(Client, net_adm, ping, [A]))
    end).

an_address_of_another_node_is_refused(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    {ok, Port} = cluster:call(B, barrel_p2p_dist, listen_port, []),
    C = list_to_atom("c@" ++ host(B)),
    ok = cluster:call(A, application, set_env, [barrel_p2p, contact_nodes, [{C, {{127, 0, 0, 1}, Port}}]]),
    ?assertEqual(pang, cluster:ping(A, C)),
    says(maps:get(<<"cause">>, await_refusal(B, fun(#{<<"peer">> := Peer}) -> Peer =:= atom_to_binary(A) end)), [
        "dialled another node"
    ]),
    says(maps:get(<<"cause">>, refused_by(A, C)), ["address"]),
    ?assertEqual([], cluster:call(A, erlang, nodes, [])),
    %% the address is right for the node that lives there
    ?assertEqual(pong, cluster:ping(A, B)).

a_full_trust_store_refuses_strangers(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{env => [{max_pins, 1}]}),
    [B, C] = [cluster:start(Cluster, Name, #{}) || Name <- [b, c]],
    ?assertEqual([pong, pang], [cluster:ping(B, A), cluster:ping(C, A)]),
    says(maps:get(<<"cause">>, refusal(A, C, <<"trust_store">>)), ["1 keys", "max_pins"]),
    says(maps:get(<<"cause">>, refused_by(C, A)), ["trust_store", "full"]),
    ?assertEqual({error, too_many_pins}, cluster:call(A, barrel_p2p_dist_keys, store_key, [C, key(C)])),
    ok = cluster:call(A, barrel_p2p_dist_keys, delete_key, [B]),
    ?assertEqual(pong, cluster:ping(C, A)).

%%%===================================================================
%%% The functions for operators
%%%===================================================================

the_trust_store_answers_operators(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{}),
    Keys = fun(Function, Args) -> cluster:call(A, barrel_p2p_dist_keys, Function, Args) end,
    [{One, _}, {Two, _}] = [cluster:call(A, barrel_p2p_dist_auth, generate_keypair, []) || _ <- [1, 2]],
    Node = 'someone@somewhere',
    ?assertEqual({error, not_found}, Keys(lookup_key, [Node])),
    ?assertEqual(not_pinned, Keys(lookup_pin, [Node])),
    ?assertEqual([], Keys(list_trusted, [])),
    ?assertEqual(ok, Keys(store_key_if_new, [Node, One])),
    ?assertEqual(ok, Keys(store_key_if_new, [Node, One])),
    ?assertEqual({error, key_mismatch}, Keys(store_key_if_new, [Node, Two])),
    ?assertEqual({ok, One}, Keys(lookup_key, [Node])),
    ?assertEqual([true, false], [Keys(is_trusted, [Node, Key]) || Key <- [One, Two]]),
    ?assertEqual(ok, Keys(store_key, [Node, Two])),
    ?assertEqual({pinned, Two}, Keys(lookup_pin, [Node])),
    [Entry] = Keys(list_trusted, []),
    Fingerprint = crypto:hash(sha256, Two),
    ?assertEqual(Fingerprint, Keys(fingerprint, [Two])),
    ?assertMatch(
        #peer_key{node = Node, public_key = Two, fingerprint = Fingerprint, trust_level = tofu}, Entry
    ),
    Age = erlang:system_time(millisecond) - Entry#peer_key.added_at,
    ?assert(Age > -2000 andalso Age < 120000, Age),
    ?assertEqual({error, invalid_key_size}, Keys(store_key, [Node, <<1:248>>])),
    ?assertMatch({error, {bad_name, _}}, Keys(store_key, ['../../escape@x', Two])),
    ?assertEqual(ok, Keys(delete_key, [Node])),
    ?assertEqual(ok, Keys(delete_key, [Node])),
    ?assertEqual(not_pinned, Keys(lookup_pin, [Node])).

the_identity_answers_operators(Config) ->
    Cluster = ?config(cluster, Config),
    A = cluster:start(Cluster, a, #{}),
    Auth = fun(Function, Args) -> cluster:call(A, barrel_p2p_dist_auth, Function, Args) end,
    Dir = filename:join(cluster:dir(Cluster), "made"),
    ?assertMatch({error, _}, Auth(load_keypair, [Dir])),
    {Public, Secret} = Auth(generate_keypair, []),
    ?assertEqual({32, 32}, {byte_size(Public), byte_size(Secret)}),
    ?assertEqual({Public, Secret}, crypto:generate_key(eddsa, ed25519, Secret)),
    ?assertEqual(ok, Auth(save_keypair, [Dir, Public, Secret])),
    ?assertEqual(8#600, mode(filename:join(Dir, "node.key"))),
    ?assertEqual({ok, Public, Secret}, Auth(load_keypair, [Dir])),
    {Other, _} = Auth(generate_keypair, []),
    ?assertMatch({error, _}, Auth(save_keypair, [Dir, Other, Secret])),
    ?assertEqual({error, invalid_key_size}, Auth(save_keypair, [Dir, Public, <<"short">>])),
    ?assertEqual(ok, Auth(ensure_keypair, [])),
    %% a node that is given this directory has this key
    B = cluster:start(Cluster, b, #{env => [{auth_key_dir, Dir}]}),
    ?assertEqual(Public, key(B)).

%%%===================================================================
%%% Certificates
%%%===================================================================

the_operators_certificate_is_used(Config) ->
    Cluster = ?config(cluster, Config),
    B = cluster:start(Cluster, b, #{}),
    lists:foreach(
        fun({Name, Key}) ->
            Dir = filename:join(cluster:dir(Cluster), "own_" ++ atom_to_list(Name)),
            {Crt, Pem} = own_certificate(Dir, Key),
            A = cluster:start(Cluster, Name, #{env => [{quic_cert_dir, Dir}]}),
            ?assertEqual({Name, pong}, {Name, cluster:ping(A, B)}),
            A = cluster:restart(Cluster, A),
            ?assertEqual({Name, pong}, {Name, cluster:ping(B, A)}),
            ?assertEqual({Crt, Pem}, {read(filename:join(Dir, "node.crt")), read(filename:join(Dir, "node.key"))}),
            cluster:stop(A, halt)
        end,
        [{ec, {namedCurve, secp256r1}}] ++
            %% public_key of OTP 29 writes RSA keys without the NULL parameters that RFC 3279
            %% section 2.3.1 demands, and TLS takes no such certificate for the key's.
            [{rsa, {rsa, 2048, 65537}} || list_to_integer(erlang:system_info(otp_release)) < 29]
    ),
    %% a pair that does not fit is refused, so it was looked at
    [Ec, Other] = [filename:join(cluster:dir(Cluster), Name) || Name <- ["own_ec", "own_other"]],
    _ = own_certificate(Other, {namedCurve, secp256r1}),
    {ok, _} = file:copy(filename:join(Other, "node.crt"), filename:join(Ec, "node.crt")),
    refuses_to_boot(Cluster, ec, #{env => [{quic_cert_dir, Ec}]}, [Ec, "node.crt", "right pair"]).

an_expired_certificate_is_renewed(Config) ->
    Cluster = ?config(cluster, Config),
    [A, B] = [cluster:start(Cluster, Name, #{}) || Name <- [a, b]],
    cluster:stop(A, halt),
    Dir = filename:join(filename:dirname(keys(Cluster, A)), "quic"),
    File = filename:join(Dir, "node.crt"),
    Expired = expire(File, filename:join(Dir, "node.key")),
    ?assert(not_after(File) < "21"),
    A = cluster:restart(Cluster, A),
    ?assertNotEqual(Expired, read(File)),
    ?assert(not_after(File) > "21"),
    ?assertEqual([pong, pong], [cluster:ping(A, B), cluster:ping(B, A)]),
    %% one that is not due stays
    Fresh = read(File),
    A = cluster:restart(Cluster, A),
    ?assertEqual(Fresh, read(File)).

own_certificate(Dir, Key) ->
    Chain = #{root => [{key, Key}], intermediates => [], peer => [{key, Key}]},
    #{server_config := Server} = public_key:pkix_test_data(#{server_chain => Chain, client_chain => Chain}),
    {KeyType, KeyDer} = proplists:get_value(key, Server),
    Certs = [proplists:get_value(cert, Server) | proplists:get_value(cacerts, Server)],
    Crt = public_key:pem_encode([{'Certificate', Der, not_encrypted} || Der <- Certs]),
    Pem = public_key:pem_encode([{KeyType, KeyDer, not_encrypted}]),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:change_mode(Dir, 8#700),
    ok = file:write_file(filename:join(Dir, "node.crt"), Crt),
    ok = file:write_file(filename:join(Dir, "node.key"), Pem),
    ok = file:change_mode(filename:join(Dir, "node.key"), 8#600),
    {Crt, Pem}.

%% The same certificate with a validity that is over, signed again by its own key.
expire(File, KeyFile) ->
    [{'Certificate', Der, not_encrypted}] = public_key:pem_decode(read(File)),
    #'OTPCertificate'{tbsCertificate = Tbs} = public_key:pkix_decode_cert(Der, otp),
    [KeyEntry | _] = public_key:pem_decode(read(KeyFile)),
    Past = #'Validity'{notBefore = {utcTime, "190101000000Z"}, notAfter = {utcTime, "200101000000Z"}},
    Signed = public_key:pkix_sign(Tbs#'OTPTBSCertificate'{validity = Past}, public_key:pem_entry_decode(KeyEntry)),
    Pem = public_key:pem_encode([{'Certificate', Signed, not_encrypted}]),
    ok = file:write_file(File, Pem),
    Pem.

%% Two digits of the year come first.
not_after(File) ->
    [{'Certificate', Der, not_encrypted}] = public_key:pem_decode(read(File)),
    #'OTPCertificate'{tbsCertificate = #'OTPTBSCertificate'{validity = #'Validity'{notAfter = {utcTime, Text}}}} =
        public_key:pkix_decode_cert(Der, otp),
    Text.

%%%===================================================================
%%% Secrecy
%%%===================================================================

secret_keys_appear_nowhere(Config) ->
    Cluster = ?config(cluster, Config),
    Opts = #{start_app => true, env => [{log_level, debug}, {cluster_secret, "cluster secret, told to nobody!!"}]},
    [A, B] = [cluster:start(Cluster, Name, Opts) || Name <- [a, b]],
    ok = cluster:connect(A, B),
    Seed = read(filename:join(keys(Cluster, A), "node.key")),
    [{_, CertKey, _} | _] = public_key:pem_decode(read(filename:join([keys(Cluster, A), "..", "quic", "node.key"]))),
    %% in whatever form a log may show bytes
    Forms = lists:append([
        [S, binary:encode_hex(S), string:lowercase(binary:encode_hex(S)), base64:encode(S), iolist_to_binary(io_lib:format("~w", [S]))]
     || S <- [Seed, binary:part(CertKey, 0, min(40, byte_size(CertKey)))]
    ]),
    Holds = fun(Bytes) -> [F || F <- Forms, binary:match(Bytes, F) =/= nomatch] end,
    Processes = cluster:run(A, fun process_states/0),
    ?assert(byte_size(Processes) > 1000),
    ?assertEqual([], Holds(Processes)),
    %% a crash, its report, and what its handlers wrote
    Owner = cluster:call(A, erlang, whereis, [barrel_p2p_node]),
    ok = cluster:call(A, sys, terminate, [Owner, on_purpose]),
    cluster:await(A, fun() -> is_pid(whereis(barrel_p2p_node)) andalso whereis(barrel_p2p_node) =/= Owner end, ?WAIT_MS),
    Logged = term_to_binary(cluster:logs(A)),
    ?assertEqual([], Holds(Logged)),
    ?assertEqual([], Holds(read(filename:join(cluster:dir(Cluster), "a.log")))),
    ?assertEqual(nomatch, binary:match(Logged, <<"told to nobody">>)),
    %% a crash dump
    Dump = filename:join(cluster:dir(Cluster), "erl_crash.dump"),
    cluster:stop(A, {mfa, erlang, halt, ["a dump on purpose"]}),
    Dumped = read(Dump),
    ok = file:delete(Dump),
    ?assert(byte_size(Dumped) > 10000),
    ?assertEqual([], Holds(Dumped)).

process_states() ->
    Names = [barrel_p2p_node, barrel_p2p_secret, barrel_p2p_log, barrel_p2p_sup, barrel_p2p_dist_sup],
    term_to_binary([
        [{Name, sys:get_state(Name), sys:get_status(Name)} || Name <- Names, whereis(Name) =/= undefined],
        persistent_term:get(),
        [{Table, ets:tab2list(Table)} || Table <- ets:all(), ets:info(Table, protection) =/= private],
        [process_info(Pid, [dictionary, messages]) || Pid <- processes()]
    ]).

%%%===================================================================
%%% Internal: nodes
%%%===================================================================

pin(On, Of) ->
    cluster:call(On, barrel_p2p_dist_keys, lookup_pin, [Of]).

trusted(Node) ->
    cluster:call(Node, barrel_p2p_dist_keys, list_trusted, []).

key(Node) ->
    {ok, Key} = cluster:call(Node, barrel_p2p_dist_auth, get_public_key, []),
    Key.

fingerprint(Key) ->
    string:lowercase(binary:encode_hex(crypto:hash(sha256, Key))).

host(Node) ->
    [_, Host] = string:split(atom_to_list(Node), "@"),
    Host.

%% A node outside the cluster's discovery directory, with a directory of its own. Its name may
%% be one of the cluster's, so it is known by its control process only.
with_outsider(Config, #{cookie := Cookie}, Name, Opts, Fun) ->
    Outside = (cluster:new(Config, "o"))#{cookie => Cookie},
    {Shell, Before} = cluster:in_directory(cluster:dir(Outside), cluster:erl(Opts)),
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        exec => {Shell, Before},
        args => cluster:arguments(Outside, Name, Opts),
        wait_boot => 60000
    }),
    try
        Fun(Peer)
    after
        peer:stop(Peer)
    end.

%% Tells an outsider where a node listens.
know(Peer, Node) ->
    {ok, Port} = cluster:call(Node, barrel_p2p_dist, listen_port, []),
    ok = peer:call(Peer, application, set_env, [barrel_p2p, contact_nodes, [{Node, {{127, 0, 0, 1}, Port}}]]).

refuses_to_boot(Cluster, Name, Opts, Parts) ->
    {Status, Said} = cluster:boot_fails(Cluster, Name, Opts),
    ?assertNotEqual({0, Said}, {Status, Said}),
    says(Said, Parts).

%%%===================================================================
%%% Internal: the log
%%%===================================================================

%% What a node said when it refused a peer.
refusal(Node, Peer, Code) ->
    Name = atom_to_binary(Peer),
    await_refusal(Node, fun(#{<<"peer">> := P, <<"code">> := C}) -> {P, C} =:= {Name, Code} end).

await_refusal(Node, IsIt) ->
    await_report(Node, <<"a peer was refused">>, IsIt).

%% What a node said when it was refused.
refused_by(Node, Peer) ->
    Name = atom_to_binary(Peer),
    await_report(Node, <<"a peer refused this node">>, fun(#{<<"peer">> := P}) -> P =:= Name end).

await_report(Node, What, IsIt) ->
    Matches = fun
        (#{msg := {report, #{what := W, fields := Fields}}}) -> W =:= What andalso IsIt(Fields);
        (_) -> false
    end,
    #{level := warning, msg := {report, #{fields := Fields}}} = cluster:await_log(Node, Matches, ?WAIT_MS),
    Fields.

refusals(Node) ->
    [
        Fields
     || #{msg := {report, #{what := What, fields := Fields}}} <- cluster:logs(Node),
        lists:member(What, [<<"a peer was refused">>, <<"a peer refused this node">>])
    ].

says(Said, Parts) ->
    [?assertNotEqual({Said, lacks, Part}, {Said, lacks, found(Said, Part)}) || Part <- Parts],
    ok.

found(Said, Part) ->
    case string:find(unicode:characters_to_list(Said), unicode:characters_to_list(Part)) of
        nomatch -> Part;
        _ -> found
    end.

%%%===================================================================
%%% Internal: files
%%%===================================================================

keys(Cluster, Node) ->
    filename:join([cluster:dir(Cluster), "data", atom_to_list(Node), "keys"]).

copy_keys(Cluster, Node) ->
    Copy = filename:join(cluster:dir(Cluster), "copy"),
    ok = filelib:ensure_dir(filename:join(Copy, "x")),
    ok = file:change_mode(Copy, 8#700),
    [
        begin
            {ok, 32} = file:copy(filename:join(keys(Cluster, Node), File), filename:join(Copy, File)),
            ok = file:change_mode(filename:join(Copy, File), 8#600)
        end
     || File <- ["node.pub", "node.key"]
    ],
    Copy.

%% Puts the key of one node where another one looks, as an operator's tool would.
place(Cluster, Of, On, Name) ->
    Trusted = filename:join(keys(Cluster, On), "trusted"),
    ok = filelib:ensure_dir(filename:join(Trusted, "x")),
    ok = file:change_mode(Trusted, 8#700),
    {ok, 32} = file:copy(filename:join(keys(Cluster, Of), "node.pub"), filename:join(Trusted, Name)),
    ok.

mode(File) ->
    {ok, #file_info{mode = Mode}} = file:read_file_info(File),
    Mode band 8#777.

read(File) ->
    {ok, Bytes} = file:read_file(File),
    Bytes.
