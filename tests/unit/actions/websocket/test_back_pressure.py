"""
Reading from a websocket is paused while output is buffered, or by the application.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from websockets.frames import Close

from tests.unit.actions.websocket.daemon import (
    DeferringBroker,
    WebSocketDaemon,
)
from tests.unit.codecs.websocket_frames import masked


def test_buffered_output_pauses_reading() -> None:
    """
    Messages received before wait, and are delivered once, in order, after the output is
    sent.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    app = daemon.own.apps[0]
    app.websocket.subscriber.pauseProducing()  # as its transport does
    assert peer.caller.wire.producerState == "paused"
    peer.send(masked(1, b"1") + masked(1, b"2"))
    peer.send(masked(1, b"3"))
    assert app.events == []

    app.websocket.subscriber.resumeProducing()
    daemon.turn()
    assert app.events == [(b"1", False), (b"2", False), (b"3", False)]
    assert peer.caller.wire.producerState == "producing"


def test_falling_behind_twice_pauses_once() -> None:
    """
    TLS pauses within a write that then turns out to be incomplete.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    websocket = daemon.own.apps[0].websocket
    wire: Any = peer.caller.wire
    write = wire.write

    def full(data: bytes) -> None:
        write(data)
        websocket.subscriber.pauseProducing()

    wire.write = full
    websocket.send(b"x" * 50_000)
    wire.write = write
    assert websocket.subscriber.behind
    websocket.subscriber.resumeProducing()

    assert peer.received() == ["x" * 50_000]
    assert peer.caller.wire.producerState == "producing"


def test_application_pauses_reading() -> None:
    """
    An application may pause reading also in the middle of a segment.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    app = daemon.own.apps[0]
    websocket = app.websocket
    plain = app.message

    def message_then_pause(data: bytes, binary: bool) -> None:
        plain(data, binary)
        websocket.pause_reading()

    app.message = message_then_pause  # type: ignore[method-assign]  # replaced by this test
    peer.send(masked(1, b"1") + masked(1, b"2"))
    assert app.events == [(b"1", False)]
    websocket.resume_reading()
    daemon.turn()
    assert app.events == [(b"1", False), (b"2", False)]
    assert peer.caller.wire.producerState == "paused"
    websocket.resume_reading()

    assert peer.caller.wire.producerState == "producing"


def test_paused_client_is_not_silent() -> None:
    """
    The silence timeout does not run while reading is paused, and starts again afterwards.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    websocket = daemon.own.apps[0].websocket
    websocket.pause_reading()
    daemon.clock.pump([1.0] * 100)
    assert set(peer.received()) == {("PING", b"")}
    websocket.resume_reading()
    daemon.clock.pump([1.0] * 40)
    assert set(peer.received()) == {("PING", b"")}
    daemon.clock.pump([1.0] * 40)

    assert peer.received()[-1] == Close(1011, "no answer to a ping")


def test_close_does_not_wait_for_pending_messages() -> None:
    """
    The server's close frame is sent although received messages are pending.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    websocket = daemon.own.apps[0].websocket
    websocket.pause_reading()
    peer.send(masked(1, b"1") + masked(8, b""))
    websocket.close(4000)

    assert peer.received() == [Close(4000, "")]
    assert peer.is_closed


def test_close_waits_for_buffered_output() -> None:
    """
    A client that is behind receives all messages, and then the close frame.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/own")
    websocket = daemon.own.apps[0].websocket
    websocket.subscriber.pauseProducing()
    websocket.send(b"x" * 5000)
    websocket.close(4000)
    daemon.publish("too late")
    assert peer.received() == []
    websocket.subscriber.resumeProducing()

    assert peer.received() == ["x" * 5000, Close(4000, "")]
    assert not peer.is_closed


@pytest.mark.parametrize("path", ["/chat", "/ws"])
def test_slow_broker_pauses_its_publishers(path: str) -> None:
    """
    No more than 32 publishes of one client are unconfirmed; no message is lost.
    """
    broker = DeferringBroker(Clock())
    daemon = WebSocketDaemon(broker=broker)
    peer = daemon.open(path)
    text = b'{"type":"publish","channel":"a","message":"x"}'
    peer.send(masked(1, text) * 40)
    assert len(broker.drafts_waiting) == 32
    while broker.drafts_waiting:
        broker.answer()
        daemon.turn()

    assert daemon.hub.current_metrics().published == 40
