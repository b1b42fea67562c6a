"""
The image of the Dockerfile, built from its steps in a Debian root folder.

It takes minutes, root and debootstrap: `BUILD_IMAGE=1 pytest tests/real/test_image.py`, or
BUILD_IMAGE=FOLDER with a folder that debootstrap has made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.conftest import ROOT, Serve, free_port, require
from tests.real.image import Image, build, host_wheels
from tests.real.test_daemon import publish, subscribed

WANTED = os.environ.get("BUILD_IMAGE", "")
LIMIT = 150  # MB

pytestmark = pytest.mark.skipif(not WANTED, reason="set BUILD_IMAGE=1 to build the image")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """
    Build the image.
    """
    work = tmp_path_factory.mktemp("image")
    base = Path(WANTED)
    if not base.is_absolute():
        base = work / "debian"
        program = require("debootstrap", "debootstrap")
        subprocess.run([program, "--variant=minbase", "bookworm", str(base)], check=True)
    shutil.copy("/etc/resolv.conf", base / "etc/resolv.conf")
    (base / "wheels").mkdir(exist_ok=True)
    host_wheels(ROOT, base / "wheels")
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "DEBIAN_FRONTEND": "noninteractive"}
    built = build(ROOT, base, work, pip)
    shutil.rmtree(built.root / "wheels")
    yield built
    shutil.rmtree(work)


@pytest.mark.limit(1200)
def test_the_image_is_small(image: Image) -> None:
    """
    The files of the image have less than 150 MB.
    """
    assert image.megabytes() < LIMIT


def test_the_image_serves(image: Image, serve: Serve, tmp_path: Path) -> None:
    """
    The daemon runs without root on the variables of the image, is healthy, writes no pid file, and
    ends by SIGTERM.
    """
    port = free_port()
    variables = {"RT_PORT": str(port), "RT_HTTP_SECRET": "battery"}
    server = serve(image.command(image.entrypoint, **variables), port, tmp_path)
    assert publish(port, channel="news", message="hello", key="battery") == 200
    assert publish(port, channel="news", message="hello", key="wrong") == 401
    with subscribed(port, "/?channels=news&history=1") as stream:
        stream.until("data: hello\n")
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert "Uid:\t10001\t10001" in status and "Gid:\t10001\t10001" in status
    health = image.command(image.health, **variables)
    assert subprocess.run(health).returncode == 0
    with urllib.request.urlopen(f"{server.url}/realtime.js") as script:
        assert script.status == 200
    assert server.kill() == 0

    assert "Traceback" not in server.log
    assert list((image.root / "var/lib/realtime").glob("*.pid")) == []
    assert subprocess.run(health, stderr=subprocess.DEVNULL).returncode == 1
