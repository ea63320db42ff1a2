%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc Which secret proves membership.
-module(barrel_p2p_secret_tests).

-include_lib("eunit/include/eunit.hrl").

-define(SECRET, "a cluster secret of enough bytes").

the_cluster_secret_comes_before_every_cookie_test() ->
    with_vm(["-barrel_p2p", "cluster_secret", "\"" ?SECRET "\""], fun(Vm) ->
        true = peer:call(Vm, erlang, set_cookie, ['a@b', other]),
        [?assertEqual({ok, <<?SECRET>>}, find(Vm, Peer)) || Peer <- ['a@b', <<"a@b">>, <<"host">>]]
    end).

the_cookie_of_a_known_node_comes_before_our_own_test() ->
    with_vm([], fun(Vm) ->
        true = peer:call(Vm, erlang, set_cookie, ['a@b', for_a]),
        ?assertEqual({ok, <<"for_a">>}, find(Vm, 'a@b')),
        ?assertEqual({ok, <<"for_a">>}, find(Vm, <<"a@b">>)),
        ?assertEqual({ok, <<"our_own">>}, find(Vm, 'c@d')),
        ?assertEqual({ok, <<"our_own">>}, find(Vm, <<"c@d">>))
    end).

a_changed_cookie_is_seen_test() ->
    with_vm([], fun(Vm) ->
        ?assertEqual({ok, <<"our_own">>}, find(Vm, 'c@d')),
        true = peer:call(Vm, erlang, set_cookie, [changed]),
        ?assertEqual({ok, <<"changed">>}, find(Vm, 'c@d'))
    end).

a_client_has_no_cookie_of_its_own_test() ->
    with_vm([], fun(Vm) ->
        true = peer:call(Vm, erlang, set_cookie, [host, wrong]),
        ?assertEqual({ok, <<"our_own">>}, find(Vm, <<"host">>))
    end).

a_name_of_a_stranger_does_not_become_an_atom_test() ->
    with_vm([], fun(Vm) ->
        {ok, _} = find(Vm, <<"warm@up">>),
        Before = peer:call(Vm, erlang, system_info, [atom_count]),
        [{ok, <<"our_own">>} = find(Vm, <<"stranger", (integer_to_binary(N))/binary, "@far">>) || N <- lists:seq(1, 100)],
        ?assertEqual(Before, peer:call(Vm, erlang, system_info, [atom_count]))
    end).

without_any_secret_nobody_is_admitted_test() ->
    with_lone_vm(fun(Vm) ->
        ?assertEqual({error, no_secret}, find(Vm, <<"a@b">>)),
        ?assertEqual({error, no_secret}, find(Vm, 'a@b')),
        ?assertError(no_secret, peer:call(Vm, barrel_p2p_secret, secret_for, ['a@b']))
    end).

the_server_survives_what_it_does_not_know_test() ->
    {ok, Pid} = barrel_p2p_secret:start_link(),
    Pid ! nonsense,
    ok = gen_server:cast(Pid, nonsense),
    ?assertEqual({error, unknown_call}, gen_server:call(Pid, nonsense)),
    unlink(Pid),
    ok = gen_server:stop(Pid).

%%%===================================================================
%%% Internal
%%%===================================================================

find(Vm, Peer) ->
    peer:call(Vm, barrel_p2p_secret, find_secret, [Peer]).

%% A distributed node that needs neither epmd nor a port.
with_vm(Args, Fun) ->
    Name = lists:concat(["secret_", os:getpid(), "_", erlang:unique_integer([positive])]),
    start(["-sname", Name, "-dist_listen", "false", "-setcookie", "our_own" | Args], Fun).

with_lone_vm(Fun) ->
    start([], Fun).

start(Args, Fun) ->
    Path = filename:absname(filename:dirname(code:which(barrel_p2p_secret))),
    {ok, Vm, _} = peer:start_link(#{connection => standard_io, args => ["-pa", Path | Args]}),
    try
        ok = peer:call(Vm, application, load, [barrel_p2p]),
        Fun(Vm)
    after
        peer:stop(Vm)
    end.
