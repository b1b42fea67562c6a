"""
The chain of routes: jumps, tests, and which methods a path has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions.static import StaticAction
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.routes import Routes, parse_entry
from tests.defaults import make_context, make_hub

CLOCK = Clock()
CONTEXT = make_context(make_hub(MemoryBroker(CLOCK, "e"), CLOCK))
README = (
    "^/stream.webm$ goto:stream",
    "route-run last:",
    "static-map /={page}",
    "route-label stream",
    "route-if equal:${{REQUEST_METHOD}};GET webm:uwsgi",
    "route-if equal:${{REQUEST_METHOD}};POST istream:uwsgi",
    "route-if equal:${{REQUEST_METHOD}};SOURCE istream:icecast2",
)


def routes(*lines: str) -> Routes:
    return Routes(parse_entry(line, CONTEXT) for line in lines)


@pytest.fixture
def readme(tmp_path: Path) -> Routes:
    """
    The lines of uwsgi-realtime's README, and of its sample for Icecast.
    """
    page = tmp_path / "webm.html"
    page.write_text("<video src=/stream.webm>")
    return routes(*(line.format(page=page) for line in README))


def action(found: object) -> Any:
    assert isinstance(found, tuple)
    return found[0]


def test_the_lines_of_uwsgi_realtimes_readme(readme: Routes) -> None:
    """
    One path is the stream by GET and the publisher's by POST and SOURCE; the page is the rest.
    """
    assert action(readme.find("GET", "/stream.webm")).word == "webm"
    assert action(readme.find("POST", "/stream.webm")).publish.source == "uwsgi"
    assert action(readme.find("SOURCE", "/stream.webm")).publish.source == "icecast2"
    for path in ("/", "/index.html", "/a/b", "/stream.webm2"):
        assert isinstance(action(readme.find("GET", path)), StaticAction)


def test_head_is_served_where_get_is(readme: Routes) -> None:
    """
    A test that names GET holds for HEAD, unless a line names HEAD itself.
    """
    assert action(readme.find("HEAD", "/stream.webm")).word == "webm"
    apart = routes(
        "route-if equal:${REQUEST_METHOD};HEAD stats",
        "route-if equal:${REQUEST_METHOD};GET sse:news",
    )
    assert not hasattr(action(apart.find("HEAD", "/")), "subscribe")
    assert hasattr(action(apart.find("GET", "/")), "subscribe")


def test_other_methods_get_those_that_are_served(readme: Routes) -> None:
    """
    A 405 and OPTIONS name the methods of all tests that lead to an action.
    """
    for method in ("PUT", "OPTIONS", "DELETE"):
        assert readme.find(method, "/stream.webm") == {"GET", "HEAD", "POST", "SOURCE"}
        assert readme.find(method, "/") == {"GET", "HEAD"}


def test_lines_are_read_in_order_and_jumps_skip_others() -> None:
    """
    A jump goes to the next label of its name; without a label in its way a line is reached.
    """
    chain = routes(
        "^/a goto:x",
        "POST ^/b goto:x",
        "^/ sse:first",
        "route-label x",
        "^/a/b goto:x",
        "route-run sse:second",
        "route-label x",
        "route-run sse:third",
    )

    def channel(method: str, path: str) -> str:
        source: str = action(chain.find(method, path)).subscribe[0].source
        return source

    assert channel("GET", "/") == "first"
    assert channel("GET", "/a") == "second"
    assert channel("GET", "/a/b") == "third"
    assert channel("GET", "/b") == "first"
    assert channel("POST", "/b") == "second"


def test_last_ends_the_search(tmp_path: Path) -> None:
    """
    Behind `last:` only static maps are looked at, wherever they stand, in their order.
    """
    page = tmp_path / "page.html"
    page.touch()
    chain = routes(f"static-map /a={tmp_path}", f"static-map /={page}", "^/a last:", "^/ sse:news")

    assert action(chain.find("GET", "/a")).root == str(tmp_path)
    assert hasattr(action(chain.find("GET", "/b")), "subscribe")
    assert routes("^/a last:", "^/ sse:news").find("GET", "/a") is None


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["^/ goto:nowhere"], "no route-label 'nowhere' stands behind this line"),
        (["route-label x", "^/ goto:x"], "no route-label 'x' stands behind this line"),
        (["^/ goto:"], "goto needs the name of a route-label: goto:NAME"),
        (["^/ last:x"], "last takes no argument"),
        (["route-if equal:a;b sse:$1"], "$1 needs a pattern with 1 groups, this one has 0"),
        (["static-map /=/nonexistent"], "there is no /nonexistent"),
    ],
)
def test_a_wrong_chain_is_an_error_of_one_sentence(lines: list[str], reason: str) -> None:
    """
    Jumps backward are wrong too: they could never end.
    """
    with pytest.raises(ValueError) as raised:
        routes(*lines)

    assert str(raised.value) == reason
