"""
The INI file and the ffmpeg command of uwsgi-realtime's README, as docs/migrating.md shows them.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.real.conftest import PATIENCE, ROOT, TWISTD, Serve, Server, free_port
from tests.real.live_programs import Camera, output, start, viewer
from tests.real.media_programs import decoded, identified, probe
from tests.real.redis_server import redis

__all__ = ["redis", "start", "viewer"]  # fixtures

PORT = "9090"  # of the documents
PAGE = "<!doctype html><video src='/stream.webm' autoplay></video>\n"


def documented(language: str, containing: str) -> str:
    """
    Return the block of docs/migrating.md that contains a text.
    """
    text = (ROOT / "docs" / "migrating.md").read_text()
    [block] = [
        block
        for block in re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if containing in block
    ]
    return str(block)


@pytest.mark.parametrize("broker", ["embedded", "redis"])
def test_the_readme(
    broker: str,
    serve: Serve,
    request: pytest.FixtureRequest,
    start: Camera,
    viewer: Camera,
    tmp_path: Path,
) -> None:
    """
    ffmpeg publishes to the URL at which the page's video plays; other paths are the page. Words
    without effect are named in the log once.
    """
    port = str(free_port())
    folder = tmp_path / "daemon"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "webm.html").write_text(PAGE)
    lines = documented("ini", "plugin = realtime").replace(PORT, port)
    (folder / "uwsgi.ini").write_text(lines)
    options = ["--config=uwsgi.ini", "--live-grace=1"]
    if broker == "redis":
        store: Server = request.getfixturevalue("redis")
        options += ["--broker=redis", f"--redis-port={store.port}"]
    server = serve([*TWISTD, "realtime", *options], int(port), folder)

    seen = viewer(f"{server.url}/stream.webm", "seen.webm")
    words = shlex.split(documented("sh", "/stream.webm").replace(PORT, port))
    assert words[0] == "ffmpeg"
    limited = ("-v", "error", *words[1:-1], "-t", "2", words[-1])
    publisher = start("ffmpeg", "ffmpeg", *limited)

    assert output(publisher) == ""
    assert output(seen).startswith('200 video/webm; codecs="vp09.')
    assert decoded(tmp_path / "seen.webm") == [60]
    assert identified(tmp_path / "seen.webm") == ["VP9"]
    assert all(packet.key for packet in probe(tmp_path / "seen.webm"))  # -g 1
    for path in ("/", "/index.html", "/stream.webm/x"):
        with urlopen(server.url + path, timeout=PATIENCE) as page:
            assert page.read().decode() == PAGE
    assert server.log.count("no effect here: offload-threads, plugin") == 1
