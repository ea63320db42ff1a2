%%% -*- erlang -*-
%%% SPDX-License-Identifier: Apache-2.0
%%%
%%% @doc One distribution channel: the two processes between ERTS and a stream.
%%%
%%% *Output* is what ERTS calls the distribution controller. When ERTS rings
%%% (`dist_data') it takes packets with `dist_ctrl_get_data/1' and hands them to
%%% Rust in batches until there are none, then has the bell armed again. Told
%%% `busy' it stops taking, so the queue in ERTS grows, reaches `+zdbbl', and
%%% suspends the senders: there is one chain of back-pressure, and this is a link
%%% of it. *Input* takes packets from Rust until there are none and puts each into
%%% ERTS.
%%%
%%% <pre>
%%% output:  handshake ──► idle ◄──► (pulling) ◄──► blocked
%%% input:   waiting ──► (taking) ◄──► idle
%%% </pre>
%%%
%%% Both are linked to the owner and to each other, trap nothing, and end with
%%% `connection_closed' when the stream has ended: output's exit reason is what
%%% `nodedown_reason' reports. When `net_kernel' ends they end before the
%%% endpoint does, with `net_kernel_terminated'. An unknown message ends the
%%% process with its name.
%%%
%%% Output keeps priority `high': between two turns of a normal process under load
%%% ERTS would fill its queue again and again with the packets of whoever sends
%%% most, and a small sender would starve.
%%%
%%% Who may call: `barrel_p2p_dist'.
-module(barrel_p2p_dist_ctrl).

%% API
-export([start/1, handshake_complete/3, net_kernel_terminated/0]).
%% Process entry points
-export([output_init/2, input_init/3]).

%% Packets are gathered up to this size for one call to Rust. A call copies small
%% parts, at a few gigabytes per second: well under 1 ms.
-define(BATCH, 262144).
%% What a packet counts beside its bytes: 256 small ones make a batch. The terms around
%% thousands of them would be collected on a dirty scheduler, far from any cache.
-define(PACKET, 1024).
%% Bytes taken from Rust by one call; each packet is copied once.
-define(TAKE, 262144).
%% How long a process whose channel is gone waits for the exit signal that says why.
-define(DEATH_ROW, 5000).
%% How long the end of net_kernel waits for its channels: for a few turns of processes of high
%% priority. One that is late ends with the endpoint, for another reason.
-define(GONE, 500).

-record(output, {
    owner :: pid(),
    stream :: barrel_p2p_nif:stream(),
    handle :: erlang:dist_handle() | undefined
}).

%%%===================================================================
%%% API
%%%===================================================================

%% @doc Starts the controller of a stream, linked to the calling owner. It waits for
%% {@link handshake_complete/3}; until then the owner reads the stream itself.
-spec start(barrel_p2p_nif:stream()) -> pid().
start(Stream) ->
    Options = [link, {priority, high} | queue_options()],
    Output = spawn_opt(?MODULE, output_init, [self(), Stream], Options),
    case barrel_p2p_nif:dist_owner(Stream, output, Output) of
        ok -> Output;
        {error, closed} -> exit(connection_closed)
    end.

%% @doc The handshake is over: data may flow.
-spec handshake_complete(Output :: pid(), node(), erlang:dist_handle()) -> ok.
handshake_complete(Output, _Node, DHandle) ->
    Output ! {handshake_complete, self(), DHandle},
    receive
        {Output, started} -> ok
    end.

%% @doc Ends the channels of this node, after what ERTS holds for them was taken. Called as
%% `net_kernel' ends, before the endpoint closes, so that `nodedown_reason' here says which
%% of the two came first, as it does with OTP's carriers.
-spec net_kernel_terminated() -> ok.
net_kernel_terminated() ->
    Outputs = [Pid || {_, Pid} <- erlang:system_info(dist_ctrl), is_output(Pid)],
    Monitors = [erlang:monitor(process, Pid) || Pid <- Outputs],
    lists:foreach(fun(Pid) -> Pid ! net_kernel_terminated end, Outputs),
    await_down(Monitors, erlang:monotonic_time(millisecond) + ?GONE).

%% Another carrier of this node has controllers of its own.
is_output(Pid) when is_pid(Pid) ->
    erlang:process_info(Pid, initial_call) =:= {initial_call, {?MODULE, output_init, 2}};
is_output(_) ->
    false.

await_down([], _Deadline) ->
    ok;
await_down([Monitor | Monitors], Deadline) ->
    receive
        {'DOWN', Monitor, process, _, _} -> await_down(Monitors, Deadline)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        ok
    end.

%%%===================================================================
%%% Output
%%%===================================================================

%% @private
-spec output_init(Owner :: pid(), barrel_p2p_nif:stream()) -> no_return().
output_init(Owner, Stream) ->
    output_handshake(#output{owner = Owner, stream = Stream}).

output_handshake(#output{owner = Owner, stream = Stream} = Output) ->
    receive
        {handshake_complete, Owner, DHandle} ->
            false = erlang:dist_ctrl_set_opt(DHandle, get_size, true),
            ok = start_input(Owner, Stream, DHandle),
            Owner ! {self(), started},
            output_pull(Output#output{handle = DHandle});
        {barrel_p2p, Stream, {closed, _Reason}} ->
            output_closed(Output);
        Unexpected ->
            exit({unexpected_message, Unexpected})
    end.

%% Not the end of the owner, which reads the stream to its end itself. A peer that connects
%% at the same time says `nok' and closes; the owner then waits for net_kernel to put that
%% other connection in its place. Died it sooner, the whole attempt would count as failed.
-spec output_closed(#output{}) -> no_return().
output_closed(#output{owner = Owner}) ->
    receive
        {handshake_complete, Owner, _DHandle} -> exit(connection_closed)
    end.

output_idle(#output{stream = Stream} = Output) ->
    receive
        dist_data ->
            output_pull(Output);
        {barrel_p2p, Stream, {closed, _Reason}} ->
            output_ended();
        {barrel_p2p, Stream, writable} ->
            output_idle(Output);
        net_kernel_terminated ->
            exit(net_kernel_terminated);
        Other ->
            output_other(Other, Output)
    end.

%% OTP's distribution_SUITE sends packets of its own making through a controller. That is
%% a way around every check of ERTS, so it is in a build for that suite alone.
-ifdef(BARREL_P2P_CONFORMANCE).
output_other({send, From, Ref, Data}, #output{stream = Stream} = Output) ->
    Packet = iolist_to_binary(Data),
    Sent = barrel_p2p_nif:dist_send(Stream, [{byte_size(Packet), [Packet]}]),
    From ! {Ref, ok},
    case Sent of
        ok -> output_idle(Output);
        busy -> output_blocked(Output);
        {error, closed} -> output_ended()
    end;
output_other(Unexpected, _Output) ->
    exit({unexpected_message, Unexpected}).
-else.
-spec output_other(term(), #output{}) -> no_return().
output_other(Unexpected, _Output) ->
    exit({unexpected_message, Unexpected}).
-endif.

output_pull(#output{stream = Stream, handle = DHandle} = Output) ->
    case gather(DHandle, [], 0) of
        {none, []} ->
            ok = erlang:dist_ctrl_get_data_notification(DHandle),
            output_idle(Output);
        {_, Packets} ->
            case barrel_p2p_nif:dist_send(Stream, Packets) of
                ok -> output_pull(Output);
                busy -> output_blocked(Output);
                {error, closed} -> output_ended()
            end
    end.

%% The bell is not armed while blocked: ERTS rings when it is armed again.
output_blocked(#output{stream = Stream} = Output) ->
    receive
        {barrel_p2p, Stream, writable} ->
            output_pull(Output);
        {barrel_p2p, Stream, {closed, _Reason}} ->
            output_ended();
        net_kernel_terminated ->
            exit(net_kernel_terminated)
    end.

%% What the peer sent before the end may still wait in Rust. Input takes it, finds the end
%% behind it, and takes this process with it.
-spec output_ended() -> no_return().
output_ended() ->
    receive
    after ?DEATH_ROW -> exit(connection_closed)
    end.

gather(_DHandle, Packets, Size) when Size >= ?BATCH ->
    {more, lists:reverse(Packets)};
gather(DHandle, Packets, Size) ->
    case erlang:dist_ctrl_get_data(DHandle) of
        none -> {none, lists:reverse(Packets)};
        {PacketSize, _} = Packet -> gather(DHandle, [Packet | Packets], Size + PacketSize + ?PACKET)
    end.

%%%===================================================================
%%% Input
%%%===================================================================

start_input(Owner, Stream, DHandle) ->
    Input = spawn_opt(?MODULE, input_init, [self(), Stream, DHandle], [link | queue_options()]),
    ok = erlang:dist_ctrl_input_handler(DHandle, Input),
    case barrel_p2p_nif:dist_owner(Stream, input, Input) of
        ok ->
            Input ! {self(), Owner},
            ok;
        {error, closed} ->
            exit(connection_closed)
    end.

%% @private
-spec input_init(Output :: pid(), barrel_p2p_nif:stream(), erlang:dist_handle()) -> no_return().
input_init(Output, Stream, DHandle) ->
    receive
        {Output, Owner} ->
            true = link(Owner),
            input_take(Stream, DHandle)
    end.

input_idle(Stream, DHandle) ->
    receive
        {barrel_p2p, Stream, readable} -> input_take(Stream, DHandle);
        Unexpected -> exit({unexpected_message, Unexpected})
    end.

input_take(Stream, DHandle) ->
    case barrel_p2p_nif:dist_recv(Stream, ?TAKE) of
        [] ->
            input_idle(Stream, DHandle);
        {error, _Reason} ->
            exit(connection_closed);
        Packets ->
            put_packets(Packets, DHandle),
            input_take(Stream, DHandle)
    end.

put_packets([Packet | Packets], DHandle) ->
    try erlang:dist_ctrl_put_data(DHandle, Packet) of
        ok -> put_packets(Packets, DHandle)
    catch
        error:_ -> death_row()
    end;
put_packets([], _DHandle) ->
    ok.

%% The channel is gone. Somebody linked is about to die of the true reason.
-spec death_row() -> no_return().
death_row() ->
    receive
    after ?DEATH_ROW -> exit(connection_closed)
    end.

%%%===================================================================
%%% Internal
%%%===================================================================

%% Messages here hold parts of large binaries: off the heap they do not slow
%% collections down, and a full collection each time lets go of them soon.
queue_options() ->
    [{message_queue_data, off_heap}, {fullsweep_after, 0}].
