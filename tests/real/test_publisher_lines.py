"""
The access log of live publishers: ffmpeg by HTTP, as a source of Icecast, by RTMP and by RTSP, and
a source of SHOUTcast.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import PATIENCE, StartDaemon
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


def test_a_source_of_shoutcast_has_one_line_at_its_end(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Its password, which is the first line that it sends, is not in the log; a source that is
    refused has no line.
    """
    log = tmp_path / "access.log"
    server = daemon(
        "--route=^/- icecast-icy:mount=/live.mp3,password=hackme",
        r"--route=^/(live\.mp3)$ icecast:channel=radio/$1,password=hackme",
        f"--access-log={log}",
        "--access-log-format=json",
    )
    address = ("127.0.0.1", server.port)
    frame = bytes.fromhex("fffb9064").ljust(417, b"\x55")
    with socket.create_connection(address, PATIENCE) as source:
        source.sendall(b"hackme\r\n")
        assert source.recv(100) == b"OK2\r\nicy-caps:11\r\n\r\n"
        with socket.create_connection(address, PATIENCE) as second:
            second.sendall(b"hackme\r\n")
            assert second.recv(100) == b"invalid password\r\n"
        source.sendall(b"content-type:audio/mpeg\r\n\r\n" + frame * 100)

    def lines() -> list[dict[str, Any]]:
        return [line for line in map(json.loads, log.read_text().splitlines()) if "icy" in line]

    wait_for(lambda: bool(lines()))
    [line] = lines()
    assert (line["method"], line["path"], line["icy"]) == ("SOURCE", "/live.mp3", "1.0")
    assert (line["status"], line["bytes"], line["reason"]) == (200, 41_700, "client")
    assert line["messages"] > 5
    assert "hackme" not in log.read_text() + server.log
