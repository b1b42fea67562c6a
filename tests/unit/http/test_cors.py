"""
Tests of CORS, and of refusals that an EventSource gets.
"""

from __future__ import annotations

import pytest

from rt_twisted.http.cors import Cors
from tests.defaults import make_cors
from tests.unit.http.clients import Answer, Place, get, read_answers


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
        return Place(cors=cors).call(request).responses()[0]

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
    ("allowed", "requested", "more"),
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
def test_headers_that_pages_may_send(allowed: str, requested: str, more: list[str]) -> None:
    """
    A page may send the headers that a preflight requests, or those that the settings list. Invalid
    names are never repeated.
    """
    cors = make_cors(allowed=frozenset(allowed.split()))
    lines = f"Origin: https://a.example\r\nAccess-Control-Request-Headers: {requested}\r\n"
    request = get(b"/publish", lines.encode("latin-1") + b"Access-Control-Request-Method: POST\r\n")
    found = dict(cors.preflight("https://a.example", ["POST"], requested))

    assert found["Access-Control-Allow-Headers"] == ", ".join([USUAL, *more])
    if "\x7f" not in requested and len(requested) < 1000:
        answer = Place(cors=cors).call(request.replace(b"GET", b"OPTIONS")).responses()[0]
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
    answer = place.call(get(b"/refuse/%d" % status, EVENT_SOURCE)).responses()[0]

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b"data" not in answer.body and b"\nid" not in answer.body
    assert answer.body.startswith(b": %d " % status)
    plain = place.call(get(b"/refuse/%d" % status)).responses()[0]
    assert plain.status == status


@pytest.mark.parametrize("status", [401, 403, 404, 405, 413])
def test_an_eventsource_refused_for_good_gets_the_status(status: int) -> None:
    """
    An EventSource for which reconnecting would not help gets the error status.
    """
    path = {404: b"/none", 405: b"/publish"}.get(status, b"/refuse/%d" % status)
    assert Place().call(get(path, EVENT_SOURCE)).responses()[0].status == status
