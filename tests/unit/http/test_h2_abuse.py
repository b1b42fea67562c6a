"""
Tests of clients that abuse HTTP/2, and of the end of its connections.
"""

from __future__ import annotations

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hyperframe.frame import GoAwayFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_twisted.http import h2 as http_h2
from rt_twisted.http.h2 import LINGER, MAX_RESETS, MAX_STREAMS, MAX_UNREAD, WINDOW, Http2Connection
from rt_twisted.model.errors import HttpError
from tests.defaults import make_http_limits
from tests.unit.http.clients import LIMITS, Place, Wire
from tests.unit.http.h2_client import Client, publish

Codes = h2.errors.ErrorCodes


@pytest.mark.parametrize("together", [False, True])
def test_rapid_resets_are_bounded(together: bool) -> None:
    """
    After MAX_RESETS streams that are opened and reset at once, the connection is closed with
    ENHANCE_YOUR_CALM (CVE-2023-44487). A request that arrives together with its reset does not
    begin.
    """
    place = Place()
    client = Client(place)
    for _ in range(MAX_RESETS * 2):
        number = client.begin("/late", "GET", True)
        if not together:
            client.turn(1)
        client.talk.reset_stream(number)
        client.turn(1)
        if client.goaway_code is not None:
            break

    assert client.goaway_code == Codes.ENHANCE_YOUR_CALM
    assert len(place.waiting) == (0 if together else MAX_RESETS + 1)
    assert client.wire.disconnecting


@pytest.mark.parametrize("body", [None, b"12345", b"1234567890"])
def test_a_request_and_its_reset_at_once(body: bytes | None) -> None:
    """
    A request, or the end of its body, in the same bytes as its reset is not answered; others are.
    """
    client = Client(Place())
    number = client.begin("/echo", "POST", False, ("content-length", "10"))
    if body is not None:
        client.turn(1)
        client.talk.send_data(number, body, end_stream=len(body) == 10)
    client.talk.reset_stream(number)
    other = client.ask("/echo")
    client.turn(1)

    assert other.status == 200
    assert client.goaway_code is None


def test_a_request_and_a_goaway_with_an_error() -> None:
    """
    A request in the same bytes as a GOAWAY with an error is not answered.
    """
    place = Place()
    client = Client(place)
    client.begin("/echo", "GET", True)
    client.talk.close_connection(Codes.INTERNAL_ERROR)
    client.turn(1)

    assert client.wire.disconnecting
    assert not place.echo.paths
    client.hang_up()
    assert not place.server.connections


@pytest.mark.parametrize("together", [False, True])
def test_a_goaway_without_an_error(together: bool) -> None:
    """
    A GOAWAY without an error ends the connection only when all requests are answered (RFC 9113,
    6.8).
    """
    place = Place(limits=make_http_limits())
    client = Client(place)
    late, subscriber = client.begin("/late", "GET", True), client.begin("/news", "GET", True)
    if not together:
        client.turn()
    client.server.dataReceived(client.talk.data_to_send() + GoAwayFrame(0).serialize())
    place.waiting[0].answer(200, b"x" * 100_000)
    publish(place)
    place.clock.advance(0.01)
    client.turn(8)

    assert client.streams[late].ended and len(client.streams[late].body) == 100_000
    assert b"data: hello\n" in client.streams[subscriber].body
    assert not client.wire.disconnecting
    client.talk.reset_stream(subscriber)
    client.turn()
    assert client.wire.disconnecting


def test_occasional_resets_are_allowed() -> None:
    """
    A browser may open and close its tabs all day.
    """
    place = Place()
    client = Client(place)
    for _ in range(MAX_RESETS * 3):
        number = client.begin("/news", "GET", True)
        client.turn(1)
        client.talk.reset_stream(number)
        client.turn(1)
        place.clock.advance(0.1)

    assert client.goaway_code is None


def test_a_flood_of_pings_is_bounded() -> None:
    """
    Responses to pings that the client does not read do not pile up.
    """
    client = Client(Place())
    client.server.pauseProducing()
    for _ in range(MAX_UNREAD // 17 + 2):
        client.talk.ping(b"12345678")
        client.server.dataReceived(client.talk.data_to_send())

    assert client.wire.aborted


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\xff" * 100])
def test_other_protocols(data: bytes) -> None:
    """
    A client that does not send HTTP/2 is disconnected.
    """
    wire = Wire("192.0.2.1")
    server = Http2Connection(Place().server.context, wire, wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
    server.dataReceived(data)

    assert wire.disconnecting


def test_headers_without_end() -> None:
    """
    Headers far beyond the limits close the connection.
    """
    client = Client(Place())
    client.begin("/echo", "GET", True, *((f"x-{n}", "y" * 1000) for n in range(60)))
    client.turn()

    assert client.goaway_code == Codes.ENHANCE_YOUR_CALM


@settings(max_examples=150)
@given(st.data())
def test_any_bytes(data: st.DataObject) -> None:
    """
    No bytes, however malformed, raise an exception; the connection ends or goes on.
    """
    place = Place()
    client = Client(place)
    client.begin("/echo?a=1", "GET", True)
    number = client.begin("/late", "POST", False, ("content-length", "10"))
    client.talk.send_data(number, b"12345")
    bytes_ = bytearray(client.talk.data_to_send())
    for _ in range(data.draw(st.integers(0, 4))):
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(bytes_)))
    for piece in (bytes(bytes_[:cut]), bytes(bytes_[cut:]), data.draw(st.binary(max_size=60))):
        client.server.dataReceived(piece)
        place.clock.advance(0)
    client.hang_up()

    assert not place.server.connections


# Ending.


def test_an_idle_connection_is_closed() -> None:
    """
    An idle connection gets a GOAWAY after `idle_seconds`, and is aborted after LINGER.
    """
    place = Place()
    client = Client(place)
    client.ask("/echo")
    place.wait(LIMITS.idle_seconds - 2)
    assert not client.wire.disconnecting
    place.wait(3)
    client._receive()
    assert client.goaway_code == Codes.NO_ERROR
    assert client.wire.disconnecting and not client.wire.aborted
    place.wait(LINGER + 1)
    assert client.wire.aborted


def test_a_silent_connection_is_closed() -> None:
    """
    A connection without a request is closed after `head_seconds`.
    """
    place = Place()
    client = Client(place)
    place.wait(LIMITS.head_seconds + 1)

    assert client.wire.disconnecting


def test_a_stop() -> None:
    """
    A stop answers the open requests, refuses new ones, and then closes the connection.
    """
    place = Place()
    client = Client(place)
    late = client.ask("/late")
    place.server.stop()
    refused = client.ask("/echo")
    assert refused.reset == Codes.REFUSED_STREAM
    assert not client.wire.disconnecting
    place.waiting[0].answer(200, b"done", "text/plain")
    client.turn()

    assert late.body == b"done"
    assert client.wire.disconnecting


def test_an_exchange_can_be_refused_later() -> None:
    """
    An action may raise an HttpError after it has waited.
    """
    place = Place()
    client = Client(place)
    response = client.ask("/late")
    place.waiting[0].refuse(HttpError(503, "away", retry=3))
    client.turn()

    assert (response.status, response.headers["retry-after"]) == (503, "3")


def test_names_of_the_library() -> None:
    """
    http/h2.py: the names of the library that it uses exist, and the bounds are in force.
    """
    wire = http_h2.make_h2(make_http_limits())

    assert wire.max_inbound_frame_size == http_h2.MAX_FRAME
    assert wire.local_settings.max_concurrent_streams == MAX_STREAMS
    assert wire.local_settings.initial_window_size == WINDOW
    assert wire.encoder.header_table_size == http_h2.HEADER_TABLE
    assert wire.decoder.max_header_list_size == wire.local_settings.max_header_list_size
