"""
The parser for event streams (WHATWG HTML, 9.2).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs import eventsource
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.eventsource import Event, EventReader
from rt_twisted.formats.sse import EventStream
from rt_twisted.model.message import Message, Position, Replay
from tests.fakes import started

STREAMS = [
    (b"", []),
    (b"data: hello\n\n", [Event("", "message", "hello")]),
    (b"data:hello\n\ndata:  two blanks\n\n", ["hello", " two blanks"]),
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
    (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),  # 9.2.6's own examples
    (b": test stream\n\ndata: first\nid: 1\n\ndata: second\nid\n\n", ["first", "second"]),
    (b"event: add\ndata: 1\n\ndata: 2\n\n", [Event("", "add", "1"), Event("", "message", "2")]),
    (b"id: 7\n\ndata: x\n\n", [Event("7", "message", "x")]),
    (b"id: 7\ndata: x\n\nid: a\0b\ndata: y\n\n", [Event("7", "message", c) for c in "xy"]),
    (b"data: no blank line\n", []),
    (b"event: forgotten\n\ndata: x\n\n", [Event("", "message", "x")]),
    (b"nonsense: 1\ndata: x\nData: y\n\n", ["x"]),
    (b"data: a\r\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\n", ["a\nb", "c", "d"]),
    (b"\xef\xbb\xbfdata: marked\n\n\xef\xbb\xbfdata: not\n\n", ["marked"]),
    (b"data: \xef\xbb\xbfkept\n\n", ["\ufeffkept"]),
    ("data: Grüße \N{GRINNING FACE}\n\n".encode(), ["Grüße \N{GRINNING FACE}"]),
    (b"data: \xff\n\n", ["\ufffd"]),
]


@pytest.mark.parametrize(("stream", "events"), STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_do_not_depend_on_splitting(
    stream: bytes, events: list[Event | str], size: int
) -> None:
    """
    The same events result from the whole stream, from single bytes and from pieces.
    """
    subscriber = EventReader()
    found = [
        event
        for start in range(0, len(stream), size)
        for event in subscriber.feed(stream[start : start + size])
    ]

    assert len(found) == len(events)
    for one, expected in zip(found, events, strict=True):
        assert one == expected if isinstance(expected, Event) else one.data == expected


def test_id_alone_moves_the_last_id() -> None:
    """
    An id alone sets the last id; an empty one clears it (9.2.6).
    """
    subscriber = EventReader("e.1")
    assert subscriber.last_id == "e.1"

    assert subscriber.feed(b"id: e.5\n") == []
    assert subscriber.last_id == "e.1"
    subscriber.feed(b"\n")
    assert subscriber.last_id == "e.5"
    assert subscriber.feed(b"data: x\n\n") == [Event("e.5", "message", "x")]
    subscriber.feed(b"id\n\n")
    assert subscriber.last_id == ""


def test_comments_and_retry_are_recorded() -> None:
    """
    Comments are counted; a retry has digits only.
    """
    subscriber = EventReader()
    subscriber.feed(b":\n\n: two\nretry: 2000\nretry: 1e3\nretry: -1\nretry:\n")

    assert subscriber.comments == 2
    assert subscriber.retry == 2000


def test_endless_lines_and_events_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The size of a line and of an event is limited, the number of events is not.
    """
    monkeypatch.setattr(eventsource, "MAX_EVENT_BYTES", 100)
    subscriber = EventReader()
    for _ in range(50):
        subscriber.feed(b"data: x\n\n")

    for piece in (b"x", b"data: " + b"x" * 20 + b"\n"):
        subscriber = EventReader()
        subscriber.feed(piece)
        with pytest.raises(RemoteProtocolError):
            subscriber.feed(piece * 100)


@given(
    st.lists(st.tuples(st.text(), st.one_of(st.none(), st.text(min_size=1)))),
    st.integers(1, 50),
)
def test_encoded_messages_are_parsed(messages: list[tuple[str, str | None]], size: int) -> None:
    """
    Every message arrives with its id and type; line ends as LF.
    """
    stream = EventStream(retry=2000)
    log = [
        Message("c", text.encode(errors="replace"), Position("e", number), event)
        for number, (text, event) in enumerate(messages)
    ]
    wire = started(stream, Replay(tuple(log), True, Position("e", len(log) + 1)))
    subscriber = EventReader()
    found = [
        event for i in range(0, len(wire), size) for event in subscriber.feed(wire[i : i + size])
    ]

    assert [event.id for event in found] == [f"e.{number}" for number in range(len(log))]
    assert [event.data for event in found] == [
        message.data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
        for message in log
    ]
    assert subscriber.last_id == f"e.{len(log) + 1}"


@given(st.lists(st.binary()))
def test_any_bytes_raise_only_remote_protocol_error(pieces: list[bytes]) -> None:
    """
    Any bytes are a stream, and splitting them differently gives the same events.
    """
    subscriber, whole = EventReader(), EventReader()
    found = [event for piece in pieces for event in subscriber.feed(piece)]

    assert found == whole.feed(b"".join(pieces))
    assert (subscriber.last_id, subscriber.comments) == (whole.last_id, whole.comments)
