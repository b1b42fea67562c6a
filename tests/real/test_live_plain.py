"""
Frames that programs publish as plain messages: they make a WebM stream that ffprobe decodes.
"""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.unit import Unit
from tests.real.conftest import PATIENCE, Server, StartDaemon
from tests.real.live_programs import VP8, Camera, largest_step, start, video, viewer, wait_for
from tests.real.media_programs import decoded, encode, probe
from tests.real.redis_server import redis

__all__ = ["redis", "start", "viewer"]  # fixtures


def is_ready(server: Server) -> bool:
    """
    Return whether the daemon is connected to redis.
    """
    try:
        urlopen(f"{server.url}/readyz", timeout=PATIENCE).close()
    except HTTPError as error:
        error.close()
        return False
    return True


def post(server: Server, frame: bytes) -> None:
    """
    Publish a message by HTTP.
    """
    kind = {"Content-Type": "application/octet-stream"}
    request = Request(f"{server.url}/publish?channel=cam", frame, kind)
    with urlopen(request, timeout=PATIENCE) as response:
        assert response.status == 200


def send(redis: Server, frame: bytes) -> None:
    """
    Publish a message by redis' PUBLISH.
    """
    with socket.create_connection(("127.0.0.1", redis.port), PATIENCE) as connection:
        connection.sendall(
            b"*3\r\n$7\r\nPUBLISH\r\n$3\r\ncam\r\n$%d\r\n%b\r\n" % (len(frame), frame)
        )
        assert connection.recv(100).startswith(b":")


def test_frames_by_post_and_by_redis(
    daemon: StartDaemon, redis: Server, viewer: Camera, tmp_path: Path
) -> None:
    """
    A viewer gets every frame from the keyframe on, at the time of its arrival.
    """
    data = encode(tmp_path / "cam.webm", *VP8, "-g", "25", "-an", seconds=2)
    frames = [part.data for part in MatroskaReader().feed(data) if isinstance(part, Unit)]
    server = daemon(
        "--route=GET ^/cam.webm$ webm:cam",
        "--route=^/publish$ publish",
        "--route=^/readyz$ ready",
        "--broker=redis",
        f"--redis-port={redis.port}",
    )
    wait_for(lambda: is_ready(server))
    seen, path = viewer(f"{server.url}/cam.webm", "seen.webm"), tmp_path / "seen.webm"
    post(server, frames[0])
    wait_for(lambda: path.exists() and frames[0] in path.read_bytes())
    for frame in frames[1:25]:
        post(server, frame)
    for frame in frames[25:]:
        send(redis, frame)
    wait_for(lambda: frames[-1] in path.read_bytes())
    seen.terminate()
    seen.wait(PATIENCE)

    assert decoded(path) == [50]
    packets = probe(path)
    assert [packet.key for packet in video(packets)] == [index % 25 == 0 for index in range(50)]
    assert largest_step(packets) > 0
