"""
RTSP with real programs that stop, are slow, or reach another worker; and what players see.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path

import av
import pytest

from rt_twisted.media.rtp.packet import parse_packet
from rt_twisted.rtsp.messages import (
    InterleavedPacket,
    MessageParser,
    RtspResponse,
    write_request,
)
from tests.real.conftest import PATIENCE, Browser, Serve, Server, StartDaemon
from tests.real.live_programs import (
    STATS,
    Camera,
    is_live,
    largest_step,
    output,
    rtsp_camera,
    start,
    stats,
    viewer,
    wait_for,
)
from tests.real.media_programs import AUDIO, VIDEO, decoded, probe, require_element
from tests.real.test_ingest_bodies import memory
from tests.real.test_live_player import advances
from tests.real.test_rtsp import H264, ROUTES, TCP
from tests.real.test_workers import Start, broker, relay, start_workers

__all__ = ["broker", "relay", "start", "start_workers", "viewer"]  # fixtures

STREAM = (*H264, "-g", "25", "-c:a", "aac")
OPEN = (ROUTES[0], "--route=^/cam$ rtsp:cam", STATS)
STALLED, HEALTHY = 100, 20
NOISE = "noise=alls=40:allf=t"  # so that a stream has its full rate


def push(
    start: Camera, server: Server, seconds: float, name: str = "cam", *options: str
) -> subprocess.Popen[bytes]:
    """
    Publish a test picture and a tone in real time.
    """
    encoded = (*VIDEO, *AUDIO, "-t", str(seconds), *STREAM, *options, "-f", "rtsp", *TCP)
    url = f"rtsp://127.0.0.1:{server.port}/{name}"
    return start("ffmpeg", "ffmpeg", "-v", "fatal", "-re", *encoded, url)


def ends_well(process: subprocess.Popen[bytes]) -> bool:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(PATIENCE) == 0
    return False


def test_a_stopped_publisher_loses_its_channel(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Its connection stays open and nothing arrives. Another one is refused until the timeout; the
    viewer stays, and its times have no hole.
    """
    server = daemon(*OPEN, "--live-timeout=4", "--live-grace=20")
    seen = viewer(f"{server.url}/cam.mp4", "seen.mp4", "--max-time", "40")
    first = push(start, server, 60)
    wait_for(lambda: is_live(server))
    first.send_signal(signal.SIGSTOP)

    assert push(start, server, 2).wait(PATIENCE)
    wait_for(lambda: ends_well(push(start, server, 2)))

    seen.terminate()
    seen.wait(PATIENCE)
    assert largest_step(probe(tmp_path / "seen.mp4")) < 0.09


def test_viewers_stay_while_a_publisher_is_killed_and_back(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    The next publisher continues the stream, within the grace time and without a hole in its times.
    """
    server = daemon(*OPEN, "--live-timeout=20", "--live-grace=10")
    seen = viewer(f"{server.url}/cam.mp4", "seen.mp4")
    first = push(start, server, 60)
    wait_for(lambda: is_live(server))
    wait_for(lambda: stats(server)["live"]["viewers"] == 1)
    first.kill()
    wait_for(lambda: stats(server)["live"]["publishers"] == 0)

    assert output(push(start, server, 3)) == ""

    assert output(seen).startswith("200 ")
    assert decoded(tmp_path / "seen.mp4")[0] >= 75
    assert largest_step(probe(tmp_path / "seen.mp4")) < 0.09


def test_a_publisher_takes_over(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    With `takeover=yes` the successor of a publisher whose connection still looks alive has the
    channel at once.
    """
    route = "--route=^/cam$ rtsp:cam,takeover=yes"
    server = daemon(OPEN[0], route, STATS, "--live-timeout=60", "--live-grace=1")
    seen = viewer(f"{server.url}/cam.mp4", "seen.mp4")
    first = push(start, server, 60)
    wait_for(lambda: is_live(server))
    first.send_signal(signal.SIGSTOP)

    assert output(push(start, server, 3)) == ""

    assert output(seen).startswith("200 ")
    assert decoded(tmp_path / "seen.mp4")[0] >= 75
    assert largest_step(probe(tmp_path / "seen.mp4")) < 0.09


def test_a_stopped_camera(
    daemon: StartDaemon, serve: Serve, viewer: Camera, tmp_path: Path
) -> None:
    """
    A camera from which nothing arrives is connected to again when it is back; the viewer stays.
    """
    camera, url = rtsp_camera(serve)
    server = daemon(
        "--route=GET ^/door.webm$ webm:door", "--route=^/door$ rtsp:door,source=env:DOOR", STATS,
        "--live-timeout=3", "--live-grace=60", environment={"DOOR": url},
    )  # fmt: skip
    seen = viewer(f"{server.url}/door.webm", "door.webm")
    path = tmp_path / "door.webm"
    wait_for(lambda: path.exists() and path.stat().st_size > 20_000)

    os.kill(camera.pid, signal.SIGSTOP)
    wait_for(lambda: "nothing was received for 3 seconds" in server.log)
    size = path.stat().st_size
    os.kill(camera.pid, signal.SIGCONT)
    wait_for(lambda: path.stat().st_size > size + 20_000)

    seen.terminate()
    seen.wait(PATIENCE)
    assert largest_step(probe(path)) < 0.25


def test_tunnels_reach_the_worker_of_their_cookie(start_workers: Start, start: Camera) -> None:
    """
    The GET and the POST of a tunnel may reach different workers: players and publishers.
    """
    for element in ("rtspclientsink", "vp8enc"):
        require_element(element)
    # GStreamer sends HTTP/1.0, as a proxy does: it needs a key.
    options = ("--route=^/cam$ rtsp:cam", STATS, "--publish-key=secret")
    server = start_workers(*options, size=3).wait_until_up().server
    start(
        "gst-launch-1.0", "gstreamer1.0-tools", "-q",
        "videotestsrc", "is-live=true", "!", "video/x-raw,width=160,height=120,framerate=10/1", "!",
        "vp8enc", "deadline=1", "keyframe-max-dist=10", "!", "video/x-vp8,profile=(string)0", "!",
        "rtspclientsink", f"location=rtsph://k:secret@127.0.0.1:{server.port}/cam",
    )  # fmt: skip
    wait_for(lambda: stats(server)["live"]["publishers"] == 1)

    url = f"rtsp://127.0.0.1:{server.port}/cam"
    played = ("-rtsp_transport", "http", "-i", url, "-t", "1", "-f", "framecrc", "-")
    players = [start("ffmpeg", "ffmpeg", "-v", "error", *played) for _ in range(6)]

    for player in players:
        assert [line for line in output(player).splitlines() if line[:1].isdigit()]


def test_a_library_and_a_player(daemon: StartDaemon, start: Camera) -> None:
    """
    PyAV decodes from a keyframe on, and mpv plays.
    """
    server = daemon(*OPEN)
    push(start, server, 60)
    wait_for(lambda: is_live(server))
    url = f"rtsp://127.0.0.1:{server.port}/cam"

    with av.open(url, options={"rtsp_transport": "tcp"}, timeout=PATIENCE) as container:
        assert {stream.codec_context.name for stream in container.streams} == {"h264", "aac"}
        pictures = [*islice(container.decode(video=0), 40)]
    assert isinstance(pictures[0], av.VideoFrame)
    assert pictures[0].key_frame
    times = [picture.time for picture in pictures if picture.time is not None]
    assert all(0 < after - before < 0.09 for before, after in pairwise(times))

    shown = ("--no-config", "--vo=null", "--ao=null", "--frames=30", "--rtsp-transport=tcp")
    assert "V: " in output(start("mpv", "mpv", *shown, url))


def test_chromium_shows_what_a_camera_sends(
    daemon: StartDaemon, start: Camera, browser: Browser, tmp_path: Path
) -> None:
    """
    The built-in page decodes the frames by MediaSource, and the picture is the one that is
    sent: the test picture has many colors.
    """
    server = daemon()
    push(start, server, 60, "live/cam")
    browser.open(f"{server.url}/live/cam")
    advances(browser)

    video = "document.querySelector('rt-live').video"
    size = browser.evaluate(f"[{video}.videoWidth, {video}.videoHeight]")
    assert size == [320, 240]
    assert browser.evaluate(f"{video}.getVideoPlaybackQuality().corruptedVideoFrames || 0") == 0
    colors = browser.evaluate(
        "(() => { const canvas = document.createElement('canvas');"
        " canvas.width = 320; canvas.height = 240;"
        " const context = canvas.getContext('2d');"
        f" context.drawImage({video}, 0, 0);"
        " const data = context.getImageData(0, 0, 320, 240).data; const found = new Set();"
        " for (let i = 0; i < data.length; i += 4)"
        " found.add((data[i] >> 6) * 16 + (data[i + 1] >> 6) * 4 + (data[i + 2] >> 6));"
        " return found.size; })()"
    )
    assert colors >= 6
    browser.screenshot(tmp_path / "camera.png")


class Player:
    """
    A player that reads only when it is asked to.
    """

    def __init__(self, server: Server, buffer: int = 0) -> None:
        self.connection = socket.socket()
        if buffer:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.connection.settimeout(PATIENCE)
        self.connection.connect(("127.0.0.1", server.port))
        self.parser = MessageParser()
        self.packets: list[InterleavedPacket] = []
        url = f"rtsp://127.0.0.1:{server.port}/cam"
        self._cseq = 0
        self.request("DESCRIBE", url)
        session = ""
        for number in (1, 2):
            channels = f"interleaved={2 * number - 2}-{2 * number - 1}"
            fields = [("Transport", f"RTP/AVP/TCP;unicast;{channels}"), *self._named(session)]
            response = self.request("SETUP", f"{url}/trackID={number}", fields)
            session = response.headers["session"].partition(";")[0]
        self.parser.channels = frozenset(range(4))
        self.request("PLAY", url, self._named(session))

    def request(
        self, method: str, url: str, fields: list[tuple[str, str]] | None = None
    ) -> RtspResponse:
        self._cseq += 1
        headers = [("CSeq", str(self._cseq)), *(fields or [])]
        self.connection.sendall(write_request(method, url, headers))
        while True:
            for item in self.read():
                assert item.status == 200
                return item

    def read(self) -> list[RtspResponse]:
        data = self.connection.recv(65536)
        assert data, "the server has closed the connection"
        items = self.parser.feed(data)
        self.packets += [item for item in items if isinstance(item, InterleavedPacket)]
        return [item for item in items if isinstance(item, RtspResponse)]

    def _named(self, session: str) -> list[tuple[str, str]]:
        return [("Session", session)] if session else []


@pytest.fixture
def players() -> Iterator[list[Player]]:
    """
    Has players that are disconnected in the end.
    """
    found: list[Player] = []
    yield found
    for player in found:
        player.connection.close()


def test_stalled_players_hang_up_at_once(
    daemon: StartDaemon, start: Camera, players: list[Player]
) -> None:
    """
    Each takes less than 0.3 MB of the daemon, though all of them are behind. Healthy players miss
    no packet while they are there, and when they leave.
    """
    server = daemon(*OPEN)
    push(start, server, 120, "cam", "-b:v", "2M", "-minrate", "2M", "-bufsize", "1M", "-vf", NOISE)
    wait_for(lambda: is_live(server))
    players += [Player(server) for _ in range(HEALTHY)]
    healthy = tuple(players)
    done = threading.Event()

    def read(player: Player) -> None:
        while not done.is_set():
            player.read()

    threads = [threading.Thread(target=read, args=(player,)) for player in healthy]
    for thread in threads:
        thread.start()
    try:
        before = memory(server.pid)
        players += [Player(server, buffer=4096) for _ in range(STALLED)]
        wait_for(lambda: stats(server)["live"]["viewers"] == HEALTHY + STALLED)
        wait_for(lambda: stats(server)["backlog"]["readers"] >= STALLED)
        count = len(healthy[0].packets)
        wait_for(lambda: len(healthy[0].packets) > count + 1000)
        assert memory(server.pid) - before < STALLED * 300_000
        for player in players[HEALTHY:]:
            player.connection.close()
        wait_for(lambda: stats(server)["live"]["viewers"] == HEALTHY)
        count = len(healthy[0].packets)
        wait_for(lambda: all(len(player.packets) > count + 100 for player in healthy))
    finally:
        done.set()
        for thread in threads:
            thread.join(PATIENCE)

    for player in healthy:
        for channel in (0, 2):
            numbers = [
                parse_packet(packet.data).sequence
                for packet in player.packets
                if packet.channel == channel
            ]
            steps = {(after - before) % 65536 for before, after in pairwise(numbers)}
            assert steps == {1}
