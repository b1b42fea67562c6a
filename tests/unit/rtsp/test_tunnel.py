"""
RTSP in a pair of HTTP requests.
"""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtsp.tunnel import Base64Stream
from tests.unit.http.clients import Caller
from tests.unit.rtsp.clients import IDR, RtspClient, RtspPlace

HEAD = b"%s /cam HTTP/1.1\r\nHost: localhost\r\nx-sessioncookie: %s\r\n"
POST = (
    HEAD + b"Content-Type: application/x-rtsp-tunnelled\r\nContent-Length: 32767\r\n\r\n"
)  # there will be more


class Tunnel:
    """
    A client whose requests go by a POST, and whose responses come by a GET.
    """

    def __init__(self, place: RtspPlace, cookie: bytes = b"c1") -> None:
        self.get = Caller(place.place.server, "127.0.0.1").send(HEAD % (b"GET", cookie) + b"\r\n")
        self.post = Caller(place.place.server, "127.0.0.1").send(POST % (b"POST", cookie))
        self.client = RtspClient(place, self.get)
        self.client.send = self._send  # type: ignore[method-assign]  # the other half
        self.head = self.get.written()
        self.client._read = len(self.head)
        self._place = place

    def _send(self, data: bytes) -> None:
        encoded = b64encode(data)
        self.post.send(encoded[:5], encoded[5:])
        self._place.turn()


def test_a_tunnel_publishes_and_plays() -> None:
    """
    Responses and packets come by the GET, in the clear; nothing is answered on the POST.
    """
    place = RtspPlace("GET ^/cam$ mp4:cam", "POST ^/cam$ istream:cam", "^/cam$ rtsp:cam")
    publisher, player = Tunnel(place), Tunnel(place, b"c2")
    publisher.client.record()
    publisher.client.sound(0)
    publisher.client.picture(0, IDR)
    for number in range(1, 60):
        publisher.client.picture(number, b"\x41\x9a" + bytes(1000))
        publisher.client.sound(number)

    assert player.client.play().status == 200
    player.client.responses()

    assert publisher.head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert publisher.post.written() == b""
    assert len([each for each in player.client.packets if each.channel == 0]) > 50


def test_the_end_of_the_get_ends_both() -> None:
    """
    The cookie can be used again.
    """
    place = RtspPlace()
    tunnel = Tunnel(place)
    assert tunnel.client.ask("OPTIONS").status == 200

    tunnel.get.hang_up()

    assert not tunnel.post.open
    assert Tunnel(place).client.ask("OPTIONS").status == 200


def test_a_get_without_a_post_is_closed() -> None:
    """
    After the time of a handshake.
    """
    place = RtspPlace()
    get = Caller(place.place.server, "127.0.0.1").send(HEAD % (b"GET", b"c") + b"\r\n")
    place.pass_seconds(12)
    assert not get.open


def test_halves_that_do_not_fit() -> None:
    """
    A POST belongs to a GET of the same client, and a cookie to one GET.
    """
    place = RtspPlace()
    Tunnel(place)

    for address, data in (
        ("192.0.2.1", POST % (b"POST", b"c1")),
        ("127.0.0.1", POST % (b"POST", b"c2")),
        ("127.0.0.1", HEAD % (b"GET", b"c1") + b"\r\n"),
        ("127.0.0.1", HEAD % (b"GET", b"c" * 300) + b"\r\n"),
    ):
        refused = Caller(place.place.server, address).send(data)
        assert refused.written().startswith(b"HTTP/1.1 400 ")


def test_a_get_that_cannot_be_a_tunnel() -> None:
    """
    A refused GET leaves its cookie free for another one.
    """
    place = RtspPlace()
    refused = Caller(place.place.server, "127.0.0.1")
    refused.send(HEAD % (b"GET", b"c1") + b"Transfer-Encoding: chunked\r\n\r\n")
    assert refused.written().startswith(b"HTTP/1.1 501 ")

    assert Tunnel(place).head.startswith(b"HTTP/1.0 200 ")


def test_both_halves_pause_while_a_player_is_behind() -> None:
    """
    The POST is not read either, and both are read again afterwards.
    """
    place = RtspPlace("GET ^/cam$ mp4:cam", "POST ^/cam$ istream:cam", "^/cam$ rtsp:cam")
    publisher, player = Tunnel(place), Tunnel(place, b"c2")
    publisher.client.record()
    publisher.client.sound(0)
    publisher.client.picture(0, IDR)
    publisher.client.picture(1)
    assert player.client.play().status == 200
    duplex = player.get.wire.protocol.wrappedProtocol

    duplex.pause_reading()
    player.client.send(player.client.request("GET_PARAMETER"))
    states = [each.wire.producerState for each in (player.get, player.post)]
    duplex.resume_reading()

    assert states == ["paused", "paused"]
    assert [each.wire.producerState for each in (player.get, player.post)] == ["producing"] * 2
    assert len(player.client.responses()) == 1


def test_a_body_that_is_not_base64() -> None:
    """
    The connection is closed.
    """
    tunnel = Tunnel(RtspPlace())
    tunnel.post.send(b"!!!!")
    assert not tunnel.get.open


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=20), st.integers(1, 9))
def test_base64_of_several_writes(writes: list[bytes], size: int) -> None:
    """
    Padding in the middle, and cuts anywhere.
    """
    data = b"\r\n".join(map(b64encode, writes))
    stream = Base64Stream()
    found = [stream.feed(data[start : start + size]) for start in range(0, len(data), size)]

    assert b"".join(found) == b"".join(writes)


@given(st.lists(st.binary(max_size=20)))
def test_no_body_raises_anything_else(pieces: list[bytes]) -> None:
    """
    Whatever the bytes are.
    """
    stream = Base64Stream()
    try:
        for piece in pieces:
            stream.feed(piece)
    except RemoteProtocolError as error:
        assert error.status == 400


@pytest.mark.parametrize("data", [b"=AAA", b"A=AA", b"AA=A"])
def test_wrong_padding(data: bytes) -> None:
    """
    The stream raises its own error.
    """
    with pytest.raises(RemoteProtocolError):
        Base64Stream().feed(data)
