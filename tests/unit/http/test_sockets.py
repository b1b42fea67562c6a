"""
Tests of HTTP/1.1 over real sockets.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone

from rt_twisted.http.h1 import LINGER
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.message import Draft
from tests.defaults import make_http_limits
from tests.unit.http.clients import Listen, Place, Sink, get, post, read_answers, turns


async def test_over_a_socket(listen: Listen) -> None:
    """
    Keep-alive and pipelining work over a real socket.
    """
    peer = await listen(Place())()
    peer.send(get() + post(b"x"))
    await peer.answers(2)
    peer.send(get(headers=b"Connection: close\r\n"))
    await peer.closed()

    assert [answer.status for answer in read_answers(peer.received)] == [200] * 3
    assert peer.end.check(ConnectionDone)


async def test_a_client_that_does_not_read_is_not_read(listen: Listen) -> None:
    """
    For a client that does not read, a bounded amount is buffered; once it reads, it gets all
    responses.
    """
    place = Place()
    peer = await listen(place)()
    peer.transport.pauseProducing()
    big = b"b" * 1_000_000
    count = 20
    peer.send(get(b"/late") * count)

    async def answer() -> None:
        while len(place.waiting) > len(answered):
            exchange = place.waiting[len(answered)]
            answered.append(exchange)
            exchange.answer(200, big)
            await turns(10)

    answered: list[IExchange] = []
    while not place.waiting:
        await turns(1)
    await answer()
    connection: Any
    (connection,) = place.server.connections
    assert len(answered) < count
    assert len(connection.transport.dataBuffer) + connection.transport._tempDataLen <= len(big)

    peer.transport.resumeProducing()
    while len(answered) < count:
        await turns(1)
        await answer()
    await peer.until(lambda: len(peer.received) >= count * len(big))


async def test_a_subscriber_behind_a_late_response_leaves(listen: Listen) -> None:
    """
    No subscriber stays in the hub when its client has disconnected.
    """
    place = Place()
    peer = await listen(place)()
    peer.send(get(b"/late") + get(b"/news"))
    while not place.waiting:
        await turns()
    place.waiting[0].answer(200)
    await peer.until(lambda: b"id: e.0" in peer.received)
    peer.transport.loseConnection()
    await peer.closed()
    for _ in range(50):
        await turns()
    left = place.hub.current_metrics().subscribers
    place.hub.stop(0)

    assert left == 0


async def test_an_early_error_reaches_a_client_that_is_still_sending(listen: Listen) -> None:
    """
    The response is not lost to a reset while the rest of the body is on its way.
    """
    place = Place(limits=make_http_limits())
    peer = await listen(place)()
    peer.send(
        post(b"", b"/publish")
        .replace(b"h: 0", b"h: 4000000")
        .replace(b"Host: a", b"Host: localhost")
    )
    await peer.answers(1)
    for _ in range(40):
        peer.send(b"x" * 100_000)
        await turns(1)
    await peer.closed()

    assert [answer.status for answer in read_answers(peer.received)] == [413]
    assert peer.end.check(ConnectionDone)


async def test_a_client_that_never_stops_sending_is_disconnected(listen: Listen) -> None:
    """
    A client that sends on after its response is disconnected after some seconds.
    """
    place = Place()
    peer = await listen(place)()
    peer.send(b"nonsense\r\n\r\n")
    await peer.answers(1)
    connection: Any
    (connection,) = place.server.connections
    peer.transport.pauseProducing()
    place.wait(LINGER + 1)
    await turns()

    assert place.server.connections == set()
    assert connection.transport.disconnected


async def test_a_disconnect_within_a_body(listen: Listen) -> None:
    """
    The reader of the body fails; nothing is logged, and nothing is left behind.
    """
    place = Place()
    peer = await listen(place)()
    peer.send(post(b"abc", b"/late")[:-1])
    while not place.waiting:
        await turns()
    sink = Sink()
    place.waiting[0].receive(sink)
    peer.transport.abortConnection()
    while place.server.connections:
        await turns()

    assert sink.events == [b"ab", "lost"]


async def test_messages_arrive_over_a_socket(listen: Listen) -> None:
    """
    A subscriber on a real socket gets a message, also through a proxy that offers an upgrade.
    """
    place = Place()
    peer = await listen(place)()
    peer.send(get(b"/news", b"Connection: upgrade\r\nUpgrade: websocket\r\n"))
    await peer.until(lambda: b"id: e.0" in peer.received)
    await place.hub.publish([Draft("news", b"hello")])
    place.clock.advance(0)
    await peer.until(lambda: b"data: hello" in peer.received)
    peer.transport.loseConnection()
    while place.hub.current_metrics().subscribers:
        await turns()
