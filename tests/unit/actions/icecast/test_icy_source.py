"""
Sources by ICY, and relays, on one server without sockets.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectingCancelledError, ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from rt_twisted.actions.icecast.icy_source import (
    ACCEPTED,
    MAX_HEAD,
    MAX_PROBES,
    PASSWORD_SECONDS,
    REFUSED,
)
from rt_twisted.actions.icecast.relay import HEAD_SECONDS, IDLE_SECONDS, RelayLink, RelaySource
from rt_twisted.http.stream_handle import PeerInfo, StreamHandle
from rt_twisted.media.icy import title_block
from rt_twisted.routes import Routes, parse_route
from tests.unit.actions.icecast.test_icecast import ADMIN, MOUNT, Station, body
from tests.unit.http.clients import Place, Wire
from tests.unit.media.test_mpeg_audio import MP3

LINE = "^/- icecast-icy:/a.mp3,password=hackme"


class IcyStation(Station):
    """
    A station to which sources connect by ICY.
    """

    def __init__(self) -> None:
        super().__init__()
        context = self.place.context
        self.action = parse_route(LINE, context).action
        self.find = Routes([parse_route(MOUNT, context)]).find

    def icy(self, *pieces: bytes) -> Wire:
        """
        Return the connection of a source that has sent *pieces*.
        """
        wire = Wire("192.0.2.5")
        handle = StreamHandle(wire, b"", pieces[0], self.find)
        self.action.accept(handle, PeerInfo("192.0.2.5", False))
        for piece in pieces[1:]:
            wire.protocol.dataReceived(piece)
            self.turn()
        self.turn()
        return wire


def written(wire: Wire) -> bytes:
    data: bytes = wire.value()  # type: ignore[no-untyped-call]  # Twisted's
    return data


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("split", [False, True])
def test_a_source_publishes(end: bytes, split: bool) -> None:
    """
    Its headers describe the stream, however they are cut.
    """
    station = IcyStation()
    data = end.join([b"hackme", b"icy-name:Mine", b"icy-br:128", b"", MP3 * 60])
    pieces = [data[at : at + 1] for at in range(30)] + [data[30:]] if split else [data]
    source = station.icy(*pieces)
    listener = station.listener()

    assert written(source) == ACCEPTED
    assert b"\r\nicy-name: Mine\r\n" in listener.written()
    assert body(listener).startswith(MP3)
    assert station.status()["source"]["listeners"] == 1  # type: ignore[index]


def test_a_client_that_only_probes_is_disconnected() -> None:
    """
    A client without a password cannot stay, or have lines read for ever.
    """
    station = IcyStation()
    probes = [b"!POKE\r\n"] * MAX_PROBES

    assert not station.icy(*probes, b"hackme\r\n").aborted
    assert station.icy(*probes, b"!POKE\r\n").aborted
    silent = station.icy(b"!POKE\r\n")
    station.turn(int(PASSWORD_SECONDS) + 1)
    assert silent.aborted


def test_a_source_without_headers() -> None:
    """
    An empty line follows the password.
    """
    station = IcyStation()
    station.icy(b"hackme\r\n", b"\r\n" + MP3 * 60)

    assert body(station.listener()).startswith(MP3)


def test_a_mount_has_one_source() -> None:
    """
    The second one is refused, also while the first sends by HTTP.
    """
    station = IcyStation()
    station.source().send(MP3 * 60)
    second = station.icy(b"hackme\r\n")

    assert written(second) == REFUSED
    assert second.disconnecting


def test_a_source_that_leaves_frees_its_mount() -> None:
    """
    Before its headers, and within its audio.
    """
    station = IcyStation()
    for rest in (b"", b"icy-br:1\r\n\r\n" + MP3 * 60):
        source = station.icy(b"hackme\r\n", b"icy-name:x\r\n" + rest)
        assert written(source) == ACCEPTED
        source.protocol.connectionLost(Failure(ConnectionDone()))
        station.turn()


def test_endless_headers_are_refused() -> None:
    """
    The connection is aborted.
    """
    source = IcyStation().icy(b"hackme\r\n", b"x" * (MAX_HEAD + 1))

    assert source.aborted


@pytest.mark.parametrize(
    ("start", "matches"),
    [
        (b"hackme\r\n", True),
        (b"hackme\nicy-name:x", True),
        (b"!POKE\r\n", True),
        (b"hack", None),
        (b"hackme\r", None),
        (b"hackmf", None),  # as long as it may be a password, nothing tells that it is wrong
        (b"x", None),
        (b"hackme2\r\n", False),
        (b"hackme2", None),
        (b"\x03\0\0\0", False),
        (b"!POK", None),
    ],
)
def test_a_source_is_recognized_by_its_password(start: bytes, matches: bool | None) -> None:
    """
    Other connections are those of other protocols.
    """
    assert IcyStation().action.matches(start) is matches


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("icecast-icy:/a.mp3", "needs password="),
        ("icecast-icy:a.mp3,password=hackme", "is a path"),
        ("icecast-icy:/a.mp3,password=abc", "at least four"),
        ("icecast-relay:channel=a,mount=/a.mp3,url=ftp://a/b", "is an address"),
        ("icecast-relay:channel=a,mount=/a.mp3,url=http:///b", "is an address"),
        ("icecast-relay:channel=a,mount=a.mp3,url=http://b/", "is a path"),
        ("icecast-relay:channel=a*,mount=/a.mp3,url=http://b/", "channel"),
    ],
)
def test_wrong_lines(line: str, reason: str) -> None:
    """
    The daemon does not start.
    """
    with pytest.raises(ValueError, match=reason):
        parse_route(f"^/- {line}", Place(reactor=MemoryReactorClock()).context)


class RelayStation(Station):
    """
    A station with a relay whose connections are in memory.
    """

    def __init__(self, *, demand: bool = False) -> None:
        super().__init__(ADMIN, MOUNT)
        self.reactor = MemoryReactorClock()
        line = "^/- icecast-relay:channel=radio/a.mp3,mount=/a.mp3,url=http://192.0.2.7:8000/x.mp3"
        self.action = parse_route(
            f"{line},demand={'yes' if demand else 'no'}", self.place.context
        ).action
        self.link = self.action.link

    def connect(self) -> Wire:
        """
        Return a connection of the relay to the other server.
        """
        wire = Wire("192.0.2.7")
        wire.protocol = source = RelaySource(self.link)
        source.makeConnection(wire)  # type: ignore[no-untyped-call]  # Twisted's
        return wire


def test_a_relay_publishes_with_titles() -> None:
    """
    Audio and titles are separated, and the headers of the other server describe the mount.
    """
    station = RelayStation()
    wire = station.connect()
    assert written(wire).startswith(b"GET /x.mp3 HTTP/1.0\r\nHost: 192.0.2.7:8000\r\n")
    audio = MP3 * 60
    stream = audio[:8000] + title_block("Other") + audio[8000:16000] + b"\0" + audio[16000:]
    wire.protocol.dataReceived(
        b"ICY 200 OK\r\nicy-name: Far\r\nicy-metaint: 8000\r\nContent-Type: audio/mpeg\r\n\r\n"
    )
    station.turn()
    wire.protocol.dataReceived(stream)
    station.turn()
    listener = station.listener()

    shown = station.status()["source"]
    assert (shown["server_name"], shown["title"]) == ("Far", "Other")  # type: ignore[index]
    assert body(listener).startswith(MP3)
    assert body(listener).replace(MP3, b"") == b""


@pytest.mark.parametrize("head", [b"HTTP/1.0 404 x\r\n\r\n", b"what\r\n\r\n", b"x" * 20000])
def test_another_response_ends_the_connection(head: bytes) -> None:
    """
    The relay tries again later.
    """
    wire = RelayStation().connect()
    wire.protocol.dataReceived(head)

    assert wire.aborted
    wire.protocol.connectionLost(Failure(ConnectionDone()))


def test_a_mount_in_use_is_not_relayed() -> None:
    """
    Another process may relay it already.
    """
    station = RelayStation()
    station.source().send(MP3 * 60)
    wire = station.connect()
    wire.protocol.dataReceived(b"HTTP/1.0 200 OK\r\n\r\n" + MP3)
    station.turn()

    assert wire.aborted


def test_a_silent_server_ends_the_connection() -> None:
    """
    The relay tries again later; a stream is not bound by the time for the head.
    """
    station = RelayStation()
    wire = station.connect()
    wire.protocol.dataReceived(b"HTTP/1.0 200 OK\r\n")
    station.turn(int(HEAD_SECONDS) - 1)
    assert not wire.aborted
    station.turn(1)
    assert wire.aborted
    wire.protocol.connectionLost(Failure(ConnectionDone()))

    wire = station.connect()
    wire.protocol.dataReceived(b"HTTP/1.0 200 OK\r\n\r\n" + MP3)
    for _ in range(int(HEAD_SECONDS) + 1):
        station.turn(1)
        wire.protocol.dataReceived(MP3)
    assert not wire.aborted
    station.connect().protocol.connectionLost(Failure(ConnectionDone()))


def test_a_relay_that_stops_while_it_connects(clean_reactor: list[Failure]) -> None:
    """
    Nothing is logged, and no secret is in what else is.
    """
    station = RelayStation()
    context: Any = station.place.context
    link = RelayLink(context, station.link.options, "http://me:pass@192.0.2.7:8000/x.mp3?key=k")
    assert link.url == "http://192.0.2.7:8000/x.mp3"
    assert b"GET /x.mp3?key=k " in link.request
    link._on_failed(Failure(ConnectingCancelledError(None)))
    assert not clean_reactor


class RecordingLink:
    """
    Records whether the relay is to be connected.
    """

    connected = False

    def start(self) -> None:
        self.connected = True

    def stop(self) -> None:
        self.connected = False


@pytest.mark.parametrize("demand", [False, True])
def test_a_relay_connects_when_it_is_needed(demand: bool) -> None:
    """
    Always; or on demand as soon as a listener comes, until it has had no listener for a while.
    """
    station = RelayStation(demand=demand)
    link = station.action.link = RecordingLink()
    station.action.startService()
    station.turn(20)
    assert link.connected is not demand

    listener = station.listener()
    assert link.connected
    station.source().send(MP3 * 60)
    station.turn(5)
    assert link.connected
    listener.hang_up()
    station.turn(int(IDLE_SECONDS) + 5)
    assert link.connected is not demand
    station.action.stopService()
    assert not link.connected
