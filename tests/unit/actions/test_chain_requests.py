"""
Requests through chains of routes: lines that answer, and lines that change headers.
"""

from __future__ import annotations

import pytest

from rt_twisted.routes import Routes, parse_entry
from tests.defaults import make_http_limits
from tests.unit.http.clients import Answer, Caller, Place, get, post


def ask(request: bytes, *lines: str) -> Answer:
    """
    Return the response to *request* of a server with these routes.
    """
    place = Place(limits=make_http_limits())
    routes = Routes([parse_entry(line, place.context) for line in lines])
    place.server.context.find = routes.find
    [answer] = Caller(place.server).send(request).responses()
    return answer


@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        ("route-run break:403 Forbidden", 403, b"Forbidden\n"),
        ("route-run break:403", 403, b"Forbidden\n"),
        ("route-run break:", 404, b"Not Found\n"),
        ("route-run break:204 No Content", 204, b""),
        ("route-run return:410", 410, b"Gone\n"),
        ("route-run return:200", 200, b"OK"),
        ("route-run break-with-status:404", 404, b"Not Found\n"),
        ("route-if-not equal:${HTTP_X_KEY};1234 break:401 No Key", 401, b"No Key\n"),
        ("route-if empty:${cookie[session]} return:403", 403, b"Forbidden\n"),
        ("route-remote-addr ^192 break:403 Not here", 403, b"Not here\n"),
    ],
)
def test_lines_that_answer(line: str, status: int, body: bytes) -> None:
    """
    They answer whatever the method is, and nothing behind them is reached.
    """
    for request in (get(b"/a"), post(b"x", b"/a")):
        answer = ask(request, line, "^/ stats")
        assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    ("line", "status", "location"),
    [
        ("route-run redirect:https://${HTTP_HOST}${REQUEST_URI}", 302, "https://a/x%20y?z=%0d%0a"),
        ("^/(.*) redirect-permanent:/new/$1", 301, "/new/x%20y"),
        ("^/(.*) redirect-301:/new", 301, "/new"),
        ("route-run redirect-302:/${qs[z]}", 302, "/%0D%0A"),
        ("route-run redirect:/${cookie[none]}", 302, "/"),
    ],
)
def test_redirects(line: str, status: int, location: str) -> None:
    """
    What is inserted stays one line of the header, and one URL.
    """
    answer = ask(get(b"/x%20y?z=%0d%0a"), line)

    assert answer.status == status
    assert answer.headers["location"] == location


def test_headers_of_any_response() -> None:
    """
    Lines add and remove headers of the action's response, whichever it is; a type replaces
    that of the action.
    """
    lines = (
        "route-run addheader:X-Frame-Options: DENY",
        "^/stats addheader:X-Path: ${PATH_INFO}",
        "route-run delheader:Server",
        "^/stats addheader:Content-Type: text/x-stats",
        "^/stats addheader:Access-Control-Allow-Origin: https://a.example",
        "^/stats addheader:X-Content-Type-Options: sniff",
        "^/stats stats",
        "^/refuse return:503",
    )
    stats, refused, missing = (
        ask(get(path), *lines) for path in (b"/stats", b"/refuse", b"/missing")
    )

    assert [each.status for each in (stats, refused, missing)] == [403, 503, 404]
    for answer in (stats, refused, missing):
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers
    assert stats.headers["x-path"] == "/stats"
    assert stats.headers["content-type"] == "text/x-stats"
    assert stats.headers["access-control-allow-origin"] == "https://a.example"
    assert stats.headers["x-content-type-options"] == "sniff"


def test_a_request_cannot_inject_a_header() -> None:
    """
    A control character in a header is a 400.
    """
    answer = ask(get(b"/?a=b%0d%0aSet-Cookie:c"), "route-run addheader:X: ${qs[a]}", "^/ stats")

    assert answer.status == 400
    assert "set-cookie" not in answer.headers


def test_too_many_fields_in_a_query_that_a_line_reads() -> None:
    """
    A test cannot be passed by making the query unreadable.
    """
    fields = b"&".join([b"a=1"] * 1001)
    answer = ask(get(b"/?" + fields), "route-if equal:${qs[a]};1 break:403", "^/ stats")

    assert answer.status == 400
