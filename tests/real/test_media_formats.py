"""
Containers, judged by other programs: ffmpeg, mkvmerge, PyAV and Chromium.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import pytest

from rt_twisted.formats.fmp4 import FragmentedMP4
from rt_twisted.formats.webm import WebM
from rt_twisted.media.live_run import LiveRun
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.mp4_reader import Mp4Reader
from rt_twisted.media.unit import Head, Unit, read
from rt_twisted.model.message import Mark, Message
from tests.fakes import started
from tests.live_streams import live, messages, replay
from tests.real.conftest import Browser
from tests.real.media_programs import decoded, encode, identified, probe

VP8 = ("-c:v", "libvpx", "-b:v", "300k", "-deadline", "realtime", "-g", "25")
VP9 = ("-c:v", "libvpx-vp9", "-b:v", "300k", "-deadline", "realtime", "-cpu-used", "8", "-g", "25")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-g", "25")
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "25")
H265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params")
OPUS = ("-c:a", "libopus")

READ = {
    "vp8-opus.webm": (*VP8, *OPUS),
    "clusters.webm": (*VP8, *OPUS, "-cluster_time_limit", "200"),
    "live.webm": (*VP8, *OPUS, "-live", "1"),
    "vp9-vorbis.webm": (*VP9, "-c:a", "libvorbis"),
    "av1-opus.mkv": (*AV1, *OPUS),
    "h264-aac.mkv": (*H264, "-bf", "0", "-c:a", "aac"),
    "h264-b.mkv": (*H264, "-bf", "3", "-c:a", "aac"),
    "h265-b.mkv": (*H265, "log-level=0:keyint=25:bframes=3", "-c:a", "libmp3lame"),
    "only-audio.webm": ("-map", "1:a", *OPUS),
}
MP4 = {
    "h264-aac.mkv": READ["h264-aac.mkv"],
    "h264-b.mkv": READ["h264-b.mkv"],
    "h265-b.mkv": READ["h265-b.mkv"],
    "vp9-opus.webm": (*VP9, *OPUS),
    "av1-opus.mkv": READ["av1-opus.mkv"],
}
PLAYED = ("h264-aac.mkv", "h264-b.mkv", "vp9-opus.webm", "av1-opus.mkv")  # H265 needs hardware
SENT = ("vp8-opus.webm", "vp9-vorbis.webm", "av1-opus.mkv")


@pytest.mark.parametrize("name", READ)
def test_what_ffmpeg_writes_is_read_as_ffmpeg_reads_it(name: str, tmp_path: Path) -> None:
    """
    Times, sizes and keyframes of all packets are those of ffprobe, in the same order.
    """
    data = encode(tmp_path / name, *READ[name])
    tracks, *units = MatroskaReader().feed(data)
    assert isinstance(tracks, tuple)
    # ffmpeg subtracts what decoders of Opus discard; here times are the container's.
    delays = [6500 if track.codec == "opus" else 0 for track in tracks]
    streams = {track.id: index for index, track in enumerate(tracks)}
    packets = probe(tmp_path / name)

    assert len(units) == len(packets)
    for unit, packet in zip(units, packets, strict=True):
        assert isinstance(unit, Unit)
        stream = streams[unit.track]
        assert (stream, len(unit.data), unit.key) == (packet.stream, packet.size, packet.key)
        assert abs(unit.pts - delays[stream] - 1_000_000 * packet.pts) <= 1000


@pytest.mark.parametrize("name", ["h264-b.mkv", "h265-b.mkv"])
def test_decoding_times_are_those_of_the_encoder(name: str, tmp_path: Path) -> None:
    """
    What is computed from Matroska's presentation times is what the encoder said, apart
    from one shift of all.
    """
    encode(tmp_path / "said.mp4", *READ[name], "-video_track_timescale", "1000000")
    said = [packet for packet in probe(tmp_path / "said.mp4") if packet.stream == 0]
    units = [
        unit
        for unit in MatroskaReader().feed(encode(tmp_path / name, *READ[name]))
        if isinstance(unit, Unit) and unit.track == 1
    ]
    delays = {
        round(unit.dts - unit.pts - 1_000_000 * ((packet.dts or 0) - packet.pts), -4)
        for unit, packet in zip(units, said, strict=True)
    }
    assert len(delays) == 1


@pytest.mark.parametrize("name", SENT)
def test_subscribers_who_join_anywhere_decode_all_they_are_sent(name: str, tmp_path: Path) -> None:
    """
    ffprobe counts each frame without a message, mkvmerge does not warn, and the first
    picture is a keyframe.
    """
    found = live(MatroskaReader().feed(encode(tmp_path / name, *READ[name])))
    for first in (0, 3, len(found) // 3):
        path = tmp_path / f"joined-{first}.webm"
        path.write_bytes(started(WebM(), replay(found[first:])))
        head = next(i for i, one in enumerate(found) if i >= first and one.mark is Mark.HEAD)
        kinds = [unit.track for unit in map(read, found[head:]) if isinstance(unit, Unit)]

        # The first packet of Vorbis gives no samples.
        primed = 1 if "vorbis" in name else 0
        assert decoded(path) == [kinds.count(1), kinds.count(2) - primed]
        assert identified(path)[0][:2] == name[:2].upper()
        with av.open(str(path)) as container:
            picture = next(container.decode(video=0))
            assert isinstance(picture, av.VideoFrame)
            assert picture.key_frame


def test_a_stream_after_a_skip_decodes_without_a_hole(tmp_path: Path) -> None:
    """
    A subscriber that misses a group goes on at the next head; no time runs backward.
    """
    path = tmp_path / "skipped.webm"
    path.write_bytes(skipped(tmp_path))
    assert decoded(path) == [50, len([packet for packet in probe(path) if packet.stream == 1])]
    for stream in (0, 1):
        times = [packet.pts for packet in probe(path) if packet.stream == stream]
        steps = [after - before for before, after in itertools.pairwise(times)]
        assert min(steps) > 0
        assert max(steps) < 0.07


@pytest.mark.parametrize("name", MP4)
def test_subscribers_of_mp4_decode_all_they_are_sent(name: str, tmp_path: Path) -> None:
    """
    ffprobe counts each frame without a message, from each head on; decoding times increase.
    """
    found = live(MatroskaReader().feed(encode(tmp_path / name, *MP4[name])))
    for first in (0, 3, len(found) // 3):
        path = tmp_path / f"joined-{first}.mp4"
        # Frames that are reordered are decoded before time 0 in a file.
        path.write_bytes(started(FragmentedMP4(shift=1_000_000), replay(found[first:])))
        head = next(i for i, one in enumerate(found) if i >= first and one.mark is Mark.HEAD)
        kinds = [unit.track for unit in map(read, found[head:]) if isinstance(unit, Unit)]

        assert decoded(path) == [kinds.count(1), kinds.count(2)]
        packets = [packet for packet in probe(path) if packet.stream == 0]
        times = [packet.dts or 0 for packet in packets]
        assert times == sorted(times)
        assert packets[0].key
        with av.open(str(path)) as container:
            picture = next(container.decode(video=0))
            assert isinstance(picture, av.VideoFrame)
            assert (picture.width, picture.height, picture.key_frame) == (320, 240, True)


@pytest.mark.parametrize(
    "flags",
    [
        "frag_every_frame+empty_moov+default_base_moof",
        "frag_keyframe+empty_moov",
        "frag_keyframe+delay_moov",
    ],
)
def test_fragmented_mp4_of_ffmpeg_is_read_as_ffmpeg_reads_it(flags: str, tmp_path: Path) -> None:
    """
    Times, sizes and keyframes of all packets are those of ffprobe, and what subscribers are
    sent of it decodes.
    """
    name = tmp_path / "pushed.mp4"
    parts = Mp4Reader().feed(encode(name, *H264, "-bf", "2", "-c:a", "aac", "-movflags", flags))
    packets = probe(name)
    for stream in (0, 1):
        found = [part for part in parts if isinstance(part, Unit) and part.track == stream + 1]
        said = [packet for packet in packets if packet.stream == stream]
        assert [(len(unit.data), unit.key) for unit in found] == [
            (packet.size, packet.key) for packet in said
        ]
        for unit, packet in zip(found, said, strict=True):
            assert abs(unit.pts - 1_000_000 * packet.pts) < 10
            assert abs(unit.dts - 1_000_000 * (packet.dts or 0)) < 10
    path = tmp_path / "sent.mp4"
    things = LiveRun("r", 1.0).feed(parts)
    path.write_bytes(started(FragmentedMP4(), replay(messages(things))))
    assert decoded(path)[0] == 50


@pytest.mark.parametrize("offset", [(), ("-output_ts_offset", "3600")])
def test_a_publisher_whose_times_jump(offset: tuple[str, ...], tmp_path: Path) -> None:
    """
    Back to 0 and an hour forward: all pictures decode, without a hole. Where the tracks end
    apart, they stay together, and one of them has a longer step.
    """
    first = encode(tmp_path / "first.webm", *VP8, *OPUS)
    second = encode(tmp_path / "second.webm", *VP8, *OPUS, *offset)
    path = tmp_path / "jumped.webm"
    things = LiveRun("r", 0.0).feed(MatroskaReader().feed(first + second))
    path.write_bytes(started(WebM(), replay(messages(things))))

    times = [packet.pts for packet in probe(path) if packet.stream == 0]
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) == 100
    assert min(steps) > 0.01
    assert max(steps) < 0.08
    assert decoded(path)[0] == 100


def skipped(folder: Path) -> bytes:
    """
    Return a stream of three seconds whose second group was skipped.
    """
    found = live(MatroskaReader().feed(encode(folder / "long.webm", *VP8, *OPUS, seconds=3)))
    heads = [index for index, one in enumerate(found) if one.mark is Mark.HEAD]
    format = WebM().resumed(found[heads[1] - 1], found[heads[2]])
    before = started(WebM(), replay(found[: heads[1]]))
    return before + b"".join(map(format.encode, found[heads[2] :]))


@pytest.mark.parametrize(
    ("codec", "arguments"),
    [
        ("V_VP8", VP8),
        ("V_VP9", VP9),
        ("V_AV1", AV1),
        ("V_MPEG4/ISO/AVC", (*H264, "-bf", "0")),
    ],
)
def test_bare_frames_of_each_codec(codec: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    """
    A program that publishes encoded pictures needs no container: all of them decode.
    """
    container = tmp_path / ("bare.h264" if codec.endswith("AVC") else "bare.webm")
    data = encode(container, *arguments, "-an")
    if container.suffix == ".h264":
        # Each access unit begins with a delimiter.
        encode(container, *arguments, "-an", "-x264-params", "aud=1")
        start = b"\0\0\0\x01\x09"
        frames = [start + part for part in container.read_bytes().split(start)[1:]]
    else:
        frames = [unit.data for unit in MatroskaReader().feed(data) if isinstance(unit, Unit)]
    path = tmp_path / "wrapped.webm"
    path.write_bytes(started(WebM(codec), replay(messages(frames))))

    assert decoded(path) == [50]
    with av.open(str(path)) as opened:
        assert (opened.streams.video[0].width, opened.streams.video[0].height) == (320, 240)


def test_messages_that_are_ffmpegs_http_chunks(tmp_path: Path) -> None:
    """
    The ancestor's example, one cluster with a keyframe in each chunk, decodes from anywhere.
    """
    data = encode(tmp_path / "each.webm", *VP8[:-1], "1", "-an", "-live", "1")
    cluster = b"\x1f\x43\xb6\x75"
    head, *clusters = data.split(cluster)
    found = messages([head, *(cluster + part for part in clusters)])
    for first in (0, 5):
        path = tmp_path / f"from-{first}.webm"
        path.write_bytes(started(WebM(), replay(found[first:])))
        with av.open(str(path)) as container:
            pictures = list(container.decode(video=0))
        assert len(pictures) >= 40
        assert (pictures[0].width, pictures[0].height) == (320, 240)


@pytest.fixture
def files() -> Iterator[dict[str, tuple[str, bytes]]]:
    """
    Content types and bodies by path, served at the address in the entry "".
    """
    served: dict[str, tuple[str, bytes]] = {"/": ("text/html", b"<video muted></video>")}

    class ServedFile(BaseHTTPRequestHandler):
        """
        Responds with what is served.
        """

        def do_GET(self) -> None:
            kind, body = served.get(self.path, ("text/plain", b""))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), ServedFile) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        served[""] = (f"http://127.0.0.1:{server.server_port}", b"")
        yield served
        server.shutdown()
        thread.join()


PLAY = """(async () => {
  const source = new MediaSource(), video = document.querySelector("video");
  video.src = URL.createObjectURL(source);
  await new Promise((done) => source.addEventListener("sourceopen", done));
  const response = await fetch("/stream"), type = response.headers.get("Content-Type");
  const buffer = source.addSourceBuffer(type), bytes = new Uint8Array(await response.arrayBuffer());
  for (let start = 0; start < bytes.length; start += 5000) {
    buffer.appendBuffer(bytes.subarray(start, start + 5000));
    await new Promise((done) => buffer.addEventListener("updateend", done));
  }
  if (source.readyState !== "open") return "failed: " + video.error?.message;
  const ranges = [];
  for (let i = 0; i < video.buffered.length; i += 1)
    ranges.push([video.buffered.start(i), video.buffered.end(i)]);
  video.currentTime = video.buffered.start(0);
  await video.play();
  return JSON.stringify({ type, ranges });
})()"""


def played(
    browser: Browser, files: dict[str, tuple[str, bytes]], kind: str, stream: bytes
) -> list[tuple[float, float]]:
    """
    Append a stream to a MediaSource, play it to its end, and return the buffered ranges.
    """
    files["/stream"] = (kind, stream)
    browser.open(files[""][0] + "/")
    result = browser.evaluate(PLAY)
    assert result.startswith("{"), result
    video = 'document.querySelector("video")'
    end = f"{video}.buffered.end({video}.buffered.length - 1)"
    browser.wait_for(f"{video}.currentTime > {end} - 0.3")
    assert browser.evaluate(f"{video}.getVideoPlaybackQuality().totalVideoFrames") > 20
    ranges: list[tuple[float, float]] = browser.evaluate(
        f"[...Array({video}.buffered.length).keys()]"
        f".map((i) => [{video}.buffered.start(i), {video}.buffered.end(i)])"
    )
    return ranges


def content_type(found: list[Message]) -> str:
    head = next(thing for thing in map(read, found) if isinstance(thing, Head))
    return WebM().content_type_of(head)


@pytest.mark.parametrize("name", SENT)
def test_chromium_plays_what_a_late_subscriber_is_sent(
    name: str, tmp_path: Path, browser: Browser, files: dict[str, tuple[str, bytes]]
) -> None:
    """
    MediaSource, the strictest reader, accepts the codec strings and every cluster.
    """
    found = live(MatroskaReader().feed(encode(tmp_path / name, *READ[name])))[3:]
    ranges = played(browser, files, content_type(found), started(WebM(), replay(found)))

    assert len(ranges) == 1
    assert ranges[0][1] - ranges[0][0] > 0.9


def test_chromium_plays_times_that_begin_with_the_wall_clock(
    tmp_path: Path, browser: Browser, files: dict[str, tuple[str, bytes]]
) -> None:
    """
    A run's times may begin 57 years after zero.
    """
    found = live(MatroskaReader().feed(encode(tmp_path / "a.webm", *VP8, *OPUS)))
    stream = started(WebM(shift=1_800_000_000_000_000), replay(found))
    ranges = played(browser, files, 'video/webm; codecs="vp8,opus"', stream)

    assert len(ranges) == 1
    assert ranges[0][0] > 1_700_000_000


@pytest.mark.parametrize("name", PLAYED)
def test_chromium_plays_mp4(
    name: str, tmp_path: Path, browser: Browser, files: dict[str, tuple[str, bytes]]
) -> None:
    """
    MediaSource rejects what ffprobe accepts, such as a box that is two bytes short.
    """
    found = live(MatroskaReader().feed(encode(tmp_path / name, *MP4[name])))[3:]
    head = next(thing for thing in map(read, found) if isinstance(thing, Head))
    format = FragmentedMP4()
    ranges = played(browser, files, format.content_type_of(head), started(format, replay(found)))

    assert len(ranges) == 1
    assert ranges[0][1] - ranges[0][0] > 0.9


@pytest.mark.parametrize("shift", [0, 60_000_000, 1_800_000_000_000_000])
def test_chromium_plays_a_stream_as_source(
    shift: int, tmp_path: Path, browser: Browser, files: dict[str, tuple[str, bytes]]
) -> None:
    """
    A `src` attribute is enough, wherever the times begin.
    """
    found = live(MatroskaReader().feed(encode(tmp_path / "a.webm", *VP8, *OPUS)))
    files["/stream"] = ("video/webm", started(WebM(shift=shift), replay(found)))
    browser.open(files[""][0] + "/")
    video = 'document.querySelector("video")'
    browser.evaluate(f'({video}.src = "/stream", {video}.play(), 0)')
    browser.wait_for(f"{video}.error || {video}.getVideoPlaybackQuality().totalVideoFrames > 20")

    assert browser.evaluate(f"{video}.error") is None
    assert browser.evaluate(f"{video}.currentTime") >= shift / 1_000_000


def test_chromium_plays_over_a_skip(
    tmp_path: Path, browser: Browser, files: dict[str, tuple[str, bytes]]
) -> None:
    """
    There is one buffered range: MediaSource stalls at a hole for ever.
    """
    ranges = played(browser, files, 'video/webm; codecs="vp8,opus"', skipped(tmp_path))

    assert len(ranges) == 1
    assert ranges[0][1] - ranges[0][0] > 1.9
