"""
Pages about errors, as browsers and other clients get them.
"""

from __future__ import annotations

import http.client
from contextlib import closing

from tests.real.conftest import PATIENCE, Browser, StartDaemon


def test_a_browser_gets_pages_about_errors(daemon: StartDaemon) -> None:
    """
    A browser that opens a wrong address, one for POST, a websocket or one that needs a key gets a
    page that says how to go on. Other clients get a line of text.
    """
    server = daemon("--stats-key=staple", "--http-secret=battery")
    accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path, status, text in (
        ("/nothing", 404, "href='try'"),
        ("/publish", 405, "This address accepts OPTIONS, POST"),
        ("/ws", 426, f"ws://127.0.0.1:{server.port}/ws"),
        ("/stats", 401, "Authorization: Bearer KEY"),
    ):
        found = [ask(server.port, path, headers) for headers in (accept, {"Accept": "*/*"}, {})]
        assert [each[0] for each in found] == [status] * 3
        assert found[0][1] == "text/html; charset=utf-8"
        assert text in found[0][2]
        assert "rt_twisted" in found[0][2]
        assert {each[1] for each in found[1:]} == {"text/plain; charset=utf-8"}
        assert all(each[2].count("\n") == 1 for each in found[1:])


def ask(port: int, path: str, headers: dict[str, str]) -> tuple[int, str, str]:
    """
    Return status, type and body of the response to GET *path*.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()


def test_the_page_leads_to_the_test_page(daemon: StartDaemon, browser: Browser) -> None:
    """
    In Chromium the page has its style, and the link to the test page works, in any folder.
    """
    server = daemon()
    for path in ("/nothing", "/a/b/nothing"):
        browser.open(server.url + path)
        assert browser.evaluate("document.title") == "404 Not Found"
        style = "getComputedStyle(document.body).fontFamily"
        assert browser.evaluate(style) == "sans-serif"
        assert browser.evaluate("document.querySelector('a').href") == f"{server.url}/try"
    browser.open(f"{server.url}/try")
    assert browser.evaluate("document.title") != "404 Not Found"
