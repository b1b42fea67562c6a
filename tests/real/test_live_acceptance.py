"""
The ways in which programs send WebM to one URL, each with a viewer: ffmpeg of Debian and a newer
one, curl, and GStreamer's file by curl.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, StartDaemon, require
from tests.real.live_programs import (
    QUICK,
    ROUTES,
    STATS,
    VP8,
    Camera,
    is_live,
    output,
    start,
    video,
    viewer,
    wait_for,
)
from tests.real.media_programs import decoded, identified, probe, require_element

__all__ = ["start", "viewer"]  # fixtures

SMALL = ("-f", "lavfi", "-i", "testsrc=size=320x240:rate=30")
LARGE = ("-f", "lavfi", "-i", "testsrc=size=1280x720:rate=10")
TONE = ("-f", "lavfi", "-i", "sine=sample_rate=48000")
OPUS = ("-g", "10", "-c:a", "libopus", "-f", "webm")


def newer_ffmpeg() -> str:
    """
    Return the ffmpeg of PyPI's imageio-ffmpeg; skip the test without it, and fail it under CI.
    """
    try:
        import imageio_ffmpeg
    except ImportError:
        return require("imageio-ffmpeg", "PyPI's imageio-ffmpeg")
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def test_each_picture_a_keyframe(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    One cluster in each HTTP chunk, as in uwsgi-realtime: a viewer gets all pictures.
    """
    server = daemon(*ROUTES, STATS, *QUICK)
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")
    encoded = ("-t", "4", *VP8[:2], "-g", "1", "-b:v", "1M", "-f", "webm")
    arguments = ("-v", "error", "-re", *SMALL, *encoded, f"{server.url}/cam.webm")

    output(start("ffmpeg", "ffmpeg", *arguments))

    assert output(seen) == '200 video/webm; codecs="vp8"'
    assert decoded(tmp_path / "seen.webm") == [120]
    assert identified(tmp_path / "seen.webm") == ["VP8"]
    assert all(packet.key for packet in probe(tmp_path / "seen.webm"))


@pytest.mark.parametrize(
    ("find", "options"),
    [
        (lambda: require("ffmpeg", "ffmpeg"), ("-chunked_post", "0")),
        (newer_ffmpeg, ("-method", "PUT")),
    ],
)
def test_large_pictures_and_sound(
    find: Callable[[], str],
    options: tuple[str, str],
    daemon: StartDaemon,
    start: Camera,
    viewer: Camera,
    tmp_path: Path,
) -> None:
    """
    Clusters end within HTTP chunks, or there are none; a late viewer begins at a keyframe.
    """
    server = daemon(*ROUTES, STATS, *QUICK)
    inputs = ("-re", *LARGE, "-re", *TONE, "-t", "4")
    arguments = ("-v", "error", *inputs, *VP8, *OPUS, *options, f"{server.url}/cam.webm")
    publisher = start(find(), "ffmpeg", *arguments)
    wait_for(lambda: is_live(server))
    time.sleep(1)
    late = viewer(f"{server.url}/cam.webm", "late.webm")

    output(publisher)

    assert output(late) == '200 video/webm; codecs="vp8,opus"'
    [pictures, sounds] = decoded(tmp_path / "late.webm")
    assert pictures > 15
    assert sounds > 30
    assert identified(tmp_path / "late.webm") == ["VP8", "Opus"]
    assert video(probe(tmp_path / "late.webm"))[0].key


def test_curl_sends_what_it_is_piped(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    `-T -` waits for 100, sends chunks, and gets the response.
    """
    server = daemon(*ROUTES, STATS, *QUICK)
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")
    ffmpeg, curl = require("ffmpeg", "ffmpeg"), require("curl", "curl")
    inputs = ("-re", *SMALL, "-re", *TONE, "-t", "4")
    source = subprocess.Popen(
        [ffmpeg, "-v", "error", *inputs, *VP8, *OPUS, "-"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    sent = ("-sS", "-T", "-", "-H", "Content-Type: video/webm", "-w", "%{http_code}")
    done = subprocess.run(
        [curl, *sent, f"{server.url}/cam.webm"],
        stdin=source.stdout,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    source.communicate()

    assert (done.returncode, done.stdout) == (0, '{"status": "ok"}\n200')
    assert output(seen).startswith("200 ")
    assert decoded(tmp_path / "seen.webm")[0] == 120


def test_a_file_of_gstreamer_by_curl(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Its clusters have no size, and its texts end with NUL.
    """
    require_element("webmmux")
    pipeline = (
        "videotestsrc num-buffers=75 ! video/x-raw,width=320,height=240,framerate=25/1"
        " ! vp8enc deadline=1 keyframe-max-dist=25 auto-alt-ref=false ! webmmux streamable=true"
        f" ! filesink location={tmp_path}/gst.webm"
    )
    output(start("gst-launch-1.0", "gstreamer1.0-tools", "-q", *pipeline.split()))
    server = daemon(*ROUTES, STATS, *QUICK)
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")

    sent = ("-sS", "-H", "Transfer-Encoding: chunked", "-T", tmp_path / "gst.webm")
    output(start("curl", "curl", *sent, f"{server.url}/cam.webm"))

    assert output(seen).startswith("200 ")
    assert decoded(tmp_path / "seen.webm") == [75]
    assert identified(tmp_path / "seen.webm") == ["VP8"]
