"""
Live streams while something fails: publishers that stop, viewers that hang up, redis and
workers that are gone.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

from tests.real.conftest import PATIENCE, Server, StartDaemon
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
from tests.real.redis_server import redis

__all__ = ["camera", "redis", "start", "viewer"]  # fixtures

STALLED, HEALTHY = 100, 20


def test_redis_is_restarted_under_a_stream(
    daemon: StartDaemon, redis: Server, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    The publisher stays, and the viewers of both nodes go on at a later keyframe, without a hole
    in their times.
    """
    broker = ("--broker=redis", f"--redis-port={redis.port}")
    here, there = (daemon(*ROUTES, STATS, *QUICK, *broker) for _ in range(2))
    publisher = camera(f"{here.url}/cam.webm", 14, "-cluster_time_limit", "200")
    wait_for(lambda: stats(here)["live"]["publishers"] == 1)
    seen = [viewer(f"{node.url}/cam.webm", f"{node.port}.webm") for node in (here, there)]
    wait_for(lambda: all(stats(node)["live"]["viewers"] == 1 for node in (here, there)))

    redis.kill(signal.SIGKILL)
    redis.start()

    assert output(publisher) == ""
    for process, node in zip(seen, (here, there), strict=True):
        assert output(process).startswith("200 ")
        packets = probe(tmp_path / f"{node.port}.webm")
        assert len(video(packets)) > 100
        assert largest_step(packets) < 0.09


def test_a_worker_is_killed(
    daemon: StartDaemon, redis: Server, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Viewers of the other worker miss nothing; a publisher that was cut off may return.
    """
    broker = ("--broker=redis", f"--redis-port={redis.port}", "--workers=2")
    server = daemon(*ROUTES, STATS, "--live-timeout=8", "--live-grace=12", *broker)
    url = f"{server.url}/cam.webm"
    wait_for(lambda: len(pids(server)) == 2)
    publisher = camera(url, 60, "-cluster_time_limit", "200")
    wait_for(lambda: stats(server)["live"]["publishers"] == 1)
    seen = [viewer(url, f"{number}.webm") for number in range(4)]
    wait_for(lambda: stats(server)["live"]["viewers"] == 4)
    killed, _ = pids(server)

    os.kill(killed, signal.SIGKILL)

    def is_back() -> bool:
        nonlocal publisher
        if publisher.poll() is not None:
            publisher = camera(url, 60, "-cluster_time_limit", "200")
        now = pids(server)
        return len(now) == 2 and killed not in now and stats(server)["live"]["publishers"] == 1

    wait_for(is_back)
    late = viewer(url, "late.webm")
    wait_for(lambda: stats(server)["live"]["viewers"] >= 1)
    wait_for(lambda: (tmp_path / "late.webm").exists())
    publisher.terminate()
    assert output(late).startswith("200 ")
    assert decoded(tmp_path / "late.webm")[0] > 0
    for number, process in enumerate(seen):
        process.communicate(timeout=PATIENCE)
        if process.returncode == 0:  # it was not one of the killed worker
            assert largest_step(probe(tmp_path / f"{number}.webm")) < 0.09


def pids(server: Server) -> list[int]:
    """
    Return the process ids of the workers that are up.
    """
    workers: Any = stats(server)["workers"]
    return [worker["pid"] for worker in workers if worker["state"] == "up"]


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
    Healthy viewers miss nothing while they are there, and when they leave.
    """
    server = daemon(*ROUTES, STATS, *QUICK)
    publisher = camera(f"{server.url}/cam.webm", 8)
    wait_for(lambda: is_live(server))
    url = f"{server.url}/cam.webm"
    # One process for all of them.
    names = [f"seen{number}.webm" for number in range(HEALTHY)]
    others = [word for name in names[1:] for word in ("-o", str(tmp_path / name), url)]
    seen = viewer(url, names[0], "-Z", "--parallel-immediate", *others)
    wait_for(lambda: stats(server)["live"]["viewers"] == HEALTHY)
    stalled = []
    for _ in range(STALLED):
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connection.sendall(b"GET /cam.webm HTTP/1.0\r\n\r\n")
        stalled.append(connection)
    wait_for(lambda: stats(server)["live"]["viewers"] == STALLED + HEALTHY)

    for connection in stalled:
        connection.close()

    wait_for(lambda: stats(server)["live"]["viewers"] == HEALTHY)
    assert output(publisher) == ""
    assert output(seen).count("200 video/webm") == HEALTHY
    packets = probe(tmp_path / names[0])
    assert video(packets)[0].key
    assert largest_step(packets) < 0.09
    # A viewer that had skipped would have other times.
    assert len({(tmp_path / name).read_bytes()[-1000:] for name in names}) == 1
