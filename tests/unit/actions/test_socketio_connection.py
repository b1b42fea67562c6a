"""
Tests of clients that connect to namespaces, and of their limits.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from rt_twisted.actions.socketio.connection import MAX_PAYLOADS, SocketIOConnection
from rt_twisted.actions.socketio.session_store import SavedSession, SessionStore
from rt_twisted.actions.socketio.socket import Socket
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.engineio_framing import Framing, Poll4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.model.errors import HttpError
from rt_twisted.net.inbound_memory import InboundMemory
from tests.defaults import make_context, make_hub, make_socketio_limits

PAYLOAD = 1000


class FakeSession:
    """
    A session that records what is written and subscribed.
    """

    closed = False
    complete = True
    framing: Framing = Poll4()

    def __init__(self) -> None:
        self.written: list[bytes] = []

    @property
    def channels(self) -> Any:
        return self

    def write(self, frames: bytes) -> None:
        self.written.append(frames)

    def admit(self) -> None:
        pass

    def joined(self) -> None:
        pass

    def namespaces_left(self) -> None:
        pass

    def join(self, names: Any, since: Any, format: Any, head: bytes = b"") -> None:
        self.written += [head, b"joined " + b" ".join(name.encode() for name in names)]

    def leave(self, names: Any) -> None:
        pass

    def close(self, why: str, reason: str) -> None:
        self.closed = True
        self.written.append(reason.encode())


class DeferringApp:
    """
    Accepts clients when `decided` fires, and answers events when the test does.
    """

    def __init__(self) -> None:
        self.clients: list[Socket] = []
        self.events: list[Deferred[str]] = []
        self.decided: Deferred[None] = succeed(None)

    def on_connect(self, client: Socket, auth: dict[str, Any]) -> Deferred[None]:
        self.clients.append(client)
        return self.decided

    def on_event(self, client: Socket, event: str, *arguments: Any) -> Deferred[str]:
        self.events.append(Deferred())
        return self.events[-1]

    def on_disconnect(self, client: Socket, reason: str) -> None:
        pass


class Node:
    """
    A node with Socket.IO sessions.
    """

    def __init__(self) -> None:
        clock = Clock()
        self.context = make_context(
            make_hub(MemoryBroker(clock, "e"), clock),
            clock,
            socketio=make_socketio_limits(max_payload=PAYLOAD),
            inbound=InboundMemory(clock, 0),
        )
        self.store = SessionStore(clock)
        self.app = DeferringApp()

    def open(self) -> tuple[SocketIOConnection, FakeSession]:
        session: Any = FakeSession()
        handshake: Any = None
        connection = SocketIOConnection(self.context, self.store, self.app, handshake, 4, True, "")
        connection.opened(session)
        return connection, session


@pytest.mark.parametrize("binary", [False, True])
def test_the_bytes_of_waiting_events_are_bounded(binary: bool) -> None:
    """
    Attachments count; events that are answered do not.
    """
    node = Node()
    connection, session = node.open()
    connection.message("0")

    def emit() -> None:
        if binary:
            connection.message('51-7["a",{"_placeholder":true,"num":0}]')
            connection.message(bytes(PAYLOAD - 100))
        else:
            connection.message('27["a","%s"]' % ("x" * (PAYLOAD - 100)))

    for count in range(3 * MAX_PAYLOADS):
        emit()
        if count >= MAX_PAYLOADS - 1:
            node.app.events.pop(0).callback("done")
            assert session.written[-1] == b'437["done"]\x1e'
    emit()
    with pytest.raises(RemoteProtocolError, match="too many events"):
        emit()


def test_incomplete_packets_of_all_sessions_are_bounded() -> None:
    """
    Packets count while attachments are missing; above the limit the oldest sessions close.
    """
    node = Node()
    memory = node.context.inbound
    memory.limit = 20 * PAYLOAD
    head = '52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
    opened = [node.open() for _ in range(30)]
    for connection, _ in opened:
        connection.message("0")
        connection.message(head)
        connection.message(bytes(PAYLOAD - 10))
        assert memory.used <= memory.limit
    ended = [session for _, session in opened if session.closed]
    assert ended == [session for _, session in opened[: len(ended)]]
    assert len(ended) >= 10
    assert ended[0].written[-1] == b"too many unfinished packets"

    for connection, _ in opened[len(ended) :]:
        connection.message(b"x")
    assert memory.used == 0
    assert len(node.app.events) == 30 - len(ended)
    opened[-1][0].message(head)
    assert memory.used > 0
    opened[-1][0].closed("transport close")
    assert memory.used == 0


@pytest.mark.parametrize("offset", ["", ',"offset":"e.7"'])
def test_a_client_recovers_with_its_position(offset: str) -> None:
    """
    Without one it is a new client, for itself and for the application, and joins its
    channels again.
    """
    node = Node()
    node.store.persist("key", SavedSession("me", "/", ("news",), {"mine": 1}, 60.0))
    connection, session = node.open()
    connection.message(f'0{{"pid":"key"{offset}}}')

    [client] = node.app.clients
    recovered = bool(offset)
    assert client.recovered is recovered
    assert (client.id == "me", client.data) == (recovered, {"mine": 1} if recovered else {})
    assert client.channels == (("news",) if recovered else ())
    assert (b"joined news" in session.written) is recovered


def test_a_rejected_client_may_recover_with_another_token() -> None:
    """
    What was saved of it stays until it is accepted.
    """
    node = Node()
    node.store.persist("key", SavedSession("me", "/", ("news",), {"mine": 1}, 60.0))
    node.app.decided = fail(HttpError(401, "too old"))
    connection, session = node.open()
    connection.message('0{"pid":"key","offset":"e.7"}')
    assert session.written[-1] == b'44{"message":"too old","data":{"status":401}}\x1e'

    node.app.decided = succeed(None)
    connection.message('0{"pid":"key","offset":"e.7"}')

    assert [(client.id, client.recovered) for client in node.app.clients] == [("me", True)] * 2
    assert node.app.clients[1].channels == ("news",)


def test_a_client_may_recover_again_before_it_is_accepted() -> None:
    """
    The application may still be deciding on the first session, which was lost.
    """
    node = Node()
    node.store.persist("key", SavedSession("me", "/", ("news",), {"mine": 1}, 60.0))
    node.app.decided = Deferred()
    connection, session = node.open()
    connection.message('0{"pid":"key","offset":"e.7"}')
    session.closed = True
    connection.closed("transport close")

    first, node.app.decided = node.app.decided, succeed(None)
    again, _ = node.open()
    again.message('0{"pid":"key","offset":"e.7"}')
    first.callback(None)

    assert [client.data for client in node.app.clients] == [{"mine": 1}] * 2
    assert node.app.clients[1].connected
