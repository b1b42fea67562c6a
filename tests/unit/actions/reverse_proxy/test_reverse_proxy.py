"""
Requests that are passed on to an application: what it gets, and what the client gets.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest

from rt_twisted.actions.handed.offers import HandOverOffers
from rt_twisted.actions.handover import HandedBody
from rt_twisted.actions.reverse_proxy.exchange import ProxiedExchange
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import NOWHERE, Draft, Position
from rt_twisted.routes import Routes, parse_entry
from tests.defaults import make_context, make_upstream_limits
from tests.unit.actions.reverse_proxy.application import Application, ok
from tests.unit.http.clients import chunked, get, post, status_of

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ROUTE = "^/a http:127.0.0.1:8000"


def test_request_is_written_anew() -> None:
    """
    Host is kept, hop-by-hop headers end here, and the client's address is added.
    """
    app = Application(ROUTE)
    app.call(
        get(
            b"/a/b?c=%2F",
            b"X-One: 1\r\nConnection: X-Two, keep-alive\r\nX-Two: 2\r\nX_Three: 3\r\n"
            b"X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-Port: 1\r\nGrip-Sig: x\r\nCookie: d=e\r\n",
        )
    )
    assert app.received() == (
        b"GET /a/b?c=%2F HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nCookie: d=e\r\n"
        b"X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: a\r\n\r\n"
    )


def test_response_is_passed_on() -> None:
    """
    As it is: status, reason, headers in their order, body. Headers for the daemon are left out.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a"))
    app.respond(
        b"HTTP/1.1 404 Gone Fishing\r\nServer: x\r\nSet-Cookie: a\r\nX-Accel-Redirect: /b\r\n"
        b"Set-Cookie: b\r\nGrip-Hold: stream\r\nKeep-Alive: 1\r\nDate: now\r\n"
        b"Content-Length: 3\r\n\r\nno\n"
    )
    written = client.written()
    assert written.startswith(
        b"HTTP/1.1 404 Gone Fishing\r\nServer: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: now\r\n"
        b"Content-Length: 3\r\nConnection: keep-alive\r\n"
    )
    assert written.endswith(b"\r\n\r\nno\n")
    assert b"Grip" not in written
    assert client.open


def test_connections_are_kept() -> None:
    """
    The next request uses the connection of the last one.
    """
    app = Application(ROUTE)
    for _ in range(3):
        client = app.call(get(b"/a"))
        app.respond(ok())
        assert client.responses()[0].body == b"ok"
    assert len(app.wires) == 1


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (ok(b"abc"), b"abc"),
        (ok(b""), b""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"abc"), b"abc"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_framing(response: bytes, body: bytes, step: int) -> None:
    """
    However the application frames its body, and however its bytes arrive.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a"))
    app.respond(*[response[at : at + step] for at in range(0, len(response), step)])
    assert client.responses()[-1].body == body
    assert client.open


def test_body_until_close() -> None:
    """
    The client gets it in chunks, and keeps its connection.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a"))
    app.respond(b"HTTP/1.0 200 OK\r\n\r\nab", b"c")
    assert b"Transfer-Encoding: chunked" in client.written()
    assert not client.written().endswith(b"0\r\n\r\n")
    app.close(app.wires[0])
    assert client.responses()[0].body == b"abc"
    assert client.open


def test_responses_without_body() -> None:
    """
    HEAD keeps the length of what GET would return; 204 and 304 have no body.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a").replace(b"GET", b"HEAD"))
    app.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert client.responses("HEAD")[0].headers["content-length"] == "5"
    for status in (204, 304):
        client = app.call(get(b"/a"))
        app.respond(b"HTTP/1.1 %d X\r\n\r\n" % status)
        assert status_of(client) == status
        assert client.open


def test_response_to_head_is_for_one_request() -> None:
    """
    The connection of a HEAD with a length is not used again.
    """
    app = Application(ROUTE)
    app.call(get(b"/a").replace(b"GET", b"HEAD"))
    app.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert app.wires[0].disconnected
    client = app.call(get(b"/a"))
    app.respond(ok(b"mine"))
    assert client.responses()[0].body == b"mine"


def test_bodies_are_sent_as_they_come() -> None:
    """
    With their length, or in chunks.
    """
    app = Application(ROUTE)
    whole = post(b"hello", b"/a")
    client = app.call(whole[:-2])
    assert app.received().endswith(b"Content-Length: 5\r\n\r\nhel")
    client.send(whole[-2:])
    assert app.received() == b"lo"
    app.respond(ok())
    assert status_of(client) == 200
    client = app.call(chunked(b"3", b"abc", b"", path=b"/a"))
    assert app.received().endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    client.send(b"0\r\n\r\n")
    assert app.received() == b"0\r\n\r\n"
    app.respond(ok())
    assert status_of(client) == 200
    assert len(app.wires) == 1


def test_post_without_body() -> None:
    """
    Some servers wait for a body, unless its length is 0.
    """
    app = Application(ROUTE)
    app.call(post(b"", b"/a"))
    assert b"Content-Length: 0\r\n" in app.received()


def test_expect_is_answered_here() -> None:
    """
    The client sends its body once the application is connected.
    """
    app = Application(ROUTE)
    client = app.call(
        b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert client.written() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"Expect" not in app.received()
    client.send(b"ab")
    app.respond(ok())
    assert client.responses()[-1].status == 200


def test_back_pressure_on_uploads() -> None:
    """
    While the application does not read, the client is not read.
    """
    app = Application(ROUTE)
    client = app.call(post(b"x" * 100, b"/a")[:-50])
    wire = app.wires[0]
    wire.producer.pauseProducing()
    assert client.wire.producerState == "paused"
    wire.producer.resumeProducing()
    assert client.wire.producerState == "producing"
    client.send(b"x" * 50)
    app.respond(ok())
    assert status_of(client) == 200
    assert wire.producer is None


def test_back_pressure_on_downloads() -> None:
    """
    While the client does not read, the application's connection is not read.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a"))
    app.respond(ok(b"x" * 100)[:-60])
    writer: Any = client.wire.producer
    writer.pauseProducing()
    app.respond(b"x" * 10)
    assert app.wires[0].producerState == "paused"
    writer.resumeProducing()
    assert app.wires[0].producerState == "producing"
    app.respond(b"x" * 50)
    assert client.responses()[0].body == b"x" * 100


def test_trailers_and_interim_responses() -> None:
    """
    They are passed on to clients that can receive them.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a"))
    app.respond(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: y\r\n\r\n")
    assert client.written() == b"HTTP/1.1 103 \r\nLink: x\r\n\r\n"
    app.respond(CHUNKED + b"2\r\nab\r\n", b"0\r\nSum: 7\r\nKeep-Alive: 5\r\n\r\n")
    assert client.written().endswith(b"\r\n\r\n2\r\nab\r\n0\r\nSum: 7\r\n\r\n")
    assert client.open
    client = app.call(get(b"/a", version=b"1.0"))
    app.respond(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED + b"2\r\nab\r\n")
    app.respond(b"0\r\nSum: 7\r\n\r\n")
    assert client.written().endswith(b"\r\n\r\nab")
    assert b"Link" not in client.written()


def test_broken_off_response() -> None:
    """
    Never ends as if it were complete.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a"))
    app.respond(ok(b"x" * 100)[:-50])
    app.close(app.wires[0])
    assert not client.open
    client = app.call(get(b"/a"))
    app.respond(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    app.close(app.wires[1])
    assert not client.written().endswith(b"0\r\n\r\n")
    assert not client.open
    assert app.metrics.relay_broken == 2


@pytest.mark.parametrize(
    "response",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\x01\r\n\r\n",
        b"HTTP/1.1 200 O\x01\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: %s\r\n\r\n" % (b"b" * 32_768),
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 777 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_malformed_responses(response: bytes) -> None:
    """
    The client gets 502, and the connection is closed.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a"))
    app.respond(response)
    assert status_of(client) == 502
    assert app.wires[0].disconnected
    assert app.metrics.relay_broken == 1


def test_bytes_behind_a_response() -> None:
    """
    They belong to no request: the connection is closed.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a"))
    app.respond(ok() + ok(b"evil"))
    assert client.responses()[0].body == b"ok"
    assert app.wires[0].disconnected


def test_failures() -> None:
    """
    502 for an application that is away or closes, 504 for one that does not respond.
    """
    app = Application(ROUTE)
    client = app.place.call(get(b"/a"))
    app.refuse()
    assert status_of(client) == 502
    client = app.call(get(b"/a"))
    app.close(app.wires[0])
    assert status_of(client) == 502
    client = app.call(get(b"/a"))
    app.wait(60)
    assert status_of(client) == 504
    assert app.wires[1].disconnected
    n = app.metrics
    assert (n.relay_unreachable, n.relay_broken, n.relay_timeouts) == (1, 1, 1)


def test_an_event_source_comes_back() -> None:
    """
    An error status would end it for ever.
    """
    app = Application(ROUTE)
    client = app.place.call(get(b"/a", b"Accept: text/event-stream\r\n"))
    app.refuse()
    (answer,) = client.responses()
    assert answer.status == 200
    assert b"retry: " in answer.body


def test_time_runs_from_the_last_part_of_the_request() -> None:
    """
    An upload may take longer than the application may.
    """
    app = Application(ROUTE)
    piece = b"x" * 50_000
    client = app.call(post(4 * piece, b"/a")[: -len(4 * piece)])
    for _ in range(3):
        app.reactor.pump([1.0] * 50)
        client.send(piece)
    assert not client.responses()
    client.send(piece)
    app.respond(ok())
    assert status_of(client) == 200


def test_a_trickling_upload_is_refused() -> None:
    """
    A client that sends little keeps no place among the requests to the application.
    """
    app = Application(ROUTE)
    client = app.call(post(b"x" * 400, b"/a")[:-400])
    for _ in range(90):
        app.reactor.pump([1.0])
        client.send(b"x")
    assert status_of(client) == 408
    assert app.metrics.relay_timeouts == 0


def test_next_process_of_a_list() -> None:
    """
    Processes are used in turn; one that cannot be reached is skipped.
    """
    app = Application("^/a http:to=127.0.0.1:8000,to=127.0.0.1:8001")
    client = app.place.call(get(b"/a"))
    app.refuse()
    app.accept()
    app.respond(ok())
    assert status_of(client) == 200
    assert app.metrics.relay_unreachable == 0


def test_get_is_sent_again_post_is_not() -> None:
    """
    If a kept connection was closed before the first byte.
    """
    app = Application(ROUTE)
    app.call(get(b"/a"))
    app.respond(ok())
    client = app.call(get(b"/a"))
    app.close(app.wires[0])
    app.accept()
    app.respond(ok())
    assert status_of(client) == 200
    client = app.call(post(b"x", b"/a"))
    app.close(app.wires[1])
    app.accept()
    assert status_of(client) == 502
    assert len(app.wires) == 2


def test_clients_that_leave() -> None:
    """
    Their requests end: in the queue, while the application works, and while it responds.
    """
    limits = make_upstream_limits(connections=1)
    app = Application(ROUTE, upstream=limits)
    first, second = app.call(get(b"/a")), app.call(get(b"/a"))
    second.hang_up()
    first.hang_up()
    assert app.wires[0].disconnected
    third = app.call(get(b"/a"))
    app.respond(ok(b"x" * 10)[:-5])
    third.hang_up()
    assert app.wires[1].disconnected
    fourth = app.call(get(b"/a"))
    app.respond(ok())
    assert status_of(fourth) == 200


def test_clients_that_close_their_sending_side() -> None:
    """
    They have left, in the queue and while the application works or responds; but for those
    that have announced it.
    """
    limits = make_upstream_limits(connections=1)
    app = Application(ROUTE, upstream=limits)
    announced = app.call(get(b"/a", b"Connection: close\r\n"))
    waiting = app.call(get(b"/a"))
    for caller in (announced, waiting):
        caller.wire.protocol.readConnectionLost()
    assert waiting.wire.aborted and not announced.wire.aborted
    waiting.hang_up()
    app.respond(ok())
    assert status_of(announced) == 200
    assert len(app.wires) == 1
    for request in (post(b"x", path=b"/a"), chunked(b"1", b"x", b"0", b"", b"", path=b"/a")):
        body = app.call(request)
        app.place.clock.advance(2)
        body.wire.protocol.readConnectionLost()
        assert not body.wire.aborted
        app.respond(ok())
        assert status_of(body) == 200
    late = app.call(get(b"/a", b"Connection: close\r\n"))
    app.place.clock.advance(2)
    late.wire.protocol.readConnectionLost()
    assert late.wire.aborted
    late.hang_up()
    for begun in (b"", ok(b"x" * 10)[:-5]):
        caller = app.call(get(b"/a"))
        app.respond(begun)
        caller.wire.protocol.readConnectionLost()
        assert caller.wire.aborted
        caller.hang_up()
        assert app.wires[-1].disconnected


def test_queue() -> None:
    """
    Requests wait for a connection, as many as the queue takes.
    """
    app = Application(ROUTE, upstream=make_upstream_limits(connections=1, queue=1))
    first, second, third = (app.call(get(b"/a")) for _ in range(3))
    assert len(app.wires) == 1
    assert status_of(third) == 503
    app.respond(ok(b"1"))
    app.respond(ok(b"2"))
    assert first.responses()[0].body == b"1"
    assert second.responses()[0].body == b"2"
    assert len(app.wires) == 1


def test_requests_that_wait_too_long_are_not_sent() -> None:
    """
    When their time is over they are refused, and do not come back all at once.
    """
    limits = make_upstream_limits(connections=1, timeout=10.0)
    app = Application(ROUTE, upstream=limits)
    callers = [app.call(get(b"/a", b"Accept: text/event-stream\r\n")) for _ in range(250)]
    app.wait(12)
    app.accept()
    answers = [only for caller in callers for only in caller.responses()]
    assert len(answers) == 250
    assert all(b": 504 " in answer.body for answer in answers)
    retries = {int(answer.body.rpartition(b"retry: ")[2]) for answer in answers}
    assert len(retries) > 200 and min(retries) >= 2000 and max(retries) <= 4000
    assert len(app.wires) == 1
    assert app.metrics.relay_timeouts == 250


def test_body_limit() -> None:
    """
    413, by the declared length or by what has come.
    """
    app = Application("^/a http:to=127.0.0.1:8000,max-body=1k")
    assert status_of(app.call(post(b"x" * 1025, b"/a"))) == 413
    assert not app.wires
    client = app.call(chunked(b"3", b"abc", b"401", b"x" * 1025, b"", path=b"/a"))
    assert status_of(client) == 413
    assert app.wires[0].disconnected


def test_early_response() -> None:
    """
    An application may respond before it has the body; its connection is not used again.
    """
    app = Application(ROUTE)
    client = app.call(post(b"x" * 100, b"/a")[:-50])
    app.respond(b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
    assert status_of(client) == 413
    assert app.wires[0].disconnected


@pytest.mark.parametrize(
    "path",
    [b"/a/../b", b"/a/./b", b"/a/..", b"/a/%2e%2e/b", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/a%00",
     b"/a/..;/b"],
)  # fmt: skip
def test_ambiguous_paths(path: bytes) -> None:
    """
    The application may find another path in them than the route has: 400.
    """
    app = Application("^/ http:127.0.0.1:8000")
    assert status_of(app.call(get(path))) == 400
    assert not app.wires


def test_encoded_slash() -> None:
    """
    The route may accept it; queries are no paths.
    """
    app = Application("^/a http:to=127.0.0.1:8000,encoded-slash=yes")
    app.call(get(b"/a%2Fb?c=/../d%5c"))
    assert app.received().startswith(b"GET /a%2Fb?c=/../d%5c HTTP/1.1\r\n")
    app.call(get(b"/a%2F.b/..c%2f...%2Fd"))
    assert app.received().startswith(b"GET /a%2F.b/..c%2f...%2Fd HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "path", [b"/a%2f..%2fb", b"/a/..%2Fb", b"/a%2F../b", b"/a%2f.", b"/a%2f..", b"/a/..%3bx/b"]
)
def test_dot_segments_beside_encoded_slashes(path: bytes) -> None:
    """
    They are refused where encoded slashes are accepted: the application may decode them.
    """
    app = Application("^/a http:to=127.0.0.1:8000,encoded-slash=yes")
    assert status_of(app.call(get(path))) == 400
    assert not app.wires


def test_prefix_and_host() -> None:
    """
    The application is named what was removed.
    """
    app = Application("^/a http:to=127.0.0.1:8000,strip=/a,host=shop.example")
    app.call(get(b"/a/b?c"))
    received = app.received()
    assert received.startswith(b"GET /b?c HTTP/1.1\r\nHost: shop.example\r\n")
    assert b"X-Forwarded-Prefix: /a\r\n" in received
    assert b"X-Forwarded-Host: a\r\n" in received
    app.call(get(b"/ab"))
    assert app.received().startswith(b"GET /ab HTTP/1.1\r\n")


def test_uwsgi_request() -> None:
    """
    The request is a packet of variables; its connection is not kept.
    """
    app = Application("^/a uwsgi:127.0.0.1:3031,5,1")
    client = app.call(post(b"hello", b"/a/b?c", b"X-One: 1\r\nContent-Type: text/plain\r\n"))
    packet = app.received()
    size = int.from_bytes(packet[1:3], "little")
    assert (packet[0], packet[3], packet[4 + size :]) == (5, 1, b"hello")
    variables: dict[str, str] = {}
    rest = packet[4 : 4 + size]
    while rest:
        pair = []
        for _ in range(2):
            length = int.from_bytes(rest[:2], "little")
            pair.append(rest[2 : 2 + length].decode())
            rest = rest[2 + length :]
        variables[pair[0]] = pair[1]
    assert variables["REQUEST_METHOD"] == "POST"
    assert variables["PATH_INFO"] == "/a/b"
    assert variables["QUERY_STRING"] == "c"
    assert variables["CONTENT_LENGTH"] == "5"
    assert variables["CONTENT_TYPE"] == "text/plain"
    assert variables["HTTP_X_ONE"] == "1"
    assert variables["REMOTE_ADDR"] == "192.0.2.1"
    app.respond(ok())
    assert status_of(client) == 200
    assert app.wires[0].disconnected
    assert status_of(app.call(chunked(b"1", b"x", b"0", b"", b"", path=b"/a"))) == 411


PREFLIGHT = b"Origin: https://b.example\r\nAccess-Control-Request-Method: "


def test_options() -> None:
    """
    Preflights are answered by what serves the method: the daemon for its own routes.
    """
    app = Application("^/publish$ publish", "^/ http:127.0.0.1:8000")
    options = get(b"/a", PREFLIGHT + b"PUT\r\n").replace(b"GET", b"OPTIONS")
    app.call(options)
    assert app.received().startswith(b"OPTIONS /a HTTP/1.1\r\n")
    app.respond(ok())
    own = get(b"/publish", PREFLIGHT + b"POST\r\n").replace(b"GET", b"OPTIONS")
    client = app.call(own)
    (answer,) = client.responses()
    assert answer.status == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    client = app.call(own.replace(b"POST", b"PUT"))
    assert app.received().startswith(b"OPTIONS /publish HTTP/1.1\r\n")


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"
SWITCHED = b"HTTP/1.1 101 X\r\n" + UPGRADE.replace(b"Key: x", b"Accept: y") + b"\r\n"


def test_websocket_becomes_a_tunnel() -> None:
    """
    Bytes go both ways as they are, also those that come with the heads.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a", UPGRADE) + b"early")
    received = app.received()
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in received
    assert b"Sec-WebSocket-Key: x\r\n" in received
    app.respond(SWITCHED + b"hello")
    written = client.written()
    assert written.startswith(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: y\r\n")
    assert written.endswith(b"\r\n\r\nhello")
    assert app.received() == b"early"
    client.wire.clear()  # type: ignore[no-untyped-call]  # Twisted's
    assert app.metrics.relay_tunnels == 1
    client.wire.protocol.dataReceived(b"ping")
    assert app.received() == b"ping"
    app.wires[0].protocol.dataReceived(b"pong")
    assert client.written() == b"pong"
    app.close(app.wires[0])
    assert client.wire.disconnecting
    client.hang_up()
    assert app.metrics.relay_tunnels == 0


def test_refused_websocket() -> None:
    """
    The client gets the response, and may go on with HTTP.
    """
    app = Application(ROUTE)
    client = app.call(get(b"/a", UPGRADE))
    app.respond(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
    assert status_of(client) == 403
    client.send(get())
    assert client.responses()[1].status == 200


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (get(b"/a"), ok()),
        (get(b"/a"), CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"),
        (post(b"body", b"/a"), ok()),
        (get(b"/a"), b"nonsense"),
        (get(b"/a", UPGRADE), SWITCHED),
    ],
)
def test_requests_leave_no_garbage(request_: bytes, response: bytes) -> None:
    """
    The memory of a request is free when it has ended, not when the garbage collector finds it.
    """
    app = Application(ROUTE)
    app.call(request_)
    gc.collect()
    gc.disable()
    try:
        app.respond(*[response[at : at + 20] for at in range(0, len(response), 20)])
        left = [one for one in gc.get_objects() if isinstance(one, ProxiedExchange)]
    finally:
        gc.enable()
    assert not left


def test_tunnels_have_a_limit_of_their_own() -> None:
    """
    They do not take the connections of other requests.
    """
    app = Application(ROUTE, upstream=make_upstream_limits(connections=1, tunnels=1))
    app.call(get(b"/a", UPGRADE))
    app.respond(SWITCHED)
    assert status_of(app.call(get(b"/a", UPGRADE))) == 503
    client = app.call(get(b"/a"))
    app.respond(ok())
    assert status_of(client) == 200


class Taking:
    """
    Takes each response over that has `X-Hold`.
    """

    hidden = (b"x-hold",)

    def __init__(self) -> None:
        self.bodies: list[HandedBody] = []

    def position(self) -> Position:
        return NOWHERE

    def offer(self, response: Any) -> bool:
        if response.status != 200 or ("x-hold", "yes") not in response.headers:
            return False

        def answer(body: HandedBody) -> None:
            self.bodies.append(body)
            response.exchange.answer(200, b"held", "text/plain")

        response.read(5, 1.0).addCallback(answer)
        return True


@pytest.mark.parametrize(
    ("rest", "body"), [(b"", b""), (b"abc", b"abc"), (b"abcdefgh", b"abcde")]
)  # fmt: skip
def test_handed_over_responses(rest: bytes, body: bytes) -> None:
    """
    The beginning of their body is taken, and the request to the application ends.
    """
    taking = Taking()
    app = Application(ROUTE, handover=taking)
    client = app.call(get(b"/a"))
    app.respond(b"HTTP/1.1 200 OK\r\nX-Hold: yes\r\nContent-Length: 100\r\n\r\n" + rest)
    app.wait(1)
    assert taking.bodies == [HandedBody(body, False)]
    assert client.responses()[0].body == b"held"
    assert app.wires[0].disconnected
    client = app.call(get(b"/a"))
    app.respond(ok(headers=b"X-Hold: no\r\n"))
    assert b"X-Hold" not in client.written()


def test_a_handed_over_response_breaks_off() -> None:
    """
    What takes it over is notified of that, and it counts as a failure of the application.
    """
    taking = Taking()
    app = Application(ROUTE, handover=taking)
    client = app.call(get(b"/a"))
    app.respond(b"HTTP/1.1 200 OK\r\nX-Hold: yes\r\nContent-Length: 100\r\n\r\nabc")
    app.close(app.wires[0])
    assert taking.bodies == [HandedBody(b"abc", False)]
    assert client.responses()[0].body == b"held"
    assert app.metrics.relay_broken == 1


class Refusing(Taking):
    """
    Answers each request, and does not read the response.
    """

    def offer(self, response: Any) -> bool:
        response.exchange.refuse(HttpError(400, "no"))
        return True


@pytest.mark.parametrize("rest", [b"", b"abc", b"x" * 100])
def test_a_response_that_is_not_read_keeps_no_place(rest: bytes) -> None:
    """
    The next request gets the place of one whose response was taken and not read.
    """
    app = Application(ROUTE, handover=Refusing(), upstream=make_upstream_limits(connections=1))
    for _ in range(3):
        client = app.call(get(b"/a"))
        app.respond(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + rest)
        app.wait(1)
        assert status_of(client) == 400


def test_a_refused_redirect_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A client whose query cannot be read does not keep the application's place.
    """
    monkeypatch.setattr("rt_twisted.http.exchange.MAX_FIELDS", 5)
    offers = HandOverOffers()
    app = Application(ROUTE, handover=offers, upstream=make_upstream_limits(connections=1))
    context = make_context(app.place.hub, app.place.clock)
    entry = parse_entry("internal-route ^/-/sse/(.+)$ sse:$1", context)
    offers.use(Routes([entry]), context)
    for _ in range(3):
        client = app.call(get(b"/a?" + b"&" * 5))
        app.respond(ok(headers=b"X-Accel-Redirect: /-/sse/x?history=20\r\n")[:-1])
        app.wait(1)
        assert status_of(client) == 400


def test_headers_for_the_daemon_are_never_passed_on() -> None:
    """
    Neither in interim responses and trailers, nor when a websocket is accepted.
    """
    app = Application(ROUTE, handover=Taking())
    client = app.call(get(b"/a"))
    app.respond(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nX-Hold: no\r\n\r\n")
    app.respond(CHUNKED + b"2\r\nab\r\n", b"0\r\nSum: 7\r\nX-Hold: no\r\n\r\n")
    assert b"Sum: 7" in client.written()
    assert b"X-Hold" not in client.written()
    client = app.call(get(b"/a", UPGRADE))
    app.respond(SWITCHED[:-2] + b"X-Hold: no\r\n\r\n")
    assert client.written().startswith(b"HTTP/1.1 101 ")
    assert b"X-Hold" not in client.written()


def test_pulled_headers_of_an_accepted_websocket() -> None:
    """
    No line decides about this response; the client does not get them either.
    """
    offers = HandOverOffers()
    app = Application(ROUTE, handover=offers)
    context = make_context(app.place.hub)
    offers.use(Routes([parse_entry("pull-header X-SSE-Channel CHANNEL", context)]), context)
    client = app.call(get(b"/a", UPGRADE))
    app.respond(SWITCHED[:-2] + b"X-SSE-Channel: room\r\n\r\n")
    assert client.written().startswith(b"HTTP/1.1 101 ")
    assert b"room" not in client.written()


def test_hand_over_begins_where_the_application_was_asked() -> None:
    """
    Not when the request came: what waits for its turn is asked later.
    """
    offers = HandOverOffers()
    limits = make_upstream_limits(connections=1)
    app = Application(ROUTE, handover=offers, upstream=limits)
    hub = app.place.hub
    context = make_context(hub, app.place.clock)
    lines = ("pull-header X-Channel CHANNEL", "response-route-run sse:${CHANNEL}")
    offers.use(Routes([parse_entry(line, context) for line in lines]), context)
    first, second = app.call(get(b"/a")), app.call(get(b"/a"))

    hub.publish([Draft("room", b"1")])
    app.respond(ok(headers=b"X-Channel: room\r\n"))
    app.accept()
    hub.publish([Draft("room", b"2")])
    app.respond(ok(headers=b"X-Channel: room\r\n"))
    app.place.wait(1)

    assert [b"data: %d\n" % n in first.written() for n in (1, 2)] == [True, True]
    assert [b"data: %d\n" % n in second.written() for n in (1, 2)] == [False, True]


def test_whole_handed_over_response() -> None:
    """
    Its connection is kept.
    """
    taking = Taking()
    app = Application(ROUTE, handover=taking)
    client = app.call(get(b"/a"))
    app.respond(ok(b"abc", b"X-Hold: yes\r\n"))
    assert taking.bodies == [HandedBody(b"abc", True)]
    assert client.responses()[0].body == b"held"
    assert not app.wires[0].disconnected


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("^/(.*) http:to=$1:80", "cannot have variables"),
        ("^/ http:to=${HTTP_X}:80", "cannot have variables"),
        ("^/ http:127.0.0.1:0", "the address of an application"),
        ("^/ http:127.0.0.1:80/path", "no path"),
        ("^/ http", "needs to="),
        ("^/ http:127.0.0.1:8181,shop.example", "write to=ADDRESS,host=NAME instead of '127.0"),
        ("^/ http:to=a,strip=b", "strip="),
        ("^/ http:to=a,ca=/nowhere", "ca="),
        ("^/ http:to=https://a,ca=/nowhere", "ca=/nowhere: No such file"),
        ("^/ http:to=a,max-body=x", "max_body= must be a size"),
        ("^/ uwsgi:a:1,2,3,4", "MODIFIER"),
        ("^/ uwsgi:a:1,256", "255"),
    ],
)
def test_wrong_lines(line: str, text: str) -> None:
    """
    They are errors at start, in one sentence.
    """
    with pytest.raises(ValueError, match=text):
        Application(line)
