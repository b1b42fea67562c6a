"""
Tests of Engine.IO packets and their framings, in both revisions.
"""

from __future__ import annotations

import base64
from typing import Any

import engineio.packet
import engineio.payload
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.engineio import (
    EngineIOPacket,
    EngineIOPacketType,
    decode,
    decode3,
    encode_text,
    open_payload,
)
from rt_twisted.codecs.engineio_framing import (
    MAX_PACKETS,
    Poll3,
    Poll3Text,
    Poll4,
    PollFraming,
    Socket3,
    Socket4,
    reframe,
)
from rt_twisted.codecs.errors import RemoteProtocolError

FRAMINGS: tuple[PollFraming, ...] = (Poll4(), Poll3(), Poll3Text())
HELLO, EURO = (
    EngineIOPacket(EngineIOPacketType.MESSAGE, "hello"),
    EngineIOPacket(EngineIOPacketType.MESSAGE, "€"),
)
BYTES = EngineIOPacket(EngineIOPacketType.MESSAGE, b"\x01\x02\x03\x04")

TABLE: list[tuple[PollFraming, bytes, list[EngineIOPacket]]] = [
    # the protocol documents' examples
    (
        Poll4(),
        b"4hello\x1e2\x1e4world",
        [
            HELLO,
            EngineIOPacket(EngineIOPacketType.PING),
            EngineIOPacket(EngineIOPacketType.MESSAGE, "world"),
        ],
    ),
    (Poll4(), b"4hello\x1ebAQIDBA==", [HELLO, BYTES]),
    (Poll4(), "4€".encode(), [EURO]),
    (Poll4(), b"2probe", [EngineIOPacket(EngineIOPacketType.PING, "probe")]),
    (Poll3Text(), b"6:4hello2:4\xe2\x82\xac", [HELLO, EURO]),
    (Poll3Text(), b"6:4hello10:b4AQIDBA==", [HELLO, BYTES]),
    (
        Poll3Text(),
        "5:4😀😀6:4hello".encode(),
        [EngineIOPacket(EngineIOPacketType.MESSAGE, "😀😀"), HELLO],
    ),
    (Poll3Text(), b"1:2", [EngineIOPacket(EngineIOPacketType.PING)]),
    (Poll3(), b"\x00\x06\xff4hello\x01\x05\xff\x04\x01\x02\x03\x04", [HELLO, BYTES]),
    (Poll3(), b"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04", [EURO, BYTES]),
    (
        Poll3(),
        b"\x00\x01\x02\xff4" + b"x" * 11,
        [EngineIOPacket(EngineIOPacketType.MESSAGE, "x" * 11)],
    ),
]

WRONG: list[tuple[PollFraming, bytes]] = [
    (Poll4(), b""),
    (Poll4(), b"abc"),
    (Poll4(), b"7"),
    (Poll4(), b"4a\x1e"),
    (Poll4(), b"b!"),
    (Poll4(), b"bAQI"),
    (Poll4(), b"4\xff"),
    (Poll4(), "٤".encode()),  # a digit, but not an ASCII one
    (Poll4(), b"6\x1e" * MAX_PACKETS + b"6"),
    (Poll3Text(), b""),
    (Poll3Text(), b"abc"),
    (Poll3Text(), b"6:4hell"),
    (Poll3Text(), b"6:4hello6"),
    (Poll3Text(), b"0:"),
    (Poll3Text(), b"-1:4"),
    (Poll3Text(), b"9999999999:4"),
    (Poll3Text(), "2:4😀".encode()),
    (Poll3Text(), "٢:4a".encode()),
    (Poll3Text(), b"1:6" * (MAX_PACKETS + 1)),
    (Poll3(), b""),
    (Poll3(), b"\x00"),
    (Poll3(), b"\x02\x01\xff4"),
    (Poll3(), b"\x00\x0a\xff4"),
    (Poll3(), b"\x00\x02\xff4"),
    (Poll3(), b"\x00\x00\xff"),
    (Poll3(), b"\x01\x02\xff\x02a"),
    (Poll3(), b"\x00\x02\xff4\xff"),
    (Poll3(), b"\x00" + b"\x09" * 10 + b"\xff4"),
    (Poll3(), b"\x00\x01\xff6" * (MAX_PACKETS + 1)),
]


def framed(framing: Any, packet: EngineIOPacket) -> bytes:
    """
    Return the frame of *packet*.
    """
    if isinstance(packet.data, bytes):
        return bytes(framing.binary(packet.data))
    return bytes(framing.text(encode_text(packet.kind, packet.data.encode())))


@pytest.mark.parametrize(("framing", "body", "packets"), TABLE)
def test_poll_bodies_round_trip(
    framing: PollFraming, body: bytes, packets: list[EngineIOPacket]
) -> None:
    """
    Packets are encoded as these bytes, and these bytes are parsed as the packets.
    """
    assert framing.packets(body) == packets
    assert framing.body(b"".join(framed(framing, packet) for packet in packets)) == body


@pytest.mark.parametrize(("framing", "body"), WRONG)
def test_malformed_bodies_are_refused(framing: PollFraming, body: bytes) -> None:
    """
    One error refuses the whole body.
    """
    with pytest.raises(RemoteProtocolError):
        framing.packets(body)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_truncated_bodies_are_refused(framing: PollFraming) -> None:
    """
    A body of revision 3 has lengths; one of revision 4 may end within a text, which cannot be
    detected.
    """
    packets = [HELLO, BYTES, EURO]
    body = framing.body(b"".join(framed(framing, packet) for packet in packets))
    for end in range(1, len(body)):
        try:
            found = framing.packets(body[:end])
        except RemoteProtocolError:
            continue
        assert found[:-1] == packets[: len(found) - 1]
        if not isinstance(framing, Poll4):
            assert found == packets[: len(found)]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("limit", [1, 7, 20, 1000])
def test_portions_have_whole_packets(framing: PollFraming, limit: int) -> None:
    """
    A portion has as many packets as fit, or one packet that is too large; it is empty while
    the first packet is incomplete.
    """
    packets = [
        HELLO,
        BYTES,
        EURO,
        EngineIOPacket(EngineIOPacketType.MESSAGE, "😀" * 9),
        EURO,
        EngineIOPacket(EngineIOPacketType.NOOP),
    ]
    frames = [framed(framing, packet) for packet in packets * 3]
    ends = [len(b"".join(frames[:count])) for count in range(1, len(frames) + 1)]
    whole = b"".join(frames)

    for there in range(1, len(whole) + 1):
        reached = [end for end in ends if end <= there]
        fitting = [end for end in reached if end <= limit] or reached[:1] or [0]
        assert framing.portion(whole[:there], limit) == fitting[-1]
        for count in (1, 2, 5, 100):
            assert framing.portion(whole[:there], limit, count) == fitting[:count][-1]


def test_responses_of_revision_3_are_text_unless_they_have_binary_data() -> None:
    """
    Clients that accept bytes get text as well, as from the official server; lengths count
    UTF-16 code units.
    """
    framing = Poll3()
    text = [HELLO, EURO, EngineIOPacket(EngineIOPacketType.MESSAGE, "😀")]
    frames = b"".join(framed(framing, packet) for packet in text)
    content_type, body = framing.response(frames)

    assert content_type == "text/plain; charset=UTF-8"
    assert Poll3Text().packets(body) == text
    assert body.endswith("3:4😀".encode())

    frames += framed(framing, BYTES)
    assert framing.response(frames) == ("application/octet-stream", frames)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1e"))
packet_values = st.one_of(
    st.builds(EngineIOPacket, st.sampled_from(EngineIOPacketType), texts),
    st.builds(EngineIOPacket, st.just(EngineIOPacketType.MESSAGE), st.binary()),
)


@pytest.mark.parametrize("framing", FRAMINGS)
@given(packets=st.lists(packet_values, min_size=1, max_size=5))
def test_any_packets_round_trip(framing: PollFraming, packets: list[EngineIOPacket]) -> None:
    """
    Order and content are preserved.
    """
    body = framing.body(b"".join(framed(framing, packet) for packet in packets))

    assert framing.packets(body) == packets


@pytest.mark.parametrize("framing", FRAMINGS)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(framing: PollFraming, body: bytes) -> None:
    """
    No other exception than RemoteProtocolError is raised.
    """
    try:
        packets = framing.packets(body)
    except RemoteProtocolError:
        return
    assert packets


@given(packets=st.lists(packet_values, min_size=1, max_size=5))
def test_python_engineio_parses_our_framing(packets: list[EngineIOPacket]) -> None:
    """
    python-engineio decodes the same packets from our body (revision 4).
    """
    body = Poll4().body(b"".join(framed(Poll4(), packet) for packet in packets))
    if any(packet.kind is not EngineIOPacketType.MESSAGE for packet in packets):
        return  # it parses JSON and numbers in other packets
    theirs = engineio.payload.Payload(encoded_payload=body.decode()).packets
    assert [packet.packet_type for packet in theirs] == [4] * len(packets)
    for ours, packet in zip(packets, theirs, strict=True):
        if isinstance(ours.data, bytes):
            assert packet.data == ours.data


@given(values=st.lists(st.one_of(st.binary(), st.dictionaries(texts, texts)), min_size=1))
def test_framing_of_python_engineio_is_parsed(values: list[Any]) -> None:
    """
    The same packets are found (revision 4).
    """
    payload = engineio.payload.Payload([engineio.packet.Packet(4, value) for value in values])

    found = Poll4().packets(payload.encode().encode())

    assert [packet.kind for packet in found] == [EngineIOPacketType.MESSAGE] * len(values)
    assert [packet.data for packet in found if isinstance(packet.data, bytes)] == [
        value for value in values if isinstance(value, bytes)
    ]


def test_websocket_messages_are_packets() -> None:
    """
    Revision 3 has the type in front of bytes as well. Clients that accept only text send and
    receive bytes as base64.
    """
    assert decode("4hello") == HELLO == decode3("4hello")
    assert decode(b"\x01\x02\x03\x04") == BYTES == decode3(b"\x04\x01\x02\x03\x04")
    assert decode("bAQIDBA==") == BYTES == decode3("b4AQIDBA==")
    assert Socket4().text(b"4hello") == b"\x81\x064hello"
    assert Socket4().binary(b"\x01") == b"\x82\x01\x01"
    assert Socket3().binary(b"\x01") == b"\x82\x02\x04\x01"
    assert Socket3(base64=True).binary(b"\x01\x02\x03\x04") == b"\x81\x0ab4AQIDBA=="
    assert Socket4(base64=True).binary(b"\x01\x02\x03\x04") == b"\x81\x09bAQIDBA=="
    for wrong in ("", "abc", "7", "٤", "b!"):
        with pytest.raises(RemoteProtocolError):
            decode(wrong)
    with pytest.raises(RemoteProtocolError):
        decode3("bAQIDBA==")
    for not_a_message in (b"", b"\x02", b"\x05a"):
        with pytest.raises(RemoteProtocolError):
            decode3(not_a_message)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_frames_of_polls_are_converted_for_a_websocket(framing: PollFraming) -> None:
    """
    NOOP packets are left out, as they only end a poll.
    """
    packets = [HELLO, EngineIOPacket(EngineIOPacketType.NOOP), BYTES, EURO]
    frames = b"".join(framed(framing, packet) for packet in packets)

    assert reframe(frames, framing, Socket4()) == b"".join(
        framed(Socket4(), packet) for packet in (HELLO, BYTES, EURO)
    )


def test_the_open_packet_describes_the_session() -> None:
    """
    Its times are in milliseconds.
    """
    assert open_payload("x", ["websocket"], 25, 0.5, 1000) == (
        b'{"sid":"x","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":500,'
        b'"maxPayload":1000}'
    )


def test_base64_is_the_standard_alphabet() -> None:
    """
    Binary packets use the standard alphabet, with padding (RFC 4648, section 4).
    """
    data = bytes(range(256))
    assert Poll4().binary(data) == b"b" + base64.b64encode(data) + b"\x1e"
