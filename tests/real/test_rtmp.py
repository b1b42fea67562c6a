"""
Live streams by RTMP: ffmpeg, librtmp and GStreamer publish; curl, ffprobe and Chromium look.
"""

from __future__ import annotations

import ctypes
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.pems import Authority
from tests.real import librtmp
from tests.real.conftest import PATIENCE, ROOT, Browser, Server, StartDaemon, free_port, require
from tests.real.live_programs import (
    STATS,
    Camera,
    is_live,
    largest_step,
    output,
    start,
    stats,
    video,
    viewer,
    wait_for,
)
from tests.real.media_programs import AUDIO, VIDEO, decoded, encode, probe, require_element
from tests.real.redis_server import redis
from tests.real.test_live_player import advances
from tests.real.test_workers import Start, broker, relay, start_workers
from tests.unit.rtmp.client import HANDSHAKE, command

__all__ = ["broker", "redis", "relay", "start", "start_workers", "viewer"]  # fixtures

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p")
STREAM = (*X264, "-g", "25", "-c:a", "aac")
ROUTES = (
    "--route=GET ^/live/(\\w+)$ mp4:subscribe=$1",
    "--route=^/live/(\\w+)$ rtmp:$1",
    STATS,
    "--live-timeout=4",
    "--live-grace=2",
)
H264_AAC = '200 video/mp4; codecs="avc1.42C00D,mp4a.40.2"'


def push(
    start: Camera, url: str, seconds: float = 4, codecs: tuple[str, ...] = STREAM, program: str = ""
) -> subprocess.Popen[bytes]:
    """
    Publish a test picture and a tone to *url* in real time.
    """
    encoded = ("-re", *VIDEO, "-re", *AUDIO, "-t", str(seconds), *codecs, "-f", "flv", url)
    return start(program or "ffmpeg", "ffmpeg", "-v", "fatal", *encoded)


def refusal(start: Camera, url: str) -> str:
    """
    Return what ffmpeg prints of the server's error.
    """
    encoded = (*VIDEO, "-t", "1", *X264, "-f", "flv", url)
    process = start("ffmpeg", "ffmpeg", "-v", "error", *encoded)
    printed: str = process.communicate(timeout=PATIENCE)[0].decode()
    assert process.returncode != 0
    return printed


def test_all_ways_in(daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path) -> None:
    """
    ffmpeg publishes to the port of HTTP, to that of TLS, to one for RTMP alone, and through
    HTTP. Every frame arrives, also with times above 0xFFFFFF milliseconds.
    """
    certificate, key = Authority(tmp_path).pair("server", "localhost", "127.0.0.1")
    secure, alone = free_port(), free_port()
    server = daemon(
        "--use-ssl=1", f"--ssl-port={secure}", f"--ssl-cert={certificate}", f"--ssl-key={key}",
        f"--rtmp-port={alone}", *ROUTES,
    )  # fmt: skip
    urls = {
        "plain": f"rtmp://127.0.0.1:{server.port}/live/plain",
        "secure": f"rtmps://127.0.0.1:{secure}/live/secure",
        "alone": f"rtmp://127.0.0.1:{alone}/live/alone",
        "tunnel": f"rtmpt://127.0.0.1:{server.port}/live/tunnel",
    }
    late = (*STREAM, "-output_ts_offset", "20000")
    viewers = [viewer(f"{server.url}/live/{name}", f"{name}.mp4") for name in urls]
    publishers = [
        push(start, url, codecs=late if name == "alone" else STREAM) for name, url in urls.items()
    ]

    for publisher in publishers:
        assert output(publisher) == ""
    for seen, name in zip(viewers, urls, strict=True):
        assert output(seen) == H264_AAC
        pictures, sounds = decoded(tmp_path / f"{name}.mp4")
        assert pictures == 100
        assert sounds > 180
        packets = probe(tmp_path / f"{name}.mp4")
        assert video(packets)[0].key
        assert largest_step(packets) < 0.09


def test_refusals(daemon: StartDaemon, start: Camera) -> None:
    """
    ffmpeg prints the sentence of the server: for a wrong key, a channel in use, and playing.
    """
    server = daemon("--publish-key=secret", *ROUTES)
    url = f"rtmp://127.0.0.1:{server.port}/live/cam"
    publisher = push(start, f"{url}?key=secret", 20)
    wait_for(lambda: is_live(server))

    assert "the channel 'cam' has a publisher" in refusal(start, f"{url}?key=secret")
    assert "wrong key" in refusal(start, f"{url}?key=wrong")
    player = start("ffmpeg", "ffmpeg", "-v", "error", "-i", url, "-f", "null", "-")
    printed = player.communicate(timeout=PATIENCE)[0].decode()
    assert f"streams are not played by RTMP: open {server.url}/live/cam" in printed
    assert publisher.poll() is None


def test_chromium_shows_a_stream(daemon: StartDaemon, start: Camera, browser: Browser) -> None:
    """
    The built-in page shows what the documented command publishes, by a script that is strict
    about times: MediaSource.
    """
    server = daemon()
    page = (ROOT / "docs" / "rtmp.md").read_text()
    [_, command, *_] = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    program, *arguments = shlex.split(
        command.replace("\\\n", " ").replace("8080", str(server.port))
    )
    start(program, "ffmpeg", "-v", "fatal", *arguments)
    browser.open(f"{server.url}/live/cam")
    advances(browser)


def test_other_encoders(daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path) -> None:
    """
    The library of rtmpdump, on which many encoders are based, also through HTTP; and GStreamer.
    """
    try:
        ctypes.CDLL(librtmp.NAME)
    except OSError:
        require("rtmpdump", "rtmpdump")
    for element in ("rtmp2sink", "x264enc"):
        require_element(element)
    encode(tmp_path / "cam.flv", *STREAM, seconds=3)
    server = daemon(*ROUTES)
    names = ("library", "tunnel", "gstreamer")
    viewers = [viewer(f"{server.url}/live/{name}", f"{name}.mp4") for name in names]
    urls = [
        f"{scheme}://127.0.0.1:{server.port}/live/{name}"
        for scheme, name in zip(("rtmp", "rtmpt", "rtmp"), names, strict=True)
    ]
    program = ("env", "coreutils", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.real.librtmp")
    publishers = [start(*program, url, tmp_path / "cam.flv") for url in urls[:2]]
    pipeline = (
        "videotestsrc is-live=true num-buffers=75 "
        "! video/x-raw,width=320,height=240,framerate=25/1 "
        "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=20 ! h264parse "
        f"! flvmux streamable=true ! rtmp2sink location={urls[2]}"
    )
    publishers.append(start("gst-launch-1.0", "gstreamer1.0-tools", "-q", *pipeline.split()))

    for publisher in publishers:
        assert output(publisher) == ""
    for seen, name in zip(viewers, names, strict=True):
        assert output(seen).startswith('200 video/mp4; codecs="avc1.')
        assert decoded(tmp_path / f"{name}.mp4")[0] == 75


def test_a_publisher_that_is_killed_or_stopped_comes_back(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    The viewer stays, and its times have no hole. A publisher that is stopped loses its channel.
    """
    server = daemon(*ROUTES)
    url = f"rtmp://127.0.0.1:{server.port}/live/cam"
    seen = viewer(f"{server.url}/live/cam", "seen.mp4")
    first = push(start, url, 60)
    wait_for(lambda: is_live(server))
    first.kill()
    first.wait()
    second = push(start, url, 60)
    wait_for(lambda: (tmp_path / "seen.mp4").stat().st_size > 60_000)
    second.send_signal(signal.SIGSTOP)

    def returned() -> bool:
        third = push(start, url, 2)
        with suppress(subprocess.TimeoutExpired):
            return third.wait(PATIENCE) == 0
        return False

    wait_for(returned)
    assert output(seen) == H264_AAC
    assert largest_step(probe(tmp_path / "seen.mp4")) < 0.09


def test_two_nodes(
    daemon: StartDaemon, redis: Server, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    A channel has one publisher on all nodes, and viewers on all of them.
    """
    shared = ("--broker=redis", f"--redis-port={redis.port}", *ROUTES)
    one, two = daemon(*shared), daemon(*shared)
    seen = viewer(f"{two.url}/live/cam", "seen.mp4")
    publisher = push(start, f"rtmp://127.0.0.1:{one.port}/live/cam", 5)
    wait_for(lambda: is_live(two))

    assert "has a publisher" in refusal(start, f"rtmp://127.0.0.1:{two.port}/live/cam")
    assert output(publisher) == ""
    assert output(seen) == H264_AAC
    assert decoded(tmp_path / "seen.mp4")[0] == 125


def test_tunnels_and_workers(
    start_workers: Start, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Each request of a tunnel may reach another worker.
    """
    server = start_workers(*ROUTES, size=3).wait_until_up().server
    names = [f"cam{number}" for number in range(3)]
    viewers = [viewer(f"{server.url}/live/{name}", f"{name}.mp4") for name in names]
    publishers = [push(start, f"rtmpt://127.0.0.1:{server.port}/live/{name}", 3) for name in names]

    for publisher in publishers:
        assert output(publisher) == ""
    for seen, name in zip(viewers, names, strict=True):
        assert output(seen) == H264_AAC
        assert decoded(tmp_path / f"{name}.mp4")[0] == 75


def test_enhanced_rtmp(daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path) -> None:
    """
    Newer codecs are named by four characters; ffmpeg sends them since version 6.1.
    """
    imageio = pytest.importorskip("imageio_ffmpeg", reason="install imageio-ffmpeg")
    codecs = {
        "hvc1": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=25"),
        "av01": ("-c:v", "libsvtav1", "-preset", "12", "-g", "25"),
    }
    server = daemon(*ROUTES)
    viewers = [viewer(f"{server.url}/live/{name}", f"{name}.mp4") for name in codecs]
    publishers = [
        push(
            start,
            f"rtmp://127.0.0.1:{server.port}/live/{name}",
            3,
            (*encoder, "-c:a", "libopus"),
            imageio.get_ffmpeg_exe(),
        )
        for name, encoder in codecs.items()
    ]

    for publisher in publishers:
        publisher.communicate(timeout=PATIENCE)
        assert publisher.returncode == 0
    for seen, name in zip(viewers, codecs, strict=True):
        printed = output(seen)
        assert printed.startswith(f'200 video/mp4; codecs="{name}.')
        assert printed.endswith(',opus"')
        pictures, sounds = decoded(tmp_path / f"{name}.mp4")
        assert pictures == 75
        assert sounds > 100


def test_broken_handshakes_leave_nothing(daemon: StartDaemon) -> None:
    """
    The memory is as before, whatever 10,000 clients send and leave.
    """
    server = daemon(*ROUTES)
    connect = command("connect", 1, {"app": "live"})
    pieces = (
        b"\3",
        HANDSHAKE[:-1],
        b"\3" + bytes(range(256)) * 12,
        HANDSHAKE + connect[:-1],
        HANDSHAKE + connect + b"\xc3" * 64,
    )

    def repeat(count: int) -> int:
        for number in range(count):
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
                client.sendall(pieces[number % len(pieces)])
        wait_for(lambda: stats(server)["live"]["publishers"] == 0)
        text = Path(f"/proc/{server.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))

    warm = repeat(2000)

    assert repeat(10_000) - warm < 2048  # KiB
