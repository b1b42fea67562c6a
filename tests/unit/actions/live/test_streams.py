"""
Tests of `rt_twisted.actions.live.streams`.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IClaims, IReady
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.live_directory import EXPIRE, INTERVAL
from rt_twisted.media.unit import End, Head, Kind, Track, Unit, write
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.internal_channels import STREAMS
from rt_twisted.model.message import Draft
from rt_twisted.routes import Routes, parse_route
from tests.defaults import make_context, make_hub, make_server
from tests.unit.http.clients import Caller, Place, get

TRACK = Track(1, Kind.VIDEO, "vp8", size=(320, 240))


def publish(place: Place, channel: str, thing: Head | Unit | End) -> None:
    event, data = write(thing)
    place.hub.publish([Draft(channel, data, event, transient=True)])
    place.clock.advance(0)


def listed(place: Place, path: bytes = b"/list") -> bytes:
    """
    Return the body of the list.
    """
    response = Caller(place.server, "127.0.0.1").send(get(path)).written()
    return response.partition(b"\r\n\r\n")[2]


def test_streams_are_listed_from_their_first_frame_to_their_end() -> None:
    """
    Text channels and streams with another prefix are not listed.
    """
    place = Place("^/list$ streams:live/")
    place.hub.start()
    assert listed(place) == b'{"streams": []}\n'

    place.hub.publish([Draft("live/text", b"hello")])
    for channel in ("live/b", "live/a", "other/c"):
        publish(place, channel, Head("run", 0.0, (TRACK,)))
        publish(place, channel, Unit(1, 0, 0, 0, True, 0, 0, b"picture"))
    assert listed(place) == b'{"streams": ["a", "b"]}\n'

    publish(place, "live/a", End("run"))
    assert listed(place) == b'{"streams": ["b"]}\n'


def test_a_list_may_need_a_key() -> None:
    """
    A request without the key gets 401 and no names.
    """
    place = Place("^/list$ streams:prefix=live/,view_key=secret")
    place.hub.start()

    refused = Caller(place.server, "127.0.0.1").send(get(b"/list")).written()

    assert refused.startswith(b"HTTP/1.1 401 ")
    assert listed(place, b"/list?key=secret") == b'{"streams": []}\n'


@implementer(IClaims, IReady)
class NodesBroker(MemoryBroker):
    """
    A broker that nodes could share, and that can be away.
    """

    away = False

    def ready(self) -> bool:
        return not self.away

    def claim(self, name: str, run: str, takeover: bool) -> Deferred[Any]:
        return fail(Unavailable("nothing is published here"))

    def is_claimed(self, name: str) -> Deferred[bool]:
        return succeed(False)


class Wall:
    """
    A server with lists of the streams of two brokers.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.broker = NodesBroker(self.clock, "e")
        self.main = make_hub(self.broker, self.clock)
        self.far = make_hub(NodesBroker(self.clock, "f"), self.clock)
        context = make_context(self.main, self.clock, hubs=lambda *_: self.far)
        lines = ("^/list$ streams:live/", "^/far$ streams:server=far,prefix=live/")
        routes = Routes([parse_route(line, context) for line in lines])
        self.server = make_server(self.clock, routes.find)
        self.server.start()
        for hub in (self.main, self.far):
            hub.start()

    def announce(self, hub: Hub, *names: str) -> None:
        data = json.dumps({"node": "a", "streams": names}).encode()
        hub.publish([Draft(STREAMS, data, transient=True)])

    def ask(self, path: bytes) -> Caller:
        return Caller(self.server, "127.0.0.1").send(get(path))


def test_each_server_has_its_own_streams() -> None:
    """
    A route with `server=` lists those of that server, whichever was asked first.
    """
    wall = Wall()
    callers = [wall.ask(b"/list"), wall.ask(b"/far")]
    wall.clock.advance(0)
    wall.announce(wall.main, "live/a")
    wall.announce(wall.far, "live/b")
    wall.clock.pump([INTERVAL, 1.0])

    [near], [far] = [caller.responses() for caller in callers]
    assert near.json == {"streams": ["a"]}
    assert far.json == {"streams": ["b"]}


def test_no_list_while_the_broker_is_away() -> None:
    """
    The response is 503; afterwards the list is complete again from its first response on.
    """
    wall = Wall()
    wall.ask(b"/list")
    wall.clock.pump([INTERVAL, 1.0])
    wall.broker.away = True
    wall.clock.advance(EXPIRE + 1)
    [answer] = wall.ask(b"/list").responses()
    assert answer.status == 503

    wall.broker.away = False
    caller = wall.ask(b"/list")
    assert not caller.responses()
    wall.announce(wall.main, "live/a")
    wall.clock.pump([INTERVAL, 1.0])
    [answer] = caller.responses()
    assert answer.json == {"streams": ["a"]}
