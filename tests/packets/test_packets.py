"""
Recorded packets of real publishers: as they were, and as bad networks and other senders have
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import av
import pytest

from rt_twisted.media.rtp.packet import HEADER
from rt_twisted.media.rtp.payload_registry import payload_of
from rt_twisted.media.sdp import SessionDescription, parse_sdp
from rt_twisted.media.unit import Track, Unit
from rt_twisted.rtsp.messages import InterleavedPacket, MessageParser
from rt_twisted.rtsp.presentation import announce
from tests.packets import DATA

NAMES = sorted(path.stem for path in DATA.glob("*.rtp"))
EMPTY_REPORT = bytes.fromhex("80c9000100000007")  # a receiver report without a source
STEP = 1000  # microseconds between two packets as they arrive

Packets = list[InterleavedPacket]


@dataclass(frozen=True, slots=True)
class Recording:
    """
    What one publisher sent.
    """

    description: SessionDescription
    wire: bytes
    packets: Packets

    def found(self, packets: Iterable[InterleavedPacket]) -> dict[int, list[Unit]]:
        """
        Return the units in *packets* by their tracks.
        """
        announced = announce("/cam", self.description)
        for index in range(len(announced.tracks)):
            announced.channels[index] = (2 * index, 2 * index + 1)
        reader = announced.reader()
        units: dict[int, list[Unit]] = {}
        described: tuple[Track, ...] = ()
        for number, packet in enumerate(packets):
            for part in reader.feed(packet.channel, packet.data, number * STEP):
                if isinstance(part, Unit):
                    assert part.track in {track.id for track in described if track.codec}
                    units.setdefault(part.track, []).append(part)
                else:
                    described = part
        return units


@pytest.fixture(params=NAMES)
def recording(request: pytest.FixtureRequest) -> Recording:
    """
    Return each of the recordings.
    """
    name: str = request.param
    wire = (DATA / f"{name}.rtp").read_bytes()
    description = parse_sdp((DATA / f"{name}.sdp").read_bytes())
    return Recording(description, wire, read(wire, len(wire)))


def read(wire: bytes, size: int) -> Packets:
    """
    Return the packets on a connection that is read *size* bytes at a time.
    """
    parser = MessageParser()
    parser.channels = frozenset(range(8))
    found: Packets = []
    for start in range(0, len(wire), size):
        for item in parser.feed(wire[start : start + size]):
            assert isinstance(item, InterleavedPacket)
            found.append(item)
    return found


def is_media(packet: InterleavedPacket) -> bool:
    return packet.channel % 2 == 0


def rewritten(
    packet: InterleavedPacket, sequence: int = 0, timestamp: int = 0
) -> InterleavedPacket:
    """
    Return a packet with larger numbers; those of reports and media are moved alike.
    """
    data = packet.data
    if not is_media(packet):
        if data[1] != 200:
            return packet
        moved = int.from_bytes(data[16:20]) + timestamp & 0xFFFFFFFF
        return InterleavedPacket(packet.channel, data[:16] + moved.to_bytes(4) + data[20:])
    head = (int.from_bytes(data[2:4]) + sequence & 0xFFFF).to_bytes(2)
    head += (int.from_bytes(data[4:8]) + timestamp & 0xFFFFFFFF).to_bytes(4)
    return InterleavedPacket(packet.channel, data[:2] + head + data[8:])


def decorated(packet: InterleavedPacket) -> InterleavedPacket:
    """
    Return a packet of media with padding, a header extension and two contributing sources.
    """
    if not is_media(packet):
        return packet
    data = packet.data
    head = bytes((data[0] | 0x32,)) + data[1:HEADER] + bytes(8) + b"\xbe\xde\0\1ext!"
    return InterleavedPacket(packet.channel, head + data[HEADER:] + b"\0\0\0\0\5")


def first(packets: Packets, channel: int) -> bytes:
    return next(packet.data for packet in packets if packet.channel == channel)


def to_sequence(last: int) -> Callable[[Packets], Packets]:
    """
    Return what moves the numbers of packets so that each track begins at *last*.
    """

    def moved(packets: Packets) -> Packets:
        shifts = {
            channel: last - int.from_bytes(first(packets, channel)[2:4])
            for channel in {packet.channel for packet in packets if is_media(packet)}
        }
        return [rewritten(packet, shifts.get(packet.channel, 0)) for packet in packets]

    return moved


def to_timestamp(last: int) -> Callable[[Packets], Packets]:
    """
    Return what moves the timestamps of packets so that each track begins at *last*.
    """

    def moved(packets: Packets) -> Packets:
        shifts = {}
        for channel in {packet.channel for packet in packets if is_media(packet)}:
            shifts[channel] = last - int.from_bytes(first(packets, channel)[4:8])
            shifts[channel + 1] = shifts[channel]
        return [rewritten(packet, 0, shifts.get(packet.channel, 0)) for packet in packets]

    return moved


def reordered(packets: Packets) -> Packets:
    """
    Return *packets* with each pair behind the first ones exchanged.
    """
    found = packets[:8]
    for start in range(8, len(packets) - 1, 2):
        found += [packets[start + 1], packets[start]]
    return found


def reports_last(packets: Packets) -> Packets:
    """
    Return *packets* with the first report of each track behind the first media of all.
    """
    start = 1 + max(
        next(index for index, packet in enumerate(packets) if packet.channel == channel)
        for channel in {packet.channel for packet in packets if is_media(packet)}
    )
    reports = [packet for packet in packets[:start] if not is_media(packet)]
    media = [packet for packet in packets[:start] if is_media(packet)]
    return [*media, *reports, *packets[start:]]


HARMLESS: dict[str, Callable[[Packets], Packets]] = {
    "duplicates": lambda packets: [packet for packet in packets for _ in range(2)],
    "reordered": reordered,
    "sequence numbers wrap": to_sequence(65_530),
    "timestamps wrap": to_timestamp(2**32 - 45_000),
    "media before reports": reports_last,
    "no report ever": lambda packets: [packet for packet in packets if is_media(packet)],
    "receiver reports": lambda packets: [
        InterleavedPacket(1, EMPTY_REPORT), InterleavedPacket(3, EMPTY_REPORT), *packets
    ],
    "padding, extension and sources": lambda packets: [*map(decorated, packets)],
    "another channel": lambda packets: [
        each for packet in packets for each in (packet, InterleavedPacket(9, packet.data))
    ],
}  # fmt: skip


def frames(units: dict[int, list[Unit]]) -> dict[int, list[tuple[bytes, bool]]]:
    return {track: [(unit.data, unit.key) for unit in each] for track, each in units.items()}


def test_a_recording_has_frames_of_each_track(recording: Recording) -> None:
    """
    In decoding order, each a little later than the one before; video begins at a keyframe.
    """
    found = recording.found(recording.packets)

    assert len(found) == len(recording.description.media)
    for track, units in found.items():
        assert len(units) > 5
        assert units[0].key
        steps = [after.dts - before.dts for before, after in pairwise(units)]
        assert all(0 < step < 500_000 for step in steps), (track, steps)


def test_a_connection_is_read_byte_by_byte(recording: Recording) -> None:
    """
    The same packets, however they are split.
    """
    assert read(recording.wire, 1) == recording.packets
    assert read(recording.wire, 1447) == recording.packets


@pytest.mark.parametrize("change", HARMLESS)
def test_what_changes_nothing(recording: Recording, change: str) -> None:
    """
    The same frames with the same steps between their times.
    """
    expected = recording.found(recording.packets)
    found = recording.found(HARMLESS[change](recording.packets))

    if change == "reordered":  # the last packet may wait for one that does not come
        for track, units in found.items():
            expected[track] = expected[track][: len(units)]
            assert len(units) > 4
    assert frames(found) == frames(expected)
    for track, units in found.items():
        if change in ("media before reports", "no report ever"):
            continue  # tracks are placed by other means
        begin, start = units[0].pts, expected[track][0].pts
        for unit, other in zip(units, expected[track], strict=True):
            assert abs((unit.pts - begin) - (other.pts - start)) <= STEP


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.02, 0.2])
def test_lost_packets(recording: Recording, seed: int, share: float) -> None:
    """
    What is left are frames as they were sent, in order, and video goes on at a keyframe.
    """
    random = Random(seed)
    expected = frames(recording.found(recording.packets))
    kept = [packet for packet in recording.packets if random.random() >= share]

    for track, units in recording.found(kept).items():
        known = expected[track]
        position = -1
        for data, key in frames({track: units})[track]:
            after = next(
                (index for index in range(position + 1, len(known)) if known[index] == (data, key)),
                None,
            )
            assert after is not None, "a frame that was not sent"
            if position >= 0 and after > position + 1:
                assert key, "a frame is missing before one that needs it"
            position = after


@pytest.mark.parametrize("seed", range(8))
def test_packets_that_are_damaged(recording: Recording, seed: int) -> None:
    """
    Any bytes may be wrong: no other error, and no frame that is larger than what arrived.
    """
    random = Random(seed)
    damaged: Packets = []
    for packet in recording.packets:
        data = bytearray(packet.data)
        for _ in range(random.choice((0, 0, 1, 3))):
            data[random.randrange(len(data))] = random.randrange(256)
        if random.random() < 0.1:
            del data[random.randrange(len(data)) :]
        damaged.append(InterleavedPacket(packet.channel, bytes(data)))

    arrived = sum([len(packet.data) for packet in damaged])
    for units in recording.found(damaged).values():
        assert sum([len(unit.data) for unit in units]) < 2 * arrived


@pytest.mark.parametrize("name", ["jpeg-pcmu", "gst-jpeg"])
def test_pictures_of_jpeg_can_be_decoded(name: str) -> None:
    """
    ffmpeg's have their tables in the packets, and GStreamer's, of quality 50, a value of Q.
    """
    description = parse_sdp((DATA / f"{name}.sdp").read_bytes())
    wire = (DATA / f"{name}.rtp").read_bytes()
    units = Recording(description, wire, read(wire, len(wire))).found(read(wire, len(wire)))[1]
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}

    for unit in units:
        [picture] = decoder.decode(av.Packet(unit.data))
        assert isinstance(picture, av.VideoFrame)
        assert (picture.width, picture.height) == (160, 120)
    assert len(units) > 5


def test_each_payload_format_is_recorded() -> None:
    """
    All that publishers of ffmpeg and GStreamer send.
    """
    media = [
        each for name in NAMES for each in parse_sdp((DATA / f"{name}.sdp").read_bytes()).media
    ]
    assert {payload_of(each.encoding).codec for each in media} >= {
        "h264", "h265", "vp8", "vp9", "av1", "jpeg", "aac", "opus", "vorbis", "mp3", "pcmu", "pcma",
    }  # fmt: skip
    assert "mp4a-latm" in {each.encoding for each in media}
