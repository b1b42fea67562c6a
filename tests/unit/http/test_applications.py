"""
Tests of static files, WSGI applications and resources of twisted.web.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.web.server import Site

from rt_twisted.actions.context import WsgiLimits
from rt_twisted.actions.wsgi.action import pools_of
from tests.unit.http.clients import (
    Listen,
    Place,
    chunked,
    get,
    post,
    read_answers,
    status_of,
    turns,
)
from tests.words import PendingResource


async def test_a_large_file(listen: Listen, tmp_path: Path) -> None:
    """
    A large file arrives complete, ranges and HEAD work, and the connection stays open after it.
    """
    data = bytes(range(256)) * 20_000
    tmp_path.joinpath("big").write_bytes(data)
    peer = await listen(Place(f"^/s/ static:{tmp_path}"))()
    peer.send(get(b"/s/big") + get(b"/s/big", b"Range: bytes=5-9\r\n") + get(b"/s/none") + get())
    await peer.until(lambda: peer.received.endswith(b'"text": ""}'))

    answers = read_answers(peer.received)
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
    peer.send(get(b"/") + get(b"/app/") + get(b"/app/a/b") + get())
    await peer.until(lambda: peer.received.endswith(b'"text": ""}'))

    answers = read_answers(peer.received)
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
    peer.send(b"".join(map(get, paths)))
    await peer.answers(len(paths))

    answers = read_answers(peer.received)
    assert [answer.status for answer in answers][:2] == [200, 404]
    assert answers[0].body == b"index"
    assert all(answer.status in (400, 404) for answer in answers[1:])
    assert b"secret" not in peer.received


async def test_an_escaped_slash_in_a_mount_point(listen: Listen, tmp_path: Path) -> None:
    """
    An escaped slash does not break resources that are mounted behind it.
    """
    tmp_path.joinpath("f").write_text("file")
    peer = await listen(Place(f"^/a/b/ static:{tmp_path}"))()
    peer.send(get(b"/a/b/f") + get(b"/a%2Fb%2Ff") + get(b"/a%2Fb/f"))
    await peer.answers(3)

    first, *others = [answer.status for answer in read_answers(peer.received)]
    assert first == 200
    assert 500 not in others


async def test_wsgi(listen: Listen) -> None:
    """
    WSGI applications run on threads, and get their mount point and the body.
    """
    from twisted.internet import reactor

    peer = await listen(Place("^/w/ wsgi:tests.words:application", reactor=reactor))()
    peer.send(post(b"body", b"/w/x/y") + get())
    await peer.answers(2)

    first, second = read_answers(peer.received)
    assert first.body == b"/w /x/y body"
    assert second.status == 200


hang = Event()


def hangs(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    """
    Respond when the test says so.
    """
    assert hang.wait(30)
    start("200 OK", [])
    return []


async def test_hung_applications_do_not_take_the_reactor(listen: Listen) -> None:
    """
    An application that hangs takes one of its own threads; other requests are answered, and a
    request that waits for the thread gets it then.
    """
    from twisted.internet import reactor

    hang.clear()
    changed = {"wsgi": WsgiLimits(threads=1, queue=1, websockets=2, timeout=60, send_seconds=60)}
    lines = (f"^/hang wsgi:{__name__}:hangs", "^/w wsgi:tests.words:application")
    place = Place(*lines, reactor=reactor, changed=changed)
    connect = listen(place)
    stuck, waiting, refused, other = [await connect() for _ in range(4)]
    stuck.send(get(b"/hang"))
    pools = pools_of(place.context)
    while not pools.busy:
        await turns(1)
    waiting.send(get(b"/w"))
    while not pools.queued:
        await turns(1)
    other.send(get())
    await other.answers(1)
    refused.send(get(b"/w"))
    await refused.answers(1)
    assert read_answers(waiting.received) == []
    hang.set()
    await waiting.answers(1)
    await stuck.answers(1)

    assert [read_answers(one.received)[0].status for one in (stuck, waiting, refused, other)] == [
        200, 200, 503, 200,
    ]  # fmt: skip


async def test_forms_reach_a_resource(listen: Listen) -> None:
    """
    Resources get both kinds of forms; a malformed one gets 400.
    """
    peer = await listen(Place("^/f resource:tests.words.Form"))()
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    parts = b"Content-Type: multipart/form-data; boundary=%s\r\n"
    body = b'--c\r\nContent-Disposition: form-data; name="name"\r\n\r\nann\r\n--c--\r\n'
    peer.send(post(b"name=a+b&x=1", b"/f", form) + post(body, b"/f", parts % b"c"))
    await peer.answers(2)
    peer.send(post(b"--c\r\nnonsense", b"/f", b"Content-Type: multipart/form-data\r\n"))
    await peer.answers(3)

    assert [a.body for a in read_answers(peer.received)[:2]] == [b"a b", b"ann"]
    assert read_answers(peer.received)[2].status == 400


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
    desk = PendingResource()
    place = Place(site=Site(desk))
    caller = place.call(get(b"/desk/a?x=1", b"X: y\r\n") + get())
    (request,) = desk.requests
    assert (request.uri, request.getHeader(b"x")) == (b"/desk/a?x=1", b"y")
    request.write(b"late")
    request.finish()
    gone = place.call(get(b"/desk"))
    gone.hang_up()

    answers = caller.responses()
    assert [answer.body for answer in answers[:1]] == [b"late"]
    assert answers[1].status == 200
    assert desk.ends[0] is None
    assert desk.ends[1].check(ConnectionLost)


def test_a_resource_for_old_clients() -> None:
    """
    HTTP/1.0 gets no chunks: the response ends with the connection.
    """
    desk = PendingResource()
    caller = Place(site=Site(desk)).call(get(b"/desk", version=b"1.0"))
    desk.requests[0].write(b"late")
    desk.requests[0].finish()

    (answer,) = caller.responses()
    assert answer.body == b"late"
    assert "transfer-encoding" not in answer.headers
    assert not caller.open
