"""
Live streams while something fails: publishers that stop, reloads, viewers that hang up.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.live_programs import (
    QUICK,
    ROUTES,
    STATS,
    Camera,
    camera,
    is_live,
    largest_step,
    output,
    start,
    stats,
    video,
    viewer,
    wait_for,
)
from tests.real.media_programs import decoded, probe

__all__ = ["camera", "start", "viewer"]  # fixtures

STALLED = 100


def test_a_stopped_publisher_is_lost_and_the_stream_ends(
    daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Its connection stays open and nothing arrives: after the timeout and the grace time the
    viewers' streams end cleanly, and another publisher has the channel.
    """
    server = daemon(*ROUTES, STATS, "--live-timeout=4", "--live-grace=2")
    publisher = camera(f"{server.url}/cam.webm", 60)
    wait_for(lambda: is_live(server))
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")
    wait_for(lambda: stats(server)["live"]["viewers"] == 1)

    publisher.send_signal(signal.SIGSTOP)

    assert output(seen).startswith("200 ")
    assert decoded(tmp_path / "seen.webm")[0] > 0
    assert stats(server)["live"]["publishers"] == 0
    assert output(camera(f"{server.url}/cam.webm", 1)) == ""


def test_a_reload_changes_nothing_for_a_stream(
    daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    SIGHUP keeps the publisher and its viewers.
    """
    server = daemon(*ROUTES, STATS, *QUICK)
    publisher = camera(f"{server.url}/cam.webm", 6)
    wait_for(lambda: is_live(server))
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")
    wait_for(lambda: stats(server)["live"]["viewers"] == 1)

    os.kill(server.pid, signal.SIGHUP)

    assert output(publisher) == ""
    assert output(seen).startswith("200 ")
    assert largest_step(probe(tmp_path / "seen.webm")) < 0.09


def test_many_stalled_viewers_hang_up_at_once(
    daemon: StartDaemon, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Another viewer misses nothing while they are there, and when they leave.
    """
    server = daemon(*ROUTES, STATS, *QUICK)
    publisher = camera(f"{server.url}/cam.webm", 8)
    wait_for(lambda: is_live(server))
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")
    stalled = []
    for _ in range(STALLED):
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connection.sendall(b"GET /cam.webm HTTP/1.0\r\n\r\n")
        stalled.append(connection)
    wait_for(lambda: stats(server)["live"]["viewers"] == STALLED + 1)

    for connection in stalled:
        connection.close()

    wait_for(lambda: stats(server)["live"]["viewers"] == 1)
    assert output(publisher) == ""
    assert output(seen).startswith("200 ")
    packets = probe(tmp_path / "seen.webm")
    assert video(packets)[0].key
    assert largest_step(packets) < 0.09
