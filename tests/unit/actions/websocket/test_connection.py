"""
One websocket: messages in both directions, and its end.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from websockets.frames import Close

from rt_twisted.actions.websocket.connection import IN_FLIGHT
from rt_twisted.model.message import Draft, Position, PublishResult
from tests.unit.actions.websocket.daemon import (
    DeferringBroker,
    WebSocketDaemon,
)
from tests.unit.codecs.websocket_frames import FRAMES, masked


def test_text_and_binary_messages_reach_the_application() -> None:
    """
    Messages arrive whole, in order and with their type; the end with code and reason.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    peer.send(masked(1, b"a", fin=False))
    peer.send(masked(9, b"!") + masked(0, b"b") + masked(2, b"\xff"))
    assert peer.received() == [("PONG", b"!")]
    peer.send(masked(8, b"\x0f\xa0so long") + masked(1, b"more"))

    (app,) = daemon.own.apps
    assert peer.received() == [Close(4000, "so long")]
    assert peer.is_closed
    peer.disconnect()
    assert app.events == [(b"ab", False), (b"\xff", True), (4000, "so long")]
    assert daemon.hub.current_metrics().closed == {"client": 1}


def test_broadcasts_and_sent_messages_keep_their_order() -> None:
    """
    Messages of the hub and of the application arrive in the order in which they were sent.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    websocket = daemon.own.apps[0].websocket
    websocket.send(b"1")
    daemon.publish("2")
    websocket.send(b"\x03", binary=True)
    websocket.ping(b"4")

    assert peer.received() == ["1", "2", b"\x03", ("PING", b"4")]


def test_close_is_sent_last_and_waits_for_the_answer() -> None:
    """
    Our close frame follows all messages, and the connection closes after the client's.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    app = daemon.own.apps[0]
    app.websocket.send(b"last")
    app.websocket.close(4001, "done")
    app.websocket.close(4002)
    app.websocket.send(b"too late")
    daemon.publish("too late")
    peer.send(masked(1, b"too late"))

    assert peer.received() == ["last", Close(4001, "done")]
    assert not peer.is_closed
    assert daemon.hub.current_metrics().subscribers == 0
    peer.send(masked(8, b"\x0f\xa1"))
    assert peer.is_closed
    peer.disconnect()
    assert app.events == [(4001, "done")]
    assert daemon.hub.current_metrics().closed == {"ended": 1}


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("path", ["/own", "/ws"])
def test_bytes_after_a_close_frame_affect_no_other_client(path: str, deflate: bool) -> None:
    """
    Pings of other clients are answered after one client sends 9,000 bytes behind its close.
    """
    daemon = WebSocketDaemon()
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""

    def is_answered() -> bool:
        peer = daemon.open(path, offer)
        peer.send(masked(9, b"there?"))
        return ("PONG", b"there?") in peer.received()

    assert is_answered()
    for tail in (bytes(9000), masked(9, b"") * 3000, masked(8, b"") * 3000):
        closing = daemon.open(path, offer)
        closing.send(masked(8, b"\x03\xe8") + tail)
        assert closing.received()[-1] == Close(1000, "")
        closing.disconnect()
        assert [is_answered() for _ in range(3)] == [True] * 3


@given(
    st.lists(FRAMES | st.binary(max_size=30) | st.just(bytes(9000)), max_size=10).map(b"".join),
    st.booleans(),
    st.sampled_from(["/ws", "/chat", "/own"]),
    st.sampled_from([1, 50, 4096, 65536]),
    st.booleans(),
)
def test_any_input_of_one_client_leaves_others_working(
    data: bytes, deflate: bool, path: str, cut: int, leaves: bool
) -> None:
    """
    Clients of the same route, with and without compression, have each message processed.
    """
    daemon = WebSocketDaemon()
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    early = [daemon.open(path, headers) for headers in ("", offer)]
    wild = daemon.open(path, offer if deflate else "")
    for at in range(0, len(data), max(cut, len(data) // 50)):
        if not wild.is_closed:
            wild.send(data[at : at + max(cut, len(data) // 50)])
    if leaves:
        wild.disconnect()
    for peer in (*early, *(daemon.open(path, headers) for headers in ("", offer))):
        peer.send(masked(9, b"1") + masked(2, b"?", fin=False) + masked(9, b"2") + masked(0, b""))
        pongs = [each for each in peer.received() if isinstance(each, tuple)]
        assert pongs == [("PONG", b"1"), ("PONG", b"2")]
        if path == "/own":
            peer.send(masked(1, b"a word"))
            assert (b"a word", False) in [each for app in daemon.own.apps for each in app.events]


def test_unanswered_close_is_aborted_in_time() -> None:
    """
    A client that does not answer a close frame is aborted after some seconds.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    daemon.own.apps[0].websocket.close()
    daemon.clock.pump([1.0] * 4)
    assert not peer.caller.wire.aborted
    daemon.clock.pump([1.0] * 2)

    assert peer.caller.wire.aborted


def test_invalid_close_code_raises_and_keeps_the_websocket() -> None:
    """
    The application gets a ValueError, and the websocket stays open.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    with pytest.raises(ValueError, match="1006"):
        daemon.own.apps[0].websocket.close(1006)

    peer.send(masked(9, b""))
    assert peer.received() == [("PONG", b"")]


def test_failing_application_closes_with_1011(clean_reactor: list[Failure]) -> None:
    """
    The exception is logged, and the client receives 1011 and no details.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    peer.send(masked(1, b"raise") + masked(1, b"more"))

    assert peer.received() == [Close(1011, "internal error")]
    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()
    assert daemon.own.apps[0].events == [(b"raise", False)]


def test_lost_connection_is_reported_as_1006() -> None:
    """
    The application gets 1006 (RFC 6455, 7.1.5), and sending afterwards does nothing.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    peer.disconnect()

    assert daemon.own.apps[0].events == [(1006, "")]
    assert not daemon.own.apps[0].websocket.open
    daemon.own.apps[0].websocket.send(b"nowhere")
    daemon.own.apps[0].websocket.close()


def test_stop_closes_with_1001_and_a_retry_delay() -> None:
    """
    A stopping daemon closes with 1001 and names the delay in the reason.
    """
    daemon = WebSocketDaemon()
    peers = [daemon.open("/own"), daemon.open("/ws")]
    peers[1].received()
    daemon.hub.stop(2000)

    assert [peer.received() for peer in peers] == [
        [Close(1001, "retry=2000")],
        [Close(1001, "retry=3000")],
    ]
    for peer in peers:
        assert peer.is_closed
        peer.disconnect()
    assert daemon.own.apps[0].events == [(1001, "")]
    assert daemon.hub.current_metrics().closed == {"shutdown": 2}


def test_input_of_clients_is_counted() -> None:
    """
    Open websockets, frames of every type, and processed messages are counted apart.
    """
    daemon = WebSocketDaemon()
    metrics = daemon.hub.metrics
    first, second = daemon.open("/own"), daemon.open("/ws")
    assert metrics.websockets == 2
    first.send(masked(10, b"") + masked(1, b"a", fin=False) + masked(0, b"b"))
    second.send(masked(9, b"") + masked(3, b""))
    assert (metrics.websocket_frames, metrics.websocket_messages) == (4, 1)
    first.send(masked(8, b"") + masked(1, b"late"))
    first.disconnect()
    second.disconnect()

    assert metrics.websockets == 0
    assert (metrics.websocket_frames, metrics.websocket_messages) == (5, 1)


def test_application_publishes_for_its_client() -> None:
    """
    A result that the broker has is returned at once; too many unconfirmed publishes pause
    reading.
    """
    broker = DeferringBroker(Clock())
    daemon, far = WebSocketDaemon(), WebSocketDaemon(broker=broker)
    daemon.open("/own")
    peer = far.open("/own")
    draft = [Draft("news", b"x")]
    assert daemon.own.apps[0].websocket.publish(draft) == PublishResult((Position("e", 1),))

    published = [far.own.apps[0].websocket.publish(draft) for _ in range(IN_FLIGHT)]
    assert peer.caller.wire.producerState == "paused"
    broker.answer()

    assert peer.caller.wire.producerState == "producing"
    assert [len(each.result.positions) for each in published if each.called] == [1]
