%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc The start-up check: which facts make which finding.
-module(barrel_p2p_check_tests).

-include_lib("eunit/include/eunit.hrl").

a_good_node_has_no_finding_test() ->
    ?assertEqual([], ids(good())).

the_library_beside_another_carrier_has_no_finding_test() ->
    ?assertEqual([], ids((good())#{proto_dist := error, carrier_active := false})),
    ?assertEqual([], ids((good())#{proto_dist := {ok, [["inet_tls"]]}, carrier_active := false})).

two_flags_on_otp_25_are_clear_text_and_fatal_test() ->
    Facts = (good())#{proto_dist := {ok, [["barrel_p2p"], ["barrel_p2p"]]}, carrier_active := false},
    ?assertMatch([#{id := carrier_not_used, fatal := true, level := error}], barrel_p2p_check:findings(Facts)),
    Mixed = Facts#{proto_dist := {ok, [["inet_tcp"], ["barrel_p2p"]]}},
    ?assertMatch([#{id := carrier_not_used, fatal := true}], barrel_p2p_check:findings(Mixed)).

two_flags_with_the_carrier_in_use_are_a_warning_test() ->
    Facts = (good())#{otp_release := 27, proto_dist := {ok, [["barrel_p2p"], ["inet_tcp"]]}},
    ?assertMatch([#{id := proto_dist_repeated, fatal := false}], barrel_p2p_check:findings(Facts)).

two_flags_of_other_carriers_are_not_our_business_test() ->
    Facts = (good())#{proto_dist := {ok, [["inet_tcp"], ["inet_tls"]]}, carrier_active := false},
    ?assertEqual([], ids(Facts)).

a_carrier_that_was_asked_for_and_does_not_run_is_fatal_test() ->
    Facts = (good())#{carrier_active := false},
    ?assertMatch([#{id := carrier_not_used, fatal := true}], barrel_p2p_check:findings(Facts)).

a_flag_without_a_node_name_is_no_finding_test() ->
    Facts = (good())#{carrier_active := false, alive := false},
    ?assertEqual([], ids(Facts)).

not_being_the_first_carrier_is_a_warning_test() ->
    Facts = (good())#{proto_dist := {ok, [["inet_tcp", "barrel_p2p"]]}},
    ?assertMatch([#{id := carrier_not_first, fatal := false}], barrel_p2p_check:findings(Facts)),
    Second = (good())#{proto_dist := {ok, [["barrel_p2p", "inet_tcp"]]}},
    ?assertEqual([], ids(Second)).

connect_all_is_one_report_that_names_the_remedy_test() ->
    [Finding] = barrel_p2p_check:findings((good())#{connect_all := true}),
    ?assertMatch(#{id := full_mesh, level := warning, fatal := false}, Finding),
    ?assertNotEqual(nomatch, binary:match(maps:get(remedy, Finding), <<"-kernel connect_all false">>)),
    ?assertNotEqual(nomatch, binary:match(maps:get(what, Finding), <<"disconnect">>)),
    [Milder] = barrel_p2p_check:findings((good())#{connect_all := true, prevent_overlapping_partitions := false}),
    ?assertEqual(nomatch, binary:match(maps:get(what, Milder), <<"disconnect">>)).

partitions_matter_only_together_with_connect_all_test() ->
    ?assertEqual([], ids((good())#{prevent_overlapping_partitions := true})).

short_and_missing_cookies_are_trivial_test_() ->
    [
        ?_assertEqual([cookie_trivial], ids((good())#{cookie := Cookie}))
     || Cookie <- [nocookie, '', secret, '123456789012345']
    ].

a_generated_cookie_is_recognised_test() ->
    [Finding] = barrel_p2p_check:findings((good())#{cookie := 'ABCDEFGHIJKLMNOPQRST'}),
    ?assertMatch(#{id := cookie_generated, level := warning}, Finding),
    ?assertNotEqual(nomatch, binary:match(maps:get(remedy, Finding), <<"cluster_secret">>)),
    ?assertEqual([], ids((good())#{cookie := 'ABCDEFGHIJKLMNOPQRSt'})),
    ?assertEqual([], ids((good())#{cookie := 'ABCDEFGHIJKLMNOPQRSTU'})).

with_a_cluster_secret_no_cookie_matters_test() ->
    ?assertEqual([], ids((good())#{cookie := x, cluster_secret := true})).

each_readable_key_is_named_test() ->
    Files = [{<<"/k/node.key">>, 8#100644}, {<<"/q/node.key">>, 8#100600}, {<<"/r/node.key">>, 8#100620}],
    Findings = barrel_p2p_check:findings((good())#{key_files := Files}),
    ?assertEqual(
        [{<<"/k/node.key">>, <<"0644">>}, {<<"/r/node.key">>, <<"0620">>}],
        [{File, Mode} || #{id := key_readable, details := #{file := File, mode := Mode}} <- Findings]
    ),
    [?assertNotEqual(nomatch, binary:match(Remedy, <<"chmod 600 /">>)) || #{remedy := Remedy} <- Findings].

disabled_authentication_is_said_as_an_error_test() ->
    ?assertMatch(
        [#{id := auth_disabled, level := error, fatal := false}],
        barrel_p2p_check:findings((good())#{auth_enabled := false})
    ).

every_finding_has_a_remedy_and_the_fatal_one_comes_first_test() ->
    Bad = (good())#{
        carrier_active := false,
        connect_all := true,
        cookie := x,
        key_files := [{<<"k">>, 8#644}],
        auth_enabled := false
    },
    Findings = [First | _] = barrel_p2p_check:findings(Bad),
    ?assertEqual([carrier_not_used, key_readable, auth_disabled, cookie_trivial, full_mesh], ids(Bad)),
    ?assertMatch(#{fatal := true}, First),
    [?assert(byte_size(Remedy) > 10) || #{remedy := Remedy} <- Findings].

facts_of_this_vm_can_be_judged_test() ->
    Facts = barrel_p2p_check:facts(),
    ?assertEqual(maps:keys(good()), maps:keys(Facts)),
    ?assert(is_list(barrel_p2p_check:findings(Facts))).

%%%===================================================================
%%% Internal
%%%===================================================================

good() ->
    #{
        otp_release => 25,
        proto_dist => {ok, [["barrel_p2p"]]},
        carrier_active => true,
        alive => true,
        connect_all => false,
        prevent_overlapping_partitions => true,
        cookie => 'a cookie that somebody chose',
        cluster_secret => false,
        key_files => [{<<"/k/node.key">>, 8#100600}],
        auth_enabled => true
    }.

ids(Facts) ->
    [Id || #{id := Id} <- barrel_p2p_check:findings(Facts)].
