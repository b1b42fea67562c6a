"""
AV1 in RTP packets: the aggregation header and what it says about OBUs.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.av1 import MAX_OBUS, read_leb128, read_unit, split_obus, write_leb128
from rt_twisted.media.rtp.av1 import Av1Depacketizer, Av1Payload
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import MediaFrame
from rt_twisted.media.unit import Kind, Track

SEQUENCE = bytes.fromhex("0800000003b4ff712be401")  # 160x120; OBUs here have no size
KEY = b"\x30\x10key"
DELTA = b"\x30\x30delta"
TRACK = Track(1, Kind.VIDEO, "av1")


def stored(*obus: bytes) -> bytes:
    """
    Return OBUs with their sizes.
    """
    return b"".join([bytes((obu[0] | 2, len(obu) - 1)) + obu[1:] for obu in obus])


class Sender:
    """
    Feeds payloads to a depacketizer.
    """

    def __init__(self, max_unit: int = 1 << 20) -> None:
        self.depacketizer = Av1Depacketizer(1, max_unit)
        self.frames: list[MediaFrame] = []

    def send(self, time: int, *payloads: bytes, marker: bool = True) -> Sender:
        """
        Send a temporal unit; the last packet has the marker.
        """
        for index, payload in enumerate(payloads):
            last = marker and index == len(payloads) - 1
            self.depacketizer.feed(RtpPacket(96, last, 0, time, 1, payload), self.frames)
        return self

    def key(self, time: int = 0) -> Sender:
        return self.send(time, b"\x28" + bytes((len(SEQUENCE),)) + SEQUENCE + KEY)

    @property
    def data(self) -> list[bytes]:
        return [frame.data for frame in self.frames]


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param((b"\x28\x0b" + SEQUENCE + KEY,), id="two elements, the last without length"),
        pytest.param((b"\x08\x0b" + SEQUENCE + b"\x05" + KEY,), id="all with their length"),
        pytest.param((b"\x18" + SEQUENCE, b"\x10" + KEY), id="one in each packet"),
        pytest.param((b"\x38\x02\x12\0\x0b" + SEQUENCE + KEY,), id="with a temporal delimiter"),
        pytest.param(
            (b"\x68\x0b" + SEQUENCE + KEY[:2], b"\xd0" + KEY[2:3], b"\x90" + KEY[3:]),
            id="a frame in three parts",
        ),
        pytest.param((b"\x48\x03" + SEQUENCE[:3], b"\xa0\x08" + SEQUENCE[3:] + KEY), id="both"),
        pytest.param((b"\x28\x0c" + stored(SEQUENCE) + stored(KEY),), id="OBUs with their size"),
        pytest.param((b"\x38\x0b" + SEQUENCE + b"\x05" + KEY + b"\x78\0\0",), id="padding"),
        pytest.param((b"\x28\x0b" + SEQUENCE + KEY, b""), id="an empty packet"),
    ],
)
def test_elements_of_packets(payloads: tuple[bytes, ...]) -> None:
    """
    The OBUs of a temporal unit, however they are packed, as containers store them.
    """
    [frame] = Sender().send(7, *payloads).frames

    assert frame.data == stored(SEQUENCE, KEY)
    assert frame.key
    assert frame.timestamp == 7
    assert frame.track.size == (160, 120)
    assert frame.track.private == read_unit(frame.data).record


def test_extensions_stay() -> None:
    """
    The byte of temporal and spatial layers is part of the header.
    """
    layered = b"\x34\x08\x30delta"
    sender = Sender().key().send(1, b"\x10" + layered)

    assert sender.data[1] == b"\x36\x08\x06\x30delta"


@pytest.mark.parametrize("marker", [True, False])
def test_units_end_with_their_timestamp(marker: bool) -> None:
    """
    Also if no packet has a marker.
    """
    sender = Sender()
    for time in range(3):
        sender.send(time, b"\x28\x0b" + SEQUENCE + KEY, marker=marker)
    assert len(sender.frames) == (3 if marker else 2)


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param((b"\x90" + DELTA,), id="an end without its start"),
        pytest.param((b"\x50" + DELTA,), id="a start without its end"),
        pytest.param((b"\x50" + DELTA, b"\x10" + DELTA), id="a start while one is open"),
    ],
)
def test_a_unit_with_a_gap_is_dropped(payloads: tuple[bytes, ...]) -> None:
    """
    Nothing is shown before the next keyframe.
    """
    sender = Sender().key().send(1, *payloads).send(2, b"\x10" + DELTA)
    assert len(sender.frames) == 1

    sender.key(3).send(4, b"\x10" + DELTA)
    assert [frame.timestamp for frame in sender.frames] == [0, 3, 4]


def test_a_lost_packet() -> None:
    """
    A keyframe without its sequence header, which may have been lost, does not begin a stream.
    """
    sender = Sender().key()
    sender.depacketizer.lost()
    sender.send(1, b"\x10" + DELTA).send(2, b"\x10" + KEY).send(3, b"\x10" + DELTA)
    assert len(sender.frames) == 1
    sender.send(4, b"\x18" + SEQUENCE, marker=False)
    sender.depacketizer.lost()
    sender.send(4, b"\x10" + KEY)
    assert len(sender.frames) == 1
    assert len(sender.key(5).frames) == 2


@pytest.mark.parametrize(
    "payload", [b"\x20\x05abc", b"\x00\x85", b"\x10\xb0\x10", b"\x10\x34", b"\x10\x0a\x7f"]
)
def test_malformed_payloads(payload: bytes) -> None:
    """
    The depacketizer raises its own error, and can go on.
    """
    sender = Sender().key()
    with pytest.raises(RemoteProtocolError):
        sender.send(1, payload)
    sender.depacketizer.lost()
    assert len(sender.key(2).frames) == 2


def test_a_unit_is_bounded() -> None:
    """
    In bytes, whole or in parts, and in OBUs.
    """
    for payloads in (
        (b"\x10" + DELTA * 40,),
        (b"\x50" + DELTA * 10, *([b"\xd0" + DELTA * 10] * 3)),
        (b"\x00" + (b"\x06" + DELTA[:6]) * 30,),
    ):
        with pytest.raises(RemoteProtocolError, match="larger than 200 bytes"):
            Sender(200).send(0, *payloads)
    with pytest.raises(RemoteProtocolError, match=f"more than {MAX_OBUS} OBUs"):
        Sender().send(0, b"\x00" + b"\x01\x28" * (MAX_OBUS + 1))


@given(
    st.lists(st.binary(max_size=3000).map(lambda data: b"\x28" + data), min_size=1, max_size=6),
    st.integers(1, 12),
)
def test_any_obus_can_be_sent(obus: list[bytes], count: int) -> None:
    """
    In no more packets than asked for, and what is read is what was sent.
    """
    unit = b"".join([bytes((obu[0] | 2,)) + write_leb128(len(obu) - 1) + obu[1:] for obu in obus])
    key = stored(SEQUENCE, KEY)
    payload = Av1Payload()
    sender = Sender()

    packets = payload.packetize(TRACK, unit, count)
    sender.send(0, *payload.packetize(TRACK, key, 2)).send(1, *packets)

    assert 1 <= len(packets) <= count
    assert sender.data == [key, unit]


def test_a_coded_video_sequence_begins_with_a_keyframe() -> None:
    """
    Its first packet has the N bit, and no other one.
    """
    payload = Av1Payload()
    key = payload.packetize(TRACK, stored(b"\x10", SEQUENCE, KEY + bytes(100)), 3)
    delta = payload.packetize(TRACK, stored(DELTA + bytes(100)), 3)

    assert [packet[0] & 8 for packet in key + delta] == [8, 0, 0, 0, 0, 0]
    assert payload.packetize(TRACK, b"\x80", 1) == []
    assert payload.packetize(TRACK, stored(b"\x10"), 1) == []


def test_the_description_of_a_track() -> None:
    """
    Profile, level and tier of the configuration record.
    """
    record = read_unit(stored(SEQUENCE, KEY)).record
    assert Av1Payload().parameters(Track(1, Kind.VIDEO, "av1", record)) == (
        "profile=0;level-idx=0;tier=0"
    )
    assert Av1Payload().parameters(TRACK) == ""


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=30), st.booleans())))
def test_no_payload_raises_anything_else(packets: list[tuple[int, bytes, bool]]) -> None:
    """
    Whatever the packets are, also behind a keyframe.
    """
    depacketizer = Sender().key().depacketizer
    for time, payload, marker in packets:
        found: list[MediaFrame] = []
        try:
            depacketizer.feed(RtpPacket(96, marker, 0, time, 1, payload), found)
        except RemoteProtocolError:
            depacketizer.lost()
        for frame in found:
            assert [*split_obus(frame.data)]


@given(st.integers(0, 2**50))
def test_leb128(number: int) -> None:
    """
    What is written can be read.
    """
    data = write_leb128(number)
    assert read_leb128(b"x" + data + b"y", 1) == (number, 1 + len(data))
