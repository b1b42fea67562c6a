"""
Engine.IO, the third and fourth revision of its protocol: packets. How they lie
in polls and websockets is in `engineio_framing`.

https://github.com/socketio/engine.io-protocol

Text is the packet's type, a digit, and its data. Binary data is a message
always; it goes as it is where the wire can carry bytes, else as base64 behind
a `b`. The revisions differ in who pings, in the framing of polls, and in that
3 puts the type in front of binary data too.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from enum import IntEnum

from rt_twisted.codecs.errors import RemoteProtocolError


class EngineIOPacketType(IntEnum):
    """
    Types of packets.
    """

    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


@dataclass(frozen=True, slots=True)
class EngineIOPacket:
    """
    One packet.

    Args:
        kind: its type.
        data: text, or the bytes of a binary message.
    """

    kind: EngineIOPacketType
    data: str | bytes = ""


def text_of(kind: EngineIOPacketType, data: bytes = b"") -> bytes:
    """
    A text packet, ready for `Framing.text`; *data* is UTF-8.
    """
    return b"%d%s" % (kind, data)


def open_data(
    sid: str, upgrades: list[str], interval: float, timeout: float, payload: int
) -> bytes:
    """
    What an OPEN packet tells the client.

    Args:
        sid: the session's id.
        upgrades: transports it may change to.
        interval: seconds between two pings.
        timeout: seconds to wait for the answer to one.
        payload: bytes that one poll may post.
    """
    said = {
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": int(interval * 1000),
        "pingTimeout": int(timeout * 1000),
        "maxPayload": payload,
    }
    return _json(said).encode()


_json = json.JSONEncoder(separators=(",", ":")).encode


def decode(message: str | bytes) -> EngineIOPacket:
    """
    The packet in a websocket message of revision 4, or between the separators of
    a poll: text, bytes as they are, or base64.

    Raises:
        RemoteProtocolError: no such packet; the session ends.
    """
    if isinstance(message, bytes):
        return EngineIOPacket(EngineIOPacketType.MESSAGE, message)
    kind = message[:1]
    if kind and kind in "0123456":
        return EngineIOPacket(EngineIOPacketType(int(kind)), message[1:])
    if kind == "b":
        return EngineIOPacket(EngineIOPacketType.MESSAGE, from_base64(message[1:]))
    raise RemoteProtocolError("unknown type of packet")


def decode3(message: str | bytes) -> EngineIOPacket:
    """
    The same of revision 3: its type is in front of bytes too.

    Raises:
        RemoteProtocolError: no such packet; the session ends.
    """
    if isinstance(message, bytes):
        if message[:1] != b"\x04":
            raise RemoteProtocolError("a binary packet that is no message")
        return EngineIOPacket(EngineIOPacketType.MESSAGE, message[1:])
    if message[:1] == "b":
        if message[1:2] != "4":
            raise RemoteProtocolError("a binary packet that is no message")
        return EngineIOPacket(EngineIOPacketType.MESSAGE, from_base64(message[2:]))
    return decode(message)


def from_base64(text: str) -> bytes:
    """
    The bytes that *text* stands for.

    Raises:
        RemoteProtocolError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteProtocolError("malformed base64") from None
