"""
Static files: which are served, which are not, and in what parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.ranges import MAX_RANGES, byteranges, content_range, parse_ranges
from rt_twisted.http.file_body import READ_SIZE, FileBody
from rt_twisted.routes import parse_route
from tests.defaults import make_http_limits
from tests.unit.http.clients import Answer, Caller, Place, get
from tests.unit.http.h2_client import Client
from tests.unit.test_routes import CONTEXT

SECRET = "secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    Return a folder with files of every kind, and files outside of it.
    """
    public = tmp_path / "public"
    for below in ("", ".git", "sub", "sub/.deep"):
        (public / below).mkdir()
    for name in (".env", ".git/config", "sub/.deep/a", "sub/.hidden", "a\\..\\.env", "..%2f.env"):
        (public / name).write_text(SECRET)
    (tmp_path / "out").write_text(SECRET)
    (public / "a.txt").write_text("open")
    (public / "sub/index.html").write_text("index")
    return public


def ask(place: Place, path: str, headers: bytes = b"", method: bytes = b"GET") -> Answer:
    """
    Return the response to one request, whose file is read to its end.
    """
    caller = place.call(get(path.encode("latin-1"), headers).replace(b"GET", method))
    pump(caller)
    (answer,) = caller.responses(method.decode())
    return answer


def pump(caller: Caller) -> None:
    """
    Return all bytes that a file's producer sends.
    """
    for _ in range(1000):
        if caller.wire.producer is None:
            return
        caller.wire.producer.resumeProducing()


@pytest.mark.parametrize(
    "path",
    [
        "/f/.env",
        "/f/%2eenv",
        "/f/x%2f..%2f.env",
        "/f/x%2F..%2F.git/config",
        "/f/.git%2fconfig",
        "/f/sub/../.env",
        "/f/sub/%2e%2e/.env",
        "/f/sub%2f%2e%2e%2f.env",
        "/f/sub/.deep/a",
        "/f/sub/.hidden",
        "/f/sub%2f.hidden",
        "/f/a%5c..%5c.env",
        "/f/a\\..\\.env",
        "/f/..%2f..%2fout",
        "/f/../out",
        "/f/..",
        "/f/.",
        "/f/%2e%2e%2fout",
        "/f/%252e%252e%252fout",
        "/f/..%252f.env",
        "/f/%2e%2e%252f.env",
        "/f//a.txt",
        "/f/%2fa.txt",
        "/f/a.txt/",
        "/f/a.txt/b",
        "/f/a.txt%00.html",
        "/f/.env%00",
        "/f/%c0%aeenv",
        "/f/%ff",
        "/f/" + "x" * 300,
        "/f/" + "x/" * 90,
        "/f%2f.env",
        "/f%2fsub%2f.hidden",
        "/f/",
        "/f/none",
    ],
)
def test_nothing_hidden_or_outside_is_served(folder: Path, path: str) -> None:
    """
    Hidden names and names outside are 404, in any segment and encoding, and no error is
    logged.
    """
    answer = ask(Place(f"^/f/ static:{folder}", limits=make_http_limits()), path)

    assert answer.status in (400, 404)
    assert SECRET not in answer.body.decode()


@pytest.mark.parametrize("path", ["/f/a.txt", "/f/%61%2Etxt", "/f%2fa.txt"])
def test_a_file_is_found_by_its_decoded_name(folder: Path, path: str) -> None:
    """
    The route's pattern and the folder see the same decoded name.
    """
    answer = ask(Place(f"^/f/ static:{folder}"), path)

    assert (answer.status, answer.body) == (200, b"open")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["server"] == "rt_twisted"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_an_index_is_served_for_its_folder(folder: Path) -> None:
    """
    The index is served for the path with a slash; the path without it is redirected.
    """
    place = Place(f"^.*/f/ static:{folder}")
    assert ask(place, "/f/sub/").body == b"index"
    assert ask(place, '/f/sub?a=%22&b="').headers["location"] == "/f/sub/?a=%22&b=%22"
    assert ask(place, "//evil.example/f/sub").headers["location"] == "/evil.example/f/sub/"


@pytest.mark.parametrize(
    ("link", "target", "found"),
    [
        ("inside", "a.txt", True),
        ("folder", "sub", True),
        ("absolute", "{folder}/a.txt", True),
        ("up", "../out", False),
        ("root", "/", False),
        ("shown", ".env", False),
        ("shown2", "sub/.deep", False),
        ("self", ".", False),
        ("loop", "loop", False),
        ("dangling", "nothing", False),
    ],
)
def test_links_stay_in_the_folder(folder: Path, link: str, target: str, found: bool) -> None:
    """
    A link is followed to files that could be requested by their own name, and to no others.
    """
    (folder / link).symlink_to(target.format(folder=folder))
    place = Place(f"^/f/ static:{folder}")

    paths = [f"/f/{link}", f"/f/{link}/", f"/f/{link}/index.html", f"/f/{link}/a", f"/f/{link}/out"]
    answers = [ask(place, path) for path in paths]

    assert any(answer.status == 200 for answer in answers) is found
    assert not any(SECRET in answer.body.decode() for answer in answers)


def test_links_may_be_allowed(folder: Path) -> None:
    """
    `links=yes` follows links to any target; hidden names stay hidden.
    """
    (folder / "up").symlink_to("../out")
    (folder / "data").symlink_to(".git")
    place = Place(f"^/f/ static:path={folder},links=yes")

    assert ask(place, "/f/up").body == SECRET.encode()
    assert ask(place, "/f/data/config").status == 200
    assert ask(place, "/f/.env").status == 404
    assert ask(place, "/f/sub/../.env").status == 404


def test_a_route_may_name_a_link_or_something_hidden(folder: Path, tmp_path: Path) -> None:
    """
    The configured path may be a link that is swapped, or hidden such as `.well-known`.
    """
    (tmp_path / "current").symlink_to("public")
    place = Place(f"^/f/ static:{tmp_path}/current", f"^/g/ static:{folder}/.git")

    assert ask(place, "/f/a.txt").status == 200
    assert ask(place, "/g/config").status == 200


def test_special_files_are_not_opened(folder: Path) -> None:
    """
    A FIFO would block the daemon; unreadable files are rejected.
    """
    os.mkfifo(folder / "fifo")
    (folder / "unreadable").write_text(SECRET)
    (folder / "unreadable").chmod(0)
    place = Place(f"^/f/ static:{folder}")

    assert ask(place, "/f/fifo").status == 404
    if os.geteuid():
        assert ask(place, "/f/unreadable").status == 403


@pytest.mark.parametrize(
    ("name", "kind", "coding"),
    [
        ("a", "application/octet-stream", None),
        ("a.unknown", "application/octet-stream", None),
        ("a.HTML", "text/html", None),
        ("a.tar.gz", "application/x-tar", "gzip"),
        ("a.txt.xz", "application/x-xz", None),
        ("a.woff2", "font/woff2", None),
        ("data:text.html,x", "application/octet-stream", None),
    ],
)
def test_the_name_decides_the_content_type(
    folder: Path, name: str, kind: str, coding: str | None
) -> None:
    """
    Unknown files are not served as HTML.
    """
    (folder / name).write_text("x")
    answer = ask(Place(f"^/f/ static:{folder}"), f"/f/{name}")

    assert answer.headers["content-type"] == kind
    assert answer.headers.get("content-encoding") == coding


def test_an_unchanged_file_is_not_sent_again(folder: Path) -> None:
    """
    An unchanged file gets 304; malformed dates are ignored.
    """
    place = Place(f"^/f/ static:{folder}")
    date = ask(place, "/f/a.txt").headers["last-modified"].encode()
    old = b"Thu, 01 Jan 1970 00:00:00 GMT"

    assert ask(place, "/f/a.txt", b"If-Modified-Since: %s\r\n" % date).status == 304
    for other in (old, b"\x85", b"x", b"", b"Thu, 99 Jan 99999 99:99:99 GMT", b"1" * 900):
        assert ask(place, "/f/a.txt", b"If-Modified-Since: %s\r\n" % other).status == 200
    part = b"Range: bytes=1-2\r\nIf-Range: %s\r\n"
    assert ask(place, "/f/a.txt", part % date).body == b"pe"
    assert ask(place, "/f/a.txt", part % old).body == b"open"


def test_head_has_the_length(folder: Path) -> None:
    """
    HEAD ignores ranges: they are defined for GET alone (RFC 9110, 14.2).
    """
    answer = ask(Place(f"^/f/ static:{folder}"), "/f/a.txt", b"Range: bytes=0-0\r\n", b"HEAD")

    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "4", b"")


@pytest.mark.parametrize(
    ("text", "status", "body"),
    [
        ("bytes=0-0", 206, b"o"),
        ("bytes=-1", 206, b"n"),
        ("bytes=2-99999999999999999", 206, b"en"),
        ("bytes=99-", 416, b"no such range\n"),
        ("bytes=-0", 416, b"no such range\n"),
        ("bytes=1-,99-", 206, b"pen"),
        ("bytes=0-0,1-1", 200, b"open"),  # four parts of a small file are larger than it
        ("bytes=3-1", 200, b"open"),
        ("bytes=-", 200, b"open"),
        ("bytes=", 200, b"open"),
        ("lines=0-1", 200, b"open"),
        ("bytes=\xff", 200, b"open"),
        ("bytes=0-" + "9" * 900, 200, b"open"),
    ],
)
def test_ranges(folder: Path, text: str, status: int, body: bytes) -> None:
    """
    One range is answered with 206; malformed ranges are ignored.
    """
    header = f"Range: {text}\r\n".encode("latin-1")
    answer = ask(Place(f"^/f/ static:{folder}"), "/f/a.txt", header)

    assert (answer.status, answer.body) == (status, body)
    if status == 416:
        assert answer.headers["content-range"] == "bytes */4"


def test_several_ranges(folder: Path) -> None:
    """
    Several ranges are sent as parts, in the order of the request.
    """
    data = bytes(range(256)) * 20
    (folder / "big").write_bytes(data)
    answer = ask(Place(f"^/f/ static:{folder}"), "/f/big", b"Range: bytes=256-511,0-9\r\n")

    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert (answer.status, kind) == (206, "multipart/byteranges")
    first, second, third, last = answer.body.split(b"--" + boundary.encode())
    assert (first, last) == (b"", b"--\r\n")
    assert second.endswith(b"\r\n\r\n" + bytes(range(256)) + b"\r\n")
    assert b"Content-Range: bytes 0-9/5120\r\n" in third


@pytest.mark.parametrize("text", ["0-," * 300, "0-0,2-2," * 40, "0-10,10-20", "-1,-1", "0-,1-"])
def test_no_range_costs_more_than_the_file(folder: Path, text: str) -> None:
    """
    Many or overlapping ranges are answered with the whole file.
    """
    data = b"x" * 5000
    (folder / "big").write_bytes(data)
    place = Place(f"^/f/ static:{folder}", limits=make_http_limits())
    answer = ask(place, "/f/big", b"Range: bytes=%s\r\n" % text.encode())

    assert (answer.status, answer.body) == (200, data)


@given(st.text("0123456789-, ", max_size=80), st.integers(0, 50))
def test_ranges_are_within_the_file(text: str, size: int) -> None:
    """
    Parsed ranges are never empty, never overlap, and are few, whatever is requested.
    """
    found = parse_ranges(f"bytes={text}", size) or []

    assert len(found) <= MAX_RANGES
    assert sum(map(len, found)) <= size
    assert all(0 <= each.start < each.stop <= size for each in found)


@given(st.text())
def test_no_range_header_raises(text: str) -> None:
    """
    Any text of a range header is parsed without an exception.
    """
    parse_ranges(text, 10)


def test_parts_have_their_ranges() -> None:
    """
    Each part has its Content-Range (RFC 9110, 14.6).
    """
    parts = byteranges([range(1, 3), range(7, 8)], 9, "a/b", "B")

    assert parts == [
        b"--B\r\nContent-Type: a/b\r\nContent-Range: bytes 1-2/9\r\n\r\n",
        range(1, 3),
        b"\r\n--B\r\nContent-Type: a/b\r\nContent-Range: bytes 7-7/9\r\n\r\n",
        range(7, 8),
        b"\r\n--B--\r\n",
    ]
    assert content_range(None, 9) == "bytes */9"


@pytest.mark.parametrize("change", [lambda p: p.write_bytes(b"x"), lambda p: p.write_bytes(b"")])
def test_a_file_that_shrinks_aborts_the_response(
    folder: Path, change: Callable[[Path], object]
) -> None:
    """
    The response cannot be completed; no byte of the next response fills the gap.
    """
    (folder / "big").write_bytes(b"x" * 3 * READ_SIZE)
    caller = Place(f"^/f/ static:{folder}").call(get(b"/f/big") + get())
    change(folder / "big")
    pump(caller)

    assert caller.wire.aborted
    assert caller.responses() == []


def test_a_file_that_grows_is_sent_as_it_was(folder: Path) -> None:
    """
    The length was sent in the headers; the next response follows it.
    """
    (folder / "log").write_bytes(b"x" * 2 * READ_SIZE)
    caller = Place(f"^/f/ static:{folder}").call(get(b"/f/log") + get())
    (folder / "log").write_bytes(b"y" * 5 * READ_SIZE)
    pump(caller)

    first, second = caller.responses()
    assert len(first.body) == 2 * READ_SIZE
    assert second.status == 200


def test_a_disconnect_closes_the_file(folder: Path) -> None:
    """
    The file is closed at once, not by the garbage collector.
    """
    (folder / "big").write_bytes(b"x" * 3 * READ_SIZE)
    before = os.listdir("/proc/self/fd")
    caller = Place(f"^/f/ static:{folder}").call(get(b"/f/big"))
    during = os.listdir("/proc/self/fd")
    caller.hang_up()

    assert len(during) == len(before) + 1
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_files_by_http2(folder: Path) -> None:
    """
    HTTP/2 sends the same responses on a stream.
    """
    data = bytes(range(256)) * 200
    (folder / "big").write_bytes(data)
    client = Client(Place(f"^/f/ static:{folder}"))
    whole = client.ask("/f/big")
    part = client.ask("/f/big", None, "GET", ("range", "bytes=5-9"))
    head = client.ask("/f/big", None, "HEAD")
    none = client.ask("/f/x%2f..%2f.env")
    client.turn(9)

    assert whole.body == data and whole.ended
    assert (part.status, part.body) == (206, data[5:10])
    assert head.headers["content-length"] == str(len(data))
    assert head.ended and not head.body
    assert none.status == 404


def test_a_producer_stops_only_once(tmp_path: Path) -> None:
    """
    A finished producer may be resumed or stopped again.
    """
    written: list[bytes] = []
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    ends: list[str] = []
    body = FileBody(
        path.open("rb", buffering=0),
        [b"<", range(1, 3), b">"],
        written.append,
        lambda: ends.append("done"),
        lambda: ends.append("broken"),
    )
    for _ in range(4):
        body.resumeProducing()
    body.stopProducing()

    assert b"".join(written) == b"<bc>"
    assert ends == ["done"]


def test_a_missing_folder_is_an_error() -> None:
    """
    A folder that does not exist is an error at start.
    """
    with pytest.raises(ValueError, match="there is no /no/such"):
        parse_route("^/f/ static:path=/no/such,links=yes", CONTEXT)
