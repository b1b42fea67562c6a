"""
The RTP payload formats, judged by GStreamer: what we send it reads, and what it sends we read.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rt_twisted.formats.rtp_interleaved import RtpInterleaved, WireTrack
from rt_twisted.media.h265 import parse_hvcc_sets
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.rtp.jitter_buffer import JitterBuffer
from rt_twisted.media.rtp.packet import parse_packet
from rt_twisted.media.rtp.payload_format import MediaFrame
from rt_twisted.media.rtp.payload_registry import BY_CODEC, payload_of
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.timeline import Timeline
from rt_twisted.media.unit import Kind, Track, Unit
from tests.live_streams import live
from tests.real.conftest import PATIENCE, require
from tests.real.media_programs import encode, require_element

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10", "-bf", "0")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
VPX = ("-deadline", "realtime", "-cpu-used", "8", "-g", "10", "-b:v", "1M")
PICTURES = ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-huffman", "default", "-q:v", "3")
VIDEO_ONLY, AUDIO_ONLY = ("-an",), ("-vn",)
CODECS = {
    "h264": (*X264, *VIDEO_ONLY),
    "h265": (*X265, "-x265-params", "log-level=0:keyint=10:bframes=0", *VIDEO_ONLY),
    "vp8": ("-c:v", "libvpx", *VPX, *VIDEO_ONLY),
    "vp9": ("-c:v", "libvpx-vp9", *VPX, *VIDEO_ONLY),
    "jpeg": (*PICTURES, *VIDEO_ONLY),
    "opus": ("-c:a", "libopus", *AUDIO_ONLY),
    "aac": ("-c:a", "aac", "-b:a", "192k", *AUDIO_ONLY),
    "vorbis": ("-c:a", "libvorbis", "-ac", "2", *AUDIO_ONLY),
    "mp3": ("-c:a", "libmp3lame", *AUDIO_ONLY),
    "pcmu": ("-c:a", "pcm_mulaw", "-ar", "8000", *AUDIO_ONLY),
    "pcma": ("-c:a", "pcm_alaw", "-ar", "8000", *AUDIO_ONLY),
}
# The depayloader, and the caps behind it in which frames are as units have them.
READERS = {
    "h264": ("rtph264depay", "video/x-h264,stream-format=avc,alignment=au"),
    "h265": ("rtph265depay", "video/x-h265,stream-format=hvc1,alignment=au"),
    "vp8": ("rtpvp8depay", "video/x-vp8"),
    "vp9": ("rtpvp9depay", "video/x-vp9"),
    "jpeg": ("rtpjpegdepay", "image/jpeg"),
    "opus": ("rtpopusdepay", "audio/x-opus"),
    "aac": ("rtpmp4gdepay", "audio/mpeg"),
    "vorbis": ("rtpvorbisdepay", "audio/x-vorbis"),
    "mp3": ("rtpmpadepay", "audio/mpeg"),
    "pcmu": ("rtppcmudepay", "audio/x-mulaw"),
    "pcma": ("rtppcmadepay", "audio/x-alaw"),
}
# The payloaders of GStreamer, behind what reads the frames from a file of Matroska.
WRITERS = {
    "h264": "h264parse ! rtph264pay",
    "h265": "h265parse ! rtph265pay",
    "vp8": "rtpvp8pay",
    "vp9": "rtpvp9pay",
    "jpeg": "rtpjpegpay",
    "opus": "rtpopuspay",
    "aac": "aacparse ! rtpmp4gpay",
    "latm": "aacparse ! rtpmp4apay",
    "vorbis": "rtpvorbispay",
    "mp3": "mpegaudioparse ! rtpmpapay",
    "pcmu": "rtppcmupay",
    "pcma": "rtppcmapay",
}
# A picture ends when the next one begins. The last packet of Vorbis, of up to 15 frames, is not
# sent.
MISSING = {"vorbis": 15}
_FIELD = re.compile(r'([\w-]+)=\((\w+)\)(?:"((?:[^"\\]|\\.)*)"|([^,;]*))')


def frames_of(codec: str, folder: Path) -> tuple[Track, list[Unit]]:
    """
    Return a track of *codec* and its frames, from a file that is in *folder* then.
    """
    parts = MatroskaReader().feed(encode(folder / "source.mkv", *CODECS[codec], seconds=3))
    [track] = next(part for part in parts if isinstance(part, tuple))
    units = [part for part in parts if isinstance(part, Unit)]
    if codec in ("pcmu", "pcma"):  # Matroska has another name for it
        track = Track(1, Kind.AUDIO, codec, rate=8000, channels=1)
    assert track.codec == codec
    return track, units


def run(*pipeline: str) -> str:
    """
    Run a pipeline up to its end, and return what it prints.
    """
    words = " ".join(pipeline).split()
    launch = require("gst-launch-1.0", "gstreamer1.0-tools")
    done = subprocess.run(
        [launch, "-v", *words], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert "WARNING" not in done.stdout + done.stderr, done.stderr
    return done.stdout


def packets_in(data: bytes) -> Iterator[bytes]:
    """
    Return the packets behind lengths of two bytes (RFC 4571).
    """
    position = 0
    while position < len(data):
        start = position + 2
        position = start + int.from_bytes(data[position:start])
        yield data[start:position]


def packets_of(track: Track, units: Sequence[Unit]) -> bytes:
    """
    Return what a player is sent of *units*, in the framing of RFC 4571.
    """
    format = RtpInterleaved("cam", (WireTrack(track, 96, 0, 1),))
    wire = b"".join([format.encode(each) for each in live([(track,), *counted(units)])])
    found, position = [], 0
    while position < len(wire):
        end = position + 4 + int.from_bytes(wire[position + 2 : position + 4])
        if wire[position + 1] == 0:
            found.append(wire[position + 2 : end])
        position = end
    return b"".join(found)


def counted(units: Sequence[Unit]) -> list[Unit]:
    """
    Return *units* with how many packets precede each.
    """
    timeline = Timeline(0, {})
    return [timeline.place(unit) for unit in units]


def caps_of(track: Track) -> str:
    """
    Return what the description says of *track*, as GStreamer writes it.
    """
    payload = BY_CODEC[track.codec]
    name, rate, *channels = payload.mapping(track).split("/")
    fields = {
        "media": track.kind.value,
        "clock-rate": f"(int){rate}",
        "encoding-name": name.upper(),
        "payload": "(int)96",
    }
    if channels:
        fields["encoding-params"] = f"(string){channels[0]}"
    for part in filter(None, payload.parameters(track).split(";")):
        name, _, value = part.strip().partition("=")
        fields[name.lower()] = f'(string)"{value}"'
    return "application/x-rtp-stream," + ",".join(
        [f"{name}={value}" for name, value in fields.items()]
    )


def described(printed: str) -> MediaDescription:
    """
    Return what the caps of a payloader say, as in a session description.
    """
    caps = [line for line in printed.splitlines() if "pay0.GstPad:src" in line][-1]
    fields = {
        name: re.sub(r"\\(.)", r"\1", quoted or plain)
        for name, _, quoted, plain in _FIELD.findall(caps)
    }
    text = fields.get("encoding-params", "")
    return MediaDescription(
        fields["media"],
        int(fields["payload"]),
        fields["encoding-name"].lower(),
        int(fields["clock-rate"]),
        int(text) if text.isdigit() else 1,
        fields,
    )


def scan(picture: bytes) -> bytes:
    """
    Return the entropy-coded data of a JPEG.
    """
    start = picture.index(b"\xff\xda")
    return picture[start + 2 + int.from_bytes(picture[start + 2 : start + 4]) :]


@pytest.mark.parametrize("codec", CODECS)
def test_gstreamer_reads_what_players_are_sent(codec: str, tmp_path: Path) -> None:
    """
    Byte for byte; headers of JPEG are made anew from those of the packets.
    """
    element, caps = READERS[codec]
    require_element(element)
    track, units = frames_of(codec, tmp_path)
    (tmp_path / "packets").write_bytes(packets_of(track, units))

    run(
        f"filesrc location={tmp_path}/packets ! {caps_of(track)} ! rtpstreamdepay ! {element}",
        f"! {caps} ! multifilesink location={tmp_path}/frame-%05d",
    )

    found = [path.read_bytes() for path in sorted(tmp_path.glob("frame-*"))]
    sent = [unit.data for unit in units]
    if codec == "jpeg":
        found, sent = [*map(scan, found)], [*map(scan, sent)]
    if codec == "vorbis":
        del found[:3]  # the headers
    assert b"".join(found) == b"".join(sent)
    assert len(sent) > 20


@pytest.mark.parametrize("codec", WRITERS)
def test_what_gstreamer_sends_is_read(codec: str, tmp_path: Path) -> None:
    """
    Byte for byte, as a publisher's packets; with the configuration in the description.
    """
    for word in WRITERS[codec].split(" ! "):
        require_element(word)
    track, units = frames_of("aac" if codec == "latm" else codec, tmp_path)
    source = f"filesrc location={tmp_path}/source.mkv ! matroskademux ! {WRITERS[codec]} name=pay0"
    printed = run(f"{source} ! rtpstreampay ! filesink location={tmp_path}/packets")

    media = described(printed)
    depacketizer = payload_of(media.encoding).depacketizer(media, track.id)
    buffer = JitterBuffer()
    found: list[MediaFrame] = []
    for packet in packets_in((tmp_path / "packets").read_bytes()):
        for each in buffer.feed(parse_packet(packet), 0):
            assert each is not None
            depacketizer.feed(each, found)

    sent, read = [unit.data for unit in units], [frame.data for frame in found]
    if codec == "jpeg":
        sent, read = [*map(scan, sent)], [*map(scan, read)]
    if codec in ("pcmu", "pcma"):
        sent, read = [b"".join(sent)], [b"".join(read)]
    assert read == sent[: len(read)]
    assert len(read) >= len(sent) - MISSING.get(codec, 1)
    assert found[-1].track.codec == track.codec
    private = found[-1].track.private
    if codec in ("h264", "aac"):
        assert private == track.private
    if codec == "h265":
        assert parse_hvcc_sets(private) == parse_hvcc_sets(track.private)
    if codec == "latm":  # GStreamer leaves out what follows the first two bytes
        assert private == track.private[:2]
