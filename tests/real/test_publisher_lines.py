"""
The access log of live publishers: ffmpeg by HTTP, as a source of Icecast, by RTMP and by RTSP.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import StartDaemon
from tests.real.live_programs import Camera, start, wait_for
from tests.real.media_programs import AUDIO
from tests.real.test_rtmp import push

__all__ = ["start"]  # a fixture

ROUTES = (
    "--route=^/put$ istream:put",
    "--route=^/radio$ icecast:radio",
    "--route=^/live/cam$ rtmp:cam",
    "--route=^/rtsp$ rtsp:camera",
    "--route=^/healthz$ alive",
)
MP3 = (*AUDIO, "-t", "2", "-c:a", "libmp3lame", "-content_type", "audio/mpeg", "-f", "mp3")
WEBM = (*AUDIO, "-t", "2", "-c:a", "libopus", "-f", "webm", "-method", "PUT")
AAC = (*AUDIO, "-t", "2", "-c:a", "aac", "-f", "rtsp", "-rtsp_transport", "tcp")


@pytest.mark.parametrize(
    ("options", "url", "request_line", "reasons"),
    [
        pytest.param(WEBM, "http://{}/put", ("PUT", "/put", "http"), {"client"}, id="put"),
        pytest.param(
            MP3, "icecast://source:key@{}/radio", ("PUT", "/radio", "http"), {"client"}, id="source"
        ),
        pytest.param(
            None,
            "rtmp://{}/live/cam?key=key",
            ("RTMP", "/live/cam", "rtmp"),
            {"client", "lost"},
            id="rtmp",
        ),
        pytest.param(
            AAC,
            "rtsp://any:key@{}/rtsp",
            ("RECORD", "/rtsp", "rtsp"),
            {"client", "lost"},
            id="rtsp",
        ),
    ],
)
def test_a_publisher_has_one_line_at_its_end(
    daemon: StartDaemon,
    start: Camera,
    tmp_path: Path,
    options: tuple[str, ...] | None,
    url: str,
    request_line: tuple[str, str, str],
    reasons: set[str],
) -> None:
    """
    The line says how long the publisher has sent, what, and why it ended; never its key.
    """
    log = tmp_path / "access.log"
    server = daemon(*ROUTES, "--publish-key=key", f"--access-log={log}", "--access-log-format=json")
    url = url.format(f"127.0.0.1:{server.port}")

    def lines() -> list[dict[str, Any]]:
        read = [json.loads(line) for line in log.read_text().splitlines()]
        return [line for line in read if line["status"] == 200]

    if options is None:
        push(start, url, 2)
    else:
        url = url if "put" not in url else f"{url}?key=key"
        start("ffmpeg", "ffmpeg", "-v", "fatal", "-re", *options, url)
    wait_for(lambda: bool(lines()))

    [line] = lines()
    method, path, protocol = request_line
    assert (line["method"], line["path"]) == (method, path)
    assert protocol in line
    assert line["reason"] in reasons
    assert line["bytes"] > 5000 and line["messages"] > 5
    assert line["seconds"] > 1
    assert "key" not in log.read_text()
