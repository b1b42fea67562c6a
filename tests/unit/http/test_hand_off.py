"""
Connections that are handed to another process, with the request unanswered.
"""

from __future__ import annotations

from typing import Any

import pytest

from rt_twisted.http.stream_handle import PeerInfo
from tests.unit.http.clients import Caller, Place, chunked, get, post
from tests.unit.http.h2_client import Client


class OtherProcess:
    """
    Takes connections, unless it is full.
    """

    def __init__(self, full: bool = False) -> None:
        self.full = full
        self.taken: list[tuple[PeerInfo, bytes]] = []
        self.released: list[Any] = []

    def take(self, transport: Any, peer: PeerInfo, data: bytes) -> Any:
        """
        Record the connection; see `Detach`.
        """
        assert transport not in self.released
        if self.full:
            return None
        self.taken.append((peer, data))
        return self.released.append


def hand_off(place: Place, other: OtherProcess) -> bool | None:
    """
    Hand off the connection of the first request; None if that is not decided.
    """
    done = place.waiting[0].hand_off(other.take)
    assert not other.taken, "bytes that come with the head are not parsed yet"
    place.clock.advance(0)
    return getattr(done, "result", None)


def assert_answered_here(place: Place, caller: Caller) -> None:
    """
    Check that the connection works as if nobody had tried to hand it off.
    """
    place.waiting[0].answer(200, b"here")
    assert caller.responses()[0].body == b"here"


@pytest.mark.parametrize(
    "data",
    [
        get(b"/late?a=%20b", b"X-One: 1\r\nX-One: 2\r\n"),
        get(b"/late", version=b"1.0"),
        post(b"body", b"/late"),
        post(b"whole body", b"/late")[:-4],
        chunked(b"4", b"body", b"0", b"", b"", path=b"/late"),
    ],
)
def test_the_other_process_gets_the_whole_request(data: bytes) -> None:
    """
    The process is given all bytes that were received, and the connection when it is released.
    Bytes of a body that are still in the socket are read by the other process.
    """
    place, other = Place(), OtherProcess()
    caller = place.call(data, address="192.0.2.7")
    secure = place.waiting[0].secure

    assert hand_off(place, other) is True
    [(peer, received)] = other.taken
    assert (peer.host, peer.secure) == ("192.0.2.7", secure)
    assert received == data
    assert other.released == [caller.wire]
    assert not place.server.connections
    assert caller.written() == b"" and caller.open


def test_requests_are_handed_off_one_by_one() -> None:
    """
    A connection with a further request is not handed off: its bytes are parsed already.
    """
    place, other = Place(), OtherProcess()
    caller = place.call(get(b"/late") + get())

    assert hand_off(place, other) is False
    assert_answered_here(place, caller)
    assert [answer.status for answer in caller.responses()] == [200, 200]


@pytest.mark.parametrize("rest", [(b"4", b"bo"), (b"4", b"body", b"0")])
def test_a_chunked_body_is_handed_off_only_as_a_whole(rest: tuple[bytes, ...]) -> None:
    """
    Where in a chunk its bytes end is not known.
    """
    place, other = Place(), OtherProcess()
    caller = place.call(chunked(*rest, path=b"/late"))

    assert hand_off(place, other) is False
    assert_answered_here(place, caller)


def test_a_full_process_takes_nothing() -> None:
    """
    A request that the other process does not take is answered here.
    """
    place = Place()
    caller = place.call(get(b"/late"))

    assert hand_off(place, OtherProcess(full=True)) is False
    assert_answered_here(place, caller)
    caller.send(get())
    assert len(caller.responses()) == 2


def test_a_request_that_is_answered_meanwhile_stays() -> None:
    """
    A connection is not handed off behind a response, and not after its end.
    """
    place, other = Place(), OtherProcess()
    caller = place.call(get(b"/late"))
    gone = place.call(get(b"/late"))
    results = [exchange.hand_off(other.take) for exchange in place.waiting]
    place.waiting[0].answer(200)
    gone.hang_up()
    place.clock.advance(0)

    assert [done.result for done in results] == [False, False]
    assert not other.taken and caller.open


def test_connections_by_http_2_stay() -> None:
    """
    Other streams have the same connection.
    """
    place, other = Place(), OtherProcess()
    client = Client(place)
    response = client.ask("/late")

    assert hand_off(place, other) is False
    place.waiting[0].answer(200)
    client.turn()
    assert response.status == 200
