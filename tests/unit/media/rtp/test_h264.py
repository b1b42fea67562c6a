"""
H264 in RTP packets.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.h264 import parse_avcc_sets
from rt_twisted.media.rtp.access_units import PACKET, AccessUnitBuffer, plan_packets
from rt_twisted.media.rtp.h264 import H264Depacketizer, H264Payload
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import MediaFrame
from rt_twisted.media.unit import Kind, Track

SPS = b64decode("Z0LADdoFB+wEQAAAAwBAAAAMo8UKqA==")
PPS = b64decode("aM4PyA==")
LARGE = b64decode("Z0LAHtoCgL/lwEQAAAMABAAAAwDKPFi6gA==")  # 640x360
IDR = b"\x65\x88idr"
SLICE = b"\x41\x9aslice"
SECOND = b"\x41\x1asecond"  # first_mb_in_slice is not 0
TRACK = Track(1, Kind.VIDEO, "h264")


def joined(*nals: bytes) -> bytes:
    return b"".join([len(nal).to_bytes(4) + nal for nal in nals])


class Sender:
    """
    Feeds payloads to a depacketizer.
    """

    def __init__(self, *sets: bytes) -> None:
        self.depacketizer = H264Depacketizer(1, sets)
        self.frames: list[MediaFrame] = []

    def send(self, time: int, *payloads: bytes, marked: Iterable[int] = (-1,)) -> Sender:
        """
        Send a picture; *marked* are the indexes of the packets with a marker.
        """
        marks = {index % len(payloads) for index in marked}
        for index, payload in enumerate(payloads):
            packet = RtpPacket(96, index in marks, 0, time, 1, payload)
            self.depacketizer.feed(packet, self.frames)
        return self

    @property
    def data(self) -> list[bytes]:
        return [frame.data for frame in self.frames]


def test_parameter_sets_of_the_description() -> None:
    """
    They are in the track, and not in the frames.
    """
    sender = Sender(SPS, PPS)
    sender.send(0, IDR).send(1, b"\x09\xf0", SPS, PPS, SLICE).send(2, SLICE).send(3, SLICE)

    assert sender.data == [joined(IDR), joined(SLICE), joined(SLICE), joined(SLICE)]
    assert [frame.key for frame in sender.frames] == [True, False, False, False]
    assert parse_avcc_sets(sender.frames[0].track.private) == ([SPS], [PPS])
    assert sender.frames[0].track.size == (320, 240)


def test_several_parameter_sets_in_the_stream() -> None:
    """
    All of them are kept by their ids; the frames before them cannot be decoded.
    """
    other = b"\x68\x5a\x0f\xc8"
    sender = Sender()
    sender.send(0, SLICE).send(1, SPS, PPS, other, IDR).send(2, SLICE).send(3, SLICE)

    assert sender.data == [joined(IDR), joined(SLICE)] or len(sender.data) == 3
    assert parse_avcc_sets(sender.frames[0].track.private) == ([SPS], [PPS, other])


def test_another_size_is_another_track() -> None:
    """
    From the keyframe on that has the parameter sets.
    """
    sender = Sender(SPS, PPS)
    sender.send(0, IDR).send(1, SLICE).send(2, SLICE).send(3, LARGE, PPS, IDR).send(4, SLICE)

    sizes = [frame.track.size for frame in sender.frames]
    assert sizes == [(320, 240)] * 3 + [(640, 360)] * 2


@pytest.mark.parametrize("marked", [(-1,), (0, 1, 2), ()])
def test_markers_are_a_hint(marked: tuple[int, ...]) -> None:
    """
    On the last packet, on every slice, or never.
    """
    sender = Sender(SPS, PPS)
    sender.send(0, IDR, b"\x65\x18more", b"\x65\x18end", marked=marked)
    for time in range(1, 6):
        sender.send(time, SLICE, SECOND, SECOND, marked=marked)
    sender.send(6, SLICE)

    assert sender.data[0] == joined(IDR, b"\x65\x18more", b"\x65\x18end")
    assert sender.data[1:6] == [joined(SLICE, SECOND, SECOND)] * 5


def test_start_codes_within_a_packet() -> None:
    """
    Some cameras send them; the NAL units between are found.
    """
    packet = SPS + b"\0\0\0\1" + PPS + b"\0\0\0\1" + IDR
    sender = Sender().send(0, packet).send(1, SLICE)

    assert sender.data == [joined(IDR)]


def fragments(nal: bytes) -> list[bytes]:
    """
    Return a NAL unit in three FU-A packets.
    """
    head = nal[0] & 0xE0 | 28
    kind = nal[0] & 31
    third = len(nal) // 3
    return [
        bytes((head, kind | 0x80)) + nal[1:third],
        bytes((head, kind)) + nal[third : 2 * third],
        bytes((head, kind | 0x40)) + nal[2 * third :],
    ]


def test_fragments_and_aggregates() -> None:
    """
    FU-A and STAP-A.
    """
    long = b"\x65\x88" + bytes(range(100))
    aggregate = b"\x18" + b"".join([len(nal).to_bytes(2) + nal for nal in (b"\x06sei", SLICE)])
    sender = Sender(SPS, PPS).send(0, *fragments(long)).send(1, aggregate).send(2, SLICE)

    assert sender.data[:2] == [joined(long), joined(b"\x06sei", SLICE)]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_picture_with_a_gap_is_dropped(missing: int) -> None:
    """
    Nothing is shown before the next keyframe, whichever packet is lost.
    """
    sender = Sender(SPS, PPS).send(0, IDR).send(1, SLICE).send(2, SLICE)
    packets = fragments(b"\x65\x88" + bytes(100))
    for index, payload in enumerate(packets):
        if index == missing:
            sender.depacketizer.lost()
        else:
            sender.send(3, payload, marked=(0,) if index == 2 else ())
    sender.send(4, SLICE).send(5, IDR).send(6, SLICE).send(7, SLICE)

    assert [frame.timestamp for frame in sender.frames[:3]] == [0, 1, 2]
    assert sender.frames[3].timestamp == 5


def test_fragments_without_their_start() -> None:
    """
    They are no keyframe; a start within another NAL unit drops that one.
    """
    first, middle, last = fragments(b"\x65\x88" + bytes(100))
    sender = Sender(SPS, PPS).send(0, middle, last).send(1, SLICE).send(2, SLICE)
    assert sender.frames == []

    sender.send(3, first, first, middle, last).send(4, IDR).send(5, SLICE)
    assert sender.frames[0].timestamp == 4


@pytest.mark.parametrize(
    "payload", [b"\x18\0\xff\x41", b"\x19abc", b"\x1d\x80abc", b"\x1c\x80", b"\x3f"]
)
def test_malformed_payloads(payload: bytes) -> None:
    """
    The depacketizer raises its own error, and can go on.
    """
    sender = Sender(SPS, PPS)
    with pytest.raises(RemoteProtocolError):
        sender.send(0, payload)
    sender.depacketizer.lost()
    sender.send(1, IDR).send(2, SLICE).send(3, SLICE)
    assert sender.frames[0].timestamp == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=20), st.booleans())))
def test_no_payload_raises_anything_else(packets: list[tuple[int, bytes, bool]]) -> None:
    """
    Whatever the packets are.
    """
    depacketizer = H264Depacketizer(1, (SPS, PPS))
    for time, payload, marker in packets:
        try:
            depacketizer.feed(RtpPacket(96, marker, 0, time, 1, payload), [])
        except RemoteProtocolError:
            depacketizer.lost()


NALS = st.lists(st.integers(1, 5000), min_size=1, max_size=8)


@given(NALS)
@example([1, 1, 4198, 1])
def test_each_picture_has_as_many_packets_as_its_unit_counts(sizes: list[int]) -> None:
    """
    One for each 1,400 bytes or part of them, and the depacketizer finds the same picture.
    """
    nals = [b"\x41\x80" + b"\x02" * size for size in sizes]
    data = joined(*nals)
    count = -(-len(data) // PACKET)

    payloads = H264Payload().packetize(TRACK, data, count)

    assert len(payloads) == count == sum([plan.count for plan in plan_packets(nals)])
    assert max(map(len, payloads)) < 3 * PACKET
    sender = Sender(SPS, PPS).send(0, IDR).send(1, *payloads).send(2, SLICE).send(3, SLICE)
    assert sender.data[1] == data


def test_a_picture_is_bounded() -> None:
    """
    One that is too large, or has too many NAL units, is dropped.
    """
    buffer = AccessUnitBuffer()
    buffer.begin(0)
    for _ in range(512):
        buffer.add(SLICE)
    with pytest.raises(RemoteProtocolError, match="more than 512 NAL units"):
        buffer.add(SLICE)
    assert buffer.begin(1) is None
    for _ in range(4):
        buffer.add(bytes(1_000_000) + b"x")
    with pytest.raises(RemoteProtocolError, match="a frame is larger"):
        buffer.add(bytes(1_000_000) + b"x")
    assert buffer.begin(2) is None
    assert buffer.dropped == 2
