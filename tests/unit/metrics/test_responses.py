"""
Refused subscribers and publish requests are counted, whatever action refuses them.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from rt_twisted.access.keys import Key, Keys
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.metrics.responses import ResponseMetrics
from rt_twisted.routes import DEFAULT, Routes, parse_route
from tests.defaults import make_context, make_hub, make_hub_limits, make_server
from tests.unit.http.clients import Caller, get, post

UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SOCKETIO = b"/socket.io/?EIO=4&transport=polling"
SUBSCRIBERS = {
    "sse": get(b"/?channels=a"),
    "poll": get(b"/poll?channels=a"),
    "stream": get(b"/stream?channels=a"),
    "websocket": get(b"/ws?channels=a", UPGRADE),
    "socket.io by polling": get(SOCKETIO),
    "socket.io by websocket": get(b"/socket.io/?EIO=4&transport=websocket", UPGRADE),
}


class Place:
    """
    A server with the default routes that admits one subscriber.
    """

    def __init__(self) -> None:
        clock = Clock()
        self.hub = make_hub(MemoryBroker(clock, "e"), clock, limits=make_hub_limits(subscribers=1))
        context = make_context(self.hub, clock, publish_keys=Keys([Key.of("secret")]))
        routes = Routes([parse_route(line, context) for line in DEFAULT])
        self.server = make_server(clock, routes.find)
        self.server.context.access_log = ResponseMetrics(routes.find, self.hub.metrics, None)
        self.hub.start()

    def send(self, request: bytes) -> Caller:
        return Caller(self.server).send(request)

    def refused(self) -> dict[str, dict[str, int]]:
        return {kind: dict(reasons) for kind, reasons in self.hub.metrics.refused.items()}


@pytest.mark.parametrize("transport", SUBSCRIBERS)
def test_a_refused_subscriber_is_counted(transport: str) -> None:
    """
    With `max-readers = 1` the second subscriber counts as refused, by every transport.
    """
    place = Place()
    place.send(get(b"/?channels=a"))

    place.send(SUBSCRIBERS[transport])

    assert place.refused() == {"readers": {"unavailable": 1}, "publishes": {}}


def test_every_transport_adds_to_one_count() -> None:
    """
    Refusals by all transports are counted together.
    """
    place = Place()
    place.send(get(b"/?channels=a"))

    for request in SUBSCRIBERS.values():
        place.send(request)

    assert place.refused()["readers"] == {"unavailable": len(SUBSCRIBERS)}


def open_session(place: Place, version: int) -> bytes:
    """
    Return the target of further requests of a new Engine.IO session.
    """
    target = b"/socket.io/?EIO=%d&transport=polling" % version
    opened = place.send(get(target)).responses()[0].body
    return target + b"&sid=" + opened.partition(b'"sid":"')[2].partition(b'"')[0]


def test_a_refusal_within_a_socketio_session_is_counted() -> None:
    """
    A Socket.IO client is refused by a packet when the last place was taken after its handshake.
    """
    place = Place()
    session = open_session(place, 4)
    place.send(get(b"/?channels=a"))

    place.send(post(b"40", session))

    assert b"too many subscribers" in place.send(get(session)).responses()[0].body
    assert place.refused()["readers"] == {"unavailable": 1}


def test_a_refused_poll_of_a_socketio_session_is_counted() -> None:
    """
    Clients of Engine.IO 3 join by their handshake; their next poll is refused.
    """
    place = Place()
    session = open_session(place, 3)
    place.send(get(b"/?channels=a"))

    assert place.send(get(session)).responses()[0].status == 503
    assert place.refused()["readers"] == {"unavailable": 1}


def test_a_refused_publisher_is_counted() -> None:
    """
    A publish request without its key counts apart from subscribers.
    """
    place = Place()

    place.send(post(b"channel=a&message=x", b"/publish"))

    assert place.refused() == {"readers": {}, "publishes": {"key": 1}}


@pytest.mark.parametrize("request_", [get(b"/nothing"), get(b"/stats"), b"NONSENSE\r\n\r\n"])
def test_other_refused_requests_count_as_neither(request_: bytes) -> None:
    """
    Requests without a route, or to other actions, are counted by their status only.
    """
    place = Place()

    place.send(request_)

    assert place.refused() == {"readers": {}, "publishes": {}}
    assert sum(place.hub.metrics.requests.values()) == 1
