"""
Event streams as clients read them: the formats of server-sent events.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sseclient import SSEClient

from rt_twisted.codecs.chunks import LAST_CHUNK, chunk
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.json_events import JsonEventStream
from rt_twisted.formats.poll import EventPoll
from rt_twisted.formats.sse import EventStream, RawEventStream
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay
from tests.contracts.formats import FormatContract
from tests.fakes import started

AT = Position("e", 7)
NOTHING = Replay((), True, AT)


@dataclass(frozen=True, slots=True)
class Event:
    """
    An event as a page receives it.
    """

    type: str
    data: str
    last_event_id: str


class Browser:
    """
    Parse event streams exactly as WHATWG HTML, 9.2.6 says.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.last_event_id = ""
        self.retry: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._started = False
        self._after_cr = False
        self._line = ""
        self._data = ""
        self._type = ""
        self._id = ""

    def feed(self, piece: bytes) -> None:
        """
        Parse the next bytes of the stream.
        """
        for character in self._decoder.decode(piece):
            if not self._started:
                self._started = True
                if character == "\ufeff":
                    continue
            if character == "\n" and self._after_cr:
                self._after_cr = False
                continue
            self._after_cr = character == "\r"
            if character in "\r\n":
                line, self._line = self._line, ""
                self._take(line)
            else:
                self._line += character

    def _take(self, line: str) -> None:
        if not line:
            self._dispatch()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        if self._data:
            data = self._data.removesuffix("\n")
            self.events.append(Event(self._type or "message", data, self.last_event_id))
        self._data = self._type = ""


def read(stream: bytes, cuts: Iterable[bytes] | None = None) -> Browser:
    """
    Return a browser that has read *stream*, whole or in pieces.
    """
    browser = Browser()
    for piece in [stream] if cuts is None else cuts:
        browser.feed(piece)
    return browser


def byte_wise(stream: bytes) -> list[bytes]:
    """
    Return *stream* in pieces of one byte.
    """
    return [stream[at : at + 1] for at in range(len(stream))]


def message(data: bytes, offset: int = 7, event: str | None = None) -> Message:
    """
    Return a message on any channel.
    """
    return Message("news", data, Position("e", offset), event)


LINES = [  # published data, data lines of the event, data in the page
    (b"", b"data: \n", ""),
    (b"one", b"data: one\n", "one"),
    (b"one\ntwo", b"data: one\ndata: two\n", "one\ntwo"),
    (b"one\rtwo", b"data: one\ndata: two\n", "one\ntwo"),
    (b"one\r\ntwo", b"data: one\ndata: two\n", "one\ntwo"),
    (b"a\r\r\nb\n\rc", b"data: a\ndata: \ndata: b\ndata: \ndata: c\n", "a\n\nb\n\nc"),
    (b"\n", b"data: \ndata: \n", "\n"),
    (b"\r\n", b"data: \ndata: \n", "\n"),
    (b"end\n", b"data: end\ndata: \n", "end\n"),
    (b"end\r", b"data: end\ndata: \n", "end\n"),
    (b"\n\n\n", b"data: \ndata: \ndata: \ndata: \n", "\n\n\n"),
    (b" led", b"data:  led\n", " led"),
    (b"\tled ", b"data: \tled \n", "\tled "),
    (b"x\n  y", b"data: x\ndata:   y\n", "x\n  y"),
    (b":no: comment", b"data: :no: comment\n", ":no: comment"),
    (b"x\nid: 1\nevent: e\n\n", b"data: x\ndata: id: 1\ndata: event: e\ndata: \ndata: \n", None),
    (b"n\0l", b"data: n\0l\n", "n\0l"),
    (b"\xef\xbb\xbfmark", b"data: \xef\xbb\xbfmark\n", "\ufeffmark"),
    ("gr\u00fc\u00df \U0001f600".encode(), "data: gr\u00fc\u00df \U0001f600\n".encode(), None),
    ("a\u2028b\u2029c\x85d".encode(), "data: a\u2028b\u2029c\x85d\n".encode(), None),
    (b"a\x0bb\x0cc\x1cd", b"data: a\x0bb\x0cc\x1cd\n", "a\x0bb\x0cc\x1cd"),
    (b"\xff", "data: \ufffd\n".encode(), "\ufffd"),
    (b"\xff\r\xfe", "data: \ufffd\ndata: \ufffd\n".encode(), "\ufffd\n\ufffd"),
    (b"\xc3", "data: \ufffd\n".encode(), "\ufffd"),
    (b"\xe2\x82\nx", "data: \ufffd\ndata: x\n".encode(), "\ufffd\nx"),
    (b"\xed\xa0\x80", ("data: " + "\ufffd" * 3 + "\n").encode(), "\ufffd" * 3),
    (b"\xc0\x80", ("data: " + "\ufffd" * 2 + "\n").encode(), "\ufffd" * 2),
    (b"x" * 3_000_000, b"data: " + b"x" * 3_000_000 + b"\n", None),
]


@pytest.mark.parametrize(("data", "lines", "received"), LINES, ids=[repr(x[0][:20]) for x in LINES])
def test_a_message_arrives(data: bytes, lines: bytes, received: str | None) -> None:
    """
    Each line gets a data field; only line ends and bytes that are not UTF-8 change.
    """
    frame = EventStream().encode(message(data))

    assert frame == lines + b"id: e.7\n\n"
    if len(data) < 1000:
        expected = text_of(data) if received is None else received
        assert read(frame, byte_wise(frame)).events == [Event("message", expected, "e.7")]


def text_of(data: bytes) -> str:
    """
    Return the text that every client gets for *data*.
    """
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    ("event", "line", "received"),
    [
        (None, b"", "message"),
        ("", b"event: \n", "message"),
        ("score", b"event: score\n", "score"),
        (" led", b"event:  led\n", " led"),
        ("a:b", b"event: a:b\n", "a:b"),
        ("gr\u00fcn", "event: gr\u00fcn\n".encode(), "gr\u00fcn"),
        ("x\ndata: y", b"event: x data: y\n", "x data: y"),
        ("x\r\ny\0z", b"event: x  y z\n", "x  y z"),
        ("half \ud800", b"event: half ?\n", "half ?"),
    ],
)
def test_a_type_stays_on_its_line(event: str | None, line: bytes, received: str) -> None:
    """
    The event type reaches the page, and no part of it becomes another field.
    """
    frame = EventStream().encode(message(b"x", event=event))

    assert frame == line + b"data: x\nid: e.7\n\n"
    assert read(frame).events == [Event(received, "x", "e.7")]


def test_events_without_ids_do_not_move_the_cursor() -> None:
    """
    With ids=False a subscriber never has a position to resume from.
    """
    format = EventStream(ids=False)
    stream = started(format, NOTHING) + format.encode(message(b"x")) + format.cursor(AT)

    assert b"id:" not in stream
    assert format.cursor(AT) == b""
    assert read(stream).last_event_id == ""


def test_a_cursor_is_no_event() -> None:
    """
    A cursor moves lastEventId, so that a subscriber without messages can resume.
    """
    browser = read(EventStream().cursor(Position("e", 9)))

    assert browser.events == []
    assert browser.last_event_id == "e.9"


@pytest.mark.parametrize(
    ("format", "replay", "first"),
    [
        (EventStream(), NOTHING, b":\nid: e.7\n\n"),
        (EventStream(retry=2000), NOTHING, b":\nretry: 2000\n\nid: e.7\n\n"),
        (EventStream(padding=3), NOTHING, b":   \nid: e.7\n\n"),
        (
            EventStream(),
            Replay((message(b"a", 6), message(b"b", 7)), True, AT),
            b":\ndata: a\nid: e.6\n\ndata: b\nid: e.7\n\n",
        ),
        (
            EventStream(),
            Replay((message(b"a", 6),), True, AT),
            b":\ndata: a\nid: e.6\n\nid: e.7\n\n",
        ),
        (
            EventStream(),
            Replay((), False, AT),
            b':\nevent: gap\ndata: {"position": "e.7"}\n\nid: e.7\n\n',
        ),
        (RawEventStream(), NOTHING, b":\n"),
        (RawEventStream(retry=5, padding=1), NOTHING, b": \nretry: 5\n\n"),
        (
            RawEventStream(),
            Replay((message(b"id: mine\ndata: a\n\n"),), True, AT),
            b":\nid: mine\ndata: a\n\n",
        ),
        (
            RawEventStream(),
            Replay((message(b"data: a\n\n"),), False, AT),
            b':\nevent: gap\ndata: {"position": "e.7"}\n\ndata: a\n\n',
        ),
    ],
)
def test_how_a_stream_begins(format: IFormat, replay: Replay, first: bytes) -> None:
    """
    A stream begins with a comment, retry, a gap before the replay, and the position.
    """
    assert started(format, replay) == first


def test_a_stream_begins_with_its_own_mark() -> None:
    """
    A byte order mark in the first message belongs to the message, and arrives.
    """
    first = Replay((message(b"\xef\xbb\xbfx"),), True, AT)

    assert read(started(EventStream(), first)).events[0].data == "\ufeffx"
    assert read(started(EventStream(ids=False), first)).events[0].data == "\ufeffx"


def test_a_gap_does_not_move_the_cursor() -> None:
    """
    A subscriber that is disconnected right after a gap event gets it again.
    """
    browser = read(EventStream().cursor(AT) + EventStream().gap(Position("e", 9)))

    assert browser.events == [Event("gap", '{"position": "e.9"}', "e.7")]
    assert browser.last_event_id == "e.7"


def test_the_end_has_the_retry_time() -> None:
    """
    `retry` is in milliseconds; without it the browser decides when to reconnect.
    """
    assert EventStream().end(0) == RawEventStream().end(0) == b""
    assert read(EventStream().end(1500)).retry == 1500
    assert read(RawEventStream().end(1500)).retry == 1500


def test_raw_streams_are_forwarded() -> None:
    """
    sseraw forwards messages unchanged, with their ids and with invalid bytes.
    """
    data = b"id: mine\r\nevent: x\r\ndata: \xff\r\n\r\n"

    assert RawEventStream().encode(message(data, event="ignored")) == data
    assert RawEventStream().cursor(AT) == b""


@pytest.mark.parametrize(
    ("data", "coded"),
    [
        (b"", b""),
        (b"x", b"1\r\nx\r\n"),
        (b"\r\n", b"2\r\n\r\n\r\n"),
        (b"0\r\n\r\n", b"5\r\n0\r\n\r\n\r\n"),
        (b"y" * 256, b"100\r\n" + b"y" * 256 + b"\r\n"),
    ],
)
def test_chunks(data: bytes, coded: bytes) -> None:
    """
    One chunk contains all of the data; no data makes no chunk, as that would end the body.
    """
    assert chunk(data) == coded
    assert unchunk(coded + LAST_CHUNK) == data


def unchunk(body: bytes) -> bytes:
    """
    Decode a whole chunked body (RFC 9112, 7.1.3).
    """
    data = b""
    while True:
        digits, _, body = body.partition(b"\r\n")
        size = int(digits, 16)
        if not size:
            assert body == b"\r\n"
            return data
        data += body[:size]
        assert body[size : size + 2] == b"\r\n"
        body = body[size + 2 :]


def test_chunks_hold_the_inner_format() -> None:
    """
    HTTP/1.1 clients get the frames of the inner format in chunks; the end ends the body.
    """
    inner, outer = EventStream(retry=9), Chunked(EventStream(retry=9))
    replay = Replay((message(b"a"),), False, Position("e", 8))

    assert outer.content_type == inner.content_type == "text/event-stream; charset=utf-8"
    for coded, plain in (
        (started(outer, replay), started(inner, replay)),
        (outer.encode(message(b"x\ny")), inner.encode(message(b"x\ny"))),
        (outer.cursor(AT), inner.cursor(AT)),
        (outer.gap(AT), inner.gap(AT)),
        (outer.heartbeat, inner.heartbeat),
    ):
        assert unchunk(coded + LAST_CHUNK) == plain
    assert unchunk(outer.end(3)) == inner.end(3)
    assert outer.end(0) == LAST_CHUNK
    assert Chunked(RawEventStream()).cursor(AT) == b""


CONTRACTS = {
    "EventStream": FormatContract(
        (EventStream(), EventStream(retry=1), EventStream(padding=1), EventStream(ids=False)),
        (EventStream(), EventStream(retry=1), EventStream(padding=1), EventStream(ids=False)),
        (b"x", b"", b"a\nb", b"\xff", b"\xef\xbb\xbf", b"data: x\n\n"),
    ),
    "RawEventStream": FormatContract(
        (RawEventStream(), RawEventStream(retry=1), RawEventStream(padding=1)),
        (RawEventStream(), RawEventStream(retry=1), RawEventStream(padding=1)),
        (b"data: x\n\n", b"id: 1\r\ndata: x\r\n\r\n", b":\n\n"),
    ),
    "Chunked": FormatContract(
        (Chunked(EventStream()), Chunked(RawEventStream()), Chunked(EventStream(retry=1))),
        (Chunked(EventStream()), Chunked(RawEventStream()), Chunked(EventStream(retry=1))),
        (b"data: x\n\n", b":\n\n"),
    ),
}


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_formats_keep_their_contract(contract: FormatContract) -> None:
    """
    Formats are pure, compare by value, and differ if they write differently.
    """
    contract.check()


def test_no_cut_inside_an_event_moves_an_eager_clients_id() -> None:
    """
    A client that stores an id when its line arrives never has the id of data that it has
    not received, wherever the connection breaks.
    """
    for format in (EventStream(), JsonEventStream(), EventPoll()):
        for event in (None, "goal"):
            frame = format.encode(message(b"one\n\ntwo", 7, event))
            body, end = frame.index(b"\nid: e.7\n\n"), len(frame)

            assert body + len(b"\nid: e.7\n\n") == end
            assert b"\nid:" not in b"\n" + frame[:body]


def test_comments_are_not_followed_by_an_empty_line() -> None:
    """
    A client that dispatches an event for every empty line gets one event per message, and
    none for comments, padding and heartbeats.
    """
    replay = Replay((message(b"a", 6), message(b"b", 7)), True, AT)
    raw = Replay((message(b"data: a\n\n", 6), message(b"data: b\n\n", 7)), True, AT)
    streams = [
        (EventStream(padding=3), replay),
        (EventStream(ids=False), replay),
        (EventPoll(), replay),
        (RawEventStream(padding=3), raw),
    ]
    for format, missed in streams:
        stream = started(format, missed) + format.heartbeat + format.heartbeat
        stream += format.encode(missed.messages[0]) + format.heartbeat

        assert stream.count(b"\n\n") == stream.count(b"data: ") == 3
        assert not stream.startswith(b"\n")


@pytest.mark.parametrize("name", CONTRACTS)
@given(data=st.data())
def test_frames_join_and_split(name: str, data: st.DataObject) -> None:
    """
    Frames are read the same, however they are joined, ordered or split.
    """
    contract = CONTRACTS[name]
    format = data.draw(st.sampled_from(contract.formats))
    frames = data.draw(st.lists(st.sampled_from(contract.frames(format)), max_size=8))
    joined = b"".join(frames)
    if name == "Chunked":
        joined = unchunk(joined + LAST_CHUNK)
        frames = [unchunk(frame + LAST_CHUNK) for frame in frames]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(joined)), max_size=8)))
    pieces = [joined[a:b] for a, b in zip([0, *cuts], [*cuts, len(joined)], strict=True)]

    # A comment comes first: a frame alone could begin with a byte order mark.
    alone = [(e.type, e.data) for frame in frames for e in read(b":\n\n" + frame).events]
    together = read(b"", [b":\n\n", *pieces])

    assert [(event.type, event.data) for event in together.events] == alone


MESSAGES = st.lists(
    st.tuples(
        st.binary(max_size=40) | st.sampled_from([each[0] for each in LINES[:-1]]),
        st.none() | st.text(max_size=10).filter(lambda text: not {*text} & {*"\r\n\0"}),
    ),
    max_size=6,
)


@given(MESSAGES, st.booleans())
def test_other_clients_agree(published: list[tuple[bytes, str | None]], slow: bool) -> None:
    """
    An EventSource of another library gets text, type and id of each message, whole or byte
    by byte.
    """
    messages = [message(data, at, event) for at, (data, event) in enumerate(published, 1)]
    format = EventStream()
    end = Position("e", len(messages))
    stream = b"".join([started(format, Replay((), True, Position("e", 0))), format.heartbeat])
    stream += b"".join(map(format.encode, messages))
    pieces = byte_wise(stream) if slow else [stream]
    browser = read(stream, pieces)

    expected = [(_type_of(one.event), text_of(one.data), str(one.position)) for one in messages]
    theirs = [(one.event, one.data, one.id) for one in SSEClient(iter(pieces)).events()]
    assert theirs == expected
    assert [(one.type, one.data, one.last_event_id) for one in browser.events] == expected
    assert browser.last_event_id == str(end)


def _type_of(event: str | None) -> str:
    return (event or "message").encode(errors="replace").decode()
