"""
Request bodies as streams: pauses, and the ends of chunks.
"""

from __future__ import annotations

import pytest
from twisted.python.failure import Failure

from rt_twisted.http.h1 import MAX_BUFFERED
from rt_twisted.http.head import ResponseHead
from tests.unit.http.clients import Place, byte_wise, chunked, get, post
from tests.unit.http.h2_client import Client
from tests.unit.http.live import ChunkSink, live_place


@pytest.mark.parametrize("split", [False, True])
def test_ends_of_chunks_are_reported(split: bool) -> None:
    """
    A sink that asks for them is called at the end of each chunk, but not for the last, empty one.
    """
    place, waiting = live_place()
    sink = ChunkSink()
    caller = place.call(chunked(path=b"/live"))
    waiting[0].receive(sink)
    data = b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nTrailer: 1\r\n\r\n"
    caller.send(*(byte_wise(data) if split else [data]))

    whole = [b"abc", "chunk", b"d", "chunk", "end"]
    pieces = [b"a", b"b", b"c", "chunk", b"d", "chunk", "end"]
    assert sink.events == (pieces if split else whole)


def test_chunks_that_wait_keep_their_ends() -> None:
    """
    Chunks that were received before an action reads them are delivered one by one.
    """
    place, waiting = live_place()
    place.call(chunked(b"3", b"abc", b"1", b"d", b"2", b"e", path=b"/live"))
    sink = ChunkSink()
    waiting[0].receive(sink)

    assert sink.events == [b"abc", "chunk", b"d", "chunk", b"e\r"[:1]]


def test_an_upgrade_header_does_not_hide_chunks() -> None:
    """
    A body behind a head with an Upgrade that is ignored has its chunks, as every other one.
    """
    place, waiting = live_place()
    head = b"POST /live HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
    caller = place.call(head + b"Transfer-Encoding: chunked\r\n\r\n")
    sink = ChunkSink()
    waiting[0].receive(sink)
    caller.send(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")

    assert sink.events == [b"a", "chunk", b"b", "chunk", "end"]


def test_a_paused_body_is_not_read() -> None:
    """
    While a body is paused, the connection is not read and nothing is delivered. Then all is, in
    order; the body may be paused again at each piece.
    """
    place, waiting = live_place()
    caller = place.call(chunked(path=b"/live"))
    exchange = waiting[0]
    sink = ChunkSink(then=exchange.pause)
    exchange.receive(sink)
    caller.send(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n" + get())
    assert sink.events == [b"a"]

    for events in ["chunk", b"b", "chunk", "end"]:
        exchange.resume()
        assert sink.events[-1] == events
    assert sink.events == [b"a", "chunk", b"b", "chunk", "end"]
    exchange.answer(200)
    assert [answer.status for answer in caller.responses()] == [200, 200]


def test_reading_stops_at_once() -> None:
    """
    `pause` stops reading whenever it is called, before `receive` too, and `resume` continues.
    """
    place, waiting = live_place()
    caller = place.call(post(bytes(200_000), b"/live")[:100])
    exchange, sink = waiting[0], ChunkSink()
    exchange.pause()
    assert caller.wire.producerState == "paused"
    exchange.receive(sink)
    exchange.pause()
    assert sink.events == []
    exchange.resume()
    exchange.resume()
    assert caller.wire.producerState == "producing"
    caller.send(b"x")
    assert sink.body[-1:] == b"x"


def test_a_sink_may_pause_and_resume_within_a_call() -> None:
    """
    A resume within a call of the sink does not call it again before that call returns.
    """
    place, waiting = live_place()
    place.call(chunked(b"1", b"a", b"1", b"b", b"0", b"", b"", path=b"/live"))
    exchange = waiting[0]
    depth: list[None] = []

    def again() -> None:
        depth.append(None)
        assert len(depth) == 1
        exchange.pause()
        exchange.resume()
        depth.pop()

    sink = ChunkSink(then=again)
    exchange.receive(sink)
    assert sink.events == [b"a", "chunk", b"b", "chunk", "end"]


def test_both_kinds_of_pauses_compose() -> None:
    """
    Reading continues when neither the action nor the bound of all bodies pauses it.
    """
    place, waiting = live_place()
    caller = place.call(post(bytes(9), b"/live")[:-9])
    exchange = waiting[0]
    exchange.pause()
    exchange.body.pause_input()
    exchange.resume()
    caller.send(b"x")
    assert caller.wire.producerState == "paused"
    exchange.pause()
    exchange.body.resume_input()
    assert caller.wire.producerState == "paused"
    exchange.resume()
    assert caller.wire.producerState == "producing"


def test_the_timeout_is_that_of_the_action() -> None:
    """
    A body ends with 408 when no piece came for its own timeout, which does not run while the body
    is paused.
    """
    place, waiting = live_place()
    caller = place.call(post(bytes(9), b"/live")[:-9])
    exchange, sink = waiting[0], ChunkSink()
    exchange.receive(sink, 10)
    for _ in range(3):
        caller.send(b"x")
        place.wait(8)
    exchange.pause()
    place.wait(200)
    assert sink.events == [b"x"] * 3
    exchange.resume()
    place.wait(8)
    assert not caller.responses()
    place.wait(5)

    assert sink.events[3:] == ["lost 408"]
    assert [answer.status for answer in caller.responses()] == [408]


def test_a_client_that_disconnects_while_paused() -> None:
    """
    A body that will never be complete is lost once, without what waits.
    """
    place, waiting = live_place()
    caller = place.call(post(bytes(9), b"/live")[:-9])
    exchange, sink = waiting[0], ChunkSink()
    exchange.receive(sink)
    exchange.pause()
    caller.send(b"x")
    caller.hang_up()
    exchange.resume()

    assert sink.events == ["lost ConnectionLost"]


def test_tiny_chunks_are_bounded() -> None:
    """
    The ends of chunks that wait count as memory, too.
    """
    place, waiting = live_place()
    caller = place.call(chunked(path=b"/live"))
    count = 0
    while caller.wire.producerState == "producing":
        caller.send(b"1\r\nx\r\n" * 100)
        count += 100
    assert count * 5 < MAX_BUFFERED + 5 * 200
    sink = ChunkSink()
    waiting[0].receive(sink)
    assert sink.events == [b"x", "chunk"] * count


def test_a_sink_that_raises_at_a_chunk(clean_reactor: list[object]) -> None:
    """
    An exception of the sink is logged and answered with 500.
    """
    place, waiting = live_place()
    caller = place.call(chunked(path=b"/live"))

    def fail() -> None:
        if "chunk" in sink.events:
            raise ZeroDivisionError

    sink = ChunkSink(then=fail)
    waiting[0].receive(sink)
    caller.send(b"1\r\na\r\n1\r\nb\r\n")

    assert [answer.status for answer in caller.responses()] == [500]
    assert sink.events == [b"a", "chunk"]
    assert len(clean_reactor) == 1
    clean_reactor.clear()


def test_by_http_2_the_window_stays_closed() -> None:
    """
    The window of a paused body is not opened again until it is resumed; the deadline does not run.
    """
    place = Place("^/live tests.ingest.WaitingIngest")
    found: object = place.server.context.find("PUT", "/live")
    assert isinstance(found, tuple)
    waiting = found[0].waiting
    client = Client(place)
    number = client.begin("/live", "PUT", False)
    client.turn()
    exchange, sink = waiting[0], ChunkSink()
    exchange.receive(sink, 10)
    sent = 0
    exchange.pause()
    while size := min(16384, client.talk.local_flow_control_window(number)):
        client.talk.send_data(number, bytes(size))
        client.turn()
        sent += size
    assert sent == 65535
    assert sink.events == []
    place.wait(100)
    client.turn()
    assert client.talk.local_flow_control_window(number) == 0

    exchange.resume()
    client.turn()
    assert len(sink.body) == sent
    assert client.talk.local_flow_control_window(number) > 0
    client.talk.send_data(number, b"end", end_stream=True)
    client.turn()
    assert sink.events[-2:] == [b"end", "end"]


def test_by_http_2_the_timeout_runs_again() -> None:
    """
    A body that was resumed has its timeout again, and is answered 408.
    """
    place, waiting = live_place()
    client = Client(place)
    number = client.begin("/live", "PUT", False)
    client.turn()
    exchange, sink = waiting[0], ChunkSink()
    exchange.receive(sink, 10)
    exchange.pause()
    place.wait(100)
    exchange.resume()
    place.wait(8)
    assert sink.events == []
    place.wait(5)
    client.turn()

    assert sink.events == ["lost 408"]
    assert client.streams[number].status == 408


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_that_is_not_wanted_is_discarded_once_a_response_has_begun(in_chunks: bool) -> None:
    """
    A client that still sends its body while it receives the response is not paused, whether the
    body has a length or chunks.
    """
    place, waiting = live_place()
    start = chunked(path=b"/live") if in_chunks else post(bytes(200_000), b"/live")[:-200_000]
    caller = place.call(start)
    response = waiting[0].stream(ResponseHead(200, [], b"OK"), None)
    caller.send(b"1\r\na\r\n" * 20_000 if in_chunks else bytes(MAX_BUFFERED + 1))

    assert caller.wire.producerState == "producing"
    assert place.server.context.inbound_memory.used == 0
    response.finish()


@pytest.mark.parametrize("event", [b"a", "chunk", "end"])
def test_an_error_of_the_sink_is_answered(event: object, clean_reactor: list[Failure]) -> None:
    """
    Whatever method of a sink raises, the client gets 500, and the sink is not called again.
    """
    place, waiting = live_place()
    caller = place.call(chunked(path=b"/live"))

    def fail() -> None:
        if sink.events[-1] == event:
            raise ZeroDivisionError

    sink = ChunkSink(then=fail)
    waiting[0].receive(sink)
    caller.send(b"1\r\na\r\n0\r\n\r\n")

    assert [answer.status for answer in caller.responses()] == [500]
    assert sink.events[-1] == event
    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()


def test_a_streamed_body_takes_no_memory() -> None:
    """
    A body that is delivered as it arrives is not counted among those that wait, before and after
    its action begins to receive it.
    """
    place, waiting = live_place()
    caller = place.call(post(bytes(2000), b"/live")[:-1000])
    memory = place.server.context.inbound_memory
    assert memory.used == 1000
    waiting[0].receive(ChunkSink())
    assert memory.used == 0
    caller.send(bytes(500))

    assert memory.used == 0
