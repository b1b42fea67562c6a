"""
Formats of messages in websocket frames.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode as PeerOpcode
from websockets.protocol import Protocol, Side
from zope.interface.verify import verifyObject

from rt_twisted.codecs.websocket import (
    DeflateParameters,
    close_frame,
)
from rt_twisted.formats.websocket import JsonFrames, RawFrames
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay
from tests.fakes import started
from tests.unit.codecs.websocket_frames import (
    other_clients,
)


@pytest.mark.parametrize("read", other_clients())
@pytest.mark.parametrize("deflate", [None, DeflateParameters(10), DeflateParameters(1, 9)])
@given(data=st.lists(st.binary(max_size=300) | st.text(max_size=100).map(str.encode), max_size=5))
def test_other_libraries_parse_our_frames(
    read: Any, deflate: DeflateParameters | None, data: list[bytes]
) -> None:
    """
    Every message arrives as published, compressed or not, of any size.
    """
    frames = [RawFrames(deflate).encode(message(each)) for each in [*data, b"abc" * 30_000]]

    assert read(b"".join(frames), deflate is not None) == [*data, b"abc" * 30_000]


def message(data: bytes, event: str | None = None, offset: int = 7) -> Message:
    return Message("news", data, Position("e", offset), event)


def read(data: bytes, deflate: bool = False) -> list[Any]:
    """
    Parse what a server sends: JSON values, bytes, or names of opcodes.
    """
    client = Protocol(Side.CLIENT)
    client.receive_data(data)
    assert client.parser_exc is None
    found: list[Any] = []
    library_events: Any = client.events_received()
    for event in library_events:
        if event.opcode is PeerOpcode.TEXT:
            found.append(json.loads(event.data))
        elif event.opcode is PeerOpcode.BINARY:
            found.append(bytes(event.data))
        else:
            found.append(event.opcode.name)
    return found


@pytest.mark.parametrize("kind", [RawFrames, JsonFrames])
def test_formats_compare_by_value(kind: Any) -> None:
    """
    Formats with equal parameters are equal, and those with other compression are not.
    """
    verifyObject(IFormat, kind())
    assert kind() == kind()
    assert kind(DeflateParameters(512)) == kind(DeflateParameters(512))
    assert kind(DeflateParameters(512)) != kind()
    assert len({kind(DeflateParameters(512)), kind(DeflateParameters(512, 15)), kind()}) == 2
    assert read(kind().heartbeat) == ["PING"]
    assert kind().end(2500) == close_frame(1001, "retry=2500")
    assert kind().end(0) == close_frame(1001)


def test_raw_frames_are_text_if_valid_utf_8() -> None:
    """
    Other messages are sent in binary frames, and all if the route says so.
    """
    text, data = message("ü".encode()), message(b"\xff")

    assert [RawFrames().encode(each)[0] for each in (text, data)] == [0x81, 0x82]
    assert [RawFrames(binary=True).encode(each)[0] for each in (text, data)] == [0x82, 0x82]


def test_raw_frames_are_messages_only() -> None:
    """
    Neither positions nor gaps are sent in raw frames.
    """
    format = RawFrames()
    replay = Replay((message(b"1"), message(b"2")), False, Position("e", 9))

    assert read(started(format, replay)) == [1, 2]
    assert format.gap(Position("e", 9)) == b""
    assert read(format.cursor(Position("e", 9))) == ["PING"]


def test_json_frames_have_a_type() -> None:
    """
    The gap is first, then missed messages, then the position.
    """
    format = JsonFrames()
    missed = (message("ü".encode(), "greeting", 7), message(b"\xff", None, 8))

    assert read(started(format, Replay(missed, False, Position("e", 9)))) == [
        {"type": "gap", "position": "e.9"},
        {
            "type": "message",
            "channel": "news",
            "position": "e.7",
            "event": "greeting",
            "data": "ü",
        },
        {"type": "message", "channel": "news", "position": "e.8", "base64": "/w=="},
        {"type": "position", "position": "e.9"},
    ]
    assert read(format.cursor(Position("e", 9))) == [
        {"type": "position", "position": "e.9"},
        "PING",
    ]
