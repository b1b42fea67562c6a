"""
The player page and the wall of live streams, in Chromium, with ffmpeg as the publisher.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.real.conftest import PATIENCE, Browser, Server, StartDaemon, require
from tests.real.media_programs import AUDIO, VIDEO

WEBM = ("-c:v", "libvpx", "-b:v", "300k", "-deadline", "realtime", "-cpu-used", "8", "-g", "25")
OPUS = ("-c:a", "libopus", "-f", "webm", "-cluster_time_limit", "100")
PLAYER = "document.querySelector('rt-live')"
TIME = f"{PLAYER}.video.currentTime"
TILES = "[...document.querySelectorAll('rt-wall rt-live')]"
QUICK = ("--live-timeout=3", "--live-grace=2")

Publish = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def publish() -> Iterator[Publish]:
    """
    Publishes VP8 and Opus to a URL until the test ends.
    """
    started: list[subprocess.Popen[bytes]] = []

    def run(url: str) -> subprocess.Popen[bytes]:
        program = [require("ffmpeg", "ffmpeg"), "-v", "error", "-re", *VIDEO, "-re", *AUDIO]
        command = [*program, *WEBM, *OPUS, "-method", "PUT", url]
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def advances(browser: Browser, player: str = PLAYER) -> None:
    """
    Wait until the picture of *player* has moved by a second.
    """
    browser.wait_for(f"{player}.state === 'playing'")
    time = browser.evaluate(f"{player}.video.currentTime")
    browser.wait_for(f"{player}.video.currentTime > {time} + 1")
    assert browser.evaluate(f"{player}.video.getVideoPlaybackQuality().totalVideoFrames") > 10


def test_the_page_shows_a_stream(
    daemon: StartDaemon, browser: Browser, publish: Publish, tmp_path: Path
) -> None:
    """
    One URL is the page, and the publisher's with or without a suffix. A viewer who joins late
    sees a picture near the newest frame, and may turn the sound on.
    """
    server = daemon()
    publish(f"{server.url}/live/cam")
    browser.open(f"{server.url}/live/cam")
    advances(browser)

    browser.open(f"{server.url}/live/cam")  # late, in the middle of a group
    advances(browser)

    shown = f"{PLAYER}.shadowRoot.querySelector"
    browser.wait_for(f"/^[0-9.]+ s behind$/.test({shown}('.latency').textContent)")
    browser.wait_for(f"{PLAYER}.video.buffered.end(0) - {TIME} < 2")
    assert browser.evaluate(f"{PLAYER}.video.muted")
    browser.evaluate(f"{shown}('.sound').click()")
    assert not browser.evaluate(f"{PLAYER}.video.muted")
    assert browser.evaluate(f"{shown}('.note').hidden")
    browser.screenshot(tmp_path / "player.png")
    assert not any("Uncaught" in line for line in browser.console())


def test_the_page_survives_its_publisher(
    daemon: StartDaemon, browser: Browser, publish: Publish
) -> None:
    """
    The picture goes on when a publisher that was killed is back, within the grace time or after.
    """
    server = daemon(*QUICK)
    browser.open(f"{server.url}/live/cam")
    publisher = publish(f"{server.url}/live/cam.webm")
    advances(browser)

    publisher.kill()
    publisher = publish(f"{server.url}/live/cam.webm")
    with suppress(subprocess.TimeoutExpired):
        publisher.wait(3)  # it ends if the claim of the first was not free yet
        publisher = publish(f"{server.url}/live/cam.webm")
    advances(browser)

    publisher.kill()
    browser.wait_for(f"!{PLAYER}.shadowRoot.querySelector('.publish').hidden")
    publish(f"{server.url}/live/cam.webm")
    advances(browser)


def test_without_a_publisher_the_page_shows_the_command(
    daemon: StartDaemon, browser: Browser, tmp_path: Path
) -> None:
    """
    The command publishes to this page when it is pasted: H264 and AAC, in MP4.
    """
    server = daemon()
    browser.open(f"{server.url}/live/cam")
    note = f"{PLAYER}.shadowRoot.querySelector('.publish')"
    browser.wait_for(f"{PLAYER}.state === 'waiting' && !{note}.hidden")
    browser.screenshot(tmp_path / "waiting.png")
    command = browser.evaluate(f"{note}.querySelector('pre').textContent")
    assert command.endswith(f" {server.url}/live/cam.mp4")
    assert browser.evaluate(f"{note}.querySelector('a').href") == f"{server.url}/live/cam/publish"

    require("ffmpeg", "ffmpeg")
    pasted = subprocess.Popen([*shlex.split(command), "-v", "error"], stdin=subprocess.DEVNULL)
    try:
        advances(browser)
    finally:
        pasted.kill()
        pasted.wait()


def listed(server: Server) -> list[str]:
    with urlopen(f"{server.url}/live.json", timeout=PATIENCE) as response:
        found: list[str] = json.load(response)["streams"]
    return found


def test_the_wall_shows_all_streams(
    daemon: StartDaemon, browser: Browser, publish: Publish, tmp_path: Path
) -> None:
    """
    Streams that begin later are added; the list names them.
    """
    server = daemon()
    browser.open(f"{server.url}/live/")
    browser.wait_for("document.querySelector('rt-wall').hasAttribute('empty')")
    for number in range(2):
        publish(f"{server.url}/live/cam{number}")

    browser.wait_for(f"{TILES}.length === 2")
    for number in range(2):
        advances(browser, f"{TILES}[{number}]")

    browser.screenshot(tmp_path / "wall.png")
    assert listed(server) == ["cam0", "cam1"]


EIGHT = """(() => {
  for (let number = 0; number < 8; number += 1) {
    const player = document.createElement("rt-live");
    player.setAttribute("src", "/live/cam");
    player.setAttribute("transport", "websocket");
    player.style.width = "9em";
    document.body.append(player);
  }
})()"""


def test_a_page_with_eight_streams(daemon: StartDaemon, browser: Browser, publish: Publish) -> None:
    """
    By websocket all of them play; by HTTP/1.1 a browser opens six connections to a host.
    """
    server = daemon()
    publish(f"{server.url}/live/cam")
    browser.open(f"{server.url}/live/cam/publish")
    browser.evaluate(EIGHT)

    players = "[...document.querySelectorAll('rt-live')]"
    browser.wait_for(f"{players}.filter(({{ state }}) => state === 'playing').length === 8")
