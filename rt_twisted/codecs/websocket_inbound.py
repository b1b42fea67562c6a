"""
Parser for frames of websocket clients: bytes in, whole messages out (RFC 6455, 5;
RFC 7692).

A parser belongs to one connection and is never shared. Between messages it has no state:
a connection keeps its parser only while a message is incomplete, and an idle websocket
has none.

Everything is checked as early as possible: headers before payloads, lengths before the
payload arrives, UTF-8 up to the last byte received, also within fragments and compressed
messages.
"""

from __future__ import annotations

import zlib
from codecs import utf_8_decode
from typing import Any

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library is installed without its C extension
    from websockets.utils import apply_mask

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import MAX_CONTROL_PAYLOAD, SENDABLE_CODES, CloseCode, is_text

MAX_FEED = 4096  # bytes: 680 frames at most
MAX_COMPRESSED_FEED = 1024  # bytes: at most 1 MiB after decompression
INFLATE_STATE = 40_000  # bytes of zlib's state while a message is being decompressed
_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_TAIL = b"\x00\x00\xff\xff"  # RFC 7692, 7.2.2

WebSocketEvent = tuple[int, bytes]
"""
Opcode and payload of a whole message or a control frame.
"""


class FrameParser:
    """
    Parses the input of one connection.

    Args:
        limit: bytes of a message, in all its frames, after decompression.
        deflate: compression was negotiated, without context takeover by the client.

    Attributes:
        idle: no message or frame is incomplete, and the input has not ended: a new
            parser could continue.
        closed: a close frame or a failure ended the input; more bytes are discarded.
        frames: completed by the last `feed`.
        bytes: of payload in the last `feed`, after decompression.
        failure: code and reason with which the connection has to be closed; None for
            no failure.
    """

    __slots__ = (
        "_control",
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
        "_partial_character",
        "bytes",
        "closed",
        "failure",
        "frames",
    )

    def __init__(self, limit: int, deflate: bool) -> None:
        self._limit = limit
        self._deflate = deflate
        self._head = b""  # incomplete header of a frame
        self._left = -1  # bytes missing of a frame's payload; -1 between frames
        self._mask = b""  # of that frame, rotated to the payload's next byte
        self._opcode = 0  # of that frame
        self._fin = False  # of that frame
        self._control: bytearray | None = None  # payload received of a control frame
        self._kind = 0  # opcode of the incomplete message; 0 for none
        self._message: bytearray | None = None  # its payload received so far, decompressed
        self._inflate: Any = None  # its decompressor; None if it is not compressed
        self._partial_character = b""  # its last bytes, if they begin an incomplete character
        self.closed = False
        self.frames = 0
        self.bytes = 0
        self.failure: tuple[int, str] | None = None

    @property
    def max_feed(self) -> int:
        """
        Bytes to feed at once, so that processing them does not delay other connections.
        """
        return MAX_COMPRESSED_FEED if self._deflate else MAX_FEED

    @property
    def idle(self) -> bool:
        """
        Whether a new parser could continue; see the class.
        """
        return self._left < 0 and not self._kind and not self._head and not self.closed

    @property
    def buffered(self) -> int:
        """
        Bytes of memory that the incomplete message takes, approximately.
        """
        size = len(self._message) if self._message is not None else 0
        return size + INFLATE_STATE if self._inflate is not None else size

    def feed(self, data: bytes) -> list[WebSocketEvent]:
        """
        Parse the next bytes, however they are split, in time linear in their number.

        Returns:
            the completed messages and control frames, in order. CLOSE is the last, and
            its payload is valid. If `failure` is set afterwards, the connection has to
            be closed with that code and reason.
        """
        self.frames = self.bytes = 0
        events: list[WebSocketEvent] = []
        if self.closed:
            return events
        try:
            self._read(data, events)
        except RemoteProtocolError as error:
            self.fail(error.status, error.reason)
        return events

    def fail(self, code: int, reason: str) -> None:
        """
        End the input: the connection has to be closed with *code* and *reason*.
        """
        self.failure = (int(code), reason)
        self._end()

    def _read(self, data: bytes, events: list[WebSocketEvent]) -> None:
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
                self._on_control_payload(piece, events)
            else:
                self._on_data_payload(piece, events)
            if self._left > 0:
                shift = len(piece) % 4
                self._mask = self._mask[shift:] + self._mask[:shift]
                return
            self._left = -1
            self.frames += 1
            if self.closed:
                return

    def _read_head(self, data: bytes, at: int) -> int:
        """
        Parse and check the header of a frame at *at* (5.2).

        Returns:
            the start of the payload; *at* if the header is incomplete.
        """
        available = len(data) - at
        if available < 2:
            return at
        first, second = data[at], data[at + 1]
        opcode, length = first & 15, second & 127
        self._check_head(first, opcode, length)
        if not second & 128:
            raise RemoteProtocolError("a client's frame has to be masked", CloseCode.PROTOCOL_ERROR)
        masked = at + 2
        if length > 125:
            size = 2 if length == 126 else 8
            if available < 2 + size:
                return at
            masked += size
            length = int.from_bytes(data[at + 2 : masked], "big")
        if opcode < _CLOSE:
            self._check_length(length, compressed=bool(first & 64))
        if len(data) < masked + 4:
            return at
        # No state was changed above: an incomplete header is parsed again.
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
            # Compression makes incompressible data slightly larger.
            limit += (limit >> 6) + 1024
        elif self._message is not None:
            limit -= len(self._message)
        if length > limit:
            raise self._too_big()

    def _on_control_payload(self, piece: bytes, events: list[WebSocketEvent]) -> None:
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
        events.append((self._opcode, piece))

    def _on_data_payload(self, piece: bytes, events: list[WebSocketEvent]) -> None:
        whole = self._fin and not self._left
        if self._inflate is not None:
            piece = self._decompress(piece, whole)
        self.bytes += len(piece)
        if whole and self._message is None:  # the usual case: one frame, received whole
            kind = self._kind
            if len(piece) > self._limit:
                raise self._too_big()
            if kind == _TEXT and not is_text(piece):
                raise _not_text()
            self._kind = 0
            self._inflate = None
            events.append((kind, piece))
            return
        if self._message is None:
            self._message = bytearray()
        self._message += piece
        if len(self._message) > self._limit:
            raise self._too_big()
        if self._kind == _TEXT:
            self._check_text(piece, whole)
        if whole:
            events.append((self._kind, bytes(self._message)))
            self._kind = 0
            self._message = None
            self._inflate = None

    def _decompress(self, piece: bytes, whole: bool) -> bytes:
        """
        Decompress the next bytes of a message (RFC 7692, 7.2.2), just over the limit at most.
        """
        inflate = self._inflate
        max_length = self._limit + 1 - (len(self._message) if self._message is not None else 0)
        if whole:
            piece += _TAIL
        if inflate.eof or not piece:  # data after a final block is ignored
            return b""
        try:
            inflated: bytes = inflate.decompress(piece, max_length)
        except zlib.error:
            raise RemoteProtocolError("decompression failed", CloseCode.PROTOCOL_ERROR) from None
        return inflated

    def _check_text(self, piece: bytes, whole: bool) -> None:
        """
        Check the next bytes of a text message (8.1), which may split a character.
        """
        if self._partial_character:
            piece = self._partial_character + piece
        try:
            _, size = utf_8_decode(piece, "strict", whole)
        except UnicodeDecodeError:
            raise _not_text() from None
        self._partial_character = cut = piece[size:]
        # The decoder would report half of a surrogate pair only at its third byte.
        if cut[:1] == b"\xed" and cut[1:2] >= b"\xa0":
            raise _not_text()

    def _too_big(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"a message has up to {self._limit} bytes", CloseCode.TOO_BIG)

    def _end(self) -> None:
        """
        Free all state, and discard all further input.
        """
        self.closed = True
        self._control = self._message = self._inflate = None
        self._kind = 0
        self._left = -1
        self._head = self._partial_character = b""


def parse_close(payload: bytes) -> tuple[int, str]:
    """
    Return code and reason of a close frame that `FrameParser` has accepted.
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
