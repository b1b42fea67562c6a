"""
Socket.IO, the fourth and fifth revision of its protocol: packets within the
messages of Engine.IO.

https://github.com/socketio/socket.io-protocol

A packet is text: type, number of attachments, namespace, acknowledgement id,
JSON. Bytes within the JSON are replaced by placeholders and follow as binary
messages of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_DEPTH = 64  # of nested arrays and objects
MAX_ATTACHMENTS = 64  # of one packet; all of them together have a bound in bytes
MAX_NAMESPACE = 4096  # characters, with the query that revision 4 puts behind it
MAX_ID = 2**53  # what JavaScript counts up to

# Names that a client's emitter keeps for itself: its decoder ends the
# connection over an event that is called so.
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
    Types of packets. The binary ones are seen on the wire alone.
    """

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


_BARE = (SocketIOPacketType.CONNECT, SocketIOPacketType.DISCONNECT)  # need no data
_PLAIN = {
    SocketIOPacketType.BINARY_EVENT: SocketIOPacketType.EVENT,
    SocketIOPacketType.BINARY_ACK: SocketIOPacketType.ACK,
}
_BINARY = {plain: binary for binary, plain in _PLAIN.items()}


@dataclass(frozen=True, slots=True)
class SocketIOPacket:
    """
    One packet.

    Args:
        kind: EVENT and ACK with or without attachments.
        namespace: begins with a slash; revision 4 may have a query behind it.
        data: what JSON can say, and bytes; None for nothing. An EVENT's is a
            list that begins with its name, an ACK's any list.
        id: with an EVENT, the sender wants an ACK of the same id.
    """

    kind: SocketIOPacketType
    namespace: str = "/"
    data: Any = None
    id: int | None = None


def head_of(
    kind: SocketIOPacketType, namespace: str, id: int | None = None, attachments: int = 0
) -> bytes:
    """
    What a packet has in front of its JSON.
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
    The packet's text, then its attachments.

    Raises:
        TypeError: its data has something that JSON cannot say.
        ValueError: NaN or infinity, or nested without end.
    """
    attachments: list[bytes] = []
    kind, data = packet.kind, packet.data
    if kind in _BINARY:
        try:
            data = _taken_apart(data, attachments)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if attachments:
            kind = _BINARY[kind]
    head = head_of(kind, packet.namespace, packet.id, len(attachments))
    return [head + (b"" if data is None else dump(data)), *attachments]


def dump(value: Any) -> bytes:
    """
    *value* as JSON, short and in UTF-8.

    Raises:
        TypeError: see `encode`.
        ValueError: see there.
    """
    try:
        return _short(value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can say
        return _escaped(value).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


_short = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_escaped = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def load(text: str) -> Any:
    """
    What the JSON *text* says (RFC 8259).

    Raises:
        RemoteProtocolError: it is not JSON, or nested deeper than MAX_DEPTH.
    """
    try:
        value = _strict(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("malformed JSON") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise RemoteProtocolError("nested too deeply")
    return value


def _refuse(word: str) -> Any:
    raise ValueError(word)


_strict = json.JSONDecoder(parse_constant=_refuse).decode


class Decoder:
    """
    Puts packets together: text, and the attachments that follow it.

    Args:
        most: bytes of one packet's attachments together.
    """

    __slots__ = ("_left", "_most", "_packet", "_pieces", "_text", "_wanted")

    def __init__(self, most: int) -> None:
        self._most = most
        self._packet: SocketIOPacket | None = None  # that waits for attachments
        # Its JSON: who never sends them has us keep its bytes, and not the
        # objects, which take twenty times as much.
        self._text = ""
        self._wanted = 0
        self._left = 0  # bytes
        self._pieces: list[bytes] | None = None

    @property
    def waiting(self) -> bool:
        """
        Whether the next message has to be an attachment.
        """
        return self._packet is not None

    def feed(self, data: str | bytes) -> SocketIOPacket | None:
        """
        Take the next message.

        Returns:
            the packet that it completes, if it does.

        Raises:
            RemoteProtocolError: malformed; the session ends.
        """
        if isinstance(data, str):
            if self._packet is not None:
                raise RemoteProtocolError("text where an attachment should be")
            packet, wanted, text = _parse(data)
            if not wanted:
                return _filled(packet, text, [])
            self._packet, self._text, self._wanted = packet, text, wanted
            self._left, self._pieces = self._most, []
            return None
        waiting, pieces = self._packet, self._pieces
        if waiting is None or pieces is None:
            raise RemoteProtocolError("bytes where no attachment should be")
        self._left -= len(data)
        if self._left < 0:
            raise RemoteProtocolError("attachments that are too large", 413)
        pieces.append(data)
        if len(pieces) < self._wanted:
            return None
        text, self._text = self._text, ""
        self._packet = self._pieces = None
        return _filled(waiting, text, pieces)


def _parse(text: str) -> tuple[SocketIOPacket, int, str]:
    """
    Returns:
        the packet without its data, how many attachments follow, and the JSON.
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
        raise RemoteProtocolError("a namespace that is too long")
    if kind is SocketIOPacketType.ACK and id is None:
        raise RemoteProtocolError("an acknowledgement of nothing")
    return SocketIOPacket(kind, head[3] or "/", None, id), attachments, text[head.end() :]


def _filled(packet: SocketIOPacket, text: str, attachments: list[bytes]) -> SocketIOPacket:
    """
    *packet* with its data: the JSON *text*, and *attachments* in it.
    """
    if not text and not attachments and packet.kind in _BARE:
        return packet
    data = load(text)
    if not _IS_FINE[packet.kind](data):
        raise RemoteProtocolError("malformed packet")
    if attachments:
        data = _put_together(data, attachments)
    return SocketIOPacket(packet.kind, packet.namespace, data, packet.id)


_IS_FINE: dict[SocketIOPacketType, Callable[[Any], bool]] = {
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
    How many arrays and objects lie in one another; one more than MAX_DEPTH for
    all that are deeper.
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


def _taken_apart(value: Any, attachments: list[bytes]) -> Any:
    """
    *value* with placeholders for its bytes, which go to *attachments*.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, list | tuple):
        return [_taken_apart(inner, attachments) for inner in value]
    if isinstance(value, dict):
        return {name: _taken_apart(inner, attachments) for name, inner in value.items()}
    return value


def _put_together(value: Any, attachments: list[bytes]) -> Any:
    """
    *value*, no deeper than MAX_DEPTH, with bytes for its placeholders.
    """
    if isinstance(value, list):
        return [_put_together(inner, attachments) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("_placeholder") is True:
        number = value.get("num")
        if type(number) is not int or not 0 <= number < len(attachments):
            raise RemoteProtocolError("a placeholder for no attachment")
        return attachments[number]
    return {name: _put_together(inner, attachments) for name, inner in value.items()}
