"""
The commands of docs/streaming.md, with test pictures in place of devices.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import ROOT, Browser, Serve, Server, StartDaemon, free_port, require
from tests.real.live_programs import Camera, output, start, viewer
from tests.real.media_programs import decoded, encode, require_element
from tests.real.redis_server import redis
from tests.real.test_live_player import advances

__all__ = ["redis", "start", "viewer"]  # fixtures

TEXT = (ROOT / "docs" / "streaming.md").read_text()
PICTURE = "-re -f lavfi -i testsrc=size=160x120:rate=10"
TONE = "-re -f lavfi -i sine"
DEVICES = (
    (r"-f v4l2 .*? -i /dev/video0", PICTURE),
    (r"-f x11grab .*? -i :0\.0", PICTURE),
    (r"-re -f lavfi -i testsrc=\S+", PICTURE),
    (r"-f alsa -i default", TONE),
    (r"-rtsp_transport tcp -i rtsp://\S+", "-re -i source.mp4"),
    (r"-i film\.mp4", "-i source.mp4"),  # what is recorded is film.mp4
)


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", " ").strip() for block in found]


def commands(program: str) -> list[str]:
    return [block for block in blocks("sh") if block.startswith(program)]


def published(command: str, url: str) -> list[str]:
    """
    Return the words of a command that publishes to the daemon at *url* for some seconds.
    """
    for device, replacement in DEVICES:
        command = re.sub(device, replacement, command)
    *words, target = shlex.split(command.replace("http://127.0.0.1:8080", url))
    return [words[0], "-v", "error", *words[1:], "-t", "6", target]


@pytest.mark.limit(90)
def test_commands_of_ffmpeg(
    daemon: StartDaemon,
    start: Camera,
    viewer: Camera,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Each stream can be recorded as the document says, in one of the containers, and decoded.
    """
    monkeypatch.chdir(tmp_path)
    codecs = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac")
    encode(tmp_path / "source.mp4", *codecs, seconds=6)  # viewers ask again after up to 3 s
    server = daemon("--live-grace=1", "--live-timeout=20")
    [record] = commands("curl")
    viewers = []
    publishers = []
    for command in commands("ffmpeg"):
        container = "webm" if "-f webm" in command else "mp4"
        name = f"{command.rpartition('/')[2]}.{container}"
        words = record.replace("http://127.0.0.1:8080", server.url).split()
        url = words[3].replace("cam.mp4", name)
        viewers.append((viewer(url, name, "--retry", "5"), tmp_path / name))
        program, *arguments = published(command, server.url)
        publishers.append(start(program, "ffmpeg", *arguments))

    assert len(publishers) == 8
    for process in publishers:
        output(process)
    for process, file in viewers:
        assert output(process).startswith("200 "), file
        assert min(decoded(file, "error")) > 5, file


def test_the_command_of_gstreamer(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Its file has pictures from the first keyframe on.
    """
    require_element("souphttpclientsink")
    server = daemon("--live-grace=1")
    [command] = commands("gst-launch-1.0")
    words = shlex.split(command.replace("http://127.0.0.1:8080", server.url))
    seen = viewer(f"{server.url}/live/gst.webm", "gst.webm", "--max-time", "5", "--retry", "2")
    publisher = start(words[0], "gstreamer1.0-tools", *words[1:])
    seen.wait()
    publisher.terminate()

    assert decoded(tmp_path / "gst.webm", "error")[0] > 10


NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http { access_log off; %s }
"""
SHOWN = """(() => {
  document.body.innerHTML = "<img src=/live/door.mjpg><canvas width=160 height=120></canvas>";
  window.shown = () => {
    const context = document.querySelector("canvas").getContext("2d");
    context.drawImage(document.querySelector("img"), 0, 0);
    const color = context.getImageData(80, 60, 1, 1).data;
    return ["red", "lime", "blue"].filter((name, index) => color[index] > 200).join();
  };
})()"""


@pytest.mark.limit(60)
def test_behind_nginx(
    daemon: StartDaemon, serve: Serve, start: Camera, browser: Browser, tmp_path: Path
) -> None:
    """
    A publisher, the page with its player, and a picture that is painted at once pass through the
    configuration of the document.
    """
    server = daemon("--publish-key=secret")
    front = free_port()
    [site] = blocks("nginx")
    site = site.replace("8088", f"127.0.0.1:{front}").replace("8080", str(server.port))
    (tmp_path / "nginx.conf").write_text(NGINX % site)
    program = require("nginx", "nginx")
    proxy = serve([program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], front)

    command = commands("ffmpeg")[0]
    words = published(f"{command}?key=secret", proxy.url)
    start(words[0], "ffmpeg", *(word if word != "3" else "60" for word in words[1:]))
    browser.open(f"{proxy.url}/live/cam")
    advances(browser)

    browser.open(f"{proxy.url}/live.json")
    browser.evaluate(SHOWN)
    for color in ("red", "lime", "blue"):
        picture = tmp_path / f"{color}.jpg"
        source = ("-f", "lavfi", "-i", f"color={color}:size=160x120", "-frames:v", "1")
        subprocess.run(["ffmpeg", "-y", "-v", "error", *source, picture], check=True)
        target = f"{proxy.url}/live/door.mjpg?key=secret"
        output(start("curl", "curl", "-sSf", "--data-binary", f"@{picture}", target))
        browser.wait_for(f"shown() == '{color}'")


@pytest.mark.limit(60)
def test_several_nodes(
    daemon: StartDaemon, redis: Server, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    One camera on two nodes, with the limit of redis that the document sets.
    """
    [setting] = commands("redis-cli")
    words = shlex.split(setting)
    words[1:1] = ["-p", str(redis.port)]
    assert output(start(words[0], "redis-tools", *words[1:])).strip() == "OK"
    nodes = [shlex.split(each) for each in commands("twistd") if "redis" in each]
    options = [[word for word in words[3:] if not word.startswith("--port")] for words in nodes]
    shared = (f"--redis-port={redis.port}", "--live-grace=1")
    here, there = (daemon(*given, *shared) for given in options)
    [command] = [each for each in commands("ffmpeg") if each.endswith("both")]
    seen = viewer(f"{there.url}/live/both.mp4", "both.mp4", "--retry", "5")
    words = published(command, here.url)
    output(start(words[0], "ffmpeg", *words[1:]))

    assert output(seen).startswith("200 ")
    assert decoded(tmp_path / "both.mp4", "error")[0] > 15
