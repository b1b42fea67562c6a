"""
Packets of Socket.IO, revisions 4 and 5, which are messages of Engine.IO.

https://github.com/socketio/socket.io-protocol

A packet is text: type, number of attachments, namespace, acknowledgement id, JSON. Bytes
within the JSON are replaced by placeholders, and follow as binary messages: its attachments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.json_size import check_json_size

MAX_DEPTH = 64  # nested arrays and objects
MAX_ATTACHMENTS = 64  # of one packet; their bytes are bounded in sum
MAX_NAMESPACE = 4096  # characters, with the query that revision 4 appends
MAX_ID = 2**53  # JavaScript's largest exact integer

# Events that clients emit to themselves: their decoders close the connection if the server
# sends one.
RESERVED = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)

_PACKET = re.compile(
    r"""
    ([0-6])                    # type
    (?:([0-9]{1,6})-)?         # attachments
    (?:(/[^,]*)(?:,|$))?       # namespace
    ([0-9]{1,16})?             # acknowledgement id
    """,
    re.VERBOSE,
)


class SocketIOPacketType(IntEnum):
    """
    The types of packets; the binary ones are used on the wire only.
    """

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


_WITHOUT_DATA = (SocketIOPacketType.CONNECT, SocketIOPacketType.DISCONNECT)  # allowed
_PLAIN = {
    SocketIOPacketType.BINARY_EVENT: SocketIOPacketType.EVENT,
    SocketIOPacketType.BINARY_ACK: SocketIOPacketType.ACK,
}
_BINARY = {plain: binary for binary, plain in _PLAIN.items()}


@dataclass(frozen=True, slots=True)
class SocketIOPacket:
    """
    A packet of either revision.

    Args:
        kind: EVENT and ACK with or without attachments.
        namespace: begins with a slash; revision 4 may append a query.
        data: values that JSON can express, and bytes; None for no data. An EVENT has a
            list that begins with its name, an ACK any list.
        id: of an EVENT: request an ACK with the same id.
    """

    kind: SocketIOPacketType
    namespace: str = "/"
    data: Any = None
    id: int | None = None


def encode_head(
    kind: SocketIOPacketType, namespace: str, id: int | None = None, attachments: int = 0
) -> bytes:
    """
    Return what precedes the JSON of a packet.
    """
    parts = [b"%d" % kind]
    if attachments:
        parts.append(b"%d-" % attachments)
    if namespace != "/":
        parts.append(b"%s," % namespace.encode(errors="replace"))
    if id is not None:
        parts.append(b"%d" % id)
    return b"".join(parts)


def encode(packet: SocketIOPacket) -> list[bytes]:
    """
    Return the packet's text, then its attachments.

    Raises:
        TypeError: JSON cannot express its data.
        ValueError: its data has NaN or infinity, or is nested too deeply.
    """
    attachments: list[bytes] = []
    kind, data = packet.kind, packet.data
    if kind in _BINARY:
        try:
            data = _extract_attachments(data, attachments)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if attachments:
            kind = _BINARY[kind]
    head = encode_head(kind, packet.namespace, packet.id, len(attachments))
    return [head + (b"" if data is None else dump(data)), *attachments]


def dump(value: Any) -> bytes:
    """
    Return *value* as JSON in UTF-8, without spaces.

    Raises:
        TypeError: see `encode`.
        ValueError: see `encode`.
    """
    try:
        return _short(value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can express it
        return _escaped(value).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


_short = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_escaped = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def load(text: str) -> Any:
    """
    Parse JSON (RFC 8259).

    Raises:
        RemoteProtocolError: *text* is not JSON, nested deeper than MAX_DEPTH, or has too many
            values.
    """
    check_json_size(text)
    try:
        value = _strict(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("malformed JSON") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise RemoteProtocolError("nested too deeply")
    return value


def _refuse_constant(word: str) -> Any:
    raise ValueError(word)


_strict = json.JSONDecoder(parse_constant=_refuse_constant).decode


class Decoder:
    """
    Assembles packets from their text and the attachments that follow.

    Args:
        max_bytes: of all attachments of one packet.
    """

    __slots__ = ("_left", "_max_bytes", "_packet", "_pieces", "_text", "_wanted")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._packet: SocketIOPacket | None = None  # it waits for attachments
        # Parsed when the attachments are complete: objects take twenty times as much memory
        # as the text, and some attachments never come.
        self._text = ""
        self._wanted = 0
        self._left = 0  # bytes
        self._pieces: list[bytes] | None = None

    @property
    def waiting(self) -> bool:
        """
        Whether the next message must be an attachment.
        """
        return self._packet is not None

    def feed(self, data: str | bytes) -> SocketIOPacket | None:
        """
        Decode the next message.

        Returns:
            the packet that it completes, if any.

        Raises:
            RemoteProtocolError: the message is malformed, or attachments are too large
                (status 413); close the session.
        """
        if isinstance(data, str):
            if self._packet is not None:
                raise RemoteProtocolError("text instead of an attachment")
            packet, wanted, text = _parse(data)
            if not wanted:
                return _complete_packet(packet, text, [])
            self._packet, self._text, self._wanted = packet, text, wanted
            self._left, self._pieces = self._max_bytes, []
            return None
        waiting, pieces = self._packet, self._pieces
        if waiting is None or pieces is None:
            raise RemoteProtocolError("binary data that is no attachment")
        self._left -= len(data)
        if self._left < 0:
            raise RemoteProtocolError("the attachments are too large", 413)
        pieces.append(data)
        if len(pieces) < self._wanted:
            return None
        text, self._text = self._text, ""
        self._packet = self._pieces = None
        return _complete_packet(waiting, text, pieces)


def _parse(text: str) -> tuple[SocketIOPacket, int, str]:
    """
    Parse the text of a packet up to its JSON.

    Returns:
        the packet without its data, the number of attachments, and the JSON.
    """
    head = _PACKET.match(text)
    if head is None:
        raise RemoteProtocolError("unknown type of packet")
    kind = SocketIOPacketType(int(head[1]))
    attachments = int(head[2] or 0)
    if (kind in _PLAIN) != bool(attachments) or attachments > MAX_ATTACHMENTS:
        raise RemoteProtocolError("wrong number of attachments")
    id = int(head[4]) if head[4] else None
    if id is not None and (
        id > MAX_ID or kind in (SocketIOPacketType.CONNECT, SocketIOPacketType.DISCONNECT)
    ):
        raise RemoteProtocolError("malformed acknowledgement id")
    kind = _PLAIN.get(kind, kind)
    if len(head[3] or "") > MAX_NAMESPACE:
        raise RemoteProtocolError("the namespace is too long")
    if kind is SocketIOPacketType.ACK and id is None:
        raise RemoteProtocolError("an acknowledgement without an id")
    return SocketIOPacket(kind, head[3] or "/", None, id), attachments, text[head.end() :]


def _complete_packet(packet: SocketIOPacket, text: str, attachments: list[bytes]) -> SocketIOPacket:
    """
    Return *packet* with its data: the JSON *text* with *attachments* inserted.
    """
    if not text and not attachments and packet.kind in _WITHOUT_DATA:
        return packet
    data = load(text)
    if not _IS_VALID[packet.kind](data):
        raise RemoteProtocolError("malformed packet")
    if attachments:
        data = _insert_attachments(data, attachments)
    return SocketIOPacket(packet.kind, packet.namespace, data, packet.id)


_IS_VALID: dict[SocketIOPacketType, Callable[[Any], bool]] = {
    SocketIOPacketType.CONNECT: lambda data: data is None or isinstance(data, dict),
    SocketIOPacketType.DISCONNECT: lambda data: data is None,
    SocketIOPacketType.EVENT: lambda data: (
        isinstance(data, list)
        and bool(data)
        and isinstance(data[0], str)
        and data[0] not in RESERVED
    ),
    SocketIOPacketType.ACK: lambda data: isinstance(data, list),
    # Clients of Socket.IO 2 report an ERROR with any data (`44"encode error"`).
    SocketIOPacketType.CONNECT_ERROR: lambda data: (
        data is None or isinstance(data, str | dict | list)
    ),
}


def _depth(value: Any) -> int:
    """
    Return how deeply arrays and objects are nested, at most MAX_DEPTH + 1.
    """
    depth, level = 0, [value]
    while depth <= MAX_DEPTH:
        level = [each for each in level if isinstance(each, list | dict)]
        if not level:
            break
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def _extract_attachments(value: Any, attachments: list[bytes]) -> Any:
    """
    Return *value* with placeholders for its bytes, which are added to *attachments*.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, list | tuple):
        return [_extract_attachments(inner, attachments) for inner in value]
    if isinstance(value, dict):
        return {name: _extract_attachments(inner, attachments) for name, inner in value.items()}
    return value


def _insert_attachments(value: Any, attachments: list[bytes]) -> Any:
    """
    Return *value*, nested at most MAX_DEPTH deep, with bytes for its placeholders.
    """
    if isinstance(value, list):
        return [_insert_attachments(inner, attachments) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("_placeholder") is True:
        number = value.get("num")
        if type(number) is not int or not 0 <= number < len(attachments):
            raise RemoteProtocolError("a placeholder without an attachment")
        return attachments[number]
    return {name: _insert_attachments(inner, attachments) for name, inner in value.items()}
