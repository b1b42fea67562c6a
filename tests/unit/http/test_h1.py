"""
Tests of HTTP/1.1 as clients see it: framing, order, limits, errors.

Most connections have no socket and are driven by a `Clock`. Real sockets and twisted.web follow
below.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site

from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.addresses import Networks
from rt_twisted.http.cors import Cors
from rt_twisted.http.h1 import LINGER
from rt_twisted.http.interfaces import IExchange
from rt_twisted.http.server import HttpServer
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.message import Draft
from rt_twisted.routes import Route, Routes, parse_route
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.logfiles import LogFile
from tests.defaults import make_context, make_cors, make_http_limits, make_hub, make_server
from tests.words import Desk, Echo, Later

LIMITS = make_http_limits(line=200, headers=10, header_bytes=1000, body=5000)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A response as a strict client parses it.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)


def read_answers(data: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """
    Cut *data* into responses (RFC 9112, 6.3); an incomplete one is left out.

    Args:
        data: what the server sent.
        methods: of the requests; GET where there is none.
    """
    answers: list[Answer] = []
    while b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.[01] (\d{3}) ([ -~]*)", first)
        assert found, first
        headers: dict[str, str] = {}
        for line in lines:
            assert re.fullmatch(r"[\w-]+: [^\r\n\0]*", line), line
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        status = int(found[1])
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        body = b""
        if status >= 200 and status != 204 and method != "HEAD":
            if "transfer-encoding" in headers:
                body, data = _unchunk(data)
            elif "content-length" in headers:
                size = int(headers["content-length"])
                if len(data) < size:
                    return answers
                body, data = data[:size], data[size:]
            else:
                body, data = data, b""
        answers.append(Answer(status, headers, body))
    return answers


def _unchunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while data:
        digits, _, data = data.partition(b"\r\n")
        size = int(digits, 16)
        body += data[:size]
        data = data[size + 2 :]
        if not size:
            break
    return body, data


class Wire(StringTransport):
    """
    A transport without a socket that accepts all bytes and records its end.
    """

    aborted = False
    protocol: Any = None

    def __init__(self, address: str) -> None:
        peer = IPv4Address("TCP", address, 5)
        super().__init__(peerAddress=peer, lenient=True)  # type: ignore[no-untyped-call]  # Twisted's

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()  # type: ignore[no-untyped-call]  # Twisted's


class Caller:
    """
    An HTTP/1.1 client of *server*.
    """

    def __init__(self, server: HttpServer, address: str = "192.0.2.1") -> None:
        self.wire = Wire(address)
        self.wire.protocol = server.buildProtocol(self.wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
        self.wire.protocol.makeConnection(self.wire)

    def say(self, *pieces: bytes) -> Caller:
        for piece in pieces:
            if not self.wire.disconnected:
                self.wire.protocol.dataReceived(piece)
        return self

    def heard(self, *methods: str) -> list[Answer]:
        return read_answers(self.written(), methods)

    def written(self) -> bytes:
        written: bytes = self.wire.value()  # type: ignore[no-untyped-call]  # Twisted's
        return written

    def hang_up(self) -> None:
        self.wire.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def open(self) -> bool:
        return not self.wire.disconnecting

    @property
    def streams(self) -> bool:
        return isinstance(self.wire.protocol, Subscriber)


class Place:
    """
    An HTTP server with the routes /echo, /late, /news, /publish and further ones.
    """

    def __init__(self, *lines: str, reactor: Any = None, **arguments: Any) -> None:
        self.clock = Clock()
        self.hub = make_hub(MemoryBroker(self.clock, "e"), self.clock)
        self.context = make_context(self.hub, self.clock if reactor is None else reactor)
        self.echo = Echo()
        self.later = Later()
        routes = [
            Route(re.compile("^/echo"), None, self.echo),
            Route(re.compile("^/late"), None, self.later),
            *(parse_route(line, self.context) for line in lines),
            parse_route("^/news$ sse:news", self.context),
            parse_route("^/publish$ publish", self.context),
            parse_route("^/refuse/(400|401)$ tests.words.Refusing:status=401", self.context),
            *(
                parse_route(f"^/refuse/{n}$ tests.words.Refusing:status={n}", self.context)
                for n in (403, 413, 429, 503)
            ),
            parse_route("^/odd$ tests.words.Refusing:status=599", self.context),
            parse_route("^/broken$ tests.words.Refusing", self.context),
        ]
        arguments.setdefault("limits", LIMITS)
        self.server = make_server(self.clock, Routes(routes).find, **arguments)
        self.server.start()

    def call(self, *pieces: bytes, address: str = "192.0.2.1") -> Caller:
        return Caller(self.server, address).say(*pieces)

    def wait(self, seconds: float) -> None:
        self.clock.pump([1.0] * int(seconds + 1))

    @property
    def waiting(self) -> list[Any]:
        exchanges: list[Any] = self.later.waiting
        return exchanges


def get(path: bytes = b"/echo", headers: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"GET %s HTTP/%s\r\nHost: a\r\n%s\r\n" % (path, version, headers)


def post(body: bytes, path: bytes = b"/echo", headers: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n"
    return head % (path, len(body), headers) + body


def chunked(*lines: bytes, path: bytes = b"/echo") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + b"\r\n".join(lines)


def byte_wise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def status_of(caller: Caller) -> int:
    """
    Return the status of the only response.
    """
    (answer,) = caller.heard()
    return answer.status


# Order and framing.


@pytest.mark.parametrize("cut", [lambda data: [data], byte_wise], ids=["whole", "bytes"])
def test_requests_are_answered_in_order(cut: Callable[[bytes], list[bytes]]) -> None:
    """
    Requests are answered in order on one connection: pipelined or byte by byte, with bodies of each
    framing.
    """
    asked = [
        get(b"/echo?n=1"),
        post(b"two"),
        chunked(b"3", b"thr", b"2;x=y", b"ee", b"0", b"Trailer: x", b"", b""),
        b"\r\n" + get(b"http://elsewhere/echo?n=4"),
        post(b""),
        get(b"/none"),
        get(b"/echo/%2F%C3%BC?n=%2B+"),
    ]

    caller = Place().call(*cut(b"".join(asked)))

    answers = caller.heard()
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 404, 200]
    assert [answers[n].said["body"] for n in (1, 2, 4)] == ["two", "three", ""]
    assert [answers[n].said["query"] for n in (0, 3)] == [{"n": ["1"]}, {"n": ["4"]}]
    assert answers[6].said["path"] == "/echo//\u00fc"
    assert answers[6].said["query"] == {"n": ["+ "]}
    assert caller.open
    assert {answer.headers["connection"] for answer in answers} == {"keep-alive"}
    assert {answer.headers["keep-alive"] for answer in answers} == {"timeout=75"}


@pytest.mark.parametrize("late", [False, True])
def test_two_hundred_requests_in_one_segment(late: bool) -> None:
    """
    All requests of one segment are answered in order, also if the first response is late.
    """
    place = Place()
    first = get(b"/late") if late else get(b"/echo?n=-1")
    caller = place.call(first + b"".join(get(b"/echo?n=%d" % n) for n in range(200)))

    if late:
        assert caller.heard() == []
        assert caller.wire.producerState == "paused"
        place.waiting[0].answer(200, b"{}")
    answers = caller.heard()

    assert [a.said["query"]["n"] for a in answers[1:]] == [[str(n)] for n in range(200)]
    assert caller.wire.producerState == "producing"
    assert caller.open


def test_a_late_response_is_sent_before_the_next_begins() -> None:
    """
    The next request does not begin before the response to the one before it is sent.
    """
    place = Place()
    caller = place.call(get(b"/late") + get(b"/late") + get(b"/echo"))

    assert len(place.waiting) == 1
    place.waiting[0].answer(200, b"1")
    assert len(place.waiting) == 2
    assert place.echo.asked == []
    place.waiting[1].answer(201, b"2")

    assert [answer.status for answer in caller.heard()] == [200, 201, 200]


@pytest.mark.parametrize(
    "last",
    [get(headers=b"Connection: close\r\n"), get(version=b"1.0")],
    ids=["close", "1.0"],
)
def test_every_request_before_the_last_is_answered(last: bytes) -> None:
    """
    A last pipelined request with `Connection: close` does not close before the others are answered.
    """
    place = Place()
    caller = place.call(get(b"/late") + get(b"/echo") + last)

    place.waiting[0].answer(200, b"")

    assert [answer.status for answer in caller.heard()] == [200, 200, 200]
    said = [answer.headers["connection"] for answer in caller.heard()]
    assert said == ["keep-alive", "keep-alive", "close"]
    assert not caller.open


def test_requests_before_a_malformed_one_are_answered() -> None:
    """
    Requests before a malformed one are answered in order, then the error follows, then the end.
    """
    place = Place()
    caller = place.call(get(b"/late") + get(b"/echo") + b"nonsense\r\n\r\n")

    place.waiting[0].answer(200, b"")

    assert [answer.status for answer in caller.heard()] == [200, 200, 400]
    assert not caller.open


def test_nothing_follows_a_request_that_closes() -> None:
    """
    Bytes behind a request with `Connection: close` are ignored.
    """
    place = Place()
    caller = place.call(get(headers=b"Connection: close\r\n") + get(b"/echo/hidden"))

    assert status_of(caller) == 200
    assert place.echo.asked == ["/echo"]
    assert not caller.open


@pytest.mark.parametrize(
    ("request_", "connection"),
    [
        (get(), "keep-alive"),
        (get(headers=b"Connection: close\r\n"), "close"),
        (get(headers=b"Connection: Close, x\r\n"), "close"),
        (get(version=b"1.0"), "close"),
        (get(version=b"1.0", headers=b"Connection: keep-alive\r\n"), "keep-alive"),
        (b"GET /echo HTTP/1.0\r\n\r\n", "close"),
    ],
)
def test_keep_alive(request_: bytes, connection: str) -> None:
    """
    HTTP/1.1 connections stay open by default, HTTP/1.0 connections close; the response names the
    idle timeout.
    """
    caller = Place().call(request_)

    (answer,) = caller.heard()
    assert answer.status == 200
    assert answer.headers["connection"] == connection
    assert answer.headers.get("keep-alive") == (
        "timeout=75" if connection == "keep-alive" else None
    )
    assert caller.open is (connection != "close")


def test_head_is_get_without_a_body() -> None:
    """
    HEAD gets the headers and the length of GET, and the next response follows at once.
    """
    head, whole = get().replace(b"GET", b"HEAD"), get()
    first, second = Place().call(head + whole).heard("HEAD", "GET")

    assert first.body == b""
    assert first.headers["content-length"] == second.headers["content-length"]
    (stream,) = Place().call(get(b"/news").replace(b"GET", b"HEAD")).heard("HEAD")
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_options_of_the_server() -> None:
    """
    `OPTIONS *` gets 204 as a ping (RFC 9110, 9.3.7).
    """
    caller = Place().call(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" + get())

    assert [answer.status // 100 for answer in caller.heard()] == [2, 2]


def test_100_continue() -> None:
    """
    `Expect: 100-continue` gets 100 when an action reads the body, and not before.
    """
    place = Place()
    expect = b"Expect: 100-Continue\r\n"
    head, body = post(b"body", headers=expect)[:-4], b"body"

    assert [a.status for a in place.call(head).heard()] == [100]
    assert [a.status for a in place.call(head, body).heard()] == [100, 200]
    late = place.call(post(b"", b"/late", expect).replace(b"h: 0", b"h: 4"))
    assert late.heard() == []
    place.waiting[0].read(10)
    assert [a.status for a in late.heard()] == [100]
    refused = place.call(post(b"", b"/none", expect).replace(b"h: 0", b"h: 4"))
    assert [a.status for a in refused.heard()] == [404]
    assert not refused.open
    large = place.call(post(b"", b"/echo", expect).replace(b"h: 0", b"h: 9999999"))
    assert [a.status for a in large.heard()] == [413]


def test_http_1_0_gets_no_100_continue() -> None:
    """
    HTTP/1.0 clients get no 100, which they do not know (RFC 9110, 10.1.1).
    """
    head = b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"

    assert [answer.status for answer in Place().call(head, b"x").heard()] == [200]


def test_blanks_around_a_value_are_removed() -> None:
    """
    Optional white space around a header's value (RFC 9110, 5.5) changes nothing.
    """
    place = Place()
    for request in (
        b"GET /echo HTTP/1.1\r\nHost: a \t\r\n\r\n",
        chunked(b"0", b"", b"").replace(b"chunked", b"chunked "),
        post(b"x", headers=b"Expect: 100-continue \r\n"),
    ):
        assert place.call(request).heard()[-1].status == 200


# Errors.

TOO_LONG = b"x" * 300
REFUSED = [
    (get(b"/none"), 404),
    (get(b"/publish"), 405),
    (b"DELETE /echo HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (get(b"/refuse/401"), 401),
    (get(b"/odd"), 599),
    (post(b"", b"/publish"), 400),
    (b"POST /publish HTTP/1.1\r\nHost: a\r\n\r\n", 411),
    (post(b"x", b"/publish").replace(b"h: 1", b"h: 99999999"), 413),
    (get(b"/echo?" + TOO_LONG), 414),
    (get(headers=b"X: 1\r\n" * 11), 431),
    (get(headers=b"X: " + b"y" * 1100 + b"\r\n"), 431),
    (get(headers=b"Expect: 200-ok\r\n"), 417),
    (chunked(b"0", b"", b"").replace(b"chunked", b"gzip, chunked"), 501),
    (get(version=b"2.0"), 505),
    (get(b"/%ff"), 400),
    (get(b"/echo#x"), 400),
    (b"GET /echo HTTP/1.1\r\n\r\n", 400),
]


@pytest.mark.parametrize(("request_", "status"), REFUSED, ids=[str(s) for _, s in REFUSED])
@pytest.mark.parametrize("closing", [False, True], ids=["", "close"])
def test_refusals(request_: bytes, status: int, closing: bool) -> None:
    """
    Each error has its status and one line of text, also for clients that close.
    """
    if closing:
        request_ = request_.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    local = request_.replace(b"Host: a", b"Host: localhost")
    caller = Place().call(local, address="127.0.0.1")

    (answer,) = caller.heard()
    assert answer.status == status
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body.endswith(b"\n")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert caller.open is (answer.headers["connection"] != "close")
    assert not (closing and caller.open)
    if status == 405:
        assert "OPTIONS" in answer.headers["allow"]


def test_internal_errors_are_logged_and_hidden(clean_reactor: list[Failure]) -> None:
    """
    The client gets 500 without details; the traceback is logged.
    """
    caller = Place().call(get(b"/broken") + get())

    assert [answer.status for answer in caller.heard()] == [500, 200]
    assert b"Zero" not in caller.heard()[0].body
    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()


HIDDEN = get(b"/echo/hidden")
SMUGGLED = {
    "two lengths": post(HIDDEN, headers=b"Content-Length: 5\r\n"),
    "the same length twice": post(b"x", headers=b"Content-Length: 1\r\n") + HIDDEN,
    "a list of lengths": post(b"x").replace(b"h: 1", b"h: 1, 1") + HIDDEN,
    "a signed length": post(b"x").replace(b"h: 1", b"h: +1") + HIDDEN,
    "a negative length": post(b"").replace(b"h: 0", b"h: -1") + HIDDEN,
    "a hexadecimal length": post(b"x").replace(b"h: 1", b"h: 0x1") + HIDDEN,
    "an empty length": post(b"").replace(b"h: 0", b"h:") + HIDDEN,
    "a blank in a length": post(b"x").replace(b"h: 1", b"h: 0 1") + HIDDEN,
    "a length beyond 64 bits": post(b"").replace(b"h: 0", b"h: 18446744073709551617") + HIDDEN,
    "a length of other digits": post(b"").replace(b"h: 0", "h: \u0661".encode()) + HIDDEN,
    "length and chunks": post(b"0\r\n\r\n", headers=b"Transfer-Encoding: chunked\r\n") + HIDDEN,
    "chunks and length": chunked(b"0", b"", HIDDEN).replace(
        b"chunked\r\n", b"chunked\r\nContent-Length: 5\r\n"
    ),
    "chunks in HTTP/1.0": chunked(b"0", b"", HIDDEN).replace(b"/1.1", b"/1.0", 1),
    **{
        f"coding {coding!r}": chunked(b"0", b"", HIDDEN).replace(b": chunked", coding)
        for coding in (
            b": xchunked", b": chunkedx", b": chunked, identity", b": identity", b": gzip, chunked",
            b": chunked, chunked", b": chunked,", b": ,chunked", b": \x0bchunked", b":\xa0chunked",
            b': "chunked"', b": chunked;a=b", b" : chunked", b"\t: chunked", b":\r\n chunked",
            b": chunked\0", b":", b"\0: chunked", b": chunked\r\nTransfer-Encoding: chunked",
            b": chunked\r\nTransfer-Encoding: identity", b": chunked\nX: y", b": chunked\rX: y",
        )
    },
    **{
        f"chunk {lines!r}": chunked(*lines, HIDDEN)
        for lines in (
            (b"FFFFFFFFFFFFFFFFFF",), (b"10000000000000000", b"x"), (b"-1", b"x"), (b"0x1", b"x"),
            (b"1 ", b"x"), (b" 1", b"x"), (b"", b""), (b"g",), (b"1", b"xy", b"0", b""),
            (b"1;\nx",),
            (b"1\nx", b"0", b""), (b"1", b"x\n0", b""), (b"0", b"X y", b""), (b"0\n",),
            (b"0", b"\n"),
            (b"1;a\0=b", b"x"), (b"0", b"Content-Length: 9", b""), (b"0", b" folded", b""),
        )
    },
    **{
        f"head {head!r}": b"GET /echo HTTP/1.1" + head + HIDDEN
        for head in (
            b"\nHost: a\n\n", b"\r\nHost: a\n\r\n", b"\r\nHost: a\r\n\n", b"\rHost: a\r\r",
            b"\r\nHost: a\r\nX: a\rb\r\n\r\n", b"\r\nHost: a\r\nX: a\0b\r\n\r\n",
            b"\r\nHost: a\r\nX: a\x01b\r\n\r\n", b"\r\nHost: a\r\nX: a\x7f\r\n\r\n",
            b"\r\nHost: a\r\nX\xff: a\r\n\r\n", b"\r\nHost: a\r\nX\0: a\r\n\r\n",
            b"\r\nHost: a\r\n: a\r\n\r\n", b"\r\nHost: a\r\nno colon\r\n\r\n",
            b"\r\nHost: a\r\nX: a\r\n b\r\n\r\n", b"\r\n Host: a\r\n\r\n", b"\r\nHost : a\r\n\r\n",
            b"\r\n\r\n", b"\r\nHost: a\r\nHost: a\r\n\r\n", b"\r\nHost: a\r\nhost: b\r\n\r\n",
            b"\r\nHost: a/b\r\n\r\n", b"\r\nHost: u@a\r\n\r\n", b"\r\nHost: a, b c\r\n\r\n",
            b"\r\nHost: \xff\r\n\r\n", b" \r\nHost: a\r\n\r\n", b"\tx\r\nHost: a\r\n\r\n",
        )
    },
    **{
        f"line {line!r}": line + b"\r\nHost: a\r\n\r\n" + HIDDEN
        for line in (
            b"GET /ec\0ho HTTP/1.1", b"GET /ec\x01ho HTTP/1.1", b"GET /ec\xc3\xbcho HTTP/1.1",
            b"GET /ec\tho HTTP/1.1", b"GET\t/echo HTTP/1.1", b" GET /echo HTTP/1.1",
            b"get /echo HTTP/1.1", b"FOO /echo HTTP/1.1", b"GET echo HTTP/1.1", b"GET ?x HTTP/1.1",
            b"GET * HTTP/1.1", b"GET ftp://a/echo HTTP/1.1", b"CONNECT a:1 HTTP/1.1",
            b"GET /echo HTTP/1.2", b"GET /echo HTTP/11.1", b"GET /echo http/1.1",
            b"GET /echo HTTP/1",
            b"GET /echo#x HTTP/1.1", b"GET /%ff HTTP/1.1", b"GET /echo HTTP/1.1x",
            b"PRI * HTTP/2.0", b"GET /echo HTTP/0.9", b"GET /echo ICE/1.0",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLED)
@pytest.mark.parametrize("cut", [lambda data: [data], byte_wise], ids=["whole", "bytes"])
def test_ambiguous_requests_are_refused(name: str, cut: Callable[[bytes], list[bytes]]) -> None:
    """
    A request that another server may parse otherwise is refused, and ends the connection.
    """
    place = Place()
    caller = place.call(*cut(SMUGGLED[name]))
    place.wait(LIMITS.body_seconds + 1)

    assert "/echo/hidden" not in place.echo.asked
    assert [answer.status // 100 for answer in caller.heard()] in ([4], [5])
    assert caller.heard()[0].status in (400, 501, 505)
    assert not caller.open


def test_a_broken_body_is_refused_once() -> None:
    """
    A malformed body gets one error, also with `Connection: close` and behind queued requests.
    """
    bad = chunked(b"zz", b"")
    place = Place()

    assert status_of(place.call(bad)) == 400
    assert status_of(place.call(bad.replace(b"Host", b"Connection: close\r\nHost"))) == 400
    caller = place.call(get(b"/late") + bad)
    place.waiting[0].answer(200)
    assert [answer.status for answer in caller.heard()] == [200, 400]


@pytest.mark.parametrize("path", [b"/page", b"/late", b"/news"])
def test_a_body_that_breaks_behind_another_request(path: bytes) -> None:
    """
    A malformed body of a queued request is refused when that request is next.
    """
    place = Place(site=Site(Desk()))
    caller = place.call(get(b"/late") + chunked(b"zz", b"", path=path).replace(b"POST", b"GET"))
    place.waiting[0].answer(200)

    assert [answer.status for answer in caller.heard()] == [200, 400]
    assert not caller.open


def test_unknown_upgrades_are_ignored() -> None:
    """
    Proxies send `Connection: upgrade` on plain requests: these get an ordinary response.
    """
    upgrade = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
    place = Place()
    caller = place.call(get(headers=upgrade) + post(b"x", headers=upgrade) + get())

    assert [answer.status for answer in caller.heard()] == [200] * 3
    assert [answer.said["body"] for answer in caller.heard()] == ["", "x", ""]
    stream = place.call(get(b"/news", upgrade))
    assert stream.streams
    assert [answer.status for answer in stream.heard()] == [200]


@pytest.mark.parametrize(
    "framing", [post, lambda body: chunked(b"%x" % len(body), body, b"0", b"", b"")]
)
def test_a_body_behind_an_upgrade_is_no_request(framing: Callable[[bytes], bytes]) -> None:
    """
    The body of a request with `Upgrade` is not parsed as a request: proxies take it for a body,
    too.
    """
    place = Place()
    upgrade = b"Connection: upgrade\r\nUpgrade: h2c\r\nHost"
    caller = place.call(framing(HIDDEN).replace(b"Host", upgrade, 1) + get(b"/echo/last"))

    assert place.echo.asked == ["/echo", "/echo/last"]
    assert caller.heard()[0].said["body"].encode() == HIDDEN


# Time and size.


def test_slow_heads() -> None:
    """
    A head has to arrive within `head_seconds` of its first byte.
    """
    place = Place()
    silent, caller = place.call(), place.call()
    for piece in byte_wise(get())[:9]:
        caller.say(piece)
        place.wait(0)
    assert caller.open
    place.wait(3)

    assert status_of(caller) == 408
    assert not caller.open
    assert silent.heard() == []
    assert not silent.open


def test_slow_bodies() -> None:
    """
    A body that is read whole has to arrive within `body_seconds`.
    """
    place = Place()
    caller = place.call(post(b"x" * 100)[:-100])
    for _ in range(7):
        caller.say(b"x")
        place.wait(9)

    assert status_of(caller) == 408
    assert not caller.open


def test_streamed_bodies_may_take_their_time() -> None:
    """
    A streamed body may take any time, if its pieces keep arriving.
    """
    place = Place()
    sink = Sink()
    caller = place.call(post(b"x" * 100, b"/late")[:-100])
    place.waiting[0].receive(sink)
    for _ in range(10):
        caller.say(b"x")
        place.wait(50)
    assert caller.heard() == []
    place.wait(20)

    assert status_of(caller) == 408
    assert sink.said == [b"x"] * 10 + ["lost"]


class Sink:
    """
    A body sink that records its calls.
    """

    def __init__(self) -> None:
        self.said: list[bytes | str] = []

    def data(self, piece: bytes) -> None:
        self.said.append(piece)

    def end(self) -> None:
        self.said.append("end")

    def lost(self, reason: Exception) -> None:
        self.said.append("lost")


def test_a_stream_of_a_body_ends_once() -> None:
    """
    A sink gets pieces, then one of `end` and `lost`, also if the client disconnects before it is
    answered.
    """
    place = Place()
    whole, cut = Sink(), Sink()
    caller = place.call(chunked(b"1", b"a", b"2", b"bc", b"0", b"", b"", path=b"/late"))
    place.waiting[0].receive(whole)
    caller.hang_up()
    other = place.call(post(b"abc", b"/late")[:-1])
    place.waiting[1].receive(cut)
    other.hang_up()

    assert whole.said == [b"abc", "end"]
    assert cut.said == [b"ab", "lost"]


def test_idle_connections_are_closed() -> None:
    """
    An idle connection is closed without a response, `idle_seconds` after the last one.
    """
    place = Place()
    caller = place.call(get())
    place.wait(LIMITS.idle_seconds - 2)
    assert caller.open
    caller.say(get())
    place.wait(LIMITS.idle_seconds + 1)

    assert len(caller.heard()) == 2
    assert not caller.open
    assert not caller.wire.aborted
    place.wait(LINGER + 1)
    assert caller.wire.aborted


def test_idle_connections_have_a_bound() -> None:
    """
    Above the bound, connections that are idle longest are closed, of the address that has most.
    Those that sent nothing or half of a head count; those whose request is being answered, and
    those idle for a moment only, are never closed.
    """
    place = Place(limits=replace(LIMITS, idle_connections=4))
    busy = [place.call(get(b"/late")) for _ in range(8)]
    other = place.call(get(), address="192.0.2.2")
    first = place.call(get())
    crowd = [place.call(*pieces) for pieces in ([], [b"GET /"], [get()], [], [get()])]
    place.wait(1)
    assert all(caller.open for caller in (first, *crowd))

    first.say(get())  # is the newest of its address now
    place.wait(3)
    assert all(caller.open for caller in (other, first, *busy))
    assert [caller.open for caller in crowd].count(True) == 2

    for exchange in place.waiting:
        exchange.answer(200)
    place.wait(4)
    assert [caller.open for caller in (other, first, *crowd, *busy)].count(True) == 4
    assert other.open


@pytest.mark.parametrize("pieces", [[post(b"x") + b"\r\n"], [post(b"x"), b"\r\n"]])
def test_blank_lines_before_a_request_are_ignored(pieces: list[bytes]) -> None:
    """
    A blank line behind a body (RFC 9112, 2.2), however it arrives, leaves the connection idle: its
    timeout gives no error response.
    """
    place = Place()
    caller = place.call(*pieces)
    place.wait(LIMITS.idle_seconds - 2)
    caller.say(b"\r\n")
    place.wait(3)

    assert status_of(caller) == 200
    assert not caller.open


def test_responses_may_take_any_time() -> None:
    """
    An action may answer at any time; afterwards the connection is idle again.
    """
    place = Place()
    caller = place.call(get(b"/late"))
    place.wait(1000)
    assert caller.open
    place.waiting[0].answer(200)
    place.wait(LIMITS.idle_seconds - 2)
    assert caller.open
    place.wait(3)
    assert not caller.open


def test_half_a_request_behind_a_late_response_times_out() -> None:
    """
    A connection that has begun its next request is not held for ever.
    """
    place = Place()
    caller = place.call(get(b"/late") + b"GET /ec")
    place.wait(5)
    place.waiting[0].answer(200)
    place.wait(LIMITS.head_seconds + 1)

    assert [answer.status for answer in caller.heard()] == [200, 408]
    assert not caller.open


def test_one_malformed_request_is_refused_once() -> None:
    """
    A malformed request is refused once, however late the responses before it are.
    """
    place = Place()
    caller = place.call(get(b"/late") + b"NO\r\n\r\n")
    place.wait(10 * LIMITS.body_seconds)
    place.waiting[0].answer(200)

    assert [answer.status for answer in caller.heard()] == [200, 400]


def test_a_client_that_is_not_read_is_not_too_slow() -> None:
    """
    A body behind a late response waits in the kernel: its deadline begins when it is read.
    """
    place = Place()
    caller = place.call(get(b"/late") + post(b"abcd")[:-2])
    assert caller.wire.producerState == "paused"
    place.wait(LIMITS.body_seconds + 1)
    place.waiting[0].answer(200)
    caller.say(b"cd")

    assert [answer.status for answer in caller.heard()] == [200, 200]


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /", b"a" * 1000),
        (b"GET /echo HTTP/1.1\r\n", b"X: y\r\n" * 100),
        (b"GET /echo HTTP/1.1\r\n", b"x" * 1000),
        (b"GET /echo HTTP/1.1\r\nX: ", b"y" * 1000),
        (b"", b"\r\n" * 500),
        (chunked(b"0", b"X: "), b"y" * 1000),
        (chunked(b"0", b""), b"X: y\r\n" * 100),
        (chunked(b"0", b""), b"x" * 1000),
        (chunked(b"1;"), b"a" * 1000),
        (chunked(b"1;a="), b"b" * 1000),
        (chunked(b"1"), b"x\r\n1\r\n" * 200_000),
    ],
    ids=[
        "target", "headers", "name", "value", "line ends", "trailer", "trailers", "trailer name",
        "extension", "extension value", "chunks",
    ],
)  # fmt: skip
def test_endless_input_is_refused(begin: bytes, more: bytes) -> None:
    """
    Endless heads, trailers and chunk extensions are refused after a bounded number of bytes.
    """
    caller = Place().call(begin)
    for _ in range(200):
        caller.say(more)

    assert caller.heard()[0].status in (400, 408, 413, 414, 431)
    assert not caller.open


def test_a_body_that_is_not_read_is_bounded() -> None:
    """
    While an action does not read the body, only a bounded part of it is received.
    """
    place = Place()
    caller = place.call(post(b"", b"/late").replace(b"h: 0", b"h: 99999999"))
    for _ in range(1000):
        if caller.wire.producerState == "paused" or not caller.open:
            break
        caller.say(b"x" * 65536)
    else:
        pytest.fail("64 MB are kept for an action that never asked")


def test_a_client_that_does_not_read_behind_tls_is_not_read() -> None:
    """
    A transport without a socket pauses reading by its producer when its buffer is full.
    """
    caller = Place().call()
    wire = caller.wire
    for _ in range(5000):
        caller.say(get())
        if len(caller.written()) > 65536 and wire.producer is not None:
            wire.producer.pauseProducing()
        if wire.producerState == "paused":
            return
    pytest.fail(f"{len(caller.written())} bytes are kept for a client that never reads")


def test_a_late_action_and_its_client() -> None:
    """
    Responses to a client that has disconnected are discarded, and readers of its body fail.
    """
    place = Place()
    caller = place.call(post(b"abc", b"/late")[:-1])
    lost: list[Failure] = []
    place.waiting[0].read(10).addErrback(lost.append)
    caller.hang_up()
    place.waiting[0].answer(200, b"too late")

    assert lost[0].check(ConnectionLost)
    assert caller.heard() == []
    assert place.server.connections == set()


def test_the_end_of_a_pipelined_stream_is_noticed() -> None:
    """
    A stream whose request was pipelined behind a late response ends when its client disconnects.
    """
    place = Place()
    caller = place.call(get(b"/late") + get(b"/news"))
    place.waiting[0].answer(200)

    assert caller.streams
    assert caller.wire.producerState == "producing"


def test_stopping() -> None:
    """
    A stop closes idle connections, and the others when they are answered.
    """
    place = Place()
    idle, busy = place.call(get()), place.call(get(b"/late"))
    place.server.stop()

    assert not idle.open
    assert busy.open
    place.waiting[0].answer(200)
    assert busy.heard()[0].headers["connection"] == "close"
    assert not busy.open


# CORS.


@pytest.mark.parametrize(
    ("cors", "origin", "headers"),
    [
        (make_cors(), None, ("*", None, None)),
        (make_cors(), "https://a.example", ("*", None, None)),
        (make_cors(frozenset()), "https://a.example", (None, None, "Origin")),
        (make_cors(frozenset(["https://a.example"])), None, (None, None, "Origin")),
        (make_cors(frozenset(["https://a.example"])), "https://b.example", (None, None, "Origin")),
        (
            make_cors(frozenset(["https://a.example"])),
            "https://a.example.org",
            (None, None, "Origin"),
        ),
        (make_cors(frozenset(["https://a.example"])), "null", (None, None, "Origin")),
        (
            make_cors(frozenset(["https://a.example"])),
            "https://a.example",
            ("https://a.example", None, "Origin"),
        ),
        (
            make_cors(frozenset(["https://a.example"]), True),
            "https://a.example",
            ("https://a.example", "true", "Origin"),
        ),
        (
            make_cors(frozenset(["https://a.example"]), True),
            "https://b.example",
            (None, None, "Origin"),
        ),
    ],
)
@pytest.mark.parametrize("path", [b"/echo", b"/news", b"/none", b"/refuse/401", b"/publish"])
def test_origins(
    cors: Cors, origin: str | None, headers: tuple[str | None, ...], path: bytes
) -> None:
    """
    Pages of allowed origins may read all responses, errors and streams too.
    """
    line = f"Origin: {origin}\r\n".encode() if origin else b""
    place = Place(cors=cors)
    head = place.call(get(path, line)).written().partition(b"\r\n\r\n")[0]
    answer = read_answers(head + b"\r\n\r\n", ["HEAD"])[0]

    names = ("allow-origin", "allow-credentials")
    found = [answer.headers.get(f"access-control-{name}") for name in names]
    assert (*found, answer.headers.get("vary")) == headers
    exposed = "ETag, Retry-After" if origin and headers[0] else None
    assert answer.headers.get("access-control-expose-headers") == exposed


def test_preflights() -> None:
    """
    The response to a preflight names the methods and headers, for allowed origins only.
    """
    cors = make_cors(frozenset(["https://a.example"]))
    ask = b"Access-Control-Request-Method: POST\r\nOrigin: https://%s.example\r\n"

    def preflight(headers: bytes, path: bytes = b"/publish") -> Answer:
        request = get(path, headers).replace(b"GET", b"OPTIONS")
        return Place(cors=cors).call(request).heard()[0]

    allowed, refused, plain = preflight(ask % b"a"), preflight(ask % b"b"), preflight(b"")
    assert allowed.status == refused.status == plain.status == 204
    assert "content-length" not in allowed.headers
    assert allowed.headers["access-control-allow-methods"] == "POST"
    assert "X-Publish-Key" in allowed.headers["access-control-allow-headers"]
    assert not any("access-control" in name for name in {**refused.headers, **plain.headers})
    assert plain.headers["allow"] == "OPTIONS, POST"
    assert preflight(b"", b"/none").status == 404
    with pytest.raises(ValueError):
        make_cors(credentials=True)
    with pytest.raises(ValueError):
        make_cors(frozenset(["https://a.example"]), True, exposed=frozenset("*"))


USUAL = (
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, "
    "X-Publish-Key, X-Requested-With"
)


@pytest.mark.parametrize(
    ("allowed", "asked", "more"),
    [
        ("*", "", []),
        ("*", "x-clientid", ["x-clientid"]),
        ("*", "x-clientid,content-type , traceparent", ["x-clientid", "traceparent"]),
        ("*", "x-a,x-a", ["x-a"]),
        ("*", "x a, x:b, \u00e9, x-c\x7f, " + "x" * 201, []),
        ("*", ",".join(f"x-{n}" for n in range(300)), [f"x-{n}" for n in range(100)]),
        ("X-CSRF-Token traceparent", "x-other", ["X-CSRF-Token", "traceparent"]),
        ("Content-Type", "x-other", []),
    ],
)
def test_headers_that_pages_may_send(allowed: str, asked: str, more: list[str]) -> None:
    """
    A page may send the headers that a preflight requests, or those that the settings list. Invalid
    names are never repeated.
    """
    cors = make_cors(allowed=frozenset(allowed.split()))
    lines = f"Origin: https://a.example\r\nAccess-Control-Request-Headers: {asked}\r\n"
    request = get(b"/publish", lines.encode("latin-1") + b"Access-Control-Request-Method: POST\r\n")
    found = dict(cors.preflight("https://a.example", ["POST"], asked))

    assert found["Access-Control-Allow-Headers"] == ", ".join([USUAL, *more])
    if "\x7f" not in asked and len(asked) < 1000:
        answer = Place(cors=cors).call(request.replace(b"GET", b"OPTIONS")).heard()[0]
        assert answer.headers["access-control-allow-headers"] == ", ".join([USUAL, *more])


def test_headers_that_pages_may_read() -> None:
    """
    Pages may read the headers of the setting, beside those that the JavaScript client needs.
    """
    cors = make_cors(frozenset(["https://*.a.example"]), exposed=frozenset(["X-B", "X-A"]))
    fields = cors.headers("https://shop.a.example")

    assert (b"Access-Control-Allow-Origin", b"https://shop.a.example") in fields
    assert (b"Access-Control-Expose-Headers", b"ETag, Retry-After, X-A, X-B") in fields
    assert cors.headers("https://a.example") == [(b"Vary", b"Origin")]
    assert cors.preflight("https://evil-a.example", ["GET"]) == []


EVENT_SOURCE = b"Accept: text/event-stream\r\nCache-Control: no-cache\r\n"


@pytest.mark.parametrize("status", [429, 503])
def test_an_eventsource_refused_for_now_gets_a_stream(status: int) -> None:
    """
    An EventSource never reconnects after an error status. On every route it gets a stream that
    names the time to reconnect, and ends.
    """
    place = Place()
    answer = place.call(get(b"/refuse/%d" % status, EVENT_SOURCE)).heard()[0]

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b"data" not in answer.body and b"\nid" not in answer.body
    assert answer.body.startswith(b": %d " % status)
    plain = place.call(get(b"/refuse/%d" % status)).heard()[0]
    assert plain.status == status


@pytest.mark.parametrize("status", [401, 403, 404, 405, 413])
def test_an_eventsource_refused_for_good_gets_the_status(status: int) -> None:
    """
    An EventSource for which reconnecting would not help gets the error status.
    """
    path = {404: b"/none", 405: b"/publish"}.get(status, b"/refuse/%d" % status)
    assert Place().call(get(path, EVENT_SOURCE)).heard()[0].status == status


# Client addresses and the access log.


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ("", "192.0.2.1", "1.1.1.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1", "1.1.1.1", "1.1.1.1"),
        ("192.0.2.1", "192.0.2.1", "9.9.9.9, 1.1.1.1", "1.1.1.1"),
        ("192.0.2.1 192.0.2.2", "192.0.2.1", "9.9.9.9,1.1.1.1,  192.0.2.2", "1.1.1.1"),
        ("192.0.2.1 192.0.2.2", "192.0.2.1", "192.0.2.2", "192.0.2.2"),
        ("192.0.2.1", "192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1", " , ", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.7", "1.1.1.1", "192.0.2.7"),
    ],
)
def test_proxies(trusted: str, peer: str, forwarded: str, address: str) -> None:
    """
    Only trusted proxies may name the client's address, and only the part of the header that they
    added counts.
    """
    place = Place(limits=make_http_limits(trusted_proxies=Networks.of(trusted.split())))
    header = f"X-Forwarded-For: {forwarded}\r\n".encode()
    place.call(get(b"/late", header), address=peer)

    assert place.waiting[0].address == address


@pytest.fixture
def access_log(tmp_path: Path) -> Iterator[AccessLog]:
    """
    Return an access log that writes to access.log.
    """
    log = AccessLog(LogFile(str(tmp_path / "access.log")))
    yield log
    log.file.close()


def test_the_access_log(access_log: AccessLog, tmp_path: Path) -> None:
    """
    The access log has one line per response, without query, cookies or keys.
    """
    place = Place(access_log=access_log, limits=make_http_limits())
    secret = b"Cookie: hush\r\nX-Publish-Key: hush\r\nAuthorization: Bearer hush\r\n"
    place.call(get(b"/echo?key=hush", secret) + get(b"/none?hush") + b"\0hush")
    place.call(get(b"http://a/news?key=hush", secret))
    place.call(get(version=b"1.0").replace(b"GET", b"HEAD"))

    text = tmp_path.joinpath("access.log").read_text()
    lines = text.splitlines()
    pattern = r'192\.0\.2\.1 - - \[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\] "(.*)" (\d+) (\d+)'
    found = [re.fullmatch(pattern, line) for line in lines]
    assert [each and (each[1], each[2]) for each in found] == [
        ("GET /echo HTTP/1.1", "200"),
        ("GET /none HTTP/1.1", "404"),
        ("- / HTTP/1.1", "400"),
        ("GET /news HTTP/1.1", "200"),
        ("HEAD /echo HTTP/1.0", "200"),
    ]
    assert "hush" not in text


@pytest.mark.parametrize(
    "path",
    [b'/a"b', b"/a\\x22", b"/%0a%0d%22", b"/\x7f", b"/\xc2\x9b31m", b"/\x1b[31m", b"/\xe2\x80\xae"],
)
def test_clients_cannot_inject_into_the_access_log(
    path: bytes, access_log: AccessLog, tmp_path: Path
) -> None:
    """
    A target stays within its quotes, and an address is one word, whatever a client sends.
    """
    limits = make_http_limits(trusted_proxies=Networks.of(["192.0.2.1"]))
    place = Place(access_log=access_log, limits=limits)
    place.call(get(path, b'X-Forwarded-For: 1.1.1.1 - - [now] "GET /fake HTTP/1.1" 200 1\r\n'))

    (line,) = tmp_path.joinpath("access.log").read_text().splitlines()
    assert re.fullmatch(r'\S+ - - \[[^]]+\] "(?:[^"\\]|\\.)*" \d+ \d+', line)
    assert line.isprintable()


# Mutated requests.

VALID = [
    get(),
    get(b"/late"),
    get(b"/news"),
    get(b"/news?channels=a&since=1h&history=3", b"Last-Event-ID: e.1\r\nAccept: */*\r\n"),
    post(b"channel=a&message=b", b"/publish"),
    post(b'{"channel": "a", "message": 1}', b"/publish", b"Content-Type: application/json\r\n"),
    chunked(b"3", b"abc", b"0", b"", b""),
    get(headers=b"Connection: upgrade\r\nUpgrade: h2c\r\n"),
    post(b"abc", headers=b"Expect: 100-continue\r\n"),
    get(version=b"1.0", headers=b"Connection: keep-alive\r\n"),
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
]
WORDS = st.sampled_from(
    [
        b"\r\n", b"\r", b"\n", b"\0", b" ", b":", b"%", b"%ff", b"#", b"?", b"\xff", b"0", b"-",
        b"Transfer-Encoding: chunked\r\n", b"Content-Length: 1\r\n", b"Host: b\r\n", b"*", b";",
        b"Connection: close\r\n", b"Upgrade: x\r\n", b"HTTP/1.0", b"HEAD ", b"CONNECT ", b"//",
    ]
)  # fmt: skip
MUTATIONS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 8), WORDS), max_size=4)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(VALID), min_size=1, max_size=4), MUTATIONS, st.integers(1, 200))
def test_no_request_causes_an_internal_error(
    requests: list[bytes], mutations: list[tuple[int, int, bytes]], size: int
) -> None:
    """
    Mutated requests cause no 500, no traceback, and no connection that stays open for ever.
    """
    data = b"".join(requests)
    for at, cut, word in mutations:
        data = data[:at] + word + data[at + cut :]
    place = Place()
    caller = place.call()
    for at in range(0, len(data), size):
        if caller.streams or not caller.open:
            break
        caller.say(data[at : at + size])
    for _ in range(8):  # answer the waiting requests, so that time runs again
        for exchange in place.waiting:
            exchange.answer(200, b"late")
    for _ in range(3):
        place.clock.advance(LIMITS.body_seconds + LIMITS.idle_seconds)

    if caller.streams:
        return
    assert not caller.open
    assert not any(line.startswith(b"HTTP/1.1 500") for line in caller.written().split(b"\r\n"))


# Real sockets.


class Peer(Protocol):
    """
    A client on a real socket.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.end: Failure | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._look()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self.end = reason
        self._look()

    def _look(self) -> None:
        for item in [item for item in self._waiting if item[0]()]:
            self._waiting.remove(item)
            item[1].callback(None)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self._look()
        return done

    def answers(self, count: int) -> Deferred[None]:
        return self.until(lambda: len(read_answers(self.heard)) >= count)

    def closed(self) -> Deferred[None]:
        return self.until(lambda: self.end is not None)

    def say(self, data: bytes) -> None:
        wire: Any = self.transport
        wire.write(data)


Listen = Callable[..., Any]


@pytest_twisted.async_yield_fixture
async def listen() -> AsyncIterator[Listen]:
    """
    Serve a place on a port of 127.0.0.1; `await connect()` then returns a peer.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

    loop: Any = reactor
    ports: list[Any] = []
    peers: list[Peer] = []

    def listen(place: Place) -> Callable[[], Any]:
        port = loop.listenTCP(0, place.server, interface="127.0.0.1")
        ports.append(port)

        async def connect() -> Peer:
            endpoint = TCP4ClientEndpoint(loop, "127.0.0.1", port.getHost().port)
            peer: Peer = await connectProtocol(endpoint, Peer())
            peers.append(peer)
            return peer

        return connect

    yield listen
    for port in ports:
        await port.stopListening()
    for peer in peers:
        wire: Any = peer.transport
        wire.abortConnection()
    await turns()


async def turns(count: int = 5) -> None:
    """
    Let the reactor run.
    """
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    clock: Any = reactor
    for _ in range(count):
        await deferLater(clock, 0)


async def test_over_a_socket(listen: Listen) -> None:
    """
    Keep-alive and pipelining work over a real socket.
    """
    peer = await listen(Place())()
    peer.say(get() + post(b"x"))
    await peer.answers(2)
    peer.say(get(headers=b"Connection: close\r\n"))
    await peer.closed()

    assert [answer.status for answer in read_answers(peer.heard)] == [200] * 3
    assert peer.end.check(ConnectionDone)


async def test_a_client_that_does_not_read_is_not_read(listen: Listen) -> None:
    """
    For a client that does not read, a bounded amount is buffered; once it reads, it gets all
    responses.
    """
    place = Place()
    peer = await listen(place)()
    peer.transport.pauseProducing()
    big = b"b" * 1_000_000
    asked = 20
    peer.say(get(b"/late") * asked)

    async def answer() -> None:
        while len(place.waiting) > len(answered):
            exchange = place.waiting[len(answered)]
            answered.append(exchange)
            exchange.answer(200, big)
            await turns(10)

    answered: list[IExchange] = []
    while not place.waiting:
        await turns(1)
    await answer()
    connection: Any
    (connection,) = place.server.connections
    assert len(answered) < asked
    assert len(connection.transport.dataBuffer) + connection.transport._tempDataLen <= len(big)

    peer.transport.resumeProducing()
    while len(answered) < asked:
        await turns(1)
        await answer()
    await peer.until(lambda: len(peer.heard) >= asked * len(big))


async def test_a_subscriber_behind_a_late_response_leaves(listen: Listen) -> None:
    """
    No subscriber stays in the hub when its client has disconnected.
    """
    place = Place()
    peer = await listen(place)()
    peer.say(get(b"/late") + get(b"/news"))
    while not place.waiting:
        await turns()
    place.waiting[0].answer(200)
    await peer.until(lambda: b"id: e.0" in peer.heard)
    peer.transport.loseConnection()
    await peer.closed()
    for _ in range(50):
        await turns()
    left = place.hub.current_metrics().subscribers
    place.hub.stop(0)

    assert left == 0


async def test_an_early_error_reaches_a_client_that_is_still_sending(listen: Listen) -> None:
    """
    The response is not lost to a reset while the rest of the body is on its way.
    """
    place = Place(limits=make_http_limits())
    peer = await listen(place)()
    peer.say(
        post(b"", b"/publish")
        .replace(b"h: 0", b"h: 4000000")
        .replace(b"Host: a", b"Host: localhost")
    )
    await peer.answers(1)
    for _ in range(40):
        peer.say(b"x" * 100_000)
        await turns(1)
    await peer.closed()

    assert [answer.status for answer in read_answers(peer.heard)] == [413]
    assert peer.end.check(ConnectionDone)


async def test_a_client_that_never_stops_sending_is_disconnected(listen: Listen) -> None:
    """
    A client that sends on after its response is disconnected after some seconds.
    """
    place = Place()
    peer = await listen(place)()
    peer.say(b"nonsense\r\n\r\n")
    await peer.answers(1)
    connection: Any
    (connection,) = place.server.connections
    peer.transport.pauseProducing()
    place.wait(LINGER + 1)
    await turns()

    assert place.server.connections == set()
    assert connection.transport.disconnected


async def test_a_disconnect_within_a_body(listen: Listen) -> None:
    """
    The reader of the body fails; nothing is logged, and nothing is left behind.
    """
    place = Place()
    peer = await listen(place)()
    peer.say(post(b"abc", b"/late")[:-1])
    while not place.waiting:
        await turns()
    sink = Sink()
    place.waiting[0].receive(sink)
    peer.transport.abortConnection()
    while place.server.connections:
        await turns()

    assert sink.said == [b"ab", "lost"]


async def test_messages_arrive_over_a_socket(listen: Listen) -> None:
    """
    A subscriber on a real socket gets a message, also through a proxy that offers an upgrade.
    """
    place = Place()
    peer = await listen(place)()
    peer.say(get(b"/news", b"Connection: upgrade\r\nUpgrade: websocket\r\n"))
    await peer.until(lambda: b"id: e.0" in peer.heard)
    await place.hub.publish([Draft("news", b"hello")])
    place.clock.advance(0)
    await peer.until(lambda: b"data: hello" in peer.heard)
    peer.transport.loseConnection()
    while place.hub.current_metrics().subscribers:
        await turns()


# twisted.web.


async def test_a_large_file(listen: Listen, tmp_path: Path) -> None:
    """
    A large file arrives complete, ranges and HEAD work, and the connection stays open after it.
    """
    data = bytes(range(256)) * 20_000
    tmp_path.joinpath("big").write_bytes(data)
    peer = await listen(Place(f"^/s/ static:{tmp_path}"))()
    peer.say(get(b"/s/big") + get(b"/s/big", b"Range: bytes=5-9\r\n") + get(b"/s/none") + get())
    await peer.until(lambda: peer.heard.endswith(b'"text": ""}'))

    answers = read_answers(peer.heard)
    assert [answer.status for answer in answers] == [200, 206, 404, 200]
    assert answers[0].body == data
    assert answers[1].body == data[5:10]


async def test_a_file_for_every_path(listen: Listen, tmp_path: Path) -> None:
    """
    Files are served for every rest of the path behind the pattern, also for none.
    """
    page = tmp_path / "page.html"
    page.write_text("page")
    peer = await listen(Place(f"^/$ static:{page}", f"^/app/ static:{page}"))()
    peer.say(get(b"/") + get(b"/app/") + get(b"/app/a/b") + get())
    await peer.until(lambda: peer.heard.endswith(b'"text": ""}'))

    answers = read_answers(peer.heard)
    assert [answer.body for answer in answers[:3]] == [b"page"] * 3


async def test_folders_are_not_listed(listen: Listen, tmp_path: Path) -> None:
    """
    Folders are not listed, and nothing outside the folder is served.
    """
    tmp_path.joinpath("in").mkdir()
    tmp_path.joinpath("in", "index.html").write_text("index")
    tmp_path.joinpath("out").write_text("secret")
    tmp_path.joinpath("empty").mkdir()
    place = Place(f"^/s/ static:{tmp_path}/in", f"^/e static:{tmp_path}/empty")
    paths = (
        b"/s/", b"/e/", b"/s/../out", b"/s/%2e%2e/out", b"/s/..%2fout", b"/s/%2e%2e%2fout", b"/s//",
        b"/s/%00",
    )  # fmt: skip
    peer = await listen(place)()
    peer.say(b"".join(map(get, paths)))
    await peer.answers(len(paths))

    answers = read_answers(peer.heard)
    assert [answer.status for answer in answers][:2] == [200, 404]
    assert answers[0].body == b"index"
    assert all(answer.status in (400, 404) for answer in answers[1:])
    assert b"secret" not in peer.heard


async def test_an_escaped_slash_in_a_mount_point(listen: Listen, tmp_path: Path) -> None:
    """
    An escaped slash does not break resources that are mounted behind it.
    """
    tmp_path.joinpath("f").write_text("file")
    peer = await listen(Place(f"^/a/b/ static:{tmp_path}"))()
    peer.say(get(b"/a/b/f") + get(b"/a%2Fb%2Ff") + get(b"/a%2Fb/f"))
    await peer.answers(3)

    first, *others = [answer.status for answer in read_answers(peer.heard)]
    assert first == 200
    assert 500 not in others


async def test_wsgi(listen: Listen) -> None:
    """
    WSGI applications run on threads, and get their mount point and the body.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    pool = loop.getThreadPool()
    if not pool.started:
        pool.start()
    peer = await listen(Place("^/w/ wsgi:tests.words:application", reactor=loop))()
    peer.say(post(b"body", b"/w/x/y") + get())
    await peer.answers(2)

    first, second = read_answers(peer.heard)
    assert first.body == b"/w /x/y body"
    assert second.status == 200


async def test_forms_reach_a_resource(listen: Listen) -> None:
    """
    Resources get both kinds of forms; a malformed one gets 400.
    """
    peer = await listen(Place("^/f resource:tests.words.Form"))()
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    parts = b"Content-Type: multipart/form-data; boundary=%s\r\n"
    body = b'--c\r\nContent-Disposition: form-data; name="name"\r\n\r\nann\r\n--c--\r\n'
    peer.say(post(b"name=a+b&x=1", b"/f", form) + post(body, b"/f", parts % b"c"))
    await peer.answers(2)
    peer.say(post(b"--c\r\nnonsense", b"/f", b"Content-Type: multipart/form-data\r\n"))
    await peer.answers(3)

    assert [a.body for a in read_answers(peer.heard)[:2]] == [b"a b", b"ann"]
    assert read_answers(peer.heard)[2].status == 400


def test_bodies_for_resources_have_a_limit() -> None:
    """
    A body for twisted.web is refused when it becomes too large.
    """
    place = Place("^/f resource:tests.words.Form")
    declared = place.call(post(b"", b"/f").replace(b"h: 0", b"h: 5001"))
    undeclared = place.call(chunked(b"1389", b"x" * 5001, path=b"/f"))
    just = place.call(post(b"x" * 5000, b"/f"))

    for caller in (declared, undeclared, just):
        caller.hang_up()  # a body in a temporary file is closed with its connection

    assert status_of(declared) == status_of(undeclared) == 413
    assert status_of(just) == 200


def test_a_resource_that_answers_later() -> None:
    """
    The next request waits for a late resource; notifyFinish fires if the client disconnects.
    """
    desk = Desk()
    place = Place(site=Site(desk))
    caller = place.call(get(b"/desk/a?x=1", b"X: y\r\n") + get())
    (request,) = desk.requests
    assert (request.uri, request.getHeader(b"x")) == (b"/desk/a?x=1", b"y")
    request.write(b"late")
    request.finish()
    gone = place.call(get(b"/desk"))
    gone.hang_up()

    answers = caller.heard()
    assert [answer.body for answer in answers[:1]] == [b"late"]
    assert answers[1].status == 200
    assert desk.ends[0] is None
    assert desk.ends[1].check(ConnectionLost)


def test_a_resource_for_old_clients() -> None:
    """
    HTTP/1.0 gets no chunks: the response ends with the connection.
    """
    desk = Desk()
    caller = Place(site=Site(desk)).call(get(b"/desk", version=b"1.0"))
    desk.requests[0].write(b"late")
    desk.requests[0].finish()

    (answer,) = caller.heard()
    assert answer.body == b"late"
    assert "transfer-encoding" not in answer.headers
    assert not caller.open


@pytest.mark.parametrize(("line", "stated"), [("?channels=news", False), ("?padding=true", True)])
def test_padding_is_sent_where_it_is_requested(line: str, stated: bool) -> None:
    """
    Clients behind proxies that buffer get 2 KiB of padding on request; others get none.
    """
    caller = Place("^/sse$ sse:subscribe=news").call(get(b"/sse" + line.encode()))

    assert (len(caller.written()) > 2048) is stated


@pytest.mark.parametrize(
    "words", ["sse:subscribe=a,history=-1", "sse:subscribe=a,retry=-1", "sse:subscribe=a*b"]
)
def test_wrong_arguments_of_stream_routes(words: str) -> None:
    """
    Each wrong argument of a route line is refused at the start.
    """
    with pytest.raises(ValueError, match=r"negative|cannot be called"):
        Place(f"^/sse$ {words}")


@pytest.mark.parametrize("query", [b"history=x", b"evs_buffer_size_limit=x"])
def test_an_invalid_number_in_a_query(query: bytes) -> None:
    """
    An invalid number in a query gets 400, before keys are checked.
    """
    caller = Place("^/sse$ sse").call(get(b"/sse?channels=a&" + query))

    assert [answer.status for answer in caller.heard()] == [400]


def test_a_new_connection_has_the_time_of_a_head() -> None:
    """
    A client may connect before it has a request, for `head_seconds`.
    """
    place = Place()
    caller = place.call()
    place.wait(LIMITS.head_seconds - 3)
    assert caller.open

    place.wait(6)
    assert not caller.open


def test_an_error_of_ours_while_reading_is_500(
    monkeypatch: pytest.MonkeyPatch, clean_reactor: list[Failure]
) -> None:
    """
    An exception while parsing gets 500, and the traceback is logged.
    """

    def fail(*_: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("rt_twisted.http.request.RequestHead.add_header", fail)
    caller = Place().call(get())

    assert [answer.status for answer in caller.heard()] == [500]
    assert [str(failure.value) for failure in clean_reactor] == ["ours"]
    clean_reactor.clear()


def test_limits_of_the_head_are_inclusive() -> None:
    """
    A target of exactly `line` bytes, and headers of exactly `header_bytes`, are allowed.
    """
    target = b"/echo?" + b"x" * (LIMITS.line - 6)
    assert [one.status for one in Place().call(get(target)).heard()] == [200]
    assert [one.status for one in Place().call(get(target + b"x")).heard()] == [414]

    value = b"y" * (LIMITS.header_bytes - len("Host") - len("a") - len("X"))
    for more, status in ((b"", 200), (b"y", 431)):
        caller = Place().call(get(headers=b"X: " + value + more + b"\r\n"))
        assert [one.status for one in caller.heard()] == [status]


def test_websockets_by_http_1_0_are_501() -> None:
    """
    A websocket by HTTP/1.0 gets 501, as it has no upgrades.
    """
    caller = Place("^/ws$ websocket").call(
        b"GET /ws HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    assert [answer.status for answer in caller.heard()] == [501]
