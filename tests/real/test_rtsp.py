"""
RTSP with real programs: they publish, and players on any node look.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.real.conftest import PATIENCE, Serve, Server, StartDaemon, require
from tests.real.live_programs import (
    STATS,
    Camera,
    is_live,
    output,
    rtsp_camera,
    start,
    video,
    viewer,
    wait_for,
)
from tests.real.media_programs import AUDIO, VIDEO, decoded, probe, require_element
from tests.real.redis_server import redis

__all__ = ["redis", "start", "viewer"]  # fixtures

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p")
ROUTES = ("--route=GET ^/cam.mp4$ mp4:cam", "--route=^/cam$ rtsp:cam,view_key=see", STATS)
TCP = ("-rtsp_transport", "tcp")


def encoder(start: Camera, url: str, seconds: float, *options: str) -> subprocess.Popen[bytes]:
    """
    Publish a test picture and a tone with ffmpeg in real time.
    """
    encoded = (*VIDEO, *AUDIO, "-t", str(seconds), *options, "-f", "rtsp", *TCP)
    return start("ffmpeg", "ffmpeg", "-v", "warning", "-re", *encoded, url)


def url_of(server: Server, password: str) -> str:
    return f"rtsp://k:{password}@127.0.0.1:{server.port}/cam"


def test_a_stream_is_played_on_another_node(
    daemon: StartDaemon, redis: Server, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    ffmpeg publishes with a key that it proves by Digest. A browser's format and RTSP players get
    every frame from a keyframe on, without a message of ffprobe.
    """
    shared = (*ROUTES, "--broker=redis", f"--redis-port={redis.port}", "--publish-key=secret")
    short = ("--live-grace=1", "--live-timeout=8")
    here, there = daemon(*shared, *short), daemon(*shared, *short)

    publisher = encoder(start, url_of(here, "secret"), 7, *H264, "-g", "25", "-c:a", "aac")
    seen = viewer(f"{there.url}/cam.mp4", "seen.mp4")
    wait_for(lambda: is_live(there))
    save = ("-v", "error", "-y", "-t", "2", "-c", "copy")
    for server, name in ((here, "here.mkv"), (there, "there.mkv")):
        copied = ("-i", url_of(server, "see"), *save, tmp_path / name)
        player = start("ffmpeg", "ffmpeg", "-v", "error", *TCP, *copied)
        output(player)

    assert output(publisher) == ""
    assert output(seen) == '200 video/mp4; codecs="avc1.42C00D,mp4a.40.2"'
    for name in ("seen.mp4", "here.mkv", "there.mkv"):
        counts = decoded(tmp_path / name)
        assert min(counts) > 40, name
        assert video(probe(tmp_path / name))[0].key


def test_udp_is_refused_and_ffmpeg_falls_back(
    daemon: StartDaemon, start: Camera, tmp_path: Path
) -> None:
    """
    A publisher and a player that offer UDP go on by TCP; a wrong key ends the publisher.
    """
    server = daemon(*ROUTES, "--publish-key=secret")
    encoded = (*VIDEO, "-t", "5", *H264, "-g", "25", "-f", "rtsp")
    publisher = start("ffmpeg", "ffmpeg", "-v", "quiet", "-re", *encoded, url_of(server, "secret"))
    wait_for(lambda: is_live(server))
    wrong = start("ffmpeg", "ffmpeg", "-v", "quiet", *encoded, url_of(server, "wrong"))
    assert wrong.wait(PATIENCE)

    probed = subprocess.run(
        [require("ffprobe", "ffmpeg"), "-v", "quiet", "-show_entries", "stream=codec_name", "-of",
         "csv=p=0", url_of(server, "see")],
        capture_output=True,
        timeout=PATIENCE,
        text=True,
    )  # fmt: skip

    assert probed.stdout.split() == ["h264"]
    output(publisher)


SMALL = ("-f", "lavfi", "-i", "testsrc=size=160x120:rate=10", *AUDIO)
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "10")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=10")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-x264-params", "bframes=2:keyint=10")
PICTURES = ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-huffman", "default")
CODECS = {
    "vp8": ((*VP8, "-c:a", "libopus"), "webm", "vp8,opus"),
    "vorbis": ((*VP8, "-c:a", "libvorbis", "-ac", "2"), "webm", "vp8,vorbis"),
    "h265": ((*X265, "-pix_fmt", "yuv420p", "-c:a", "aac"), "mp4", "hvc1.1.6.L30.90,mp4a.40.2"),
    "h264": ((*X264, "-pix_fmt", "yuv420p", "-c:a", "libmp3lame"), "mp4", "avc1.4D400A,mp3"),
    "jpeg": ((*PICTURES, "-c:a", "pcm_mulaw", "-ar", "8000"), "", ""),
}


def test_every_codec_of_ffmpeg(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Each is published, shown in the container that can carry it, and played by RTSP.
    """
    server = daemon(STATS, "--live-grace=1", "--route=^/live/([^/.]+)$ rtsp:live/$1",
                    r"--route=^/live/([^/.]+)\.mp4$ mp4:live/$1",
                    r"--route=^/live/([^/.]+)\.webm$ webm:live/$1")  # fmt: skip
    publishers = {}
    for name, (options, _, _) in CODECS.items():
        sent = (*SMALL, "-t", "8", *options, "-f", "rtsp", *TCP)
        url = f"rtsp://127.0.0.1:{server.port}/live/{name}"
        publishers[name] = start("ffmpeg", "ffmpeg", "-v", "error", "-re", *sent, url)
    viewers = {}
    for name, (_, container, _) in CODECS.items():
        if container:
            file = f"{name}.{container}"
            viewers[name] = viewer(f"{server.url}/live/{file}", file)
    players = {}
    for name in CODECS:
        source = ("-i", f"rtsp://127.0.0.1:{server.port}/live/{name}")
        played = (*TCP, *source, "-t", "1", "-f", "framecrc", "-")
        players[name] = start("ffmpeg", "ffmpeg", "-v", "quiet", *played)

    for name, player in players.items():
        frames = [line for line in output(player).splitlines() if line[:1].isdigit()]
        assert {line[0] for line in frames} == {"0", "1"}, name
    for name, publisher in publishers.items():
        assert output(publisher) == "", name
    for name, process in viewers.items():
        _, container, codecs = CODECS[name]
        assert output(process) == f'200 video/{container}; codecs="{codecs}"'
        counts = decoded(tmp_path / f"{name}.{container}")
        assert counts[0] > 40, name
        assert counts[1] > 100, name


def test_a_tunnel_in_http(daemon: StartDaemon, start: Camera) -> None:
    """
    GStreamer publishes and ffmpeg plays by a pair of HTTP requests, whatever lines the path has.
    """
    for element in ("rtspclientsink", "vp8enc", "opusenc"):
        require_element(element)
    lines = ("--route=GET ^/cam$ mp4:cam", "--route=POST ^/cam$ istream:cam")
    server = daemon(*lines, "--route=^/cam$ rtsp:cam", STATS, "--publish-key=secret")
    place = f"k:secret@127.0.0.1:{server.port}/cam"
    start(
        "gst-launch-1.0", "gstreamer1.0-tools", "-q",
        "videotestsrc", "is-live=true", "!", "video/x-raw,width=160,height=120,framerate=10/1", "!",
        "vp8enc", "deadline=1", "keyframe-max-dist=10", "!", "video/x-vp8,profile=(string)0", "!",
        "s.sink_0",
        "audiotestsrc", "is-live=true", "!", "opusenc", "!", "s.sink_1",
        "rtspclientsink", "name=s", f"location=rtsph://{place}",
    )  # fmt: skip
    wait_for(lambda: is_live(server))

    played = ("-i", f"rtsp://127.0.0.1:{server.port}/cam", "-t", "1", "-f", "framecrc", "-")
    player = start("ffmpeg", "ffmpeg", "-v", "error", "-rtsp_transport", "http", *played)

    frames = [line for line in output(player).splitlines() if line[:1].isdigit()]
    assert {line[0] for line in frames} == {"0", "1"}


def test_a_camera_is_fetched_on_demand(
    daemon: StartDaemon, serve: Serve, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    GStreamer's server is asked by Digest, and again after it was killed; the viewer stays.
    """
    camera, url = rtsp_camera(serve)
    route = "--route=^/door$ rtsp:door,source=env:DOOR,demand=yes"
    server = daemon("--route=GET ^/door.webm$ webm:door", route, STATS, environment={"DOOR": url})

    seen = viewer(f"{server.url}/door.webm", "door.webm", "--max-time", "12")
    wait_for(lambda: is_live(server))
    camera.restart(signal.SIGKILL)
    seen.wait(PATIENCE)

    counts = decoded(tmp_path / "door.webm", "fatal")  # curl has cut the last frame off
    assert counts[0] > 30
    assert server.log.count("is fetched for door") == 2
