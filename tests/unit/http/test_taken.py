"""
Connections that another protocol takes over, from a request or by their first bytes.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.model.errors import HttpError
from tests.unit.http.clients import byte_wise, chunked, get, post, status_of
from tests.unit.http.h2_client import Client
from tests.unit.http.live import live_place


class Recording(Protocol):
    """
    Records what it receives.
    """

    def __init__(self) -> None:
        self.received = b""
        self.ends: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self.ends.append(reason.type)


@implementer(IHalfCloseableProtocol)
class HalfRecording(Recording):
    """
    Records the end of the client's sending side as well.
    """

    def readConnectionLost(self) -> None:
        self.ends.append("half")

    def writeConnectionLost(self) -> None:
        """
        Do nothing: no test closes this side alone.
        """


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(
    "head",
    [
        b"SOURCE /live HTTP/1.0\r\n\r\n",
        b"POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 32767\r\n\r\n",
    ],
)
def test_a_connection_is_taken_with_its_bytes(head: bytes, early: bool) -> None:
    """
    The protocol gets the bytes behind the head, whether they came before or after it has
    the connection, and more than the length that the request stated.
    """
    place, waiting = live_place()
    caller = place.call(head + b"a\r\n") if early else place.call(head)
    protocol = Recording()
    waiting[0].take_over(b"HTTP/1.0 200 OK\r\n\r\n").start(protocol)
    caller.send(b"b" * 40_000)
    transport: Any = protocol.transport
    transport.write(b"more")

    assert protocol.received == (b"a\r\n" if early else b"") + b"b" * 40_000
    assert caller.written() == b"HTTP/1.0 200 OK\r\n\r\nmore"
    assert waiting[0].answered


def test_the_server_counts_a_taken_connection() -> None:
    """
    A taken connection has no deadline, and is closed when the server stops.
    """
    place, waiting = live_place()
    caller = place.call(get(b"/live"))
    protocol = Recording()
    waiting[0].take_over().start(protocol)
    place.wait(10_000)
    assert caller.open
    assert len(place.server.connections) == 1

    place.server.stop()
    assert not caller.open
    caller.hang_up()
    assert protocol.ends == [ConnectionDone]
    assert not place.server.connections


def test_a_half_closed_connection() -> None:
    """
    A protocol that does not provide IHalfCloseableProtocol loses its connection when the client
    closes its sending side; another one is notified.
    """
    place, waiting = live_place()
    caller = place.call(get(b"/live"))
    protocol = HalfRecording()
    waiting[0].take_over().start(protocol)
    caller.wire.protocol.readConnectionLost()
    assert protocol.ends == ["half"]
    assert caller.open


@pytest.mark.parametrize("pieces", [chunked(b"1", b"a", b"", path=b"/live")])
def test_chunks_cannot_be_taken(pieces: bytes) -> None:
    """
    Within a body of chunks, and by HTTP/2, the bytes of the body are not those of the
    connection: 501.
    """
    place, waiting = live_place()
    place.call(pieces)
    client = Client(place)
    client.ask("/live")
    for exchange in waiting:
        with pytest.raises(HttpError) as caught:
            exchange.take_over()
        assert caught.value.status == 501
    assert len(waiting) == 2


def test_a_connection_with_other_requests_cannot_be_taken() -> None:
    """
    A client that has sent another request gets 400; one that has disconnected gets nothing.
    """
    place, waiting = live_place()
    place.call(get(b"/live"), get(b"/live"))
    with pytest.raises(HttpError) as caught:
        waiting[0].take_over()
    assert caught.value.status == 400

    caller = place.call(get(b"/live"))
    caller.hang_up()
    with pytest.raises(ConnectionLost):
        waiting[-1].take_over()


@pytest.mark.parametrize("split", [False, True])
def test_first_bytes_choose_the_protocol(split: bool) -> None:
    """
    A connection that begins as another protocol is handed to it, however the bytes are split.
    """
    place, _ = live_place()
    data = b"SHOUT\nhello"
    caller = place.call(*(byte_wise(data) if split else [data]))

    # A transport without a socket counts as TLS.
    assert caller.written() == b"192.0.2.1 True\nSHOUT\nHELLO"
    assert len(place.server.connections) == 1
    caller.hang_up()
    assert not place.server.connections


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    "request_", [get(), post(b"x"), get().replace(b"GET", b"OPTIONS"), b"\r\n" + get()]
)
def test_http_is_still_http(request_: bytes, split: bool) -> None:
    """
    Requests are answered on a port with other protocols, and the later ones of a connection too.
    """
    place, _ = live_place()
    data = request_ + get()
    caller = place.call(*(byte_wise(data) if split else [data]))
    caller.send(b"SHOUT\n")

    answers = caller.responses()
    assert [answer.status for answer in answers[:2]] in ([200, 200], [204, 200])
    assert answers[2].status == 400


def test_a_client_that_decides_nothing() -> None:
    """
    A client that sends nothing is disconnected at the deadline of a request head; one whose first
    bytes decide nothing gets 408 then, and 400 if it closes its sending side.
    """
    place, _ = live_place()
    silent, slow, closing = place.call(), place.call(b"SHO"), place.call(b"SHO")
    closing.wire.protocol.readConnectionLost()
    place.wait(100)

    assert silent.written() == b""
    assert not silent.open
    assert status_of(slow) == 408
    assert status_of(closing) == 400
