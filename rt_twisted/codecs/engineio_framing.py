"""
How Engine.IO packets become bytes, and bytes packets: the bodies of polls, and
websocket frames, of either revision.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from rt_twisted.codecs.engineio import EngineIOPacket, EngineIOPacketType, decode, decode3, text_of
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import CloseCode, DeflateParameters, close_frame, data_frame

MAX_PACKETS = 10_000  # in a request: a megabyte could hold half a million
SEPARATOR = b"\x1e"
TEXT = "text/plain; charset=UTF-8"
BINARY = "application/octet-stream"

_LENGTH = re.compile(r"([0-9]{1,9}):")
_UTF8_LENGTH = re.compile(rb"([0-9]{1,9}):")
_BINARY_LENGTH = re.compile(rb"([\x00\x01])([\x00-\x09]{1,9})\xff")
_DIGITS = bytes.maketrans(bytes(range(10)), b"0123456789")
_NUMERALS = bytes.maketrans(b"0123456789", bytes(range(10)))


class Framing(Hashable, Protocol):
    """
    How packets become bytes on one kind of wire. Results are whole: any of them
    may be joined. Compares by value.
    """

    def text(self, packet: bytes) -> bytes:
        """
        A text packet, from its type on.
        """

    def binary(self, data: bytes) -> bytes:
        """
        A binary message.
        """

    def end(self) -> bytes:
        """
        The last that is said, to a client that shall come back.
        """


class PollFraming(Framing, Protocol):
    """
    The same in the bodies of polls, which can be read too.
    """

    def body(self, frames: bytes) -> bytes:
        """
        The body of an answer from frames that were joined, at least one.
        """

    def response(self, frames: bytes) -> tuple[str, bytes]:
        """
        The media type of an answer and its body, from frames as in `body`.
        """

    def portion(self, frames: bytes, most: int, count: int = 0) -> int:
        """
        How many bytes of *frames*, which may be cut off anywhere, are for one
        answer: those of whole packets up to *most* bytes, or of a first one that
        is larger; 0 if that is not whole. No more than *count* packets; 0 stands
        for any number.
        """

    def packets(self, body: bytes, most: int = MAX_PACKETS) -> list[EngineIOPacket]:
        """
        What is in such a body, or in one that a client posts: at least one
        packet, and *most* of them.

        Raises:
            RemoteProtocolError: it is malformed; the session ends.
        """


@dataclass(frozen=True, slots=True)
class Poll4:
    """
    Revision 4: packets with a separator in between, binary as base64.
    """

    def text(self, packet: bytes) -> bytes:
        """
        See `Framing`.
        """
        return packet + SEPARATOR

    def binary(self, data: bytes) -> bytes:
        """
        See `Framing`.
        """
        return b"b%s%s" % (base64.b64encode(data), SEPARATOR)

    def end(self) -> bytes:
        """
        Nothing: a poll that fails has clients come back, a CLOSE not all of them.
        """
        return b""

    def body(self, frames: bytes) -> bytes:
        """
        Without the last separator.
        """
        return frames[:-1]

    def response(self, frames: bytes) -> tuple[str, bytes]:
        """
        See `PollFraming`.
        """
        return TEXT, self.body(frames)

    def portion(self, frames: bytes, most: int, count: int = 0) -> int:
        """
        See `PollFraming`.
        """
        end = frames.rfind(SEPARATOR, 0, most) + 1 or frames.find(SEPARATOR, most) + 1
        at = 0
        for _ in range(count):
            at = frames.find(SEPARATOR, at, end) + 1
            if not at:
                return end
        return at or end

    def packets(self, body: bytes, most: int = MAX_PACKETS) -> list[EngineIOPacket]:
        """
        See `Framing`.
        """
        if body.count(SEPARATOR) >= most:
            raise RemoteProtocolError("too many packets in one request")
        return [decode(text) for text in _utf8(body).split("\x1e")]


@dataclass(frozen=True, slots=True)
class Poll3:
    """
    Revision 3 for clients that take bytes: `0` or `1` for text or binary, the
    length in digits, each a byte of that value, 255, and the packet. An answer
    without a binary message goes as `Poll3Text`, as the official server's does:
    not every client that accepts bytes expects them where there are none.
    """

    def text(self, packet: bytes) -> bytes:
        """
        See `Framing`.
        """
        return _with_binary_length(b"\x00", packet)

    def binary(self, data: bytes) -> bytes:
        """
        See `Framing`.
        """
        return _with_binary_length(b"\x01", b"\x04" + data)

    def end(self) -> bytes:
        """
        Nothing: a poll that fails has clients come back, a CLOSE not all of them.
        """
        return b""

    def body(self, frames: bytes) -> bytes:
        """
        See `PollFraming`.
        """
        return frames

    def response(self, frames: bytes) -> tuple[str, bytes]:
        """
        See `PollFraming`.
        """
        packets = []
        at = 0
        while head := _BINARY_LENGTH.match(frames, at):
            if head[1] == b"\x01":
                return BINARY, frames
            start, at = head.end(), head.end() + int(head[2].translate(_DIGITS))
            packets.append(_with_length(frames[start:at]))
        return TEXT, b"".join(packets)

    def portion(self, frames: bytes, most: int, count: int = 0) -> int:
        """
        See `PollFraming`.
        """
        return _portion(frames, most, count, _behind_bytes)

    def packets(self, body: bytes, most: int = MAX_PACKETS) -> list[EngineIOPacket]:
        """
        See `Framing`.
        """
        found: list[EngineIOPacket] = []
        at = 0
        while at < len(body):
            head = _BINARY_LENGTH.match(body, at)
            if head is None:
                raise RemoteProtocolError("malformed length of a packet")
            start, at = head.end(), head.end() + int(head[2].translate(_DIGITS))
            packet = body[start:at]
            if len(found) == most:
                raise RemoteProtocolError("too many packets in one request")
            if at > len(body) or not packet:
                raise RemoteProtocolError("a packet is cut off")
            found.append(decode3(packet if head[1] == b"\x01" else _utf8(packet)))
        if not found:
            raise RemoteProtocolError("no packets")
        return found


@dataclass(frozen=True, slots=True)
class Poll3Text:
    """
    Revision 3 for clients that take but text (`b64=1`): the length, a colon, and
    the packet; binary as base64 behind `b4`. Lengths count as JavaScript does,
    in units of UTF-16.
    """

    def text(self, packet: bytes) -> bytes:
        """
        See `Framing`.
        """
        return _with_length(packet)

    def binary(self, data: bytes) -> bytes:
        """
        See `Framing`.
        """
        return self.text(b"b4" + base64.b64encode(data))

    def end(self) -> bytes:
        """
        Nothing: a poll that fails has clients come back, a CLOSE not all of them.
        """
        return b""

    def body(self, frames: bytes) -> bytes:
        """
        See `PollFraming`.
        """
        return frames

    def response(self, frames: bytes) -> tuple[str, bytes]:
        """
        See `PollFraming`.
        """
        return TEXT, frames

    def portion(self, frames: bytes, most: int, count: int = 0) -> int:
        """
        See `PollFraming`.
        """
        return _portion(frames, most, count, _behind_text)

    def packets(self, body: bytes, most: int = MAX_PACKETS) -> list[EngineIOPacket]:
        """
        See `Framing`.
        """
        text = _utf8(body)
        # Beyond the basic plane a character counts twice: cut units, not characters.
        wide = not text.isascii() and max(text) > "\uffff"
        if wide:
            raw = text.encode("utf-16-le")
            text = "".join(map(chr, struct.unpack(f"<{len(raw) // 2}H", raw)))
        found: list[EngineIOPacket] = []
        at = 0
        while at < len(text):
            head = _LENGTH.match(text, at)
            if head is None:
                raise RemoteProtocolError("malformed length of a packet")
            start, at = head.end(), head.end() + int(head[1])
            packet = text[start:at]
            if len(found) == most:
                raise RemoteProtocolError("too many packets in one request")
            if at > len(text) or not packet:
                raise RemoteProtocolError("a packet is cut off")
            found.append(decode3(_joined(packet) if wide else packet))
        if not found:
            raise RemoteProtocolError("no packets")
        return found


@dataclass(frozen=True, slots=True)
class Socket4:
    """
    Revision 4 in a websocket: a message is a packet, text or binary.

    Args:
        deflate: what was agreed on with the client.
        base64: the client takes but text.
    """

    deflate: DeflateParameters | None = None
    base64: bool = False

    def text(self, packet: bytes) -> bytes:
        """
        See `Framing`.
        """
        return data_frame(packet, False, self.deflate)

    def binary(self, data: bytes) -> bytes:
        """
        See `Framing`.
        """
        if self.base64:
            return self.text(b"b" + base64.b64encode(data))
        return data_frame(data, True, self.deflate)

    def end(self) -> bytes:
        """
        See `Framing`.
        """
        return close_frame(CloseCode.GOING_AWAY)


@dataclass(frozen=True, slots=True)
class Socket3:
    """
    Revision 3 in a websocket: its type is in front of binary data too.

    Args:
        deflate: what was agreed on with the client.
        base64: the client takes but text.
    """

    deflate: DeflateParameters | None = None
    base64: bool = False

    def text(self, packet: bytes) -> bytes:
        """
        See `Framing`.
        """
        return data_frame(packet, False, self.deflate)

    def binary(self, data: bytes) -> bytes:
        """
        See `Framing`.
        """
        if self.base64:
            return self.text(b"b4" + base64.b64encode(data))
        return data_frame(b"\x04" + data, True, self.deflate)

    def end(self) -> bytes:
        """
        See `Framing`.
        """
        return close_frame(CloseCode.GOING_AWAY)


def reframed(frames: bytes, before: PollFraming, after: Framing) -> bytes:
    """
    *frames* of one framing, made by ourselves, in another.
    """
    pieces = []
    for packet in before.packets(before.body(frames), len(frames)):
        if isinstance(packet.data, bytes):
            pieces.append(after.binary(packet.data))
        elif (
            packet.kind is not EngineIOPacketType.NOOP
        ):  # it ends polls, and means nothing elsewhere
            pieces.append(after.text(text_of(packet.kind, packet.data.encode())))
    return b"".join(pieces)


def _portion(frames: bytes, most: int, count: int, behind: Callable[[bytes, int], int]) -> int:
    """
    See `PollFraming.portion`; *behind* says where the packet at an index ends:
    beyond *frames* if it is cut off.
    """
    end = found = 0
    while end < len(frames):
        following = behind(frames, end)
        if following > len(frames) or (end and following > most):
            break
        end = following
        found += 1
        if found == count:
            break
    return end


def _behind_bytes(frames: bytes, at: int) -> int:
    head = _BINARY_LENGTH.match(frames, at)
    return len(frames) + 1 if head is None else head.end() + int(head[2].translate(_DIGITS))


def _behind_text(frames: bytes, at: int) -> int:
    head = _UTF8_LENGTH.match(frames, at)
    if head is None:
        return len(frames) + 1
    start, units = head.end(), int(head[1])
    if frames[start : start + units].isascii():
        return start + units
    text = frames[start : start + 3 * units].decode(errors="ignore")  # the end may be cut off
    wanted = text.encode("utf-16-le")[: 2 * units]
    if len(wanted) < 2 * units:
        return len(frames) + 1
    return start + len(wanted.decode("utf-16-le").encode())


def _with_length(packet: bytes) -> bytes:
    length = len(packet) if packet.isascii() else _units(packet.decode())
    return b"%d:%s" % (length, packet)


def _with_binary_length(kind: bytes, packet: bytes) -> bytes:
    return b"%s%s\xff%s" % (kind, (b"%d" % len(packet)).translate(_NUMERALS), packet)


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("text that is not UTF-8") from None


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _joined(units: str) -> str:
    try:
        return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise RemoteProtocolError("a length that cuts a character") from None
