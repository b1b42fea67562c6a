"""
Browsers that publish live streams: Chromium sends a camera or a canvas, another one plays it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.conftest import (
    ROOT,
    Browser,
    Serve,
    StartDaemon,
    free_port,
    require,
)
from tests.real.live_programs import QUICK
from tests.real.test_live_player import PLAYER

FAKE = ("--use-fake-device-for-media-stream=fps=10", "--use-fake-ui-for-media-stream")
CAMERA = "document.querySelector('rt-camera')"
OpenBrowser = Callable[..., Browser]


@pytest.fixture
def browsers(serve: Serve, tmp_path: Path) -> Iterator[OpenBrowser]:
    """
    Starts browsers with more flags.
    """
    chromium = require("chromium", "chromium")
    port = free_port()
    serve([require("chromedriver", "chromium-driver"), f"--port={port}"], port)
    opened: list[Browser] = []

    def start(*flags: str) -> Browser:
        profile = tmp_path / f"profile-{len(opened)}"
        opened.append(Browser(port, chromium, profile, *flags))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def advances(browser: Browser) -> None:
    """
    Wait until the picture has moved by a second, and some frames were shown.
    """
    browser.wait_for(f"{PLAYER}.state === 'playing'")
    time = browser.evaluate(f"{PLAYER}.video.currentTime")
    browser.wait_for(f"{PLAYER}.video.currentTime > {time} + 1")
    browser.wait_for(f"{PLAYER}.video.getVideoPlaybackQuality().totalVideoFrames > 5")


@pytest.mark.limit(60)
def test_a_camera_of_another_browser(
    daemon: StartDaemon, browsers: OpenBrowser, tmp_path: Path
) -> None:
    """
    The page asks for the camera and the microphone; the player's page shows it, with sound. A
    second camera is refused in words.
    """
    server = daemon(*QUICK)
    first, second = browsers(*FAKE), browsers(*FAKE)
    first.open(f"{server.url}/live/cam/publish")
    first.evaluate(f"{CAMERA}.shadowRoot.querySelector('.camera').click()")
    first.wait_for(f"{CAMERA}.state === 'publishing'")
    second.open(f"{server.url}/live/cam")
    advances(second)
    second.wait_for(f"{PLAYER}.video.webkitAudioDecodedByteCount > 1000")
    first.screenshot(tmp_path / "camera.png")
    assert first.evaluate("document.querySelector('a').href") == f"{server.url}/live/cam"

    second.new_tab()
    second.open(f"{server.url}/live/cam/publish")
    second.evaluate(f"{CAMERA}.start()")
    second.wait_for(f"{CAMERA}.state === 'refused'")
    note = second.evaluate(f"{CAMERA}.shadowRoot.querySelector('.text').textContent")
    assert note == "the channel 'live/cam' has a publisher"
    second.close_tab()


CANVAS = """(async () => {
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  setInterval(() => {
    pen.fillStyle = `hsl(${performance.now() / 10 % 360} 100% 50%)`;
    pen.fillRect(0, 0, canvas.width, canvas.height);
  }, 40);
  window.stream = canvas.captureStream(25);
  window.camera = document.querySelector("rt-camera");
  camera.setAttribute("transport", "post");
  camera.setAttribute("type", "video/x-matroska;codecs=avc1");
  camera.stream = stream;
})()"""
RECORDERS = """(async () => {
  window.socket = new WebSocket(location.origin.replace("http", "ws") + "/live/canvas.ws");
  window.started = 0;
  socket.onopen = () => {
    const record = () => {
      const recorder = new MediaRecorder(stream, { mimeType: "video/webm;codecs=vp8" });
      recorder.ondataavailable = ({ data }) => socket.send(data);
      recorder.onstop = record;
      recorder.start(100);
      window.started += 1;
      setTimeout(() => recorder.stop(), 1500);
    };
    record();
  };
})()"""


@pytest.mark.limit(60)
def test_a_canvas_of_another_browser(daemon: StartDaemon, browsers: OpenBrowser) -> None:
    """
    A stream of the page needs no permission, and may be sent by one request after another, in
    H264, which MP4 carries. When a websocket follows, with recorders that begin with an EBML
    header and the time 0 each, viewers see one stream.
    """
    server = daemon(*QUICK)
    first, second = browsers(), browsers()
    first.open(f"{server.url}/live/canvas/publish")
    first.evaluate(CANVAS)
    first.wait_for("camera.state === 'publishing'")
    second.open(f"{server.url}/live/canvas")
    advances(second)
    first.evaluate("(camera.stop(), 0)")
    assert first.evaluate("camera.state") == "stopped"
    second.wait_for(f"{PLAYER}.state === 'waiting'")

    first.evaluate(RECORDERS)
    advances(second)
    second.evaluate(f"({PLAYER}.addEventListener('state', () => {{ window.interrupted = 1; }}), 0)")
    begun = first.evaluate("started")
    first.wait_for(f"started > {begun} + 1")
    advances(second)

    assert second.evaluate("window.interrupted") is None
    assert first.evaluate("socket.readyState") == 1


@pytest.mark.limit(60)
def test_the_example(daemon: StartDaemon, browsers: OpenBrowser, tmp_path: Path) -> None:
    """
    What is drawn in one browser is seen in another.
    """
    text = (ROOT / "examples" / "live_canvas.conf").read_text()
    lines = "".join(line for line in text.splitlines(True) if not line.startswith("port"))
    (tmp_path / "example.conf").write_text(lines.replace("examples/", f"{ROOT}/examples/"))
    server = daemon("--config", str(tmp_path / "example.conf"), *QUICK)
    first, second = browsers(), browsers()
    first.open(f"{server.url}/")
    first.evaluate("(document.querySelector('button').click(), 0)")
    first.wait_for("document.querySelector('span').textContent === 'publishing'")
    second.open(f"{server.url}/")
    advances(second)
    second.screenshot(tmp_path / "example.png")
