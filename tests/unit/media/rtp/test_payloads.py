"""
The payload formats of all codecs, in both directions.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.av1 import read_unit
from rt_twisted.media.h264 import write_avcc
from rt_twisted.media.h265 import write_hvcc
from rt_twisted.media.rtp.clock import SessionClock
from rt_twisted.media.rtp.jpeg import JpegHeader, picture
from rt_twisted.media.rtp.latm import parse_mux_config
from rt_twisted.media.rtp.packet import RtpPacket, write_packet
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame
from rt_twisted.media.rtp.payload_registry import BY_CODEC, PAYLOADS, payload_of
from rt_twisted.media.rtp.reader import RtpTrack
from rt_twisted.media.sdp import MediaDescription, OfferedMedia, parse_sdp, write_sdp
from rt_twisted.media.timeline import PACKET
from rt_twisted.media.unit import MAX_UNIT, Kind, Track
from rt_twisted.media.vorbis import join_headers

AVCC = write_avcc(b64decode("Z0LADdoFB+wEQAAAAwBAAAAMo8UKqA=="), b64decode("aM4PyA=="))
VPS = b64decode("QAEMAf//AWAAAAMAkAAAAwAAAwA8lZQJ")
SPS = b64decode("QgEBAWAAAAMAkAAAAwAAAwA8oAoIDxZZZZKkyvAWoCAgAAADACAAAAMDIQ==")
PPS = b64decode("RAHBc9CJ")
HVCC = write_hvcc([VPS], [SPS], [PPS])
VORBIS = (
    b"\x01vorbis\0\0\0\0\2\x80\xbb\0\0" + bytes(12) + b"\xb8\1",
    b"\x03vorbis" + bytes(8) + b"\1",
    # One mode with short blocks, one with long ones, behind a count of two.
    b"\x05vorbis" + ((1 << 82 | 1 << 41) << 6 | 1 << 88 | 1).to_bytes(12, "little"),
)
MP3 = b"\xff\xfb\x90\x64" + bytes(range(1, 200)) + bytes(214)  # 417 bytes, 44.1 kHz
VP8 = b"\x10\0\0\x9d\x01\x2a\x40\x01\xf0\0"
VP9 = bytes.fromhex("824983420013f00ef0")
AV1 = (
    bytes.fromhex("0a0a00000003b4ff712be40132892710") + b"x" * 5000
)  # sequence header and keyframe
JPEG = picture(JpegHeader(1, (64, 48), 0, (b"l" * 64, b"c" * 64)), b"scan" * 1000)


def nal(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


TRACKS = {
    "h264": Track(1, Kind.VIDEO, "h264", AVCC, size=(320, 240)),
    "h265": Track(1, Kind.VIDEO, "h265", HVCC, size=(320, 240)),
    "vp8": Track(1, Kind.VIDEO, "vp8", size=(320, 240)),
    "vp9": Track(1, Kind.VIDEO, "vp9", size=(320, 240)),
    "av1": Track(1, Kind.VIDEO, "av1", read_unit(AV1).record, size=(160, 120)),
    "opus": Track(1, Kind.AUDIO, "opus", b"", 48000, 2),
    "aac": Track(1, Kind.AUDIO, "aac", bytes.fromhex("1190"), 48000, 2),
    "vorbis": Track(1, Kind.AUDIO, "vorbis", join_headers(VORBIS), 48000, 2),
    "mp3": Track(1, Kind.AUDIO, "mp3", rate=44100, channels=2),
    "pcmu": Track(1, Kind.AUDIO, "pcmu", rate=8000, channels=1),
    "pcma": Track(1, Kind.AUDIO, "pcma", rate=8000, channels=1),
    "jpeg": Track(1, Kind.VIDEO, "jpeg", size=(64, 48)),
}
FRAMES = {
    "h264": nal(b"\x65\x88" + b"x" * 5000),
    "h265": nal(b"\x26\x01\x80" + b"x" * 5000),
    "vp8": VP8 + b"x" * 5000,
    "vp9": VP9 + b"x" * 5000,
    "av1": AV1,
    "opus": b"\xfc" + b"x" * 200,
    "aac": b"x" * 3000,
    "vorbis": b"\0" + b"x" * 3000,
    "mp3": MP3,
    "pcmu": b"x" * 160,
    "pcma": b"x" * 160,
    "jpeg": JPEG,
}


def described(track: Track) -> MediaDescription:
    """
    Return the description of a track as a player reads it.
    """
    payload = BY_CODEC[track.codec]
    offered = OfferedMedia(
        track.kind.value, 96, payload.mapping(track), payload.parameters(track), "trackID=1"
    )
    [media] = parse_sdp(write_sdp("127.0.0.1", "1", [offered])).media
    return media


def depacketizer_of(codec: str, max_unit: int = MAX_UNIT) -> Depacketizer:
    media = described(TRACKS[codec])
    return payload_of(media.encoding).depacketizer(media, 1, max_unit)


def sent(codec: str, data: bytes, depacketizer: Depacketizer, time: int = 0) -> list[MediaFrame]:
    """
    Return what is found in the packets of a frame, and in one packet behind them.
    """
    count = -(-len(data) // PACKET)
    payloads = BY_CODEC[codec].packetize(TRACKS[codec], data, count)
    found: list[MediaFrame] = []
    for index, payload in enumerate(payloads):
        packet = RtpPacket(96, index == len(payloads) - 1, index, time, 1, payload)
        depacketizer.feed(packet, found)
    return found


def fed(depacketizer: Depacketizer, packet: RtpPacket) -> list[MediaFrame]:
    """
    Return what *packet* completes.
    """
    found: list[MediaFrame] = []
    depacketizer.feed(packet, found)
    return found


def test_each_codec_has_a_test() -> None:
    """
    Also the one that is added next.
    """
    assert TRACKS.keys() == BY_CODEC.keys()


@pytest.mark.parametrize("codec", sorted(TRACKS))
def test_what_is_sent_to_players_can_be_published(codec: str) -> None:
    """
    The same frame and the same track, as often as it is sent.
    """
    depacketizer = depacketizer_of(codec)
    found: list[MediaFrame] = []
    for time in range(4):
        found += sent(codec, FRAMES[codec], depacketizer, time)

    data = [frame.data for frame in found]
    assert data[:3] == [FRAMES[codec]] * 3
    assert all(frame.key for frame in found)
    track = found[0].track
    assert (track.codec, track.size, track.rate, track.channels) == (
        codec,
        TRACKS[codec].size,
        TRACKS[codec].rate,
        TRACKS[codec].channels,
    )
    if codec in ("h264", "h265", "av1", "aac", "vorbis"):
        assert track.private == TRACKS[codec].private


@pytest.mark.parametrize("codec", ["aac", "av1", "h264", "h265", "jpeg", "vorbis", "vp8", "vp9"])
def test_a_frame_with_a_gap_is_dropped(codec: str) -> None:
    """
    Video goes on at the next keyframe, audio at the next frame.
    """
    depacketizer = depacketizer_of(codec)
    count = -(-len(FRAMES[codec]) // PACKET)
    payloads = BY_CODEC[codec].packetize(TRACKS[codec], FRAMES[codec], count)
    assert len(payloads) > 2
    for missing in range(len(payloads)):
        found: list[MediaFrame] = []
        for index, payload in enumerate(payloads):
            if index == missing:
                depacketizer.lost()
                continue
            last = index == len(payloads) - 1
            depacketizer.feed(RtpPacket(96, last, index, missing, 1, payload), found)
        if missing < len(payloads) - 1:
            assert found == []
    depacketizer.lost()
    found = []
    for time in range(10, 14):
        found += sent(codec, FRAMES[codec], depacketizer, time)
    assert [frame.data for frame in found][-1] == FRAMES[codec]


@pytest.mark.parametrize("codec", ["aac", "av1", "h264", "h265", "jpeg", "vorbis", "vp8", "vp9"])
def test_a_frame_that_is_too_large_is_dropped(codec: str) -> None:
    """
    A frame of `max-unit` bytes or less still arrives; behind a larger one, the next keyframe.
    """
    small = min(len(FRAMES[codec]), len(b"scan" * 1000)) - 1
    depacketizer = depacketizer_of(codec, small)
    with pytest.raises(RemoteProtocolError, match=f"larger than {small} bytes"):
        sent(codec, FRAMES[codec], depacketizer)
    depacketizer.lost()

    exact = depacketizer_of(codec, len(FRAMES[codec]))
    found = []
    for time in range(4):
        found += sent(codec, FRAMES[codec], exact, time)
    assert [frame.data for frame in found][:3] == [FRAMES[codec]] * 3


MALFORMED = {
    "h264": b"\x1d\x80abc",
    "h265": b"\x64\x01abc",
    "vp8": b"\x80",
    "vp9": b"\xa0",
    "av1": b"\x20\x05a",
    "jpeg": bytes(4) + b"\xc8\0\x08\x08",
}


@pytest.mark.parametrize("codec", MALFORMED)
def test_a_frame_before_a_malformed_packet_is_found(codec: str) -> None:
    """
    A frame ends with its timestamp, as senders that set no marker have it.
    """
    depacketizer = depacketizer_of(codec)
    count = -(-len(FRAMES[codec]) // PACKET)
    found: list[MediaFrame] = []
    for payload in BY_CODEC[codec].packetize(TRACKS[codec], FRAMES[codec], count):
        depacketizer.feed(RtpPacket(96, False, 0, 0, 1, payload), found)
    assert found == []

    with pytest.raises(RemoteProtocolError):
        depacketizer.feed(RtpPacket(96, False, 0, 1, 1, MALFORMED[codec]), found)

    assert [frame.data for frame in found] == [FRAMES[codec]]


def packed(codec: str) -> bytes:
    """
    Return a packet with two whole frames and a third one that is truncated.
    """
    if codec == "aac":
        heads = b"".join([(size << 3).to_bytes(2) for size in (5, 5, 7)])
        return (48).to_bytes(2) + heads + b"aaaaabbbbbccc"
    if codec == "vorbis":
        frame = (5).to_bytes(2) + b"\0data"
        return b"RTT\x03" + frame + frame + frame[:5]
    return bytes(4) + MP3 + MP3 + b"neither a frame nor a part of one"


@pytest.mark.parametrize("codec", ["aac", "vorbis", "mp3"])
def test_frames_before_a_malformed_one_are_found(codec: str) -> None:
    """
    Those of the same packet.
    """
    depacketizer = depacketizer_of(codec)
    found: list[MediaFrame] = []
    with pytest.raises(RemoteProtocolError):
        depacketizer.feed(RtpPacket(96, True, 0, 0, 1, packed(codec)), found)

    assert len(found) == 2


def test_a_track_keeps_what_precedes_a_malformed_packet() -> None:
    """
    Its unit is published, and the malformed packet is counted.
    """
    depacketizer = depacketizer_of("aac")
    track = RtpTrack(1, 96, 48000, depacketizer, SessionClock())

    found = track.feed(write_packet(96, True, 0, 0, 1, packed("aac")), 0)

    assert [unit.data for _, unit in found] == [b"aaaaa", b"bbbbb"]
    assert track.malformed == 1
    assert track.problem == "AAC: an access unit is truncated"


def test_pictures_without_a_marker() -> None:
    """
    A picture of JPEG and an element of LATM end with their timestamps.
    """
    for depacketizer, payload in (
        (depacketizer_of("jpeg"), BY_CODEC["jpeg"].packetize(TRACKS["jpeg"], JPEG, 1)[0]),
        (PAYLOADS["mp4a-latm"].depacketizer(LATM, 1), b"\x05frame"),
    ):
        found = [
            each
            for time in range(3)
            for each in fed(depacketizer, RtpPacket(96, False, time, time, 1, payload))
        ]
        assert [frame.timestamp for frame in found] == [0, 1]


@pytest.mark.parametrize("encoding", sorted(PAYLOADS))
@given(packets=st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=30), st.booleans())))
def test_no_payload_raises_anything_else(
    encoding: str, packets: list[tuple[int, bytes, bool]]
) -> None:
    """
    Whatever the packets are.
    """
    depacketizer = PAYLOADS[encoding].depacketizer(MEDIA[encoding], 1)
    for time, payload, marker in packets:
        try:
            depacketizer.feed(RtpPacket(96, marker, 0, time, 1, payload), [])
        except RemoteProtocolError:
            depacketizer.lost()


LATM = MediaDescription(
    "audio", 96, "mp4a-latm", 44100, 1, {"cpresent": "0", "config": "40002410adca00"}
)
MEDIA = {described(track).encoding: described(track) for track in TRACKS.values()}
MEDIA["mp4a-latm"] = LATM


@pytest.mark.parametrize("encoding", sorted(PAYLOADS))
@given(
    values=st.dictionaries(
        st.sampled_from(
            ["config", "configuration", "cpresent", "sprop-parameter-sets", "sprop-sps", "mode"]
        ),
        st.binary(max_size=30).map(lambda data: b64encode(data).decode())
        | st.binary(max_size=30).map(bytes.hex)
        | st.sampled_from(["0", "x"]),
    )
)
def test_no_description_raises_anything_else(encoding: str, values: dict[str, str]) -> None:
    """
    A description that cannot be used is the publisher's mistake.
    """
    media = MediaDescription("video", 96, encoding, 90000, 1, values)
    try:
        PAYLOADS[encoding].depacketizer(media, 1)
    except RemoteProtocolError as error:
        assert error.reason


def test_aac_of_gstreamer() -> None:
    """
    LATM with the configuration in the description; an element may be in several packets.
    """
    depacketizer = PAYLOADS["mp4a-latm"].depacketizer(LATM, 1)
    frame = b"a" * 300
    element = b"\xff\x2d" + frame

    found = fed(depacketizer, RtpPacket(96, True, 0, 0, 1, element))
    found += fed(depacketizer, RtpPacket(96, False, 1, 1024, 1, element[:100]))
    found += fed(depacketizer, RtpPacket(96, True, 2, 1024, 1, element[100:]))
    depacketizer.lost()
    found += fed(depacketizer, RtpPacket(96, True, 4, 2048, 1, element))

    assert [each.data for each in found] == [frame] * 3
    track = found[0].track
    assert (track.codec, track.rate, track.channels, track.private) == (
        "aac",
        44100,
        1,
        bytes.fromhex("1208"),
    )
    assert found[0].duration == 1024


def test_configurations_of_latm() -> None:
    """
    Low complexity and HE-AAC; other versions are refused.
    """
    assert parse_mux_config(bytes.fromhex("40002410adca00")) == (bytes.fromhex("1208"), 1)
    with pytest.raises(RemoteProtocolError):
        parse_mux_config(b"\xc0" + bytes(6))
    with pytest.raises(RemoteProtocolError):
        parse_mux_config(b"\x40\0")


def test_several_aac_frames_in_one_packet() -> None:
    """
    Each has its own time.
    """
    depacketizer = depacketizer_of("aac")
    sizes = (5, 6, 7)
    heads = b"".join([(size << 3).to_bytes(2) for size in sizes])
    data = b"a" * 5 + b"b" * 6 + b"c" * 7
    packet = RtpPacket(96, True, 0, 2**32 - 1, 1, (48).to_bytes(2) + heads + data)

    found = fed(depacketizer, packet)

    assert [each.data for each in found] == [b"a" * 5, b"b" * 6, b"c" * 7]
    assert [each.timestamp - 2**32 + 1 for each in found] == [0, 1024, 2048]


def test_a_frame_of_mp3_that_is_too_long() -> None:
    """
    A frame over 64 KiB is left out: the offset of a part has two bytes.
    """
    assert BY_CODEC["mp3"].packetize(TRACKS["mp3"], bytes(70_000), 60) == []


def test_several_mp3_frames_in_one_packet_and_one_in_two() -> None:
    """
    As ffmpeg packs them.
    """
    depacketizer = depacketizer_of("mp3")
    found = fed(depacketizer, RtpPacket(14, True, 0, 0, 1, bytes(4) + MP3 + MP3))
    found += fed(depacketizer, RtpPacket(14, True, 1, 9000, 1, bytes(4) + MP3[:300]))
    found += fed(depacketizer, RtpPacket(14, True, 2, 9000, 1, b"\0\0\x01\x2c" + MP3[300:]))

    assert [each.data for each in found] == [MP3] * 3
    assert [each.timestamp for each in found] == [0, 2351, 9000]


@pytest.mark.parametrize(
    "descriptor",
    [
        bytes.fromhex("90808000"),
        bytes.fromhex("908005"),
        bytes.fromhex("90f0800112" + "34"),
        bytes.fromhex("10"),
    ],
)
def test_descriptors_of_vp8(descriptor: bytes) -> None:
    """
    With picture ids of one and of two bytes, and everything else.
    """
    depacketizer = depacketizer_of("vp8")
    [found] = fed(depacketizer, RtpPacket(96, True, 0, 0, 1, descriptor + VP8))
    assert found.data == VP8


def test_descriptors_of_vp9() -> None:
    """
    The scalability structure of GStreamer, and flexible mode.
    """
    depacketizer = depacketizer_of("vp9")
    structure = bytes.fromhex("0a18014000f00101")
    [found] = fed(depacketizer, RtpPacket(96, True, 0, 0, 1, structure + VP9))
    assert found.data == VP9
    flexible = bytes.fromhex("fc8001230304")  # id, layers, two references; begins and ends
    [found] = fed(depacketizer, RtpPacket(96, True, 1, 1, 1, flexible[:6] + VP9))
    assert found.data == VP9
