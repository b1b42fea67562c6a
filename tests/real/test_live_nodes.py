"""
Live streams and radio on workers and nodes that share a broker: what one of them shows and does
concerns all.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from functools import partial
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.real.conftest import PATIENCE, Server, StartDaemon
from tests.real.live_programs import QUICK, Camera, camera, start, wait_for
from tests.real.rabbit import Rabbit, rabbit
from tests.real.redis_server import redis
from tests.real.test_icecast import LISTENER, MP3, ROUTES, UPDATE, Station, ffmpeg

__all__ = ["camera", "rabbit", "redis", "start"]  # fixtures

HEALTH = "--route=^/readyz$ ready"


@pytest.fixture(params=["redis", "amqp"])
def shared(request: pytest.FixtureRequest) -> Sequence[str]:
    """
    The options of daemons that share a broker.
    """
    if request.param == "redis":
        server: Server = request.getfixturevalue("redis")
        return "--broker=redis", f"--redis-port={server.port}"
    broker: Rabbit = request.getfixturevalue("rabbit")
    return "--broker=amqp", f"--amqp-url=amqp://guest:guest@127.0.0.1:{broker.port}"


def ready(server: Server) -> Server:
    """
    Return *server* when it has reached the broker.
    """

    def is_ready() -> bool:
        try:
            return bool(urlopen(f"{server.url}/readyz", timeout=PATIENCE).status == 200)
        except HTTPError:
            return False

    wait_for(is_ready)
    return server


def lists(server: Server, *names: str) -> bool:
    """
    Return whether the list of streams has these *names*, and no other.
    """
    with urlopen(f"{server.url}/live.json", timeout=PATIENCE) as response:
        return bool(json.load(response)["streams"] == list(names))


def are_live(node: Station, mounts: Sequence[str], expected: bool = True) -> bool:
    return all(node.is_live(mount) == expected for mount in mounts)


def has_listeners(node: Station, count: int, mount: str = "/live.mp3") -> bool:
    """
    Return whether a monitoring script finds *count* listeners of *mount*.
    """
    [one] = [one for one in node.sources() if str(one["listenurl"]).endswith(mount)]
    return one["server_name"] == "Mine" and one["listeners"] == count


def test_the_list_has_the_streams_of_all_nodes(
    daemon: StartDaemon, camera: Camera, shared: Sequence[str]
) -> None:
    """
    Without viewers, on a node that was asked before, and on one that starts later; until the end
    of the stream, or of its node.
    """
    options = (*shared, *QUICK)
    here, there = [ready(daemon(*options)) for _ in range(2)]
    assert lists(there)
    own = camera(f"{there.url}/live/own", 60)
    camera(f"{here.url}/live/cam", 60)

    for server in (here, there):
        wait_for(partial(lists, server, "cam", "own"))
    late = daemon(*options)
    wait_for(partial(lists, late, "cam", "own"))
    own.kill()
    wait_for(partial(lists, here, "cam"))
    here.kill(signal.SIGKILL)
    wait_for(partial(lists, there))


def test_listeners_of_all_processes(
    daemon: StartDaemon, start: Camera, shared: Sequence[str]
) -> None:
    """
    A script at any worker of any node finds their sum, and each of them, disconnects or moves it,
    and ends the source.
    """
    nodes = [
        Station(ready(daemon(*ROUTES, HEALTH, *shared, *more)).port)
        for more in (["--workers=2"], [])
    ]
    mounts = ("/live.mp3", "/other.mp3")
    sources = [
        ffmpeg(start, nodes[0].source_url(mount), 120, *MP3, "-ice_name", "Mine")
        for mount in mounts
    ]
    for node in nodes:
        wait_for(partial(are_live, node, mounts))
    players = [
        start("curl", "curl", "-sN", "-o", "/dev/null", f"{node.url}/live.mp3")
        for node in (*nodes, *nodes, *nodes)
    ]

    def ids(node: Station, mount: str = "/live.mp3") -> list[str]:
        return re.findall(LISTENER, node.get(f"/admin/listclients?mount={mount}", "boss")[1])

    for node in (*nodes, *nodes, *nodes):  # each request by another worker, perhaps
        wait_for(partial(has_listeners, node, len(players)))
        assert node.get(UPDATE, "boss")[0] == 200
        assert len(set(ids(node))) == len(players)
    assert f"<listeners>{len(players)}</listeners>" in nodes[1].get("/admin/stats", "boss")[1]

    first, second, *others = ids(nodes[1])
    for node, one in zip(nodes, (first, second), strict=True):
        kill = f"/admin/killclient?mount=/live.mp3&id={one}"
        assert "<return>1</return>" in node.get(kill, "boss")[1]
        assert "<return>0</return>" in node.get(kill, "boss")[1]
    wait_for(lambda: sum(one.poll() is None for one in players) == len(others))
    move = "/admin/moveclients?mount=/live.mp3&destination=/other.mp3"
    assert nodes[1].get(move, "boss")[0] == 200
    for node in nodes:
        wait_for(partial(has_listeners, node, len(others), "/other.mp3"))
        assert sorted(ids(node, "/other.mp3")) == sorted(others)

    status, answer = nodes[1].get("/admin/killsource?mount=/live.mp3", "boss")
    assert (status, "Source Removed" in answer) == (200, True)
    sources[0].wait(PATIENCE)
    for node in nodes:
        wait_for(partial(are_live, node, ("/live.mp3",), False))
        assert node.is_live("/other.mp3")


def test_the_limit_of_listeners_is_that_of_all_processes(
    daemon: StartDaemon, start: Camera, shared: Sequence[str]
) -> None:
    """
    A mount that is full on another node is full.
    """
    limited = (*ROUTES[:2], f"{ROUTES[2]},max=2")
    here, there = [Station(ready(daemon(*limited, HEALTH, *shared)).port) for _ in range(2)]
    ffmpeg(start, here.source_url(), 60, *MP3, "-ice_name", "Mine")
    wait_for(there.is_live)
    for node in (here, there):
        start("curl", "curl", "-sN", "-o", "/dev/null", f"{node.url}/live.mp3")
    for node in (here, there):
        wait_for(partial(has_listeners, node, 2))
    for node in (here, there):
        assert node.get("/live.mp3")[0] == 503
