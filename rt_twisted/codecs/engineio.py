"""
Packets of Engine.IO, revisions 3 and 4; `engineio_framing` puts them into polls and websockets.

https://github.com/socketio/engine.io-protocol

A text packet is a digit, its type, and its data. Binary data is always a message; it is sent
as it is where the wire carries bytes, else as base64 after a `b`. The revisions differ in
who pings, in the framing of polls, and in the type in front of binary data, which revision 3
has as well.
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
    The types of packets.
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
    A packet of either revision.

    Args:
        kind: its type.
        data: text, or the bytes of a binary message.
    """

    kind: EngineIOPacketType
    data: str | bytes = ""


def encode_text(kind: EngineIOPacketType, data: bytes = b"") -> bytes:
    """
    Return a text packet for `Framing.text`; *data* is UTF-8.
    """
    return b"%d%s" % (kind, data)


def open_payload(
    sid: str, upgrades: list[str], interval: float, timeout: float, payload: int
) -> bytes:
    """
    Return the data of an OPEN packet, which describes the session.

    Args:
        sid: the session's id.
        upgrades: transports to which the client may upgrade.
        interval: seconds between two pings.
        timeout: seconds to wait for a pong.
        payload: bytes that the client may post at once.
    """
    fields = {
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": int(interval * 1000),
        "pingTimeout": int(timeout * 1000),
        "maxPayload": payload,
    }
    return _json(fields).encode()


_json = json.JSONEncoder(separators=(",", ":")).encode


def decode(message: str | bytes) -> EngineIOPacket:
    """
    Decode a packet of revision 4: a websocket message, or a part of a poll.

    Args:
        message: text, which may have base64, or bytes.

    Raises:
        RemoteProtocolError: the packet is malformed; close the session.
    """
    if isinstance(message, bytes):
        return EngineIOPacket(EngineIOPacketType.MESSAGE, message)
    kind = message[:1]
    if kind and kind in "0123456":
        return EngineIOPacket(EngineIOPacketType(int(kind)), message[1:])
    if kind == "b":
        return EngineIOPacket(EngineIOPacketType.MESSAGE, decode_base64(message[1:]))
    raise RemoteProtocolError("unknown type of packet")


def decode3(message: str | bytes) -> EngineIOPacket:
    """
    Decode a packet of revision 3, which has its type in front of bytes as well.

    Raises:
        RemoteProtocolError: the packet is malformed; close the session.
    """
    if isinstance(message, bytes):
        if message[:1] != b"\x04":
            raise RemoteProtocolError("a binary packet must be a message")
        return EngineIOPacket(EngineIOPacketType.MESSAGE, message[1:])
    if message[:1] == "b":
        if message[1:2] != "4":
            raise RemoteProtocolError("a binary packet must be a message")
        return EngineIOPacket(EngineIOPacketType.MESSAGE, decode_base64(message[2:]))
    return decode(message)


def decode_base64(text: str) -> bytes:
    """
    Decode *text* from base64.

    Raises:
        RemoteProtocolError: *text* is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RemoteProtocolError("malformed base64") from None
