"""
OBS publishes by RTMP, on a screen that nobody sees.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import StartDaemon, require
from tests.real.live_programs import STATS, Camera, is_live, start, stats, viewer, wait_for
from tests.real.media_programs import decoded, probe
from tests.real.obs import write_settings

__all__ = ["start", "viewer"]  # fixtures

OPTIONS = (
    "--publish-key=secret",
    "--route=GET ^/live/(\\w+)$ mp4:subscribe=$1",
    "--route=^/live/(\\w+)$ rtmp:$1",
    STATS,
)
_WORDS = ("--multi", "--startstreaming", "--profile", "live", "--collection", "live", "--verbose")


@pytest.fixture
def display(start: Camera) -> str:
    """
    Return the name of a screen.
    """
    screen = start("Xvfb", "xvfb", "-displayfd", "1", "-nolisten", "tcp", "+extension", "GLX")
    assert screen.stdout is not None
    return f":{int(screen.stdout.readline())}"


def run_obs(display: str, home: Path, server: str, key: str) -> subprocess.Popen[bytes]:
    """
    Run OBS, which begins to publish by itself.
    """
    given = {**write_settings(home, server, key), "DISPLAY": display}
    values = [f"{name}={value}" for name, value in given.items()]
    program = require("obs", "obs-studio")
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            ["env", *values, program, *_WORDS],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.mark.limit(120)
def test_obs_publishes(
    daemon: StartDaemon, start: Camera, viewer: Camera, display: str, tmp_path: Path
) -> None:
    """
    A viewer receives picture and sound. When OBS is killed and started again, the viewer is still
    there and receives on.
    """
    server = daemon(*OPTIONS)
    given = (display, tmp_path / "first", f"rtmp://127.0.0.1:{server.port}/live")
    first = run_obs(*given, "cam?key=secret")
    try:
        wait_for(lambda: is_live(server))
        seen = viewer(f"{server.url}/live/cam", "cam.mp4")
        wait_for(lambda: stats(server)["live"]["delivered"] > 150)
    finally:
        end(first)
    wait_for(lambda: stats(server)["live"]["publishers"] == 0)
    before = stats(server)["live"]["delivered"]
    second = run_obs(display, tmp_path / "second", given[2], "cam?key=secret")
    try:
        wait_for(lambda: stats(server)["live"]["delivered"] > before + 150)
        assert seen.poll() is None
    finally:
        end(second)
    assert seen.wait(60) == 0  # at the end of the grace time

    pictures, sounds = decoded(tmp_path / "cam.mp4")
    assert pictures > 100
    assert sounds > 100
    assert probe(tmp_path / "cam.mp4")[0].key


@pytest.mark.limit(60)
def test_obs_is_refused(daemon: StartDaemon, display: str, tmp_path: Path) -> None:
    """
    OBS stops with a wrong key, instead of connecting again for ever.
    """
    server = daemon(*OPTIONS)
    url = f"rtmp://127.0.0.1:{server.port}/live"
    refused = run_obs(display, tmp_path / "obs", url, "cam?key=wrong")
    log = tmp_path / "obs" / "log"
    try:
        wait_for(lambda: b"NetStream.Publish.BadName" in log.read_bytes())
        wait_for(lambda: b"Streaming Stop" in log.read_bytes())
    finally:
        end(refused)

    assert b"Streaming Start" not in log.read_bytes()
    assert not is_live(server)
