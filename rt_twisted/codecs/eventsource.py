"""
Parser for event streams, as a browser's EventSource (WHATWG HTML, 9.2.5 and 9.2.6).

`rt_twisted.formats.sse` is the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_EVENT_BYTES = 16 * 1024 * 1024  # bytes of a line, and of the data of an event
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # byte order mark

CONTENT_TYPE = "text/event-stream; charset=utf-8"
_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")  # each ends an event


@dataclass(frozen=True, slots=True)
class Event:
    """
    One dispatched event.

    Args:
        id: the last id of the stream, of this or an earlier event; "" before any.
        type: `message` if the event has none.
        data: its lines, joined by LF.
    """

    id: str
    type: str
    data: str


class EventReader:
    """
    Parses one event stream. An event is complete with its blank line: what follows the last
    one when the stream ends is discarded (9.2.6).

    Args:
        last_id: the last id of an earlier stream that this one continues.

    Attributes:
        last_id: to send as `Last-Event-ID` when reconnecting.
        retry: milliseconds to wait before reconnecting; None if the stream names none.
        comments: number of comments received, heartbeats among them.
    """

    __slots__ = (
        "_at_start",
        "_cr",
        "_data",
        "_id",
        "_pieces",
        "_size",
        "_type",
        "comments",
        "last_id",
        "retry",
    )

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry: int | None = None
        self.comments = 0
        self._id = last_id.encode()
        self._type = b""
        self._data: list[bytes] = []
        self._pieces: list[bytes] = []  # of the incomplete line
        self._size = 0  # of `_pieces` and `_data`
        self._cr = False  # the last byte was CR: an LF that follows belongs to it
        self._at_start = True

    def feed(self, data: bytes) -> list[Event]:
        """
        Parse the next bytes, however they are split, in time linear in their number.

        Args:
            data: any length; b"" changes nothing.

        Returns:
            the completed events, in order.

        Raises:
            RemoteProtocolError: a line or an event is larger than MAX_EVENT_BYTES;
                the reader cannot be used again.
        """
        if (self._cr or b"\r" in data) and data:
            if self._cr and data[0] == 0x0A:
                data = data[1:]
                self._cr = False
            self._cr = data[-1] == 0x0D if data else False
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *lines = data.split(b"\n")
        self._pieces.append(first)
        self._grow(len(first))
        if not lines:
            return []
        lines.insert(0, b"".join(self._pieces))
        rest = lines.pop()
        self._pieces = [rest]
        if self._at_start:
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        events = []
        for line in lines:
            if line:
                self._process_line(line)
                continue
            event = self._dispatch()
            if event is not None:
                events.append(event)
        self._size = sum(map(len, self._data))
        self._grow(len(rest))
        return events

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT_BYTES:
            raise RemoteProtocolError(f"an event has more than {MAX_EVENT_BYTES} bytes")

    def _process_line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data.append(value)
        elif name == b"id":
            if b"\0" not in value:
                self._id = value
        elif name == b"event":
            self._type = value
        elif name == b"retry":
            if value.isdigit() and len(value) < 16:  # bytes.isdigit accepts ASCII digits only
                self.retry = int(value)
        elif not name:
            self.comments += 1

    def _dispatch(self) -> Event | None:
        self.last_id = self._id.decode(errors="replace")
        data, type = self._data, self._type
        self._type = b""
        if not data:
            return None
        self._data = []
        text = b"\n".join(data).decode(errors="replace")
        return Event(self.last_id, type.decode(errors="replace") or "message", text)


def encode_retry(milliseconds: int) -> bytes:
    """
    Return a `retry` field: when to reconnect; b"" for 0, which leaves it to the client.
    """
    return b"retry: %d\n\n" % milliseconds if milliseconds else b""


def whole_events(text: bytes, complete: bool = True) -> bytes:
    """
    Return the start of an event stream so that an event can follow it.

    Args:
        text: the start of a stream, with any line ends.
        complete: whether nothing is missing at its end: then the last event is ended, if it
            is not; otherwise it is left out.
    """
    if not complete:
        ends = [text.rfind(end) + len(end) for end in _BLANK_LINES if end in text]
        return text[: max(ends, default=0)]
    if not text or text.endswith(_BLANK_LINES):
        return text
    return text + (b"\n" if text.endswith(b"\n") else b"\n\n")


def has_id(text: bytes) -> bool:
    """
    Return whether a line of the event stream *text* sets the last event ID.
    """
    return any(line.partition(b":")[0] == b"id" for line in text.splitlines())
