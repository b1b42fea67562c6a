"""
Mounts of several servers: those of a route with `server=` are apart from the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock

from rt_twisted.access.keys import Key, Keys
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.icecast.commands import add_source, kill_source
from rt_twisted.actions.icecast.connected_sources import Source
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.live_peers import LivePeers
from rt_twisted.routes import Routes, parse_route
from tests.defaults import make_context, make_hub, make_server
from tests.unit.actions.icecast.test_icecast import ADMIN, MOUNT, OK, Station, body, status
from tests.unit.hub.shared_broker import SharedBroker
from tests.unit.media.test_mpeg_audio import MP3

FAR = r"^/far/(\w+\.\w+)$ icecast:server=far,channel=radio/$1"
FAR_ADMIN = r"^/far-admin/(status-json\.xsl)$ icecast-admin:server=far"
PLAYLIST = r"^/(.+)\.m3u$ icecast-playlist"


class TwoServers(Station):
    """
    A station whose mounts below /far/ have the same channels on another server.
    """

    def __init__(self) -> None:
        super().__init__()
        place = self.place
        far = make_hub(MemoryBroker(place.clock, "f"), place.clock)
        far.start()
        # Beside `server=`, `password=` is that of the server: sources have a publish key.
        keys = Keys([Key.of("hackme")])
        context = make_context(self.hub, place.clock, hubs=lambda *_: far, publish_keys=keys)
        lines = (PLAYLIST, ADMIN, FAR_ADMIN, FAR, MOUNT)
        routes = Routes([parse_route(line, context) for line in lines])
        place.server = make_server(place.clock, routes.find)
        place.server.start()

    def play(self, path: bytes) -> Any:
        source = self.source(b"SOURCE %b HTTP/1.0" % path)
        assert source.written() == OK
        source.send(MP3 * 20)
        self.turn()
        return source


@pytest.mark.parametrize("first", [b"/a.mp3", b"/far/a.mp3"])
def test_mounts_of_another_server_are_apart(first: bytes) -> None:
    """
    Lists have those of one server, and commands reach the mount that they name.
    """
    station = TwoServers()
    second = b"/far/a.mp3" if first == b"/a.mp3" else b"/a.mp3"
    sources = {path: station.play(path) for path in (first, second)}
    listeners = {path: station.listener(path) for path in (second, first)}
    more = station.listener(b"/far/a.mp3")
    assert all(status(one) == 200 for one in (*listeners.values(), more))

    shown: Any = station.status()["source"]
    assert (shown["listenurl"].partition("://")[2], shown["listeners"]) == ("a/a.mp3", 1)
    found = station.admin(b"/admin/listclients?mount=/far/a.mp3")
    [source] = ElementTree.fromstring(body(found))
    assert source.findtext("Listeners") == "2"

    moved = station.admin(b"/admin/moveclients?mount=/far/a.mp3&destination=/a.mp3")
    assert status(moved) == 400
    titled = station.admin(b"/admin/metadata?mount=/far/a.mp3&song=Far&mode=updinfo")
    assert status(titled) == 200
    sources[b"/a.mp3"].send(MP3 * 5)
    station.turn()
    assert "title" not in station.status()["source"]  # type: ignore[operator]
    assert status(station.admin(b"/admin/killsource?mount=/far/a.mp3")) == 200
    station.turn()
    assert sources[b"/far/a.mp3"].wire.disconnecting or sources[b"/far/a.mp3"].wire.aborted
    assert not sources[b"/a.mp3"].wire.disconnecting and not sources[b"/a.mp3"].wire.aborted
    assert status(station.call(b"GET /far/a.mp3.m3u HTTP/1.1\r\nHost: a\r\n\r\n")) == 404


class Worker:
    """
    A process with the channels of two servers.
    """

    def __init__(self, clock: Clock, near: SharedBroker, far: SharedBroker) -> None:
        self.hubs: list[Hub] = [make_hub(broker, clock) for broker in (near, far)]
        for hub in self.hubs:
            hub.start()
        self.near = make_context(self.hubs[0], clock, hubs=lambda *_: self.hubs[1])
        self.far = self.near.for_server("far")
        self.peers = LivePeers(self.hubs[0], clock)
        self.near.shared.get(LivePeers, lambda: self.peers)
        self.peers.startService()


def near(worker: Worker) -> ActionContext:
    return worker.near


def far(worker: Worker) -> ActionContext:
    return worker.far


@pytest.mark.parametrize(("first", "second"), [(near, far), (far, near)])
def test_other_processes_answer_for_each_server(
    first: Callable[[Worker], ActionContext], second: Callable[[Worker], ActionContext]
) -> None:
    """
    Any server may get the first source of a process.
    """
    clock = Clock()
    brokers = SharedBroker(clock), SharedBroker(clock)
    one, two = Worker(clock, *brokers), Worker(clock, *brokers)
    killed: list[str] = []

    def ask(context: ActionContext, channel: str) -> Any:
        asked: Deferred[bool] = ensureDeferred(kill_source(context, channel))
        clock.pump([0.1] * 20)
        return asked.result

    for context, channel in ((first(two), "a"), (second(two), "b")):
        add_source(context, Source(channel, partial(killed.append, channel), lambda: None))
    clock.pump([0.1] * 20)

    assert not ask(first(one), "b")
    assert not ask(second(one), "a")
    assert killed == []
    assert ask(first(one), "a")
    assert ask(second(one), "b")
    assert killed == ["a", "b"]
    for worker in (one, two):
        worker.peers.stopService()
