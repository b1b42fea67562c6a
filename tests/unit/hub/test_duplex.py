"""
Subscribers whose clients send too: back-pressure on their input, and the closing handshake.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.formats.raw import Raw
from rt_twisted.hub.duplex import CloseHandshake, CloseState, DuplexSubscriber
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.subscriber import DisconnectReason
from tests.defaults import make_backlog_limits, make_hub


class EchoOwner:
    """
    Records the events of its duplex subscriber, and reads on whenever it may.
    """

    def __init__(self) -> None:
        clock = Clock()
        self.hub: Hub = make_hub(MemoryBroker(clock), clock)
        self.wire = StringTransport()
        self.events: list[Any] = []
        limits = make_backlog_limits()
        self.duplex = DuplexSubscriber(self.hub, self, self.wire, Raw(), limits, "10.0.0.1")
        self.hub.join(self.duplex.subscriber, ["news"], None)

    def on_input(self, data: bytes) -> None:
        self.events.append(data)

    def on_resumed(self) -> None:
        self.wire.resumeProducing()

    def on_closing(self, closing: CloseHandshake) -> None:
        self.events.append(closing.state)

    def on_lost(self) -> None:
        self.events.append("lost")


def test_input_and_its_pauses() -> None:
    """
    Input reaches the owner. Reading is paused while output is buffered or the owner asks for it,
    and continues when both have ended.
    """
    owner = EchoOwner()
    owner.duplex.dataReceived(b"hello")
    assert owner.events == [b"hello"]

    owner.duplex.subscriber.pauseProducing()  # as the transport does when its buffer is full
    owner.duplex.pause_reading()
    assert owner.wire.producerState == "paused"
    owner.duplex.subscriber.resumeProducing()
    assert owner.wire.producerState == "paused"
    owner.duplex.resume_reading()
    assert owner.wire.producerState == "producing"


@pytest.mark.parametrize("behind", [False, True])
def test_the_last_frame_is_sent_behind_all_others(behind: bool) -> None:
    """
    Closing leaves the hub at once. The last frame waits for the backlog, and an answered closing
    handshake then closes the connection.
    """
    owner = EchoOwner()
    subscriber = owner.duplex.subscriber
    if behind:
        subscriber.pauseProducing()
        subscriber.write(b"waiting")
    owner.duplex.close(CloseState.CLOSING, b"bye", DisconnectReason.ENDED)
    assert owner.hub.metrics.closed == {"ended": 1}
    assert not owner.duplex.open
    assert owner.wire.value() == (b"" if behind else b"bye")

    if behind:
        subscriber.resumeProducing()
    assert owner.wire.value() == (b"waitingbye" if behind else b"bye")
    assert not owner.wire.disconnecting
    assert owner.duplex.closing is not None
    owner.duplex.closing.on_answered()
    assert owner.wire.disconnecting
    assert owner.events == [CloseState.CLOSING]


def test_a_lost_connection_leaves_the_hub_once() -> None:
    """
    The owner is notified of a lost connection, whether it was closing or not.
    """
    for closing in (False, True):
        owner = EchoOwner()
        if closing:
            owner.duplex.close(CloseState.IGNORING, b"", DisconnectReason.BROKEN)
        owner.duplex.connectionLost(Failure(ConnectionDone()))

        assert owner.events[-1] == "lost"
        assert owner.hub.metrics.closed.total() == 1
        assert owner.duplex.closing is not None
        assert not owner.duplex.open
