"""
Tests of responses of WSGI applications that hand their connection over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.python.failure import Failure

from rt_twisted.actions.handover import HandedResponse
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Position
from tests.inline_threads import InlineReactor, inline_state
from tests.unit.http.clients import Place, get

TEXT = """
import uwsgi

closed = []

def variable(environ, start_response):
    uwsgi.add_var("TAKE", b"news")
    return [b"first"]

def other(environ, start_response):
    uwsgi.add_var("OTHER", "x")
    return []

def header(environ, start_response):
    start_response("201 Made", [("X-Take", "news"), ("X-Other", "y"), ("Content-Length", "4")])
    return [b"body"]

def short(environ, start_response):
    start_response("200 OK", [("X-Take", "news"), ("Content-Length", "9")])
    return [b"body"]

def failing(environ, start_response):
    start_response("200 OK", [("X-Take", "news")])
    yield b"body"
    raise KeyError("balance")

def plain(environ, start_response):
    start_response("200 OK", [("X-Hidden", "secret"), ("X-Other", "y")])
    return [b"body"]

class endless:
    def __init__(self, environ, start_response):
        start_response("200 OK", [("X-Take", "news")])

    def __iter__(self):
        while True:
            yield b"x" * 1000

    def close(self):
        closed.append(1)

"""


class Taking:
    """
    Takes what names a channel by a variable or a header, and answers with it.
    """

    hidden = (b"x-hidden",)

    def __init__(self) -> None:
        self.offered: list[HandedResponse] = []

    def use(self, routes: Any, context: Any) -> None:
        pass

    def position(self) -> Position:
        return Position("e", 7)

    def offer(self, response: HandedResponse) -> Any:
        self.offered.append(response)
        name = response.match.variables.get("TAKE") or dict(response.headers).get("x-take")
        if name is None:
            return False
        response.read(5000, 1.0).addCallback(
            lambda body: response.exchange.answer(
                200, b"%s: %s %d" % (name.encode(), body.data[:20], body.complete)
            )
        )
        return True


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "handing.py"
    path.write_text(TEXT)
    return path


def call(path: Path, name: str) -> tuple[Place, Taking]:
    taking = Taking()
    changed = {"shared": inline_state(), "handover": taking}
    return Place(f"^/w wsgi:{path}:{name}", reactor=InlineReactor(), changed=changed), taking


@pytest.mark.parametrize(
    ("name", "body", "status", "headers"),
    [
        ("variable", b"news: first 1", 200, []),
        (
            "header",
            b"news: body 1",
            201,
            [("x-take", "news"), ("x-other", "y"), ("content-length", "4")],
        ),
        ("short", b"news: body 0", 200, [("x-take", "news"), ("content-length", "9")]),
        ("endless", b"news: %s 0" % (b"x" * 20), 200, [("x-take", "news")]),
    ],
)
def test_a_response_is_handed_over(
    text: Path, name: str, body: bytes, status: int, headers: list[tuple[str, str]]
) -> None:
    """
    What takes the connection over gets the head, or the variables of an application that sends no
    head, and the beginning of the body; the application is ended.
    """
    place, taking = call(text, name)
    first, second = place.call(get(b"/w") + get()).responses()
    (offered,) = taking.offered

    assert (first.status, first.body, second.status) == (200, body, 200)
    assert (offered.status, list(offered.headers)) == (status, headers)
    assert offered.position == Position("e", 7)
    assert place.hub.metrics.wsgi_failed == 0


def test_an_application_that_fails_in_its_body(text: Path, clean_reactor: list[Failure]) -> None:
    """
    What takes the connection over is notified that the body is not complete.
    """
    place, _ = call(text, "failing")
    (found,) = place.call(get(b"/w")).responses()
    clean_reactor.clear()

    assert found.body == b"news: body 0"
    assert place.hub.metrics.wsgi_failed == 1


class Refusing(Taking):
    """
    Answers each request, and does not read the response.
    """

    def offer(self, response: HandedResponse) -> Any:
        response.exchange.refuse(HttpError(400, "no"))
        return True


def test_a_response_that_is_not_read_keeps_no_thread(text: Path) -> None:
    """
    The application is ended when its response was taken and not read.
    """
    changed = {"shared": inline_state(), "handover": Refusing()}
    place = Place(f"^/w wsgi:{text}:endless", reactor=InlineReactor(), changed=changed)
    first, second = place.call(get(b"/w") + get()).responses()

    assert (first.status, second.status) == (400, 200)


def test_variables_are_the_applications(text: Path) -> None:
    """
    A variable of `uwsgi.add_var` counts as the application's own: it may name a channel.
    """
    place, taking = call(text, "variable")
    place.call(get(b"/w"))

    assert dict(taking.offered[0].match.variables) == {"TAKE": "news"}
    assert "TAKE" in taking.offered[0].match.granted


def test_a_response_that_is_not_handed_over(text: Path) -> None:
    """
    A response that is declined is sent without the headers for the daemon.
    """
    place, _ = call(text, "plain")
    (found,) = place.call(get(b"/w")).responses()

    assert (found.status, found.body, found.headers["x-other"]) == (200, b"body", "y")
    assert "x-hidden" not in found.headers


def test_neither_a_head_nor_a_line(text: Path, clean_reactor: list[Failure]) -> None:
    """
    An application that sends no head is a 500, if no line takes the connection over.
    """
    place, _ = call(text, "other")
    (found,) = place.call(get(b"/w")).responses()

    assert found.status == 500
    assert place.hub.metrics.wsgi_failed == 1
