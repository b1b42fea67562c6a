"""
Publishers and viewers of live streams, for tests with real programs.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.real.conftest import PATIENCE, Serve, Server, free_port, require
from tests.real.media_programs import Packet, encode

VP8 = ("-c:v", "libvpx", "-b:v", "300k", "-deadline", "realtime", "-cpu-used", "8")
STREAM = (*VP8, "-g", "50", "-c:a", "libopus")  # a keyframe each two seconds
ROUTES = ("--route=GET ^/cam.webm$ webm:cam", "--route=^/cam.webm$ istream:cam")
QUICK = ("--live-timeout=8", "--live-grace=2")  # ffmpeg sends a cluster at a time, each two seconds
LONGEST = 60.0  # seconds that `camera` can publish
STATS = "--route=^/stats$ stats:full"

Camera = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Camera]:
    """
    Starts programs that end with the test.
    """
    started: list[subprocess.Popen[bytes]] = []

    def run(program: str, package: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [require(program, package), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def rtsp_camera(serve: Serve) -> tuple[Server, str]:
    """
    Start a camera with an RTSP server of GStreamer, and return it with its URL.
    """
    python = "/usr/bin/python3"
    check = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run([python, "-c", check], capture_output=True).returncode:
        require("GstRtspServer", "gir1.2-gst-rtsp-server-1.0")
    port = free_port()
    script = Path(__file__).with_name("rtsp_camera.py")
    camera = serve([python, str(script), str(port)], port)
    return camera, f"rtsp://user:p%40ss@127.0.0.1:{port}/cam"


@pytest.fixture
def camera(start: Camera, tmp_path_factory: pytest.TempPathFactory) -> Camera:
    """
    Publishes a test picture and a tone to a URL in real time, for up to a minute.

    They are encoded once: on a busy machine, encoding takes longer than the pictures last.
    """
    film = tmp_path_factory.getbasetemp() / "film.webm"
    if not film.exists():
        encode(film, *STREAM, seconds=LONGEST)

    def run(url: str, seconds: float, *options: str) -> subprocess.Popen[bytes]:
        assert seconds <= LONGEST
        stream = ("-re", "-i", film, "-t", str(seconds), "-c", "copy", "-f", "webm", *options)
        return start("ffmpeg", "ffmpeg", "-v", "error", *stream, "-method", "PUT", url)

    return run


@pytest.fixture
def viewer(start: Camera, tmp_path: Path) -> Camera:
    """
    Saves what is at a URL to a file of `tmp_path`, and prints the status and the media type.
    """

    def run(url: str, name: str, *options: str) -> subprocess.Popen[bytes]:
        shown = ("-w", "%{http_code} %{content_type}", "-o", tmp_path / name)
        return start("curl", "curl", "-sN", *shown, *options, url)

    return run


def output(process: subprocess.Popen[bytes]) -> str:
    """
    Return what a program prints up to its end; it must not fail.
    """
    printed = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode == 0, printed
    return printed


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def stats(server: Server) -> dict[str, dict[str, int]]:
    with urlopen(f"{server.url}/stats", timeout=PATIENCE) as response:
        found: dict[str, dict[str, int]] = json.load(response)
    return found


def is_live(server: Server) -> bool:
    """
    Return whether *server* has received a keyframe.
    """
    return stats(server)["history"]["live"] > 0


def video(packets: list[Packet]) -> list[Packet]:
    return [packet for packet in packets if packet.stream == 0]


def largest_step(packets: list[Packet]) -> float:
    """
    Return the largest difference between the times of two pictures, in seconds.
    """
    times = [packet.pts for packet in video(packets)]
    steps = [after - before for before, after in pairwise(times)]
    assert min(steps) > 0
    return max(steps)
