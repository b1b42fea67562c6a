"""
The framing of Engine.IO packets: in the bodies of polls, and in websocket frames.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import AnyStr, Protocol

from rt_twisted.codecs.engineio import (
    EngineIOPacket,
    EngineIOPacketType,
    decode,
    decode3,
    encode_text,
)
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import CloseCode, DeflateParameters, close_frame, data_frame

MAX_PACKETS = 10_000  # in one request: a megabyte could have half a million
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
    How packets become bytes on one transport.

    Results are whole frames, which can be joined. Framings compare by value.
    """

    def text(self, packet: bytes) -> bytes:
        """
        Return the frame of a text packet, which begins with its type.
        """

    def binary(self, data: bytes) -> bytes:
        """
        Return the frame of a binary message.
        """

    def end(self) -> bytes:
        """
        Return the last frame to a client that has to reconnect.
        """


class PollFraming(Framing, Protocol):
    """
    How packets become the body of a poll's response or a post, and are parsed again.
    """

    def body(self, frames: bytes) -> bytes:
        """
        Return the body of a response; *frames* are joined, at least one.
        """

    def response(self, frames: bytes) -> tuple[str, bytes]:
        """
        Return the media type and the body of a response; *frames* as in `body`.
        """

    def portion(self, frames: bytes, limit: int, count: int = 0) -> int:
        """
        Return how many bytes of *frames* to send in one response.

        Args:
            frames: joined; the last one may be cut off anywhere.
            limit: of the bytes; a larger first packet is sent alone.
            count: limit of the packets; 0 for none.

        Returns:
            the size of whole packets; 0 if the first packet is incomplete.
        """

    def packets(self, body: bytes, limit: int = MAX_PACKETS) -> list[EngineIOPacket]:
        """
        Parse the body of a post, or of a response: at least one packet.

        Args:
            body: of any size.
            limit: of the packets.

        Raises:
            RemoteProtocolError: the body is malformed, or has too many packets; close the
                session.
        """


@dataclass(frozen=True, slots=True)
class Poll4:
    """
    Polls of revision 4: packets are separated by SEPARATOR, binary data is base64.
    """

    def text(self, packet: bytes) -> bytes:
        return packet + SEPARATOR

    def binary(self, data: bytes) -> bytes:
        return b"b%s%s" % (base64.b64encode(data), SEPARATOR)

    def end(self) -> bytes:
        return b""  # a poll fails instead: not all clients reconnect after a CLOSE

    def body(self, frames: bytes) -> bytes:
        return frames[:-1]  # without the last separator

    def response(self, frames: bytes) -> tuple[str, bytes]:
        return TEXT, self.body(frames)

    def portion(self, frames: bytes, limit: int, count: int = 0) -> int:
        end = frames.rfind(SEPARATOR, 0, limit) + 1 or frames.find(SEPARATOR, limit) + 1
        at = 0
        for _ in range(count):
            at = frames.find(SEPARATOR, at, end) + 1
            if not at:
                return end
        return at or end

    def packets(self, body: bytes, limit: int = MAX_PACKETS) -> list[EngineIOPacket]:
        if body.count(SEPARATOR) >= limit:
            raise RemoteProtocolError("too many packets in one request")
        return [decode(text) for text in _utf8(body).split("\x1e")]


@dataclass(frozen=True, slots=True)
class Poll3:
    """
    Polls of revision 3 for clients that accept bytes.

    A packet is `0` (text) or `1` (binary), its length in digits, each a byte of that value,
    255, and the packet. A response without binary data is framed as `Poll3Text`, like that of
    the official server: some clients that accept bytes expect them only for binary data.
    """

    def text(self, packet: bytes) -> bytes:
        return _with_binary_length(b"\x00", packet)

    def binary(self, data: bytes) -> bytes:
        return _with_binary_length(b"\x01", b"\x04" + data)

    def end(self) -> bytes:
        return b""  # a poll fails instead: not all clients reconnect after a CLOSE

    def body(self, frames: bytes) -> bytes:
        return frames

    def response(self, frames: bytes) -> tuple[str, bytes]:
        packets = []
        at = 0
        while head := _BINARY_LENGTH.match(frames, at):
            if head[1] == b"\x01":
                return BINARY, frames
            start, at = head.end(), head.end() + _binary_length(head)
            packets.append(_with_length(frames[start:at]))
        return TEXT, b"".join(packets)

    def portion(self, frames: bytes, limit: int, count: int = 0) -> int:
        return _portion(frames, limit, count, _binary_packet_end)

    def packets(self, body: bytes, limit: int = MAX_PACKETS) -> list[EngineIOPacket]:
        return [
            decode3(packet if head[1] == b"\x01" else _utf8(packet))
            for head, packet in _packets_of(body, _BINARY_LENGTH, _binary_length, limit)
        ]


@dataclass(frozen=True, slots=True)
class Poll3Text:
    """
    Polls of revision 3 for clients that accept only text (`b64=1`).

    A packet is its length, a colon, and the packet; binary data is base64 after `b4`. Lengths
    count UTF-16 code units, as JavaScript does.
    """

    def text(self, packet: bytes) -> bytes:
        return _with_length(packet)

    def binary(self, data: bytes) -> bytes:
        return self.text(b"b4" + base64.b64encode(data))

    def end(self) -> bytes:
        return b""  # a poll fails instead: not all clients reconnect after a CLOSE

    def body(self, frames: bytes) -> bytes:
        return frames

    def response(self, frames: bytes) -> tuple[str, bytes]:
        return TEXT, frames

    def portion(self, frames: bytes, limit: int, count: int = 0) -> int:
        return _portion(frames, limit, count, _text_packet_end)

    def packets(self, body: bytes, limit: int = MAX_PACKETS) -> list[EngineIOPacket]:
        text = _utf8(body)
        # Characters beyond the basic plane count twice: cut code units, not characters.
        wide = not text.isascii() and max(text) > "\uffff"
        if wide:
            raw = text.encode("utf-16-le")
            text = "".join(map(chr, struct.unpack(f"<{len(raw) // 2}H", raw)))
        return [
            decode3(_from_code_units(packet) if wide else packet)
            for _, packet in _packets_of(text, _LENGTH, _text_length, limit)
        ]


@dataclass(frozen=True, slots=True)
class Socket4:
    """
    Websockets of revision 4: a message is a packet, text or binary.

    Args:
        deflate: the compression of the handshake.
        base64: the client accepts only text.
    """

    deflate: DeflateParameters | None = None
    base64: bool = False

    def text(self, packet: bytes) -> bytes:
        return data_frame(packet, False, self.deflate)

    def binary(self, data: bytes) -> bytes:
        if self.base64:
            return self.text(b"b" + base64.b64encode(data))
        return data_frame(data, True, self.deflate)

    def end(self) -> bytes:
        return close_frame(CloseCode.GOING_AWAY)


@dataclass(frozen=True, slots=True)
class Socket3:
    """
    Websockets of revision 3: the type is in front of binary data as well.

    Args:
        deflate: the compression of the handshake.
        base64: the client accepts only text.
    """

    deflate: DeflateParameters | None = None
    base64: bool = False

    def text(self, packet: bytes) -> bytes:
        return data_frame(packet, False, self.deflate)

    def binary(self, data: bytes) -> bytes:
        if self.base64:
            return self.text(b"b4" + base64.b64encode(data))
        return data_frame(b"\x04" + data, True, self.deflate)

    def end(self) -> bytes:
        return close_frame(CloseCode.GOING_AWAY)


def reframe(frames: bytes, before: PollFraming, after: Framing) -> bytes:
    """
    Convert *frames* that this module made from one framing to another.

    NOOP packets, which only end a poll, are left out.
    """
    pieces = []
    for packet in before.packets(before.body(frames), len(frames)):
        if isinstance(packet.data, bytes):
            pieces.append(after.binary(packet.data))
        elif packet.kind is not EngineIOPacketType.NOOP:
            pieces.append(after.text(encode_text(packet.kind, packet.data.encode())))
    return b"".join(pieces)


def _packets_of(
    body: AnyStr,
    pattern: re.Pattern[AnyStr],
    length_of: Callable[[re.Match[AnyStr]], int],
    limit: int,
) -> Iterator[tuple[re.Match[AnyStr], AnyStr]]:
    """
    Yield the packets of a body of revision 3, each behind the match of its length.
    """
    count = at = 0
    while at < len(body):
        head = pattern.match(body, at)
        if head is None:
            raise RemoteProtocolError("malformed length of a packet")
        start, at = head.end(), head.end() + length_of(head)
        packet = body[start:at]
        if count == limit:
            raise RemoteProtocolError("too many packets in one request")
        if at > len(body) or not packet:
            raise RemoteProtocolError("a packet is cut off")
        count += 1
        yield head, packet
    if not count:
        raise RemoteProtocolError("no packets")


def _text_length(head: re.Match[str]) -> int:
    return int(head[1])


def _binary_length(head: re.Match[bytes]) -> int:
    return int(head[2].translate(_DIGITS))


def _portion(frames: bytes, limit: int, count: int, end_of: Callable[[bytes, int], int]) -> int:
    """
    Implement `PollFraming.portion`; *end_of* returns where the packet at an index ends.

    The end of a packet that is cut off lies beyond *frames*.
    """
    end = found = 0
    while end < len(frames):
        following = end_of(frames, end)
        if following > len(frames) or (end and following > limit):
            break
        end = following
        found += 1
        if found == count:
            break
    return end


def _binary_packet_end(frames: bytes, at: int) -> int:
    head = _BINARY_LENGTH.match(frames, at)
    return len(frames) + 1 if head is None else head.end() + _binary_length(head)


def _text_packet_end(frames: bytes, at: int) -> int:
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
    length = len(packet) if packet.isascii() else _count_code_units(packet.decode())
    return b"%d:%s" % (length, packet)


def _with_binary_length(kind: bytes, packet: bytes) -> bytes:
    return b"%s%s\xff%s" % (kind, (b"%d" % len(packet)).translate(_NUMERALS), packet)


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("the text is not UTF-8") from None


def _count_code_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _from_code_units(units: str) -> str:
    try:
        return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise RemoteProtocolError("the length cuts a character") from None
