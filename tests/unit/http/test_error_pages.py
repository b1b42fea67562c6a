"""
Pages about refusals, for browsers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from rt_twisted.http.refusals import RefusalResponse, respond_to
from rt_twisted.model.errors import HttpError

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
TEXT = "text/plain; charset=utf-8"


@dataclass
class Request:
    """
    The part of an exchange that a page about its refusal depends on.
    """

    headers: dict[str, str] = field(default_factory=lambda: {"accept": BROWSER, "host": "a:80"})
    path: str = "/nothing"
    method: str = "GET"
    scheme: str = "http"
    test_page: bool | None = True  # None: nothing is there

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def find(self, method: str, path: str) -> Any:
        assert (method, path) == ("GET", "/try")
        found = SimpleNamespace(is_test_page=True) if self.test_page else SimpleNamespace()
        return None if self.test_page is None else (found, None)


def response(refusal: HttpError, **request: Any) -> RefusalResponse:
    """
    Return the response to a request that is refused.
    """
    exchange: Any = Request(**request)
    return respond_to(exchange, refusal)


def page(refusal: HttpError, **request: Any) -> str:
    """
    Return the page about *refusal*.
    """
    found = response(refusal, **request)
    assert (found.status, found.content_type) == (refusal.status, "text/html; charset=utf-8")
    return found.body.decode()


@pytest.mark.parametrize(
    ("refusal", "texts"),
    [
        (
            HttpError(401, "a key is needed"),
            ["401 Unauthorized", "A key is needed.", "docs/access.md"],
        ),
        (HttpError(404, "not found"), ["404 Not Found", "Not found.", "docs/configuration.md"]),
        (
            HttpError(405, "GET is not allowed here", [("Allow", "OPTIONS, POST")]),
            ["405 Method Not Allowed", "accepts OPTIONS, POST.", "docs/publishing.md"],
        ),
        (
            HttpError(426, "this is a WebSocket URL: send Upgrade: websocket"),
            [
                "426 Upgrade Required",
                "new WebSocket(&#x27;ws://a:80/nothing&#x27;)",
                "docs/websocket.md",
            ],
        ),
    ],
    ids=str,
)
def test_a_browser_gets_a_page(refusal: HttpError, texts: list[str]) -> None:
    """
    The page has the status, the reason, a hint with a page of the documentation, and the name of
    the server. It loads and runs nothing, is not cached, and keeps the headers of the refusal.
    """
    text = page(refusal)
    headers = response(refusal).headers

    assert [each for each in texts if each not in text] == []
    assert "rt_twisted, a realtime server" in text
    assert ("Cache-Control", "no-store") in headers
    assert any(name == "Content-Security-Policy" for name, _ in headers)
    assert set(refusal.headers) <= set(headers)


@pytest.mark.parametrize(
    ("path", "link"),
    [("/nothing", "href='try'"), ("/a/b", "href='../try'"), ("/a/b/", "href='../../try'")],
)
def test_the_test_page_is_linked(path: str, link: str) -> None:
    """
    The link is relative, so that it is right behind a proxy that removes a prefix.
    """
    assert link in page(HttpError(404, "not found"), path=path)


@pytest.mark.parametrize("test_page", [None, False])
def test_a_test_page_without_a_route_is_not_linked(test_page: bool | None) -> None:
    """
    Another route at /try is not the test page.
    """
    assert "try'" not in page(HttpError(404, "not found"), test_page=test_page)


def test_text_of_the_request_is_escaped() -> None:
    """
    A reason, a path or a Host cannot add elements to the page.
    """
    for refusal in (HttpError(401, "<b>"), HttpError(426, "<b>"), HttpError(404, "<b>")):
        text = page(refusal, path="/<b>'\udc80", headers={"accept": "text/html", "host": "<b>"})
        assert "<b>" not in text


def test_secure_pages_open_secure_websockets() -> None:
    """
    A browser refuses ws: on a page that was loaded by https.
    """
    assert "wss://a:80/nothing" in page(HttpError(426, "upgrade"), scheme="https")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"accept": "*/*"},
        {"accept": "application/json, text/html"},
        {"accept": "text/htmlx"},
        {"accept": BROWSER, "x-requested-with": "XMLHttpRequest"},
    ],
    ids=str,
)
def test_others_get_a_line_of_text(headers: dict[str, str]) -> None:
    """
    Programs, scripts of pages, and clients that prefer another type get what they got before.
    """
    found = response(HttpError(404, "not found"), headers=headers)

    assert (found.body, found.content_type, found.headers) == (b"not found\n", TEXT, ())


def test_other_statuses_are_a_line_of_text() -> None:
    """
    Refusals that no address in a browser leads to have no page, nor have bodies of an application.
    """
    for status in (400, 403, 413, 429, 500, 503):
        assert response(HttpError(status, "no")).content_type == TEXT
    refusal = HttpError(401, "no")
    refusal.body, refusal.content_type = b"{}", "application/json"
    assert response(refusal).body == b"{}"
