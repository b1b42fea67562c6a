"""
Packets that come by posts.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.polling import SLICE, PollingTransport
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.engineio import EngineIOPacket
from rt_twisted.codecs.engineio_framing import Poll4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.hub.hub import Hub


class Posted:
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


class Client:
    """
    A client that polls, and to hear one of its packets takes half a slice.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        hub = Hub(MemoryBroker(self.clock, "e"), self.clock)
        context = ActionContext(hub, self.clock)
        framing = Poll4()
        self.polls = PollingTransport(
            context, framing, SocketIOEvents(framing, quiet=True), "", lambda: None
        )
        self.heard: list[str | bytes] = []

    def hear(self, packet: EngineIOPacket) -> None:
        self.heard.append(packet.data)
        self.clock.rightNow += SLICE / 2 + 0.001

    def post(self, *packets: bytes) -> Deferred[None]:
        exchange: Any = Posted(b"\x1e".join(packets))
        return ensureDeferred(self.polls.post(exchange, Poll4(), self.hear))


def test_a_long_post_lets_others_have_their_turn() -> None:
    """
    Its packets are heard in order, two at a stretch here; meanwhile there may be
    no other post.
    """
    client = Client()
    client.clock.callLater(0, client.heard.append, "another")
    done = client.post(*(b"4%d" % number for number in range(5)))

    assert client.heard == ["0", "1"]
    failed: list[Any] = []
    client.post(b"4x").addErrback(failed.append)
    assert failed[0].check(RemoteProtocolError)
    client.clock.pump([0.0] * 9)
    assert client.heard == ["0", "1", "another", "2", "3", "4"]
    assert done.called
    assert client.post(b"4next").called
    assert client.heard[-1] == "next"


def test_a_malformed_post_is_heard_not_at_all() -> None:
    """
    Not even the packets in front of the mistake; the next post is read.
    """
    client = Client()
    failed: list[Any] = []
    client.post(b"4first", b"nonsense").addErrback(failed.append)

    assert failed[0].check(RemoteProtocolError)
    assert client.heard == []
    client.post(b"4second")
    assert client.heard == ["second"]
