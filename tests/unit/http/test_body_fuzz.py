"""
A streamed body arrives whole and in order, however it is split, and whenever it is paused.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http.clients import chunked
from tests.unit.http.live import ChunkSink, live_place

PIECES = st.lists(st.binary(min_size=1, max_size=30), max_size=8)
SPLITS = st.lists(st.integers(1, 40), max_size=30)
PAUSES = st.lists(st.booleans(), max_size=40)


@given(chunks=PIECES, splits=SPLITS, pauses=PAUSES, late=st.booleans(), coding=st.booleans())
def test_a_body_is_delivered_once(
    chunks: list[bytes], splits: list[int], pauses: list[bool], late: bool, coding: bool
) -> None:
    """
    Pieces and ends of chunks arrive in order, none of them while the body is paused, and then the
    end; with chunks, and until the client closes.
    """
    place, waiting = live_place()
    caller = place.call(
        chunked(path=b"/live") if coding else b"PUT /live HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    exchange = waiting[0]
    paused = False

    def pause_perhaps() -> None:
        nonlocal paused
        assert not paused
        if pauses and pauses.pop():
            paused = True
            exchange.pause()

    def resume() -> None:
        nonlocal paused
        paused = False
        exchange.resume()

    sink = ChunkSink(then=pause_perhaps)
    if not late:
        exchange.receive(sink)
    data = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    if not coding:
        data = b"".join(chunks)
    while data:
        size = splits.pop() if splits else len(data)
        caller.send(data[:size])
        data = data[size:]
        if pauses and pauses.pop():
            resume()
    if late:
        exchange.receive(sink)
    if not coding:
        caller.wire.protocol.readConnectionLost()
    while paused:
        resume()

    assert sink.events.count("end") == 1
    assert sink.events[-1] == "end"
    assert sink.body == b"".join(chunks)
    if coding:
        ends: list[int] = []
        size = 0
        for each in sink.events:
            if each == "chunk":
                ends.append(size)
            elif isinstance(each, bytes):
                size += len(each)
        assert ends == [len(b"".join(chunks[: n + 1])) for n in range(len(chunks))]
