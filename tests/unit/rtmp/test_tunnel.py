"""
Publishers that tunnel RTMP in HTTP requests.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rt_twisted.actions.ingest import publication
from rt_twisted.model.message import NOWHERE, PublishResult
from rt_twisted.rtmp.connection import LINGER
from rt_twisted.rtmp.session import BAD_NAME
from rt_twisted.rtmp.tunnel import MAX_RESPONSES, SILENCE, TunnelSessions
from rt_twisted.rtmp.tunnel_action import MAX_FIRST_BODY
from tests.unit.http.clients import Answer, Caller
from tests.unit.rtmp.client import avc_configuration, codes, command, dialogue, metadata
from tests.unit.rtmp.studio import VIEWERS, Studio, picture

START = dialogue("live", "cam") + metadata(videocodecid=7.0) + avc_configuration()


class Tunnel:
    """
    A client of *studio* that sends one request after the other.
    """

    def __init__(self, studio: Studio, headers: bytes = b"") -> None:
        self.caller = Caller(studio.server, "127.0.0.1")
        self._headers = headers
        self._number = 0
        self.received = b""
        self.id = self.request(b"/open/1", b"\0").body.decode().strip()

    def request(self, path: bytes, body: bytes, kind: bytes = b"application/x-fcs") -> Answer:
        self.send(path, body, kind)
        return self.answers[-1]

    def send(self, path: bytes, body: bytes, kind: bytes = b"application/x-fcs") -> None:
        self._number += 1
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\n" % (path, kind)
        self.caller.send(head, self._headers, b"Content-Length: %d\r\n\r\n" % len(body), body)

    @property
    def answers(self) -> list[Answer]:
        return self.caller.responses()

    def rtmp(self, data: bytes) -> None:
        """
        Send *data* in one request, and keep what its response has.
        """
        answer = self.request(b"/send/%b/%d" % (self.id.encode(), self._number), data)
        assert answer.body[:1] == b"\x01"
        self.received += answer.body[1:]

    def poll(self) -> Answer:
        return self.request(b"/idle/%b/%d" % (self.id.encode(), self._number), b"\0")


def sessions(studio: Studio) -> TunnelSessions:
    return studio.context.shared.get(TunnelSessions, TunnelSessions)


@pytest.mark.parametrize("step", [100, 5000])
def test_a_tunneled_publisher(step: int) -> None:
    """
    Requests carry the connection in pieces; viewers see no difference.
    """
    studio = Studio()
    tunnel = Tunnel(studio)
    sent = START + picture(0, True) + picture(1)
    for start in range(0, len(sent), step):
        tunnel.rtmp(sent[start : start + step])
    viewer = studio.viewer()
    studio.turn()

    assert codes(tunnel.received) == ["NetStream.Publish.Start"]
    assert viewer.written().count(b"<0>") == viewer.written().count(b"<1>") == 1
    assert tunnel.poll().body == b"\x01"

    closed = tunnel.request(b"/close/%b/9" % tunnel.id.encode(), b"\0")
    assert closed.body == b"\0"
    assert not len(studio.hub.live.publishers)
    assert tunnel.poll().status == 404
    assert not len(sessions(studio))


def test_a_refused_publisher() -> None:
    """
    The sentence is in the response; the session then ends.
    """
    studio = Studio(key="secret")
    tunnel = Tunnel(studio)

    tunnel.rtmp(dialogue("live", "cam?key=wrong"))

    assert codes(tunnel.received) == [BAD_NAME]
    studio.clock.advance(LINGER)
    studio.turn()
    assert tunnel.poll().status == 404


def test_a_client_that_stops_polling() -> None:
    """
    After 30 seconds without a request the session has ended.
    """
    studio = Studio("^/live/(\\w+)$ rtmp:publish=$1,timeout=60")
    tunnel = Tunnel(studio)
    tunnel.rtmp(START)
    studio.clock.advance(SILENCE - 1)
    tunnel.poll()
    studio.clock.advance(SILENCE - 1)
    assert len(studio.hub.live.publishers) == 1

    studio.clock.advance(1)

    assert not len(studio.hub.live.publishers)
    assert not len(sessions(studio))


def slow_studio(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Studio, list[Deferred[PublishResult]]]:
    """
    Return a studio, and what its broker has not acknowledged.
    """
    monkeypatch.setattr(publication, "MAX_UNACKNOWLEDGED", 100)
    waiting: list[Deferred[PublishResult]] = []
    studio = Studio()

    def publish(hub: Any, drafts: Any) -> Deferred[PublishResult]:
        waiting.append(Deferred())
        return waiting[-1]

    monkeypatch.setattr(type(studio.hub), "publish", publish)
    return studio, waiting


def test_requests_do_not_pass_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A client that sends more requests meanwhile is not received, and too many end the session.
    """
    studio, waiting = slow_studio(monkeypatch)
    tunnel = Tunnel(studio)
    tunnel.rtmp(START)
    path = b"/send/%b/9" % tunnel.id.encode()
    tunnel.send(path, picture(0, True))
    count = len(waiting)
    others = [Caller(studio.server, "127.0.0.1") for _ in range(MAX_RESPONSES)]
    for number, other in enumerate(others):
        tunnel.caller = other
        tunnel.send(path, picture(number + 1))
        assert len(waiting) == count
        assert len(sessions(studio)) == (number < MAX_RESPONSES - 1)

    assert all(other.responses() for other in others)
    assert tunnel.poll().status == 404


def test_a_slow_broker_delays_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The client sends its next request when the broker has acknowledged.
    """
    studio, waiting = slow_studio(monkeypatch)
    tunnel = Tunnel(studio)
    tunnel.rtmp(START)
    before = len(tunnel.answers)
    tunnel.send(b"/send/%b/9" % tunnel.id.encode(), picture(0, True))
    assert len(tunnel.answers) == before

    for each in tuple(waiting):
        each.callback(PublishResult((NOWHERE,)))

    assert len(tunnel.answers) == before + 1


def test_large_requests_are_for_publishers() -> None:
    """
    Before it publishes, a client has only commands to send.
    """
    studio = Studio()
    tunnel = Tunnel(studio)
    path = b"/send/%b/1" % tunnel.id.encode()
    assert Tunnel(studio).request(path, bytes(MAX_FIRST_BODY + 1)).status == 413

    tunnel.rtmp(START)
    assert tunnel.request(path, bytes(MAX_FIRST_BODY + 1)).status == 200


def test_pages_of_other_hosts_may_not_publish() -> None:
    """
    Without a key, the headers of the request count as for every publisher by HTTP.
    """
    tunnel = Tunnel(Studio(), b"Origin: https://evil.example\r\n")

    tunnel.rtmp(START)

    assert codes(tunnel.received) == [BAD_NAME]


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        (b"/open/1", b"text/plain", 404),
        (b"/send/no-session/1", b"application/x-fcs", 404),
        (b"/fcs/ident2", b"application/x-fcs", 404),
        (b"/idle/x/1/2", b"application/x-fcs", 404),
    ],
)
def test_other_requests(path: bytes, kind: bytes, status: int) -> None:
    """
    The paths are served for their content type alone.
    """
    assert Tunnel(Studio()).request(path, b"\0", kind).status == status


def test_without_such_a_route() -> None:
    """
    The paths exist where an `rtmp:` route does.
    """
    assert Tunnel(Studio(VIEWERS)).answers[0].status == 404


def test_own_routes_come_first() -> None:
    """
    A route of the user with such a path is not replaced.
    """
    studio = Studio("^/open/1$ publish:news", "^/live/(\\w+)$ rtmp:$1")

    assert Tunnel(studio).answers[0].status != 404
    assert not len(sessions(studio))


@pytest.mark.parametrize("broken", [b"\xff", b"\x03" + bytes(4000), command("x", 1)])
def test_broken_tunnels(broken: bytes) -> None:
    """
    What is no RTMP ends its session alone.
    """
    studio = Studio()
    other, tunnel = Tunnel(studio), Tunnel(studio)
    other.rtmp(START)

    tunnel.send(b"/send/%b/1" % tunnel.id.encode(), broken)
    studio.pass_seconds(2)
    studio.turn()

    assert len(studio.hub.live.publishers) == 1
    assert other.poll().status == 200
