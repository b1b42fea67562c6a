"""
Tests of HTTP/1.1 as clients see it: framing, order and errors.

Connections have no sockets and are driven by a `Clock`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure
from twisted.web.server import Site

from tests.unit.http.clients import LIMITS, Place, byte_wise, chunked, get, post, status_of
from tests.words import PendingResource

# Order and framing.


@pytest.mark.parametrize("cut", [lambda data: [data], byte_wise], ids=["whole", "bytes"])
def test_requests_are_answered_in_order(cut: Callable[[bytes], list[bytes]]) -> None:
    """
    Requests are answered in order on one connection: pipelined or byte by byte, with bodies of each
    framing.
    """
    requests = [
        get(b"/echo?n=1"),
        post(b"two"),
        chunked(b"3", b"thr", b"2;x=y", b"ee", b"0", b"Trailer: x", b"", b""),
        b"\r\n" + get(b"http://elsewhere/echo?n=4"),
        post(b""),
        get(b"/none"),
        get(b"/echo/%2F%C3%BC?n=%2B+"),
    ]

    caller = Place().call(*cut(b"".join(requests)))

    answers = caller.responses()
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 404, 200]
    assert [answers[n].json["body"] for n in (1, 2, 4)] == ["two", "three", ""]
    assert [answers[n].json["query"] for n in (0, 3)] == [{"n": ["1"]}, {"n": ["4"]}]
    assert answers[6].json["path"] == "/echo//\u00fc"
    assert answers[6].json["query"] == {"n": ["+ "]}
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
        assert caller.responses() == []
        assert caller.wire.producerState == "paused"
        place.waiting[0].answer(200, b"{}")
    answers = caller.responses()

    assert [a.json["query"]["n"] for a in answers[1:]] == [[str(n)] for n in range(200)]
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
    assert place.echo.paths == []
    place.waiting[1].answer(201, b"2")

    assert [answer.status for answer in caller.responses()] == [200, 201, 200]


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

    assert [answer.status for answer in caller.responses()] == [200, 200, 200]
    connections = [answer.headers["connection"] for answer in caller.responses()]
    assert connections == ["keep-alive", "keep-alive", "close"]
    assert not caller.open


def test_requests_before_a_malformed_one_are_answered() -> None:
    """
    Requests before a malformed one are answered in order, then the error follows, then the end.
    """
    place = Place()
    caller = place.call(get(b"/late") + get(b"/echo") + b"nonsense\r\n\r\n")

    place.waiting[0].answer(200, b"")

    assert [answer.status for answer in caller.responses()] == [200, 200, 400]
    assert not caller.open


def test_nothing_follows_a_request_that_closes() -> None:
    """
    Bytes behind a request with `Connection: close` are ignored.
    """
    place = Place()
    caller = place.call(get(headers=b"Connection: close\r\n") + get(b"/echo/hidden"))

    assert status_of(caller) == 200
    assert place.echo.paths == ["/echo"]
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

    (answer,) = caller.responses()
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
    first, second = Place().call(head + whole).responses("HEAD", "GET")

    assert first.body == b""
    assert first.headers["content-length"] == second.headers["content-length"]
    (stream,) = Place().call(get(b"/news").replace(b"GET", b"HEAD")).responses("HEAD")
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_options_of_the_server() -> None:
    """
    `OPTIONS *` gets 204 as a ping (RFC 9110, 9.3.7).
    """
    caller = Place().call(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" + get())

    assert [answer.status // 100 for answer in caller.responses()] == [2, 2]


def test_100_continue() -> None:
    """
    `Expect: 100-continue` gets 100 when an action reads the body, and not before.
    """
    place = Place()
    expect = b"Expect: 100-Continue\r\n"
    head, body = post(b"body", headers=expect)[:-4], b"body"

    assert [a.status for a in place.call(head).responses()] == [100]
    assert [a.status for a in place.call(head, body).responses()] == [100, 200]
    late = place.call(post(b"", b"/late", expect).replace(b"h: 0", b"h: 4"))
    assert late.responses() == []
    place.waiting[0].read(10)
    assert [a.status for a in late.responses()] == [100]
    refused = place.call(post(b"", b"/none", expect).replace(b"h: 0", b"h: 4"))
    assert [a.status for a in refused.responses()] == [404]
    assert not refused.open
    large = place.call(post(b"", b"/echo", expect).replace(b"h: 0", b"h: 9999999"))
    assert [a.status for a in large.responses()] == [413]


def test_http_1_0_gets_no_100_continue() -> None:
    """
    HTTP/1.0 clients get no 100, which they do not know (RFC 9110, 10.1.1).
    """
    head = b"POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"

    assert [answer.status for answer in Place().call(head, b"x").responses()] == [200]


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
        assert place.call(request).responses()[-1].status == 200


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
    (get(headers=b"X: 1\r\n" * 11 + b"Host: b\r\n"), 431),
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

    (answer,) = caller.responses()
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

    assert [answer.status for answer in caller.responses()] == [500, 200]
    assert b"Zero" not in caller.responses()[0].body
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

    assert "/echo/hidden" not in place.echo.paths
    assert [answer.status // 100 for answer in caller.responses()] in ([4], [5])
    assert caller.responses()[0].status in (400, 501, 505)
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
    assert [answer.status for answer in caller.responses()] == [200, 400]


@pytest.mark.parametrize("path", [b"/page", b"/late", b"/news"])
def test_a_body_that_breaks_behind_another_request(path: bytes) -> None:
    """
    A malformed body of a queued request is refused when that request is next.
    """
    place = Place(site=Site(PendingResource()))
    caller = place.call(get(b"/late") + chunked(b"zz", b"", path=path).replace(b"POST", b"GET"))
    place.waiting[0].answer(200)

    assert [answer.status for answer in caller.responses()] == [200, 400]
    assert not caller.open


def test_unknown_upgrades_are_ignored() -> None:
    """
    Proxies send `Connection: upgrade` on plain requests: these get an ordinary response.
    """
    upgrade = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
    place = Place()
    caller = place.call(get(headers=upgrade) + post(b"x", headers=upgrade) + get())

    assert [answer.status for answer in caller.responses()] == [200] * 3
    assert [answer.json["body"] for answer in caller.responses()] == ["", "x", ""]
    stream = place.call(get(b"/news", upgrade))
    assert stream.streams
    assert [answer.status for answer in stream.responses()] == [200]


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

    assert place.echo.paths == ["/echo", "/echo/last"]
    assert caller.responses()[0].json["body"].encode() == HIDDEN


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
        caller.send(data[at : at + size])
    for _ in range(8):  # answer the waiting requests, so that time runs again
        for exchange in place.waiting:
            exchange.answer(200, b"late")
    for _ in range(3):
        place.clock.advance(LIMITS.body_seconds + LIMITS.idle_seconds)

    if caller.streams:
        return
    assert not caller.open
    assert not any(line.startswith(b"HTTP/1.1 500") for line in caller.written().split(b"\r\n"))


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

    assert [answer.status for answer in caller.responses()] == [400]


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

    monkeypatch.setattr("rt_twisted.http.request.RequestHead.check", fail)
    caller = Place().call(get())

    assert [answer.status for answer in caller.responses()] == [500]
    assert [str(failure.value) for failure in clean_reactor] == ["ours"]
    clean_reactor.clear()


def test_limits_of_the_head_are_inclusive() -> None:
    """
    A target of exactly `line` bytes, and headers of exactly `header_bytes`, are allowed.
    """
    target = b"/echo?" + b"x" * (LIMITS.line - 6)
    assert [one.status for one in Place().call(get(target)).responses()] == [200]
    assert [one.status for one in Place().call(get(target + b"x")).responses()] == [414]

    value = b"y" * (LIMITS.header_bytes - len("Host") - len("a") - len("X"))
    for more, status in ((b"", 200), (b"y", 431)):
        caller = Place().call(get(headers=b"X: " + value + more + b"\r\n"))
        assert [one.status for one in caller.responses()] == [status]


def test_websockets_by_http_1_0_are_501() -> None:
    """
    A websocket by HTTP/1.0 gets 501, as it has no upgrades.
    """
    caller = Place("^/ws$ websocket").call(
        b"GET /ws HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    assert [answer.status for answer in caller.responses()] == [501]
