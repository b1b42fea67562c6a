"""
Incomplete request bodies are bounded in sum, and each is answered in bounded time.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.access.keys import Key, Keys
from rt_twisted.http.collected_body import BodyBuffer
from rt_twisted.http.held_body import BOUNDARY
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.routes import Routes, parse_route
from tests.defaults import make_context, make_http_limits, make_server
from tests.unit.http.clients import Caller, Place, chunked, get, post
from tests.unit.http.h2_client import Client

LIMITS = make_http_limits(body=1 << 20)
PART = bytes(30_000)
HEAD = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def make_place() -> Place:
    """
    Return a place with little memory for request bodies.
    """
    place = Place(limits=LIMITS)
    place.server.context.inbound_memory = InboundMemory(place.clock, 200_000, min_reading=1)
    return place


def begun(place: Place, size: int = len(PART) + 2, part: bytes = PART) -> Caller:
    return Caller(place.server).send(HEAD % size, part)


def states(callers: list[Caller]) -> list[str]:
    return [caller.wire.producerState for caller in callers]


def test_reading_pauses_and_goes_on_in_order() -> None:
    """
    Bodies above the limit are paused, and received on in order as others become complete.
    """
    place = make_place()
    callers = [begun(place) for _ in range(5)]
    assert states(callers) == ["producing"] * 3 + ["paused"] * 2

    for caller in callers:
        assert caller.wire.producerState == "producing"
        assert [answer.status for answer in caller.send(b"ab").responses()] == [200]
        place.clock.advance(0)
    assert place.server.context.inbound_memory.used == 0


def test_a_lost_connection_frees_its_memory() -> None:
    """
    A client that disconnects frees the memory of its body; so does a response without reading it.
    """
    place = make_place()
    callers = [begun(place) for _ in range(4)]
    for caller in callers[:3]:
        caller.hang_up()
    place.clock.advance(0)
    assert states(callers[3:]) == ["producing"]
    late = Caller(place.server).send(b"POST /nowhere HTTP/1.1\r\nHost: a\r\n")
    late.send(b"Content-Length: 99999\r\n\r\n" + PART, PART)
    callers[3].hang_up()

    assert late.responses()[0].status == 404
    assert place.server.context.inbound_memory.used == 0


def test_a_dropped_body_gets_retry_after() -> None:
    """
    A body that stalls while others are paused gets 503 after a while, with Retry-After. So do those
    that are paused when `body-seconds` are over.
    """
    place = make_place()
    callers = [begun(place) for _ in range(6)]
    place.wait(61)

    assert [caller.responses()[0].status for caller in callers[:3]] == [503] * 3
    assert callers[0].responses()[0].headers["retry-after"] == "2"
    assert all(caller.responses()[0].status in (408, 503) for caller in callers)
    assert place.server.context.inbound_memory.used == 0


def test_pauses_do_not_extend_the_deadline() -> None:
    """
    A body that is paused and resumed over and over gets no more than `body-seconds`.
    """
    place = make_place()
    caller = begun(place, 200_000)
    exchange: Any = place.echo
    for _ in range(62):
        exchange = next(iter(place.server.context.inbound_memory._reading))._owner
        exchange.pause_input()
        caller.send(b"x")
        assert caller.wire.producerState == "paused"
        exchange.resume_input()
        assert caller.wire.producerState == "producing"
        place.clock.advance(1)
        if caller.responses():
            break

    assert caller.responses()[0].status == 408
    assert 59 < place.clock.seconds() <= 62


def test_a_complete_body_in_the_queue_may_be_dropped() -> None:
    """
    A queued request whose body was dropped is refused when it is next. Other requests on the
    connection are answered.
    """
    place = make_place()
    body = bytes(10_000)
    caller = place.call(post(b"x", b"/late"), post(body), get())
    place.call(*[post(b"", b"/late").replace(b"h: 0", b"h: 200000") + bytes(60_000)] * 3)
    place.wait(10)
    place.waiting[0].answer(200)

    assert [answer.status for answer in caller.responses()][:2] == [200, 503]
    assert place.server.context.inbound_memory.used <= place.server.context.inbound_memory.limit


def test_a_body_that_is_read_takes_no_memory() -> None:
    """
    A body does not count any more when an action has received it all, however late it answers.
    """
    place = make_place()
    caller = place.call(post(PART + b"ab", b"/late")[:-2])
    body = place.waiting[0].read(1 << 20)
    assert place.server.context.inbound_memory.used == len(PART)
    caller.send(b"ab")

    assert body.result == PART + b"ab"
    assert not caller.responses()
    assert place.server.context.inbound_memory.used == 0


def test_by_http_2_a_body_counts_until_its_stream_ends() -> None:
    """
    A client that has sent as many bytes as it announced, and not the end, takes memory.
    """
    place = make_place()
    client = Client(place)
    number = client.begin("/echo", "POST", False, ("content-length", "5000"))
    client.talk.send_data(number, bytes(5000))
    client.turn()
    assert place.server.context.inbound_memory.used == 5000
    client.talk.end_stream(number)
    client.turn()

    assert client.streams[number].status == 200
    assert place.server.context.inbound_memory.used == 0


def test_by_http_2_the_window_stays_closed() -> None:
    """
    A paused body gets no WINDOW_UPDATE until there is memory for it.
    """
    place = make_place()
    clients = [Client(place) for _ in range(3)]
    numbers = [client.begin("/echo", "POST", False) for client in clients]
    pairs = list(zip(clients, numbers, strict=True))
    for client, number in pairs:
        for _ in range(4):
            client.talk.send_data(number, bytes(11_000))
        client.turn()
    windows = [client.talk.local_flow_control_window(number) for client, number in pairs]
    assert min(windows[:2]) > 30_000
    assert windows[2] < 30_000

    for client, number in pairs:
        client.talk.send_data(number, b"ab", end_stream=True)
        client.turn()
        assert client.streams[number].status == 200
    assert place.server.context.inbound_memory.used == 0


def test_by_http_2_a_body_is_dropped_with_its_stream() -> None:
    """
    The response to a dropped body is 503; the connection stays open.
    """
    place = make_place()
    client = Client(place)
    number = client.begin("/echo", "POST", False)
    client.talk.send_data(number, bytes(15_000))
    client.turn()
    next(iter(place.server.context.inbound_memory._reading)).drop()
    client.turn()

    assert client.streams[number].status == 503
    assert client.ask("/echo").status == 200
    assert place.server.context.inbound_memory.used == 0


@pytest.mark.parametrize(
    ("query", "lines", "status"),
    [
        (b"?channel=a&key=wrong", b"Content-Type: application/json\r\n", 401),
        (b"?channel=a&key=", b"Content-Type: application/json\r\n", 100),
        (b"?channel=a", b"X-Publish-Key: wrong\r\n", 401),
        (b"?channel=a", b"", 401),  # a plain body has no place for a key
        (b"?channel=a", b"Content-Type: text/plain\r\n", 401),
        (b"?channel=a", b"Content-Type: application/json\r\n", 100),
        (b"?channel=a", b"Content-Type: multipart/form-data\r\n", 100),
        (b"?channel=a&key=right", b"", 100),
        (b"?channel=a", b"X-Publish-Key: right\r\n", 100),
    ],
)
def test_a_key_is_checked_before_the_body_is_read(query: bytes, lines: bytes, status: int) -> None:
    """
    A publisher without a key cannot fill the memory, unless the body may contain the key.
    """
    hub = Place().hub
    publish = parse_route(
        "^/keyed$ publish", make_context(hub, publish_keys=Keys([Key.of("right")]))
    )
    head = b"POST /keyed%s HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n" % query
    caller = Caller(make_server(Clock(), Routes([publish]).find)).send(
        head + lines + b"Expect: 100-continue\r\n\r\n"
    )

    assert [answer.status for answer in caller.responses()] == [status]


def test_a_body_in_tiny_chunks_takes_its_size() -> None:
    """
    A body of many small chunks takes its own size, not an object for each byte.
    """
    whole = BodyBuffer(1 << 20)
    for _ in range(1000):
        whole.data(b"x")
    assert whole.__sizeof__() < 1000
    whole.end()
    got: list[bytes] = []
    whole.done.addCallback(got.append)
    assert got == [b"x" * 1000]


def test_ends_of_chunks_take_memory() -> None:
    """
    A body of many small chunks that waits for its action counts with the ends of its chunks.
    """
    place = make_place()
    place.call(chunked(b"1", b"a", b"1", b"b", b"", path=b"/late"))

    assert place.server.context.inbound_memory.used == 2 + 2 * BOUNDARY
