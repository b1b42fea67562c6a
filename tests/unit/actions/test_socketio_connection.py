"""
Clients that join a session, and what they may ask of it.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from rt_twisted.actions.context import ActionContext, SocketIOLimits
from rt_twisted.actions.socketio.connection import MAX_PAYLOADS, SocketIOConnection
from rt_twisted.actions.socketio.session_store import SavedSession, SessionStore
from rt_twisted.actions.socketio.socket import Socket
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.engineio_framing import Framing, Poll4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.hub.hub import Hub
from rt_twisted.model.errors import HttpError
from rt_twisted.net.inbound_memory import InboundMemory

PAYLOAD = 1000


class Session:
    """
    As much of one as a client in the main namespace needs.
    """

    closed = False
    settled = True
    framing: Framing = Poll4()

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def write(self, frames: bytes) -> None:
        self.said.append(frames)

    def admit(self) -> None:
        pass

    def joined(self) -> None:
        pass

    def left(self) -> None:
        pass

    def join(self, names: Any, since: Any, format: Any, head: bytes = b"") -> None:
        self.said += [head, b"joined " + b" ".join(name.encode() for name in names)]

    def leave(self, names: Any) -> None:
        pass

    def close(self, why: str, reason: str) -> None:
        self.closed = True
        self.said.append(reason.encode())


class App:
    """
    Lets clients in when it is `decided`, and answers events when the test does.
    """

    def __init__(self) -> None:
        self.clients: list[Socket] = []
        self.heard: list[Deferred[str]] = []
        self.decided: Deferred[None] = succeed(None)

    def on_connect(self, client: Socket, auth: dict[str, Any]) -> Deferred[None]:
        self.clients.append(client)
        return self.decided

    def on_event(self, client: Socket, event: str, *arguments: Any) -> Deferred[str]:
        self.heard.append(Deferred())
        return self.heard[-1]

    def on_disconnect(self, client: Socket, why: str) -> None:
        pass


class Place:
    """
    A node, and sessions on it.
    """

    def __init__(self) -> None:
        clock = Clock()
        self.context = ActionContext(
            Hub(MemoryBroker(clock, "e"), clock),
            clock,
            socketio=SocketIOLimits(max_payload=PAYLOAD),
            inbound=InboundMemory(clock, 0),
        )
        self.recovery = SessionStore(clock)
        self.app = App()

    def open(self) -> tuple[SocketIOConnection, Session]:
        session: Any = Session()
        handshake: Any = None
        dialogue = SocketIOConnection(self.context, self.recovery, self.app, handshake, 4, True, "")
        dialogue.opened(session)
        return dialogue, session


@pytest.mark.parametrize("binary", [False, True])
def test_events_that_wait_are_bounded_by_their_bytes(binary: bool) -> None:
    """
    Attachments included. What is answered does not count any more.
    """
    place = Place()
    dialogue, session = place.open()
    dialogue.message("0")

    def emit() -> None:
        if binary:
            dialogue.message('51-7["a",{"_placeholder":true,"num":0}]')
            dialogue.message(bytes(PAYLOAD - 100))
        else:
            dialogue.message('27["a","%s"]' % ("x" * (PAYLOAD - 100)))

    for count in range(3 * MAX_PAYLOADS):
        emit()
        if count >= MAX_PAYLOADS - 1:
            place.app.heard.pop(0).callback("done")
            assert session.said[-1] == b'437["done"]\x1e'
    emit()
    with pytest.raises(RemoteProtocolError, match="too many events"):
        emit()


def test_packets_whose_attachments_are_missing_are_bounded_in_sum() -> None:
    """
    They count while they are incomplete; above the limit the oldest sessions end.
    """
    place = Place()
    memory = place.context.inbound
    memory.limit = 20 * PAYLOAD
    head = '52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
    opened = [place.open() for _ in range(30)]
    for dialogue, _ in opened:
        dialogue.message("0")
        dialogue.message(head)
        dialogue.message(bytes(PAYLOAD - 10))
        assert memory.used <= memory.limit
    ended = [session for _, session in opened if session.closed]
    assert ended == [session for _, session in opened[: len(ended)]]
    assert len(ended) >= 10
    assert ended[0].said[-1] == b"too many unfinished packets"

    for dialogue, _ in opened[len(ended) :]:
        dialogue.message(b"x")
    assert memory.used == 0
    assert len(place.app.heard) == 30 - len(ended)
    opened[-1][0].message(head)
    assert memory.used > 0
    opened[-1][0].closed("transport close")
    assert memory.used == 0


@pytest.mark.parametrize("where", ["", ',"offset":"e.7"'])
def test_who_comes_back_says_where_it_was(where: str) -> None:
    """
    Otherwise it is a new one, for itself and for the application: it asks for its
    channels, and is told what it missed of them.
    """
    place = Place()
    place.recovery.persist("key", SavedSession("me", "/", ("news",), {"mine": 1}, 60.0))
    dialogue, session = place.open()
    dialogue.message(f'0{{"pid":"key"{where}}}')

    [client] = place.app.clients
    recovered = bool(where)
    assert client.recovered is recovered
    assert (client.id == "me", client.data) == (recovered, {"mine": 1} if recovered else {})
    assert client.channels == (("news",) if recovered else ())
    assert (b"joined news" in session.said) is recovered


def test_who_is_refused_may_come_back_with_another_token() -> None:
    """
    It still finds what was kept for it, until it is let in.
    """
    place = Place()
    place.recovery.persist("key", SavedSession("me", "/", ("news",), {"mine": 1}, 60.0))
    place.app.decided = fail(HttpError(401, "too old"))
    dialogue, session = place.open()
    dialogue.message('0{"pid":"key","offset":"e.7"}')
    assert session.said[-1] == b'44{"message":"too old","data":{"status":401}}\x1e'

    place.app.decided = succeed(None)
    dialogue.message('0{"pid":"key","offset":"e.7"}')

    assert [(client.id, client.recovered) for client in place.app.clients] == [("me", True)] * 2
    assert place.app.clients[1].channels == ("news",)


def test_who_is_cut_off_before_it_is_let_in_comes_back_once_more() -> None:
    """
    While the application still thinks about the first time.
    """
    place = Place()
    place.recovery.persist("key", SavedSession("me", "/", ("news",), {"mine": 1}, 60.0))
    place.app.decided = Deferred()
    dialogue, session = place.open()
    dialogue.message('0{"pid":"key","offset":"e.7"}')
    session.closed = True
    dialogue.closed("transport close")

    first, place.app.decided = place.app.decided, succeed(None)
    again, _ = place.open()
    again.message('0{"pid":"key","offset":"e.7"}')
    first.callback(None)

    assert [client.data for client in place.app.clients] == [{"mine": 1}] * 2
    assert place.app.clients[1].connected
