"""
Limits and timeouts of websockets: rates, sizes, memory, silence, fairness.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest
from websockets.frames import Close

from rt_twisted.actions.websocket.endpoint import BUCKETS
from tests.defaults import make_backlog_limits, make_websocket_limits
from tests.turns import run_turn
from tests.unit.actions.websocket.daemon import (
    DEFLATE,
    LARGE,
    WebSocketDaemon,
    deflated,
)
from tests.unit.codecs.websocket_frames import masked


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(1, b"\xff"), 1007),
        (masked(2, bytes(10_001)), 1009),
        (masked(3, b""), 1002),
        (b"\x81\x01x", 1002),
        (masked(1, b"x") * 51, 1008),
        (masked(9, b"x") * 51, 1008),
        (masked(2, b"", fin=False) + masked(0, b"", fin=False) * 50, 1008),
        (masked(2, bytes(9_900)) * 11, 1008),
    ],
)
def test_violation_closes_with_its_code(data: bytes, code: int) -> None:
    """
    The client receives the code, no more of its input is processed, and TCP is closed in
    time.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    peer.send(data)
    peer.send(masked(1, b"more"))

    (close,) = peer.received()
    assert close.code == code
    assert daemon.hub.current_metrics().closed == {"broken": 1}
    assert (b"more", False) not in daemon.own.apps[0].events
    daemon.clock.pump([1.0] * 7)
    assert peer.caller.wire.aborted
    peer.disconnect()
    assert daemon.own.apps[0].events[-1] == (code, close.reason)


def test_ten_channels_count_as_one_frame() -> None:
    """
    Commands with many channels consume more of the rate: they take more time.
    """
    daemon = WebSocketDaemon()
    names = [f"c{number}" for number in range(80)]
    fast, slow = daemon.open("/ws"), daemon.open("/ws")
    for type in ("subscribe", "unsubscribe") * 4:
        daemon.clock.advance(1.0)
        assert {"type": "ack", "id": 1} in slow.command(type=type, id=1, channels=names)
    received: list[Any] = []
    for type in ("subscribe", "unsubscribe") * 4:
        received += fast.command(type=type, id=1, channels=names)

    assert received.count({"type": "ack", "id": 1}) == 6
    assert received[-1].code == 1008


def test_rate_applies_to_each_second() -> None:
    """
    A client that keeps to the rate is never disconnected.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    for _ in range(10):
        peer.send(masked(1, b"x") * 40)
        daemon.clock.advance(1.0)

    assert peer.received() == []
    assert len(daemon.own.apps[0].events) == 400


def test_silent_client_is_disconnected() -> None:
    """
    A ping is sent every 30 s; a client that sends nothing for 20 s more is disconnected. An
    unsolicited pong counts too.
    """
    daemon = WebSocketDaemon()
    silent, pongs, talks, unsolicited = (daemon.open("/own") for _ in range(4))
    pings = 0
    for second in range(120):
        daemon.clock.advance(1.0)
        pings += sum(each == ("PING", b"") for each in pongs.received())
        if second % 30 == 0:
            pongs.send(masked(10, b""))
            talks.send(masked(1, b"x"))
            unsolicited.send(masked(10, b"?"))

    assert pings == 4
    assert silent.received()[-1] == Close(1011, "no answer to a ping")
    assert [peer.received()[-1] for peer in (talks, unsolicited)] == [("PING", b"")] * 2
    assert daemon.hub.current_metrics().closed == {"silent": 1}


def test_incomplete_message_times_out() -> None:
    """
    A message must be complete in time; a client may send messages without pause.
    """
    daemon = WebSocketDaemon(websockets=make_websocket_limits(message_seconds=20.0))
    drips, talks = daemon.open("/own"), daemon.open("/own")
    drips.send(masked(2, b"x", fin=False))
    talks.send(masked(2, b"x")[:3])
    for _ in range(40):
        drips.send(masked(9, b""))
        talks.send(masked(2, b"x")[3:] + masked(2, b"x")[:3])
        daemon.clock.advance(1.0)

    assert drips.received()[-1] == Close(1008, "a message took too long")
    assert Close not in map(type, talks.received())


def test_rate_counts_decompressed_bytes() -> None:
    """
    Compressed messages count with their decompressed size.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own", DEFLATE)
    peer.send(deflated(bytes(9_000)) * 11)
    assert [len(data) for data, _ in daemon.own.apps[0].events] == [9_000] * 11
    peer.send(deflated(bytes(9_000)))

    assert peer.received() == [Close(1008, "too much at once")]


HALF = masked(2, bytes(60_000), fin=False)
ROOMY = make_websocket_limits(message=1 << 20, rate=0, bytes=0, silence=0.0)


def test_incomplete_messages_are_bounded_in_sum() -> None:
    """
    Stalled clients take no more than the limit and are closed with 1013; others are then
    read.
    """
    daemon = WebSocketDaemon(websockets=ROOMY)
    memory = daemon.context.inbound
    memory.limit = 1 << 20
    stalled = [daemon.open("/own") for _ in range(100)]
    for peer in stalled:
        peer.send(HALF)
        assert memory.used <= memory.limit
    dropped = [peer for peer in stalled if [each.code for each in peer.received()] == [1013]]
    assert len(dropped) == memory.dropped > 50

    small = daemon.open("/own")
    small.send(masked(1, b"a whole ", fin=False))
    small.send(masked(0, b"message"))
    assert daemon.own.apps[-1].events == [(b"a whole message", False)]
    healthy = daemon.open("/own")
    healthy.send(HALF)
    for _ in range(30):
        if not healthy.is_read:
            daemon.clock.pump([1.0])
    healthy.send(masked(0, b""))
    assert daemon.own.apps[-1].events == [(bytes(60_000), True)]
    for peer in stalled:
        peer.disconnect()
    assert (memory.used, memory.paused) == (0, 0)


def test_pending_messages_count_as_incomplete() -> None:
    """
    Whole messages that wait while reading is paused are bounded by the same limit.
    """
    daemon = WebSocketDaemon(websockets=ROOMY)
    memory = daemon.context.inbound
    peers = [daemon.open("/own") for _ in range(3)]
    for app in daemon.own.apps:
        app.websocket.pause_reading()
    for peer in peers:
        peer.send(masked(2, bytes(1000)) * 4)
    assert 3 * 4000 < memory.used < 3 * 5000
    peers[0].disconnect()
    assert memory.used < 2 * 5000
    for app in daemon.own.apps[1:]:
        app.websocket.resume_reading()
    daemon.turn()

    assert [len(app.events) for app in daemon.own.apps[1:]] == [4, 4]
    assert memory.used == 0


def test_large_messages_of_many_clients_all_arrive() -> None:
    """
    Many clients send large messages piece by piece: all of them arrive.
    """
    daemon = WebSocketDaemon(websockets=ROOMY)
    memory = daemon.context.inbound
    memory.limit = 4 << 20
    peers = [daemon.open("/own") for _ in range(30)]
    left = [3] * len(peers)
    for _ in range(100):
        for at, peer in enumerate(peers):
            if left[at] and peer.is_read:
                left[at] -= 1
                kind = 2 if left[at] == 2 else 0
                peer.send(masked(kind, bytes(50_000), fin=not left[at]))
        daemon.turn()

    assert [[len(data) for data, _ in app.events] for app in daemon.own.apps] == [[150_000]] * 30
    assert (memory.used, memory.paused, memory.dropped) == (0, 0, 0)


@pytest.mark.parametrize("how", ["close", "fail", "lost", "too big"])
def test_end_releases_reserved_memory(how: str) -> None:
    """
    However a websocket ends, its reservation is released.
    """
    daemon = WebSocketDaemon(websockets=ROOMY)
    memory = daemon.context.inbound
    peer = daemon.open("/own")
    peer.send(HALF)
    assert memory.used == 60_000
    match how:
        case "close":
            peer.send(masked(8, b""))
        case "fail":
            peer.send(masked(3, b""))
        case "lost":
            peer.disconnect()
        case "too big":
            peer.send(b"\x80\xff" + (1 << 30).to_bytes(8, "big"))

    assert memory.used == 0


def test_decompression_of_many_clients_yields_to_other_connections() -> None:
    """
    Clients that send at once have the same two MiB of a reactor turn together. All of them
    progress, the order of each is kept, and what waits is counted.
    """
    daemon = WebSocketDaemon(websockets=LARGE)
    peers = [daemon.open("/own", DEFLATE) for _ in range(10)]
    logs = [app.events for app in daemon.own.apps]
    sent = [bytes([number]) * (1 << 20) for number in range(3)]
    data = b"".join(map(deflated, sent))
    for peer in peers:
        peer.caller.send(data)

    assert 1 <= sum(map(len, logs)) <= 2  # the rest waits for later turns
    assert daemon.context.inbound.used > 8 * len(data)
    turns = 0
    while sum(map(len, logs)) < 30:
        run_turn(daemon.clock)
        turns += 1
        if sum(map(len, logs)) >= 15:
            assert all(logs)
        assert turns < 100

    assert turns >= 14
    assert all([data for data, _ in events] == sent for events in logs)
    daemon.turn()
    assert {peer.caller.wire.producerState for peer in peers} == {"producing"}
    assert daemon.context.inbound.used == 0


def test_small_compressed_messages_wait_for_the_quota_too() -> None:
    """
    A kilobyte can become a megabyte: one that is received whole waits if others were first.
    """
    daemon = WebSocketDaemon(websockets=LARGE)
    greedy, small, gone = (daemon.open("/own", DEFLATE) for _ in range(3))
    greedy.caller.send(deflated(bytes(1 << 20)) * 4)
    small.caller.send(deflated(b"small"))
    gone.caller.send(deflated(b"gone"))
    gone.disconnect()
    assert daemon.own.apps[1].events == []
    daemon.turn()

    assert daemon.own.apps[1].events == [(b"small", True)]
    assert daemon.own.apps[2].events == [(1006, "")]
    assert len(daemon.own.apps[0].events) == 4


def test_decompression_yields_to_other_connections() -> None:
    """
    At most two MiB are decompressed in one reactor turn, and the order is kept.
    """
    daemon = WebSocketDaemon(websockets=LARGE)
    peer = daemon.open("/own", DEFLATE)
    events = daemon.own.apps[0].events
    sent = [bytes([number]) * (1 << 20) for number in range(8)]
    peer.caller.send(b"".join(map(deflated, sent)))
    at_first = len(events)
    assert 1 <= at_first <= 2
    assert peer.caller.wire.producerState == "paused"
    daemon.clock.pump([0] * 40)

    assert [data for data, _ in events] == sent
    assert peer.caller.wire.producerState == "producing"
    peer.send(masked(1, b"more"))
    assert events[-1] == (b"more", False)


@pytest.mark.parametrize("both", [False, True])
def test_close_during_decompression(both: bool) -> None:
    """
    The close frame is sent at once, and the remaining input is discarded.
    """
    daemon = WebSocketDaemon(websockets=LARGE)
    peer = daemon.open("/own", DEFLATE)
    app = daemon.own.apps[0]
    much = deflated(bytes(1 << 20)) * 8
    if both:
        app.websocket.close(4000, "enough")
        peer.caller.send(much)
    else:
        peer.caller.send(much)
        app.websocket.close(4000, "enough")
    before = len(app.events)
    daemon.clock.pump([0] * 40)

    assert peer.received() == [Close(4000, "enough")]
    assert len(app.events) == before <= 2
    daemon.clock.pump([1.0] * 7)
    assert peer.is_closed
    peer.disconnect()
    assert app.events[-1] == (4000, "enough")


def test_slow_application_yields_to_other_connections() -> None:
    """
    Messages of one segment are delivered in several reactor turns, in order.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    app = daemon.own.apps[0]
    plain = app.message

    def work(data: bytes, binary: bool) -> None:
        plain(data, binary)
        daemon.clock.rightNow += 0.1

    app.message = work  # type: ignore[method-assign]  # replaced by this test
    peer.caller.send(b"".join(masked(1, b"%d" % number) for number in range(5)))
    assert app.events == [(b"0", False)]
    peer.caller.send(masked(1, b"5"))
    daemon.clock.pump([0] * 40)

    assert app.events == [(b"%d" % number, False) for number in range(6)]
    assert peer.caller.wire.producerState == "producing"


def test_client_over_a_limit_keeps_no_memory() -> None:
    """
    Decompressed data is freed while the client's close frame is awaited.
    """
    daemon = WebSocketDaemon(websockets=LARGE)
    peers = [daemon.open("/own", DEFLATE) for _ in range(20)]
    bomb = deflated(bytes(20 << 20))
    peers.pop().send(bomb)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for peer in peers:
            peer.send(bomb)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert [peer.received()[-1].code for peer in peers] == [1009] * len(peers)
    assert kept / len(peers) < 200_000


@pytest.mark.parametrize("silence", [1.0, 2.5, 3.0, 12.0, 50.0])
@pytest.mark.parametrize("opened_before", range(BUCKETS + 1))
def test_silence_limit_is_exact_to_a_second(silence: float, opened_before: int) -> None:
    """
    A silent client is disconnected within a second after the limit, whenever it connected.
    """
    daemon = WebSocketDaemon(websockets=make_websocket_limits(silence=silence))
    for _ in range(opened_before):
        daemon.open("/own")
    daemon.clock.advance(opened_before / 4)
    peer = daemon.open("/own")
    opened = daemon.clock.seconds()
    while not any(isinstance(event, Close) for event in peer.received()):
        daemon.clock.advance(0.125)

    assert int(silence) <= daemon.clock.seconds() - opened <= int(silence) + 1


def test_client_that_sends_something_is_not_silent() -> None:
    """
    The limit counts from the last byte, and from the end of a pause of reading.
    """
    daemon = WebSocketDaemon(websockets=make_websocket_limits(silence=3.0))
    talking, paused = daemon.open("/own"), daemon.open("/own")
    paused_app = daemon.own.apps[-1]
    paused_app.websocket.pause_reading()
    for _ in range(30):
        daemon.clock.pump([0.5] * 4)
        talking.text("still here")
    assert not any(isinstance(event, Close) for event in talking.received() + paused.received())
    paused_app.websocket.resume_reading()
    daemon.clock.pump([0.5] * 6)
    assert not any(isinstance(event, Close) for event in talking.received() + paused.received())
    daemon.clock.pump([0.5] * 2)

    assert [peer.received()[-1].code for peer in (talking, paused)] == [1011, 1011]


def test_silence_limit_can_be_disabled() -> None:
    """
    With silence 0 an idle client is never disconnected.
    """
    daemon = WebSocketDaemon(websockets=make_websocket_limits(silence=0.0))
    peer = daemon.open("/own")
    daemon.clock.pump([1.0] * 300)

    assert set(peer.received()) == {("PING", b"")}


def test_timer_stops_with_the_last_websocket() -> None:
    """
    Without websockets no delayed call is left.
    """
    daemon = WebSocketDaemon()
    before = len(daemon.clock.getDelayedCalls())
    peers = [daemon.open("/own") for _ in range(BUCKETS + 3)]
    assert len(daemon.clock.getDelayedCalls()) == before + 1
    for peer in peers:
        peer.disconnect()

    assert len(daemon.clock.getDelayedCalls()) == before


def test_slow_consumer_is_disconnected() -> None:
    """
    A client over the backlog limit is aborted and counted as behind.
    """
    daemon = WebSocketDaemon(backlog_limits=make_backlog_limits(1000, 30.0))
    peer = daemon.open("/own")
    daemon.own.apps[0].websocket.subscriber.pauseProducing()
    for _ in range(4):
        daemon.publish("x" * 500)

    assert peer.caller.wire.aborted
    peer.disconnect()
    assert daemon.own.apps[0].events == [(1006, "")]
    assert daemon.hub.current_metrics().closed == {"behind": 1}
    assert daemon.hub.current_metrics().behind == 0
