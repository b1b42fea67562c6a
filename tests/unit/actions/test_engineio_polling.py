"""
Tests of packets that come by POST.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock

from rt_twisted.actions.engineio.polling import SLICE, PollingTransport
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.engineio import EngineIOPacket
from rt_twisted.codecs.engineio_framing import Poll4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats.socketio import SocketIOEvents
from tests.defaults import make_context, make_hub


class PostExchange:
    """
    A request with a body.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body

    def header(self, name: str) -> None:
        return None

    def read(self, limit: int) -> Deferred[bytes]:
        assert len(self.body) <= limit
        return succeed(self.body)


class PostingClient:
    """
    A client each of whose packets takes half a slice to process.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        hub = make_hub(MemoryBroker(self.clock, "e"), self.clock)
        context = make_context(hub, self.clock)
        format = SocketIOEvents(Poll4(), quiet=True)
        self.polling = PollingTransport(context, Poll4(), format, format, "", lambda dropped: None)
        self.received: list[str | bytes] = []

    def receive(self, packet: EngineIOPacket) -> None:
        self.received.append(packet.data)
        self.clock.rightNow += SLICE / 2 + 0.001

    def post(self, *packets: bytes) -> Deferred[None]:
        exchange: Any = PostExchange(b"\x1e".join(packets))
        return ensureDeferred(self.polling.post(exchange, Poll4(), self.receive))


def test_the_reactor_runs_while_a_long_post_is_processed() -> None:
    """
    Packets are processed in order, here two per slice; a second post at that time is an
    error.
    """
    client = PostingClient()
    client.clock.callLater(0, client.received.append, "another")
    done = client.post(*(b"4%d" % number for number in range(5)))

    assert client.received == ["0", "1"]
    failed: list[Any] = []
    client.post(b"4x").addErrback(failed.append)
    assert failed[0].check(RemoteProtocolError)
    client.clock.pump([0.0] * 9)
    assert client.received == ["0", "1", "another", "2", "3", "4"]
    assert done.called
    assert client.post(b"4next").called
    assert client.received[-1] == "next"


def test_no_packet_of_a_malformed_post_is_processed() -> None:
    """
    Packets before the error are ignored as well; the next post is processed.
    """
    client = PostingClient()
    failed: list[Any] = []
    client.post(b"4first", b"nonsense").addErrback(failed.append)

    assert failed[0].check(RemoteProtocolError)
    assert client.received == []
    client.post(b"4second")
    assert client.received == ["second"]
