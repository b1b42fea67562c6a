"""
What websocket clients send: bytes in, whole messages out (RFC 6455, 5; RFC 7692).

A parser belongs to one connection and is never shared. Between two messages it has
no state, so a connection keeps it only while a message is incomplete, and makes a
new one when the next bytes come: an idle websocket has none.

Everything is checked as early as the bytes allow it: headers before payloads, the
length before the payload comes, UTF-8 up to the last byte received, also within
fragments and compressed messages.
"""

from __future__ import annotations

import zlib
from codecs import utf_8_decode
from typing import Any

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library was installed without its compiled part
    from websockets.utils import apply_mask

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import MAX_CONTROL_PAYLOAD, SENDABLE_CODES, CloseCode, is_text

PIECE = 4096  # bytes: 680 frames at most
SHRUNK = 1024  # bytes that may be compressed: a MiB at most, inflated
INFLATE_STATE = 40_000  # bytes that zlib takes for a message that is being inflated
_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_TAIL = b"\x00\x00\xff\xff"  # RFC 7692, 7.2.2

WebSocketEvent = tuple[int, bytes]
"""
An opcode and its payload: a whole message, or a control frame.
"""


class FrameParser:
    """
    Reads one connection's bytes.

    Args:
        limit: bytes of a message, however many frames it has and however it is
            compressed.
        deflate: compression was agreed on, without context takeover by the client.

    Attributes:
        idle: no message or frame is incomplete, and the input has not ended: a new
            parser would do as well for the bytes that follow.
        closed: a close frame or a failure ended the input; more bytes are discarded.
        frames: completed by the bytes fed last.
        bytes: of payload in the bytes fed last, inflated.
        failure: code and reason with which the connection has to be closed.
    """

    __slots__ = (
        "_control",
        "_cut",
        "_deflate",
        "_fin",
        "_head",
        "_inflate",
        "_kind",
        "_left",
        "_limit",
        "_mask",
        "_message",
        "_opcode",
        "bytes",
        "closed",
        "failure",
        "frames",
    )

    def __init__(self, limit: int, deflate: bool) -> None:
        self._limit = limit
        self._deflate = deflate
        self._head = b""  # of a frame, incomplete
        self._left = -1  # bytes that a frame's payload lacks; -1 between frames
        self._mask = b""  # of that payload, from its next byte on
        self._opcode = 0  # of that frame
        self._fin = False  # likewise
        self._control: bytearray | None = None  # payload of a control frame, so far
        self._kind = 0  # opcode of the message that is incomplete; 0 for none
        self._message: bytearray | None = None  # of it, so far, inflated
        self._inflate: Any = None  # inflates it; None if it is not compressed
        self._cut = b""  # its last bytes, if they are the beginning of a character
        self.closed = False
        self.frames = 0
        self.bytes = 0
        self.failure: tuple[int, str] | None = None

    @property
    def max_feed(self) -> int:
        """
        Bytes to be fed at a time, so that what comes of them is no more than others
        can wait for.
        """
        return SHRUNK if self._deflate else PIECE

    @property
    def idle(self) -> bool:
        """
        See the class.
        """
        return self._left < 0 and not self._kind and not self._head and not self.closed

    @property
    def buffered(self) -> int:
        """
        Bytes that the incomplete message takes, about.
        """
        size = len(self._message) if self._message is not None else 0
        return size + INFLATE_STATE if self._inflate is not None else size

    def feed(self, data: bytes) -> list[WebSocketEvent]:
        """
        Take the next bytes, however they are cut; linear in their number.

        Returns:
            what they completed, in order. Nothing comes after a CLOSE, whose
            payload is valid; what follows it is discarded. If `failure` is set
            afterwards, the connection has to be closed with that code and reason.
        """
        self.frames = self.bytes = 0
        said: list[WebSocketEvent] = []
        if self.closed:
            return said
        try:
            self._read(data, said)
        except RemoteProtocolError as error:
            self.fail(error.status, error.reason)
        return said

    def fail(self, code: int, reason: str) -> None:
        """
        Discard what follows: the connection has to be closed with *code* and *reason*.
        """
        self.failure = (int(code), reason)
        self._end()

    def _read(self, data: bytes, said: list[WebSocketEvent]) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        at, end = 0, len(data)
        while at < end:
            if self._left < 0:
                at = self._read_head(data, at)
                if self._left < 0:
                    self._head = data[at:]
                    return
            # A frame without a payload is complete with its header.
            piece = data[at : at + self._left] if self._left else b""
            at += len(piece)
            self._left -= len(piece)
            if piece:
                piece = apply_mask(piece, self._mask)
            if self._opcode >= _CLOSE:
                self._take_control(piece, said)
            else:
                self._take_data(piece, said)
            if self._left > 0:
                turn = len(piece) % 4
                self._mask = self._mask[turn:] + self._mask[:turn]
                return
            self._left = -1
            self.frames += 1
            if self.closed:
                return

    def _read_head(self, data: bytes, at: int) -> int:
        """
        Read a frame's header, as far as it is there, and check what it says (5.2).

        Returns:
            where the payload begins; *at* if the header is incomplete.
        """
        there = len(data) - at
        if there < 2:
            return at
        first, second = data[at], data[at + 1]
        opcode, length = first & 15, second & 127
        self._check_head(first, opcode, length)
        if not second & 128:
            raise RemoteProtocolError("a client's frame has to be masked", CloseCode.PROTOCOL_ERROR)
        masked = at + 2
        if length > 125:
            size = 2 if length == 126 else 8
            if there < 2 + size:
                return at
            masked += size
            length = int.from_bytes(data[at + 2 : masked], "big")
        if opcode < _CLOSE:
            self._check_length(length, compressed=bool(first & 64))
        if len(data) < masked + 4:
            return at
        # Nothing has changed up to here: an incomplete header is read once more.
        self._mask = data[masked : masked + 4]
        self._opcode = opcode
        self._fin = first >= 128
        self._left = length
        if opcode in (_TEXT, _BINARY):
            self._kind = opcode
            if first & 64:
                self._inflate = zlib.decompressobj(wbits=-15)
        return masked + 4

    def _check_head(self, first: int, opcode: int, length: int) -> None:
        reserved = first & 0x70
        if reserved and not (reserved == 0x40 and self._deflate and opcode in (_TEXT, _BINARY)):
            raise RemoteProtocolError("reserved bits must be 0", CloseCode.PROTOCOL_ERROR)
        if opcode >= _CLOSE:
            if opcode > _PONG:
                raise RemoteProtocolError("invalid opcode", CloseCode.PROTOCOL_ERROR)
            if first < 128:
                raise RemoteProtocolError("fragmented control frame", CloseCode.PROTOCOL_ERROR)
            if length > MAX_CONTROL_PAYLOAD:
                raise RemoteProtocolError("control frame too long", CloseCode.PROTOCOL_ERROR)
        elif opcode > _BINARY:
            raise RemoteProtocolError("invalid opcode", CloseCode.PROTOCOL_ERROR)
        elif opcode == _CONT:
            if not self._kind:
                raise RemoteProtocolError("unexpected continuation frame", CloseCode.PROTOCOL_ERROR)
        elif self._kind:
            raise RemoteProtocolError("expected a continuation frame", CloseCode.PROTOCOL_ERROR)

    def _check_length(self, length: int, compressed: bool) -> None:
        limit = self._limit
        if compressed or self._inflate is not None:
            # What cannot be compressed is a little larger when it is.
            limit += (limit >> 6) + 1024
        elif self._message is not None:
            limit -= len(self._message)
        if length > limit:
            raise self._too_big()

    def _take_control(self, piece: bytes, said: list[WebSocketEvent]) -> None:
        if self._left:
            if self._control is None:
                self._control = bytearray()
            self._control += piece
            return
        if self._control is not None:
            piece = bytes(self._control + piece)
            self._control = None
        self.bytes += len(piece)
        if self._opcode == _CLOSE:
            _check_close(piece)
            self._end()
        said.append((self._opcode, piece))

    def _take_data(self, piece: bytes, said: list[WebSocketEvent]) -> None:
        whole = self._fin and not self._left
        if self._inflate is not None:
            piece = self._inflated(piece, whole)
        self.bytes += len(piece)
        if whole and self._message is None:  # the usual: one frame, all of it there
            kind = self._kind
            if len(piece) > self._limit:
                raise self._too_big()
            if kind == _TEXT and not is_text(piece):
                raise _not_text()
            self._kind = 0
            self._inflate = None
            said.append((kind, piece))
            return
        if self._message is None:
            self._message = bytearray()
        self._message += piece
        if len(self._message) > self._limit:
            raise self._too_big()
        if self._kind == _TEXT:
            self._check_text(piece, whole)
        if whole:
            said.append((self._kind, bytes(self._message)))
            self._kind = 0
            self._message = None
            self._inflate = None

    def _inflated(self, piece: bytes, whole: bool) -> bytes:
        """
        Inflate the next bytes of a message (RFC 7692, 7.2.2), not much more
        of them than may be.
        """
        inflate = self._inflate
        most = self._limit + 1 - (len(self._message) if self._message is not None else 0)
        if whole:
            piece += _TAIL
        if inflate.eof or not piece:  # behind a final block nothing is looked at
            return b""
        try:
            found: bytes = inflate.decompress(piece, most)
        except zlib.error:
            raise RemoteProtocolError("decompression failed", CloseCode.PROTOCOL_ERROR) from None
        return found

    def _check_text(self, piece: bytes, whole: bool) -> None:
        """
        Check the next bytes of a text (8.1), which may begin and end within a character.
        """
        if self._cut:
            piece = self._cut + piece
        try:
            _, size = utf_8_decode(piece, "strict", whole)
        except UnicodeDecodeError:
            raise _not_text() from None
        self._cut = cut = piece[size:]
        # Half of a surrogate is found at its third byte otherwise.
        if cut[:1] == b"\xed" and cut[1:2] >= b"\xa0":
            raise _not_text()

    def _too_big(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"a message has up to {self._limit} bytes", CloseCode.TOO_BIG)

    def _end(self) -> None:
        """
        Nothing is read any more, and nothing kept.
        """
        self.closed = True
        self._control = self._message = self._inflate = None
        self._kind = 0
        self._left = -1
        self._head = self._cut = b""


def parse_close(payload: bytes) -> tuple[int, str]:
    """
    Code and reason of a close frame that a parser has let pass.
    """
    if not payload:
        return CloseCode.NO_CODE, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def _check_close(payload: bytes) -> None:
    """
    Check the payload of a close frame (5.5.1, 7.4).
    """
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in SENDABLE_CODES or 3000 <= code < 5000):
        raise RemoteProtocolError("invalid close code", CloseCode.PROTOCOL_ERROR)
    if not is_text(payload[2:]):
        raise _not_text()


def _not_text() -> RemoteProtocolError:
    return RemoteProtocolError("a text message is not UTF-8", CloseCode.NOT_TEXT)
