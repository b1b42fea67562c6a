"""
Tests of the bounds of HTTP/1.1 connections: deadlines, sizes, idle connections.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from rt_twisted.http.h1 import LINGER
from tests.turns import run_turn
from tests.unit.http.clients import LIMITS, Place, Sink, byte_wise, chunked, get, post, status_of


def test_slow_heads() -> None:
    """
    A head has to arrive within `head_seconds` of its first byte.
    """
    place = Place()
    silent, caller = place.call(), place.call()
    for piece in byte_wise(get())[:9]:
        caller.send(piece)
        place.wait(0)
    assert caller.open
    place.wait(3)

    assert status_of(caller) == 408
    assert not caller.open
    assert silent.responses() == []
    assert not silent.open


def test_slow_bodies() -> None:
    """
    A body that is read whole has to arrive within `body_seconds`.
    """
    place = Place()
    caller = place.call(post(b"x" * 100)[:-100])
    for _ in range(7):
        caller.send(b"x")
        place.wait(9)

    assert status_of(caller) == 408
    assert not caller.open


def test_streamed_bodies_may_take_their_time() -> None:
    """
    A streamed body may take any time, if its pieces keep arriving.
    """
    place = Place()
    sink = Sink()
    caller = place.call(post(b"x" * 100, b"/late")[:-100])
    place.waiting[0].receive(sink)
    for _ in range(10):
        caller.send(b"x")
        place.wait(50)
    assert caller.responses() == []
    place.wait(20)

    assert status_of(caller) == 408
    assert sink.events == [b"x"] * 10 + ["lost"]


def test_a_stream_of_a_body_ends_once() -> None:
    """
    A sink gets pieces, then one of `end` and `lost`, also if the client disconnects before it is
    answered.
    """
    place = Place()
    whole, cut = Sink(), Sink()
    caller = place.call(chunked(b"1", b"a", b"2", b"bc", b"0", b"", b"", path=b"/late"))
    place.waiting[0].receive(whole)
    caller.hang_up()
    other = place.call(post(b"abc", b"/late")[:-1])
    place.waiting[1].receive(cut)
    other.hang_up()

    assert whole.events == [b"abc", "end"]
    assert cut.events == [b"ab", "lost"]


def test_idle_connections_are_closed() -> None:
    """
    An idle connection is closed without a response, `idle_seconds` after the last one.
    """
    place = Place()
    caller = place.call(get())
    place.wait(LIMITS.idle_seconds - 2)
    assert caller.open
    caller.send(get())
    place.wait(LIMITS.idle_seconds + 1)

    assert len(caller.responses()) == 2
    assert not caller.open
    assert not caller.wire.aborted
    place.wait(LINGER + 1)
    assert caller.wire.aborted


def test_idle_connections_have_a_bound() -> None:
    """
    Above the bound, connections that are idle longest are closed, of the address that has most.
    Those that sent nothing or half of a head count; those whose request is being answered, and
    those idle for a moment only, are never closed.
    """
    place = Place(limits=replace(LIMITS, idle_connections=4))
    busy = [place.call(get(b"/late")) for _ in range(8)]
    other = place.call(get(), address="192.0.2.2")
    first = place.call(get())
    callers = [place.call(*pieces) for pieces in ([], [b"GET /"], [get()], [], [get()])]
    place.wait(1)
    assert all(caller.open for caller in (first, *callers))

    first.send(get())  # is the newest of its address now
    place.wait(3)
    assert all(caller.open for caller in (other, first, *busy))
    assert [caller.open for caller in callers].count(True) == 2

    for exchange in place.waiting:
        exchange.answer(200)
    place.wait(4)
    assert [caller.open for caller in (other, first, *callers, *busy)].count(True) == 4
    assert other.open


def test_an_address_behind_a_proxy_is_not_known_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A PROXY header may arrive after a look at idle connections: the client is not the proxy then,
    which may be this machine, and allowed more.
    """
    place = Place(limits=replace(LIMITS, idle_connections=1))
    early, late = place.call(address="127.0.0.1"), place.call(address="127.0.0.1")
    place.wait(5)
    [caller] = [each for each in (early, late) if each.open]
    monkeypatch.setattr(caller.wire, "getPeer", lambda: IPv4Address("TCP", "203.0.113.9", 1))
    caller.send(get(b"/late"))
    assert place.waiting[0].address == "203.0.113.9"


@pytest.mark.parametrize("bound", [4, 0])
def test_many_connections_are_closed_in_slices(bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Those above the bound, and those that are slow: other clients are served in between.
    """
    place = Place(limits=replace(LIMITS, idle_connections=bound))
    callers = [place.call() for _ in range(300)]
    place.clock.rightNow += 3.5 if bound else LIMITS.head_seconds + 1

    def seconds() -> float:  # each look takes a millisecond
        place.clock.rightNow += 0.001
        return place.clock.rightNow

    monkeypatch.setattr(place.clock, "seconds", seconds)
    turns = 0
    while sum(caller.open for caller in callers) > bound:
        run_turn(place.clock)
        turns += 1
        assert turns < 1000

    assert turns > 50


@pytest.mark.parametrize("pieces", [[post(b"x") + b"\r\n"], [post(b"x"), b"\r\n"]])
def test_blank_lines_before_a_request_are_ignored(pieces: list[bytes]) -> None:
    """
    A blank line behind a body (RFC 9112, 2.2), however it arrives, leaves the connection idle: its
    timeout gives no error response.
    """
    place = Place()
    caller = place.call(*pieces)
    place.wait(LIMITS.idle_seconds - 2)
    caller.send(b"\r\n")
    place.wait(3)

    assert status_of(caller) == 200
    assert not caller.open


def test_responses_may_take_any_time() -> None:
    """
    An action may answer at any time; afterwards the connection is idle again.
    """
    place = Place()
    caller = place.call(get(b"/late"))
    place.wait(1000)
    assert caller.open
    place.waiting[0].answer(200)
    place.wait(LIMITS.idle_seconds - 2)
    assert caller.open
    place.wait(3)
    assert not caller.open


def test_half_a_request_behind_a_late_response_times_out() -> None:
    """
    A connection that has begun its next request is not held for ever.
    """
    place = Place()
    caller = place.call(get(b"/late") + b"GET /ec")
    place.wait(5)
    place.waiting[0].answer(200)
    place.wait(LIMITS.head_seconds + 1)

    assert [answer.status for answer in caller.responses()] == [200, 408]
    assert not caller.open


def test_one_malformed_request_is_refused_once() -> None:
    """
    A malformed request is refused once, however late the responses before it are.
    """
    place = Place()
    caller = place.call(get(b"/late") + b"NO\r\n\r\n")
    place.wait(10 * LIMITS.body_seconds)
    place.waiting[0].answer(200)

    assert [answer.status for answer in caller.responses()] == [200, 400]


def test_a_client_that_is_not_read_is_not_too_slow() -> None:
    """
    A body behind a late response waits in the kernel: its deadline begins when it is read.
    """
    place = Place()
    caller = place.call(get(b"/late") + post(b"abcd")[:-2])
    assert caller.wire.producerState == "paused"
    place.wait(LIMITS.body_seconds + 1)
    place.waiting[0].answer(200)
    caller.send(b"cd")

    assert [answer.status for answer in caller.responses()] == [200, 200]


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", b"a" * 1000),
        (b"GET /echo HTTP/1.1\r\n", b"X: y\r\n" * 100),
        (b"GET /echo HTTP/1.1\r\n", b"x" * 1000),
        (b"GET /echo HTTP/1.1\r\nX: ", b"y" * 1000),
        (b"", b"\r\n" * 500),
        (chunked(b"0", b"X: "), b"y" * 1000),
        (chunked(b"0", b""), b"X: y\r\n" * 100),
        (chunked(b"0", b""), b"x" * 1000),
        (chunked(b"1;"), b"a" * 1000),
        (chunked(b"1;a="), b"b" * 1000),
        (chunked(b"1"), b"x\r\n1\r\n" * 200_000),
    ],
    ids=[
        "target", "headers", "name", "value", "line ends", "trailer", "trailers", "trailer name",
        "extension", "extension value", "chunks",
    ],
)  # fmt: skip
def test_endless_input_is_refused(begin: bytes, more: bytes) -> None:
    """
    Endless heads, trailers and chunk extensions are refused after a bounded number of bytes.
    """
    caller = Place().call(begin)
    for _ in range(200):
        caller.send(more)

    assert caller.responses()[0].status in (400, 408, 413, 414, 431)
    assert not caller.open


def test_a_body_that_is_not_read_is_bounded() -> None:
    """
    While an action does not read the body, only a bounded part of it is received.
    """
    place = Place()
    caller = place.call(post(b"", b"/late").replace(b"h: 0", b"h: 99999999"))
    for _ in range(1000):
        if caller.wire.producerState == "paused" or not caller.open:
            break
        caller.send(b"x" * 65536)
    else:
        pytest.fail("64 MB are kept for an action that never asked")


def test_a_client_that_does_not_read_behind_tls_is_not_read() -> None:
    """
    A transport without a socket pauses reading by its producer when its buffer is full.
    """
    caller = Place().call()
    wire = caller.wire
    for _ in range(5000):
        caller.send(get())
        if len(caller.written()) > 65536 and wire.producer is not None:
            wire.producer.pauseProducing()
        if wire.producerState == "paused":
            return
    pytest.fail(f"{len(caller.written())} bytes are kept for a client that never reads")


def test_a_late_action_and_its_client() -> None:
    """
    Responses to a client that has disconnected are discarded, and readers of its body fail.
    """
    place = Place()
    caller = place.call(post(b"abc", b"/late")[:-1])
    lost: list[Failure] = []
    place.waiting[0].read(10).addErrback(lost.append)
    caller.hang_up()
    place.waiting[0].answer(200, b"too late")

    assert lost[0].check(ConnectionLost)
    assert caller.responses() == []
    assert place.server.connections == set()


def test_the_end_of_a_pipelined_stream_is_noticed() -> None:
    """
    A stream whose request was pipelined behind a late response ends when its client disconnects.
    """
    place = Place()
    caller = place.call(get(b"/late") + get(b"/news"))
    place.waiting[0].answer(200)

    assert caller.streams
    assert caller.wire.producerState == "producing"


def test_stopping() -> None:
    """
    A stop closes idle connections, and the others when they are answered.
    """
    place = Place()
    idle, busy = place.call(get()), place.call(get(b"/late"))
    place.server.stop()

    assert not idle.open
    assert busy.open
    place.waiting[0].answer(200)
    assert busy.responses()[0].headers["connection"] == "close"
    assert not busy.open
