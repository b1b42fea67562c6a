"""
RTSP messages and the packets between them, as bytes (RFC 2326, 4, 6, 7 and 10.12). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtsp.start import METHODS

MAX_LINE = 8192  # bytes of a request line or a header
MAX_HEADERS = 100  # also their continuation lines
MAX_HEAD = 65536  # bytes of all headers of a message
MAX_BODY = 128 * 1024  # bytes
MAX_GARBAGE = 64 * 1024  # bytes between two packets

_DOLLAR = 0x24
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VERSION = re.compile(r"RTSP/(\d)\.(\d)")
_START_LINES = (*[f"{method} ".encode() for method in METHODS], b"RTSP/1.0 ")
_START = re.compile(b"|".join([rb"\$", *map(re.escape, _START_LINES)]))
_ANY_REQUEST = re.compile(rb"[A-Z][A-Z_]{1,30} (rtsps?://|\*)", re.IGNORECASE)
_MAY_BE_REQUEST = re.compile(rb"[A-Z][A-Z_]{0,30}(?: [a-z]{0,5}:?/{0,2})?", re.IGNORECASE)
# A CR alone would end a line for some: values are sent back, and logged.
_CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Time-out",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    415: "Unsupported Media Type",
    451: "Parameter Not Understood",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    459: "Aggregate Operation Not Allowed",
    461: "Unsupported Transport",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "RTSP Version Not Supported",
}


@dataclass(frozen=True, slots=True)
class RtspRequest:
    """
    A request of a client.

    Args:
        method: as received, such as `SETUP`.
        url: as received; `*` for the server.
        headers: by their names in lower case; several of one name are joined by ", ".
        body: may be empty.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class RtspResponse:
    """
    A response; its challenges for credentials are not joined.

    Args:
        status: 100 to 999.
        headers: as in a request.
        body: may be empty.
        challenges: the values of `WWW-Authenticate`.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    challenges: tuple[str, ...] = ()


@dataclass(slots=True, unsafe_hash=True)
class InterleavedPacket:
    """
    An RTP or RTCP packet that came between messages.

    Args:
        channel: 0 to 255.
        data: the packet.
    """

    channel: Final[int]
    data: Final[bytes]


RtspItem = RtspRequest | RtspResponse | InterleavedPacket


class MessageParser:
    """
    Parses one direction of an RTSP connection.

    Garbage between packets is skipped: up to a packet of a known channel that looks like RTP,
    or the start line of a message. Before there are channels it is an error.

    Attributes:
        channels: the channels that packets may have.
        skipped: bytes of garbage so far.
    """

    def __init__(self) -> None:
        self.channels: frozenset[int] = frozenset()
        self.skipped = 0
        self._buffer = bytearray()
        self._garbage = 0  # bytes since the last item
        self._head_end = 0  # index in the buffer up to which the end of a head was sought
        self._message: tuple[str, dict[str, str], tuple[str, ...], int] | None = None

    @property
    def buffered(self) -> int:
        """
        Return how many bytes wait for the rest of a message or packet.
        """
        return len(self._buffer)

    def feed(self, data: bytes, found: list[RtspItem] | None = None) -> list[RtspItem]:
        """
        Parse the next bytes.

        Runs in time linear in the input, however the input is split.

        Args:
            data: any length; b"" changes nothing.
            found: gets the items, also those before an error; None for a new list.

        Returns:
            *found*, with the messages and packets that *data* completed, in order.

        Raises:
            RemoteProtocolError: the peer broke the protocol. Respond with its `status` and
                close; the parser cannot be used again.
        """
        buffer = self._buffer
        buffer += data
        found = [] if found is None else found
        position = 0
        size = len(buffer)
        channels = self.channels
        while position < size:
            if self._message is not None:
                end = position + self._message[3]
                if end > size:
                    break
                found.append(self._finish(bytes(buffer[position:end])))
                position = end
                continue
            first = buffer[position]
            if first == _DOLLAR and channels:
                if position + 4 > size:
                    break
                channel = buffer[position + 1]
                end = position + 4 + (buffer[position + 2] << 8 | buffer[position + 3])
                if channel in channels and self._looks_like_rtp(position) is not False:
                    if end > size:
                        break
                    found.append(InterleavedPacket(channel, bytes(buffer[position + 4 : end])))
                    self._garbage = 0
                    position = end
                    continue
            elif first in b"\r\n":
                position += 1
                continue
            elif not channels or self._starts_message(position) is not False:
                end = self._parse_head(position)
                if end < 0:
                    break
                self._garbage = 0
                position = end
                if self._message is not None and not self._message[3]:
                    found.append(self._finish(b""))
                continue
            following = self._find_start(position + 1)
            self._skip(following - position)
            position = following
        del buffer[:position]
        self._head_end = max(0, self._head_end - position)
        return found

    def _skip(self, count: int) -> None:
        self.skipped += count
        self._garbage += count
        if self._garbage > MAX_GARBAGE:
            raise RemoteProtocolError(f"more than {MAX_GARBAGE} bytes between two packets")

    def _looks_like_rtp(self, position: int) -> bool | None:
        """
        Return whether a packet has version 2 and a plausible length; None if that is not known
        yet.
        """
        buffer = self._buffer
        if position + 5 > len(buffer):
            return None
        length = buffer[position + 2] << 8 | buffer[position + 3]
        return length == 0 or (length >= 4 and buffer[position + 4] >> 6 == 2)

    def _starts_message(self, position: int) -> bool | None:
        """
        Return whether a message begins; None if that is not known yet.
        """
        start = bytes(self._buffer[position : position + 48])
        if start.startswith(_START_LINES):
            return True
        if len(start) < 16 and any(line.startswith(start) for line in _START_LINES):
            return None
        if self._garbage:
            return False
        if _ANY_REQUEST.match(start) is not None:
            return True
        return None if len(start) < 48 and _MAY_BE_REQUEST.fullmatch(start) else False

    def _find_start(self, position: int) -> int:
        """
        Return where the next packet or message may begin, at or behind *position*.
        """
        buffer = self._buffer
        size = len(buffer)
        for found in _START.finditer(buffer, position):
            place = found.start()
            if buffer[place] != _DOLLAR or place == size - 1:
                return place
            if buffer[place + 1] in self.channels and self._looks_like_rtp(place) is not False:
                return place
        for place in range(max(position, size - 15), size):
            start = bytes(buffer[place:])
            if any(line.startswith(start) for line in _START_LINES):
                return place
        return size

    def _parse_head(self, position: int) -> int:
        """
        Parse the head of a message. Return where it ends; -1 if it is incomplete.
        """
        buffer = self._buffer
        found = _find_head_end(buffer, position, max(position, self._head_end - 3))
        if found is None:
            self._head_end = len(buffer)
            line_end = buffer.find(b"\n", position)
            if (len(buffer) if line_end < 0 else line_end) - position > MAX_LINE:
                raise RemoteProtocolError("the request line is too long", 414)
            if len(buffer) - position > MAX_HEAD:
                raise RemoteProtocolError("the headers are too large")
            return -1
        end, after = found
        self._head_end = 0
        if end - position > MAX_HEAD:
            raise RemoteProtocolError("the headers are too large")
        line, headers, challenges = _parse_lines(bytes(buffer[position:end]))
        text = headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise RemoteProtocolError("the Content-Length is malformed")
        if int(text) > MAX_BODY:
            raise RemoteProtocolError(f"the body is larger than {MAX_BODY} bytes", 413)
        self._message = line, headers, challenges, int(text)
        return after

    def _finish(self, body: bytes) -> RtspItem:
        assert self._message is not None
        line, headers, challenges, _ = self._message
        self._message = None
        return _message(line, headers, challenges, body)


def _find_head_end(buffer: bytearray, position: int, start: int) -> tuple[int, int] | None:
    """
    Return where a head ends, and where the empty line behind it ends.
    """
    while True:
        newline = buffer.find(b"\n", start)
        if newline < 0:
            return None
        if buffer.startswith(b"\n", newline + 1):
            return newline + 1, newline + 2
        if buffer.startswith(b"\r\n", newline + 1):
            return newline + 1, newline + 3
        start = newline + 1


def _parse_lines(head: bytes) -> tuple[str, dict[str, str], tuple[str, ...]]:
    if _CONTROL.search(head) is not None:
        raise RemoteProtocolError("a header has a control character")
    lines = head.decode("utf-8", "surrogateescape").split("\n")
    first = lines[0].rstrip("\r")
    if len(first) > MAX_LINE:
        raise RemoteProtocolError("the request line is too long", 414)
    headers: dict[str, str] = {}
    challenges: list[str] = []
    count = 0
    name = ""
    for text in lines[1:]:
        text = text.rstrip("\r")
        if not text:
            continue
        if len(text) > MAX_LINE:
            raise RemoteProtocolError("a header is too long")
        count += 1
        if count > MAX_HEADERS:
            raise RemoteProtocolError(f"a message has more than {MAX_HEADERS} headers")
        if text[0] in " \t":  # a continuation line
            if not name:
                raise RemoteProtocolError("a header is malformed")
            headers[name] += " " + text.strip()
            continue
        name, colon, value = text.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or not _TOKEN.fullmatch(name.encode("utf-8", "surrogateescape")):
            raise RemoteProtocolError("a header is malformed")
        if name == "www-authenticate":
            challenges.append(value)
        if name in headers and name in ("cseq", "content-length", "session"):
            continue  # the first one counts
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return first, headers, tuple(challenges)


def _message(
    line: str, headers: dict[str, str], challenges: tuple[str, ...], body: bytes
) -> RtspItem:
    words = line.split(" ")
    if words[0].startswith("RTSP/"):
        if len(words) < 2 or not re.fullmatch("[1-9][0-9]{2}", words[1], re.ASCII):
            raise RemoteProtocolError("a status line is malformed")
        return RtspResponse(int(words[1]), headers, body, challenges)
    words = line.split()
    if len(words) != 3 or not _TOKEN.fullmatch(words[0].encode("utf-8", "surrogateescape")):
        raise RemoteProtocolError("a request line is malformed")
    method, url, version = words
    found = _VERSION.fullmatch(version)
    if found is None:
        raise RemoteProtocolError("a request line is malformed")
    if found.groups() != ("1", "0"):
        raise RemoteProtocolError(f"{version} is not supported: use RTSP/1.0", 505)
    return RtspRequest(method, url, headers, body)


def write_response(
    status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> bytes:
    """
    Return a response. A body has its Content-Length added.
    """
    lines = [f"RTSP/1.0 {status} {_REASONS.get(status, 'Error')}"]
    return _write(lines, headers, body)


def write_request(
    method: str, url: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> bytes:
    """
    Return a request. A body has its Content-Length added.
    """
    return _write([f"{method} {url} RTSP/1.0"], headers, body)


def _write(lines: list[str], headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    text = "\r\n".join([*lines, "", ""])
    return text.encode("utf-8", "surrogateescape") + body


def write_interleaved(channel: int, packet: bytes) -> bytes:
    """
    Return a packet of at most 65,535 bytes as it stands between messages (RFC 2326, 10.12).
    """
    return b"$" + bytes((channel,)) + len(packet).to_bytes(2) + packet
