"""
Tests of requests to WSGI applications (PEP 3333).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.python.failure import Failure

from rt_twisted.actions.context import SharedState, WsgiLimits
from rt_twisted.actions.wsgi.action import ApplicationPools
from rt_twisted.actions.wsgi.threads import ApplicationThreads
from tests.defaults import SETTINGS
from tests.inline_threads import InlineReactor, inline_state
from tests.unit.http.clients import Answer, Place, chunked, get, post

Start = Callable[..., Any]
OK = [("Content-Type", "text/plain")]
LIMITS = WsgiLimits(threads=1, queue=1, websockets=2, timeout=60, send_seconds=60)


def pieces(environ: dict[str, Any], start: Start) -> Iterator[bytes]:
    start("200 OK", OK)
    yield b"one "
    yield b""
    yield b"two"


def writes(environ: dict[str, Any], start: Start) -> list[bytes]:
    write = start("201 Made", OK)
    write(b"written ")
    return [b"returned"]


def whole(environ: dict[str, Any], start: Start) -> list[bytes]:
    start("200 OK", OK)
    return [b"one ", b"two"]


def length(environ: dict[str, Any], start: Start) -> Iterator[bytes]:
    start("200 OK", [("Content-Length", "3")])
    yield b"abc"
    yield b"def"


def nothing(environ: dict[str, Any], start: Start) -> list[bytes]:
    return []


def raises(environ: dict[str, Any], start: Start) -> list[bytes]:
    raise KeyError("the application's own")


def leaves(environ: dict[str, Any], start: Start) -> list[bytes]:
    sys.exit(3)


def text(environ: dict[str, Any], start: Start) -> list[Any]:
    start("200 OK", OK)
    return ["text"]


def bad_header(environ: dict[str, Any], start: Start) -> list[bytes]:
    start("200 OK", [("A", "b\r\nc: d")])
    return [b"x"]


def twice(environ: dict[str, Any], start: Start) -> list[bytes]:
    start("200 OK", OK)
    start("200 OK", OK)
    return [b"x"]


def corrects(environ: dict[str, Any], start: Start) -> list[bytes]:
    start("200 OK", OK)
    try:
        raise ValueError
    except ValueError:
        start("409 Conflict", OK, sys.exc_info())
    return [b"corrected"]


def too_late(environ: dict[str, Any], start: Start) -> Iterator[bytes]:
    start("200 OK", OK)
    yield b"begun"
    try:
        raise ValueError("late")
    except ValueError:
        start("500 Error", OK, sys.exc_info())
    yield b"never"


class Closing:
    """
    A body that records that it was closed.
    """

    closed = 0

    def __init__(self, environ: dict[str, Any], start: Start) -> None:
        start("200 OK", OK)

    def __iter__(self) -> Iterator[bytes]:
        yield b"body"
        raise KeyError("in the middle")

    def close(self) -> None:
        Closing.closed += 1


def show(environ: dict[str, Any], start: Start) -> list[bytes]:
    start("200 OK", OK)
    body = environ["wsgi.input"].read()
    shown = {name: value for name, value in environ.items() if isinstance(value, str)}
    environ["wsgi.errors"].write("seen\n")
    return [repr((shown, body)).encode()]


def call(name: str, request: bytes = b"", **arguments: Any) -> Place:
    changed = {"shared": inline_state(), **arguments}
    return Place(f"^/w wsgi:{__name__}:{name}", reactor=InlineReactor(), changed=changed)


def answer(name: str, request: bytes = b"") -> Answer:
    (found,) = call(name).call(request or get(b"/w")).responses()
    return found


@pytest.mark.parametrize(
    ("name", "status", "body", "length"),
    [
        ("pieces", 200, b"one two", None),
        ("writes", 201, b"written returned", None),
        ("whole", 200, b"one two", "7"),
        ("length", 200, b"abc", "3"),
        ("corrects", 409, b"corrected", "9"),
    ],
)
def test_responses(name: str, status: int, body: bytes, length: str | None) -> None:
    """
    A body arrives complete, however the application sends it; its length is sent if it is known.
    """
    found = answer(name)

    assert (found.status, found.body) == (status, body)
    assert found.headers.get("content-length") == length


@pytest.mark.parametrize("name", ["nothing", "raises", "leaves", "text", "bad_header", "twice"])
def test_failing_applications(name: str, clean_reactor: list[Failure]) -> None:
    """
    An application that fails, or never calls start_response, gets its client a 500.
    """
    place = call(name)
    first, second = place.call(get(b"/w") + get()).responses()

    assert (first.status, second.status) == (500, 200)
    assert len(clean_reactor) == 1
    clean_reactor.clear()
    assert place.hub.metrics.wsgi_failed == 1


@pytest.mark.parametrize("name", ["too_late", "Closing"])
def test_an_application_that_fails_in_its_body(name: str, clean_reactor: list[Failure]) -> None:
    """
    A body that fails breaks the connection off; it is closed nevertheless.
    """
    before = Closing.closed
    caller = call(name).call(get(b"/w"))

    assert caller.wire.aborted
    assert b"\r\n0\r\n" not in caller.written()
    clean_reactor.clear()
    assert Closing.closed - before == (name == "Closing")


def test_the_environment() -> None:
    """
    An application gets path, query, headers and body; a body of chunks has a length.
    """
    request = get(b"/w/a%20b/c?x=%41", b"X-A: 1\r\nX-A: 2\r\nCookie: a=1\r\nX_A: 3\r\n")
    shown, body = eval(answer("show", request).body)
    assert (shown["SCRIPT_NAME"], shown["PATH_INFO"]) == ("/w", "/a b/c")
    assert (shown["QUERY_STRING"], shown["REQUEST_URI"]) == ("x=%41", "/w/a%20b/c?x=%41")
    assert (shown["HTTP_X_A"], shown["HTTP_COOKIE"]) == ("1,2", "a=1")
    assert (shown["CONTENT_LENGTH"], shown["CONTENT_TYPE"], body) == ("", "", b"")
    assert (shown["REMOTE_ADDR"], shown["REMOTE_PORT"]) == ("192.0.2.1", "5")
    assert shown["SERVER_PROTOCOL"] == "HTTP/1.1"

    header = b"Content-Type: a/b\r\n"
    shown, body = eval(answer("show", post(b"body", b"/w", header)).body)
    assert (shown["CONTENT_LENGTH"], shown["CONTENT_TYPE"], body) == ("4", "a/b", b"body")

    shown, body = eval(answer("show", chunked(b"4", b"body", b"0", b"", b"", path=b"/w")).body)
    assert (shown["CONTENT_LENGTH"], body) == ("4", b"body")
    assert "HTTP_TRANSFER_ENCODING" not in shown


def test_head_has_no_body() -> None:
    """
    A HEAD gets the head of the response, and the connection stays open.
    """
    place = call("whole")
    caller = place.call(get(b"/w").replace(b"GET", b"HEAD") + get())
    first, second = caller.responses("HEAD")

    assert (first.status, first.body, second.status) == (200, b"", 200)


class Hung(ApplicationThreads):
    """
    Threads that never run a job.
    """

    def __init__(self, places: int, queued: bool) -> None:
        super().__init__("test", 1, 1)
        self.places = places
        self.jobs: list[Any] = []
        self._is_queued = queued

    def submit(self, job: Any) -> bool:
        if len(self.jobs) == self.places:
            return False
        self.jobs.append(job)
        return True

    def withdraw(self, job: Any) -> bool:
        if self._is_queued:
            self.jobs.remove(job)
        return self._is_queued


def hung(queued: bool) -> tuple[Place, Hung]:
    threads = Hung(2, queued)
    shared = SharedState()
    shared.get(ApplicationPools, lambda: ApplicationPools(threads, threads))
    return call("whole", shared=shared, wsgi=LIMITS), threads


@pytest.mark.parametrize(("queued", "status"), [(False, 504), (True, 503)])
def test_an_application_that_hangs(queued: bool, status: int) -> None:
    """
    A client waits a limited time for the response to begin: 504 if a thread has its request, 503
    if none has. What the application does later is discarded.
    """
    place, threads = hung(queued)
    caller = place.call(get(b"/w"))
    (job,) = threads.jobs
    place.context.reactor.advance(59)
    assert caller.responses() == []
    place.context.reactor.advance(2)
    (found,) = caller.responses()
    job()

    assert found.status == status
    assert place.hub.metrics.wsgi_timeouts == 1
    assert caller.responses() == [found]


def test_more_requests_than_may_wait() -> None:
    """
    A request that finds no place gets a 503 with Retry-After at once.
    """
    place, _ = hung(True)
    first, second, third = [place.call(get(b"/w")) for _ in range(3)]

    assert first.responses() == second.responses() == []
    (found,) = third.responses()
    assert (found.status, found.headers["retry-after"]) == (503, "2")
    assert place.hub.metrics.wsgi_refused == 1


def test_a_client_that_leaves_the_queue() -> None:
    """
    The request of a client that has disconnected is not run any more.
    """
    place, threads = hung(True)
    caller = place.call(get(b"/w"))
    caller.hang_up()

    assert threads.jobs == []


def test_the_default_limits() -> None:
    """
    The limits are those of the settings.
    """
    assert (SETTINGS["wsgi-threads"], SETTINGS["wsgi-queue"], SETTINGS["wsgi-timeout"]) == (
        10, 100, 60,
    )  # fmt: skip
