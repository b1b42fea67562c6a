"""
Files of ffmpeg with wrong bytes in them, as a publisher may send them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats.fmp4 import FragmentedMP4
from rt_twisted.formats.rtp_interleaved import RtpInterleaved
from rt_twisted.formats.webm import WebM
from rt_twisted.media.containers import find_reader
from rt_twisted.media.live_run import LiveRun
from rt_twisted.media.mpeg_audio import MpegAudioReader
from rt_twisted.media.ogg import OggReader
from rt_twisted.media.unit import MAX_HEAD, Head, Unit, read
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Message
from rt_twisted.rtsp.presentation import offer
from tests.live_streams import messages
from tests.real.media_programs import encode

SMALL = ("-s", "160x120", "-r", "10")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params")
VPX = ("-deadline", "realtime", "-cpu-used", "8", "-g", "10")
FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"
FILES = {
    "vp8.webm": (*SMALL, "-c:v", "libvpx", *VPX, "-c:a", "libopus"),
    "vp9.webm": (*SMALL, "-c:v", "libvpx-vp9", *VPX, "-c:a", "libvorbis"),
    "h264.mkv": (*SMALL, *X264, "-bf", "2", "-c:a", "aac"),
    "h265.mkv": (*SMALL, *X265, "log-level=error", "-c:a", "libmp3lame"),
    "h264.mp4": (*SMALL, *X264, "-c:a", "aac", "-movflags", FRAGMENTS),
    "jpeg.mpjpeg": (*SMALL, "-an", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-f", "mpjpeg"),
    "opus.ogg": ("-vn", "-c:a", "libopus"),
    "sound.mp3": ("-vn", "-c:a", "libmp3lame"),
    "sound.aac": ("-vn", "-c:a", "aac"),
}
ROUNDS = 40
ODD = (0, 1, 127, 128, 255)


def damaged(random: Random, data: bytes) -> bytes:
    """
    Return *data* with some bytes changed, removed, added, or repeated.
    """
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 20))):
        at = random.randrange(min(len(found), random.choice((600, 5000, len(found)))))
        size = random.choice((1, 2, 4, 8, 100, 1000))
        match random.randrange(4):
            case 0:
                found[at] = random.choice((*ODD, random.randrange(256)))
            case 1:
                del found[at : at + size]
                found += b"\0"
            case 2:
                found[at:at] = random.randbytes(size) if size < 10 else bytes((255,)) * 8
            case _:
                other = random.randrange(len(found))
                found[at:at] = found[other : other + size]
    return bytes(found)


def reader_of(name: str, data: bytes) -> Any:
    if name.endswith(".ogg"):
        return OggReader()
    if name.endswith((".mp3", ".aac")):
        return MpegAudioReader()
    kind = "multipart/x-mixed-replace; boundary=ffmpeg" if name.endswith(".mpjpeg") else ""
    return find_reader(data[:8], kind, float)


def published(name: str, data: bytes, step: int) -> list[Message]:
    """
    Return what is published of *data* up to its end or its first mistake.
    """
    reader = reader_of(name, data)
    if reader is None:
        return []
    run = LiveRun("r", 0.5)
    things: list[Any] = []
    try:
        for start in range(0, len(data), step):
            things += run.feed(reader.feed(data[start : start + step]))
    except RemoteProtocolError as error:
        assert error.reason
    return messages(things)


def shown(found: list[Message]) -> None:
    """
    Encode what was published for viewers of all kinds.
    """
    heads = [head for head in map(read, found) if isinstance(head, Head)]
    encoders: list[Callable[[Message], bytes]] = []
    for head in heads[:1]:
        for format in (WebM(), FragmentedMP4()):
            try:
                format.content_type_of(head)
            except HttpError:
                continue
            encoders.append(format.encode)
        try:
            offered = offer("/cam", "cam", head)
        except RemoteProtocolError:
            continue
        assert offered.describe("127.0.0.1", "1")
        offered.channels.update({index: (2 * index, 2 * index + 1) for index in range(2)})
        offered.channels = {
            index: pair for index, pair in offered.channels.items() if index < len(offered.tracks)
        }
        encoders.append(RtpInterleaved("cam", offered.wire_tracks()).encode)
    for encode_message in encoders:
        for message in found:
            try:
                encode_message(message)
            except (RemoteProtocolError, HttpError) as error:
                assert error.reason


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    """
    A reader raises its own error and no other, however its input is split, and publishes no
    more than it was sent; what it publishes can be shown.
    """
    whole = encode(tmp_path / name, *FILES[name])
    assert len(published(name, whole, len(whole))) > 2
    some = 0
    for seed in range(ROUNDS):
        random = Random(seed)
        data = damaged(random, whole)
        found = published(name, data, random.choice((7, 100, 1447, 65536)))
        units = [unit for unit in map(read, found) if isinstance(unit, Unit)]
        assert sum([len(unit.data) for unit in units]) <= 2 * len(data) + MAX_HEAD
        some += bool(units)
        shown(found)
    assert some
