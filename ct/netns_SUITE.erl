%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% Two machines: two network namespaces joined by a cable, a node in each with
%%% default ports, and nothing configured but its name. Needs root.
-module(netns_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

%% common_test
-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
%% Cases
-export([
    nodes_named_by_ipv4_addresses_connect/1,
    nodes_named_by_ipv6_addresses_connect/1,
    mtu_discovery_stops_at_a_cable_of_1500_bytes/1,
    mtu_discovery_uses_a_cable_of_9000_bytes/1,
    a_cable_that_shrinks_does_not_end_the_connection/1,
    a_cable_that_is_cut_ends_the_connection/1,
    a_path_that_swallows_everything_ends_the_connection/1
]).
%% Run on the nodes
-export([there_and_back/2, measured_mtu/1]).

-define(WAIT_MS, 15000).

suite() ->
    [{timetrap, {minutes, 2}}].

all() ->
    [
        nodes_named_by_ipv4_addresses_connect,
        nodes_named_by_ipv6_addresses_connect,
        mtu_discovery_stops_at_a_cable_of_1500_bytes,
        mtu_discovery_uses_a_cable_of_9000_bytes,
        a_cable_that_shrinks_does_not_end_the_connection,
        a_cable_that_is_cut_ends_the_connection,
        a_path_that_swallows_everything_ends_the_connection
    ].

%% Without root each case is skipped, not the suite: skipped cases are counted.
init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) ->
    case elsewhere:is_root() of
        false ->
            {skip, "needs root"};
        true ->
            Mtu =
                case Case of
                    mtu_discovery_stops_at_a_cable_of_1500_bytes -> 1500;
                    _ -> 9000
                end,
            case join_namespaces(Mtu) of
                {ok, Places} -> [{places, Places} | Config];
                {error, Said} -> {skip, "network namespaces are not available: " ++ Said}
            end
    end.

end_per_testcase(_Case, Config) ->
    lists:foreach(fun delete_namespace/1, ?config(places, Config)).

%%%===================================================================
%%% Cases
%%%===================================================================

nodes_named_by_ipv4_addresses_connect(Config) ->
    with_nodes(Config, v4, [], fun(A, B) ->
        connect(A, B),
        exchange(A, B, 16 bsl 20),
        %% default ports, each on a machine of its own
        [?assertEqual({ok, 9100}, elsewhere:call(Vm, barrel_p2p_dist, listen_port, [])) || Vm <- [A, B]]
    end).

nodes_named_by_ipv6_addresses_connect(Config) ->
    with_nodes(Config, v6, [], fun(A, B) ->
        connect(A, B),
        exchange(A, B, 16 bsl 20)
    end).

mtu_discovery_stops_at_a_cable_of_1500_bytes(Config) ->
    with_nodes(Config, v4, [], fun(A, B) ->
        connect(A, B),
        exchange(A, B, 16 bsl 20),
        %% 20 bytes of IPv4 and 8 of UDP
        Mtu = await_mtu(A, B, 1400),
        ct:pal("datagrams of ~b bytes over a cable of 1500", [Mtu]),
        ?assert(Mtu =< 1472)
    end).

mtu_discovery_uses_a_cable_of_9000_bytes(Config) ->
    with_nodes(Config, v4, [], fun(A, B) ->
        connect(A, B),
        exchange(A, B, 16 bsl 20),
        Mtu = await_mtu(A, B, 8500),
        ct:pal("datagrams of ~b bytes over a cable of 9000", [Mtu]),
        ?assert(Mtu =< 8972)
    end).

a_cable_that_shrinks_does_not_end_the_connection(Config) ->
    with_nodes(Config, v4, [], fun(A, {_, NodeB} = B) ->
        connect(A, B),
        exchange(A, B, 4 bsl 20),
        _ = await_mtu(A, B, 8500),
        [set_link(Place, ["mtu", "1500"]) || Place <- ?config(places, Config)],
        exchange(A, B, 4 bsl 20),
        Mtu = elsewhere:call(A, ?MODULE, measured_mtu, [NodeB]),
        ct:pal("datagrams of ~b bytes after the cable shrank to 1500", [Mtu]),
        ?assert(Mtu =< 1472)
    end).

a_cable_that_is_cut_ends_the_connection(Config) ->
    with_nodes(Config, v4, [], fun(A, B) ->
        connect(A, B),
        Both = [watch(A, B), watch(B, A)],
        [Place | _] = ?config(places, Config),
        set_link(Place, ["down"]),
        [nodedown(Vm, Node, connection_closed) || {Vm, Node} <- Both]
    end).

%% Both interfaces stay up and say nothing: what they send is for a station that is not there.
a_path_that_swallows_everything_ends_the_connection(Config) ->
    with_nodes(Config, v4, [], fun(A, B) ->
        connect(A, B),
        Both = [watch(A, B), watch(B, A)],
        [PlaceA, PlaceB] = ?config(places, Config),
        misdirect(PlaceA, PlaceB),
        misdirect(PlaceB, PlaceA),
        [nodedown(Vm, Node, connection_closed) || {Vm, Node} <- Both]
    end).

%%%===================================================================
%%% Steps
%%%===================================================================

with_nodes(Config, Family, Args, Fun) ->
    [PlaceA, PlaceB] = ?config(places, Config),
    A = start(Config, PlaceA, "a", Family, Args),
    try
        B = start(Config, PlaceB, "b", Family, Args),
        try
            Fun(A, B)
        after
            elsewhere:stop(B)
        end
    after
        elsewhere:stop(A)
    end.

start(Config, #{ns := Ns} = Place, Short, Family, Args) ->
    Dir = filename:join([?config(priv_dir, Config), Ns ++ Short]),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:change_mode(Dir, 8#700),
    %% directories are relative to the current one, so each node has its own
    Erl = "cd '" ++ Dir ++ "' && exec erl \"$@\"",
    elsewhere:start(#{
        name => Short ++ "@" ++ maps:get(Family, Place),
        exec => {os:find_executable("ip"), ["netns", "exec", Ns, "sh", "-c", Erl, "sh"]},
        env => [{"XDG_RUNTIME_DIR", Dir}, {"BARREL_P2P_NIF", elsewhere:library()}],
        pa => filename:dirname(code:which(barrel_p2p)),
        args => ["-pa", filename:dirname(code:which(?MODULE)) | Args]
    }).

connect(A, {_, NodeB}) ->
    ?assertEqual(pong, elsewhere:call(A, net_adm, ping, [NodeB])).

exchange({_, NodeA} = A, {_, NodeB} = B, Bytes) ->
    [?assertEqual(ok, elsewhere:call(From, ?MODULE, there_and_back, [To, Bytes])) || {From, To} <- [{A, NodeB}, {B, NodeA}]].

%% Bytes that differ wherever they are cut. Made on the node: the test's own channel to it is slow.
there_and_back(Node, Bytes) ->
    Data = iolist_to_binary([erlang:md5(<<N:32>>) || N <- lists:seq(1, Bytes div 16)]),
    Sum = erlang:md5(Data),
    case erpc:call(Node, fun() -> {erlang:md5(Data), Data} end, ?WAIT_MS) of
        {Sum, Data} -> ok;
        {Other, Back} -> {spoiled, Sum, Other, erlang:md5(Back)}
    end.

watch(Vm, {_, Node}) ->
    elsewhere:watch(Vm, Node),
    {Vm, Node}.

nodedown(Vm, Node, Reason) ->
    ?assertEqual({Node, Reason}, {Node, elsewhere:nodedown_reason(Vm, ?WAIT_MS)}).

measured_mtu(Node) ->
    Name = atom_to_binary(Node),
    [Mtu] = [Mtu || #{name := N, mtu := Mtu, draining := false} <- barrel_p2p_node:links(), N =:= Name],
    Mtu.

%% Discovery probes one size at a time, each with a round trip: traffic drives it.
await_mtu(A, B, AtLeast) ->
    await_mtu(A, B, AtLeast, erlang:monotonic_time(millisecond) + ?WAIT_MS).

await_mtu(A, {_, NodeB} = B, AtLeast, Deadline) ->
    case elsewhere:call(A, ?MODULE, measured_mtu, [NodeB]) of
        Mtu when Mtu >= AtLeast ->
            Mtu;
        Mtu ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline, {stuck_at, Mtu}),
            pong = elsewhere:call(A, net_adm, ping, [NodeB]),
            await_mtu(A, B, AtLeast, Deadline)
    end.

%%%===================================================================
%%% Namespaces
%%%===================================================================

%% The names hold the number of this VM and of the case, so that two runs side by side
%% do not meet.
join_namespaces(Mtu) ->
    Unique = os:getpid() ++ "x" ++ integer_to_list(erlang:unique_integer([positive]) rem 1000),
    [Third | _] = [erlang:phash2(Unique, 250) + 1],
    Net = "10.91." ++ integer_to_list(Third) ++ ".",
    Net6 = "fd91:" ++ integer_to_list(Third) ++ "::",
    Places = [
        #{
            ns => "bp" ++ Side ++ Unique,
            link => "bp" ++ Side,
            v4 => Net ++ Number,
            v6 => Net6 ++ Number
        }
     || {Side, Number} <- [{"a", "1"}, {"b", "2"}]
    ],
    try
        join(Places, integer_to_list(Mtu)),
        {ok, Places}
    catch
        error:{failed, Words, _, Said} ->
            lists:foreach(fun delete_namespace/1, Places),
            {error, lists:flatten([lists:join(" ", Words), ": ", Said])}
    end.

join([#{ns := NsA, link := LinkA}, #{ns := NsB, link := LinkB}] = Places, Mtu) ->
    [elsewhere:command(["ip", "netns", "add", Ns]) || #{ns := Ns} <- Places],
    elsewhere:command(
        ["ip", "link", "add", LinkA, "netns", NsA, "type", "veth", "peer", "name", LinkB, "netns", NsB]
    ),
    lists:foreach(
        fun(#{ns := Ns, link := Link, v4 := V4, v6 := V6}) ->
            In = fun(Words) -> elsewhere:command(["ip", "-n", Ns | Words]) end,
            In(["link", "set", "lo", "up"]),
            In(["link", "set", Link, "mtu", Mtu]),
            In(["addr", "add", V4 ++ "/24", "dev", Link]),
            In(["addr", "add", V6 ++ "/64", "dev", Link, "nodad"]),
            In(["link", "set", Link, "up"])
        end,
        Places
    ).

set_link(#{ns := Ns, link := Link}, Words) ->
    elsewhere:command(["ip", "-n", Ns, "link", "set", Link | Words]).

misdirect(#{ns := Ns, link := Link}, #{v4 := Other}) ->
    elsewhere:command(["ip", "-n", Ns, "neigh", "replace", Other, "lladdr", "02:00:00:00:00:99", "dev", Link, "nud", "permanent"]).

%% The cable goes with the namespace.
delete_namespace(#{ns := Ns}) ->
    elsewhere:command(["ip", "netns", "delete", Ns], []).
