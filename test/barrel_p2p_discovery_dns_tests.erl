%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Discovery by DNS, against a name server of the test.
-module(barrel_p2p_discovery_dns_tests).

-include_lib("eunit/include/eunit.hrl").

an_address_needs_no_server_test() ->
    Silent = #{nameservers => [{{127, 0, 0, 1}, 1}]},
    ?assertEqual({ok, {{203, 0, 113, 1}, 9100}}, lookup("203.0.113.1", Silent)),
    ?assertEqual({ok, {{16#2001, 16#db8, 0, 0, 0, 0, 0, 1}, 9100}}, lookup("2001:db8::1", Silent)).

a_name_without_host_is_not_asked_test() ->
    ?assertEqual({error, not_found}, lookup("", #{nameservers => [{{127, 0, 0, 1}, 1}]})).

addresses_of_both_families_get_the_default_port_test() ->
    Zone = #{
        {"host.test", a} => [{203, 0, 113, 1}, {203, 0, 113, 2}],
        {"host.test", aaaa} => [{16#2001, 16#db8, 0, 0, 0, 0, 0, 1}]
    },
    with_server(Zone, fun(Opts) ->
        {ok, Endpoints} = lookup("host.test", Opts),
        ?assertEqual(
            [{{203, 0, 113, 1}, 9100}, {{203, 0, 113, 2}, 9100}, {{16#2001, 16#db8, 0, 0, 0, 0, 0, 1}, 9100}],
            lists:sort(Endpoints)
        )
    end).

service_records_decide_by_priority_test() ->
    Zone = #{
        {"host.test", a} => [{203, 0, 113, 1}],
        {"_barrel-p2p._udp.host.test", srv} => [{20, 0, 5002, "other.test"}, {10, 0, 5001, "host.test"}],
        {"other.test", a} => [{203, 0, 113, 9}]
    },
    with_server(Zone, fun(Opts) ->
        ?assertEqual({ok, [{{203, 0, 113, 1}, 5001}, {{203, 0, 113, 9}, 5002}]}, lookup("host.test", Opts))
    end).

service_records_suffice_test() ->
    Zone = #{
        {"_barrel-p2p._udp.service.test", srv} => [{0, 0, 5001, "other.test"}],
        {"other.test", a} => [{203, 0, 113, 9}]
    },
    with_server(Zone, fun(Opts) ->
        ?assertEqual({ok, [{{203, 0, 113, 9}, 5001}]}, lookup("service.test", Opts))
    end).

a_service_without_reachable_target_is_not_found_test() ->
    Zone = #{
        {"host.test", a} => [{203, 0, 113, 1}],
        {"_barrel-p2p._udp.host.test", srv} => [{0, 0, 5001, "nowhere.test"}]
    },
    with_server(Zone, fun(Opts) -> ?assertEqual({error, not_found}, lookup("host.test", Opts)) end).

an_unknown_name_is_not_found_test() ->
    with_server(#{}, fun(Opts) -> ?assertEqual({error, not_found}, lookup("nobody.test", Opts)) end).

a_server_that_never_answers_for_services_does_not_hide_addresses_test() ->
    Zone = #{{"host.test", a} => [{203, 0, 113, 1}], {"_barrel-p2p._udp.host.test", srv} => silence},
    with_server(Zone, fun(Opts) ->
        ?assertEqual({ok, [{{203, 0, 113, 1}, 9100}]}, lookup("host.test", Opts))
    end).

a_silent_server_is_not_found_within_the_time_test() ->
    {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true}]),
    {ok, Port} = inet:port(Socket),
    try
        ?assertEqual(
            {error, not_found},
            barrel_p2p_discovery_dns:lookup('n@host.test', "host.test", #{
                opts => #{nameservers => [{{127, 0, 0, 1}, Port}]}, timeout_ms => 50, local => false
            })
        )
    after
        gen_udp:close(Socket)
    end.

the_system_resolver_knows_localhost_test() ->
    ?assert(lists:member({127, 0, 0, 1}, barrel_p2p_discovery:addresses("localhost", 5000, []))).

%%%===================================================================
%%% Internal
%%%===================================================================

lookup(Host, Opts) ->
    barrel_p2p_discovery_dns:lookup(list_to_atom("n@" ++ Host), Host, #{
        opts => Opts, timeout_ms => 5000, local => false
    }).

with_server(Zone, Fun) ->
    Test = self(),
    Server = spawn_link(fun() ->
        {ok, Socket} = gen_udp:open(0, [binary, {ip, {127, 0, 0, 1}}, {active, true}]),
        {ok, Port} = inet:port(Socket),
        Test ! {self(), Port},
        serve(Socket, Zone)
    end),
    Port =
        receive
            {Server, P} -> P
        end,
    try
        Fun(#{nameservers => [{{127, 0, 0, 1}, Port}]})
    after
        unlink(Server),
        exit(Server, kill)
    end.

serve(Socket, Zone) ->
    receive
        {udp, Socket, Ip, Port, Packet} ->
            {ok, Query} = inet_dns:decode(Packet),
            [Question] = inet_dns:msg(Query, qdlist),
            Domain = inet_dns:dns_query(Question, domain),
            Type = inet_dns:dns_query(Question, type),
            case maps:get({string:lowercase(Domain), Type}, Zone, []) of
                silence ->
                    ok;
                Data ->
                    Header = inet_dns:make_header(inet_dns:msg(Query, header), [{qr, true}, {ra, true}]),
                    Answers = [
                        inet_dns:make_rr([{domain, Domain}, {type, Type}, {class, in}, {ttl, 1}, {data, D}])
                     || D <- Data
                    ],
                    Reply = inet_dns:make_msg(Query, [{header, Header}, {anlist, Answers}, {arlist, []}]),
                    ok = gen_udp:send(Socket, Ip, Port, inet_dns:encode(Reply))
            end,
            serve(Socket, Zone)
    end.
