"""
The action `upload` on a server, without sockets and threads.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from rt_twisted.actions.upload.disk_threads import DiskThreads
from rt_twisted.actions.upload.disk_writer import MAX_WAITING
from rt_twisted.routes import parse_route
from tests.unit.http.clients import LIMITS, Answer, Caller, Place, get

TUS = b"Tus-Resumable: 1.0.0\r\n"
ID = b"/upload/" + b"0" * 32
BODY = b"Content-Type: application/offset+octet-stream\r\n"


class InlineThreads:
    """
    Calls functions at once; or later, if the test says so.
    """

    def __init__(self) -> None:
        self.hold = False
        self._held: list[Callable[[], object]] = []

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        if not self.hold:
            return maybeDeferred(function, *args, **kwargs)
        done: Deferred[Any] = Deferred()
        self._held.append(lambda: maybeDeferred(function, *args, **kwargs).chainDeferred(done))
        return done

    def step(self) -> int:
        """
        Call what waits, and return how many functions that were.
        """
        held, self._held = self._held, []
        for call in held:
            call()
        return len(held)


class Uploads:
    """
    A server with a route for uploads, and one for their events.
    """

    def __init__(self, folder: Path, arguments: str = "", pattern: str = "^/upload") -> None:
        self.folder = folder
        # Keys of the daemon are not set: requests of this machine are accepted.
        lines = (f"{pattern} upload:to={folder}{arguments}", "^/events$ sse:files")
        self.place = Place(*lines, limits=LIMITS)
        self.threads = InlineThreads()
        self.place.context.shared.get(DiskThreads, lambda: self.threads)  # type: ignore[return-value, arg-type]
        self.place.hub.start()
        self.events = self.send(get(b"/events"))

    def send(self, *pieces: bytes, address: str = "127.0.0.1") -> Caller:
        return Caller(self.place.server, address).send(*pieces)

    def answer(self, *pieces: bytes) -> Answer:
        """
        Return the response to one request.
        """
        method = pieces[0].split(b" ")[0].decode()
        [answer] = self.send(*pieces).responses(method)
        return answer

    def published(self) -> list[tuple[str, dict[str, Any]]]:
        """
        Return the events so far.
        """
        for _ in range(4):
            self.place.clock.advance(0)
        blocks = self.events.written().decode().split("event: ")[1:]
        found = []
        for block in blocks:
            event, data = block.split("\n")[:2]
            found.append((event, json.loads(data.removeprefix("data: "))))
        return found

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path, ",channel=files")


def request(
    method: bytes, headers: bytes = b"", body: bytes | None = None, path: bytes = b"/upload"
) -> bytes:
    if body is not None:
        headers += b"Content-Length: %d\r\n" % len(body)
    head = b"%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (method, path, headers)
    return head + (body or b"")


def create(length: int = 10, more: bytes = b"", body: bytes = b"") -> bytes:
    name = b64encode(b"a.txt")
    headers = TUS + b"Upload-Length: %d\r\nUpload-Metadata: filename %s\r\n" % (length, name)
    return request(b"POST", headers + more, body)


def patch(path: bytes, offset: int, body: bytes, more: bytes = b"") -> bytes:
    return request(b"PATCH", TUS + BODY + b"Upload-Offset: %d\r\n" % offset + more, body, path)


def head(path: bytes) -> bytes:
    return request(b"HEAD", TUS, path=path)


def created(uploads: Uploads, length: int = 10) -> bytes:
    """
    Create an upload, and return its path.
    """
    answer = uploads.answer(create(length))
    assert answer.status == 201
    return b"/" + answer.headers["location"].encode()


def test_the_page_of_uwsgi_realtime_works(uploads: Uploads) -> None:
    """
    The page sends a body with two headers, and gets OK.
    """
    headers = b"Content-Type: application/octet-stream\r\nX-File-Name: a b.txt\r\n"
    answer = uploads.answer(request(b"POST", headers + b"X-File-Type: text/x-y\r\n", b"hello"))

    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert uploads.names() == ["a b.txt"]
    assert (uploads.folder / "a b.txt").read_bytes() == b"hello"
    event, about = uploads.published()[-1]
    assert event == "uploaded"
    assert len(about.pop("id")) == 32
    assert about == {
        "name": "a b.txt",
        "size": 5,
        "type": "text/x-y",
        "sha256": hashlib.sha256(b"hello").hexdigest(),
    }


def test_a_program_gets_json(uploads: Uploads) -> None:
    """
    Name, size, type and SHA-256, also for a body in chunks whose name is in the path.
    """
    head = request(
        b"PUT",
        b"Accept: application/json\r\nTransfer-Encoding: chunked\r\n",
        None,
        b"/upload/x.png",
    )
    answer = uploads.answer(head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")

    assert answer.json["name"] == "x.png"
    assert answer.json["size"] == 5
    assert answer.json["type"] == "image/png"
    assert (uploads.folder / "x.png").read_bytes() == b"abcde"


def test_a_name_in_use_is_not_replaced(uploads: Uploads) -> None:
    """
    The response names the file.
    """
    for expected in ("x.txt", "x-2.txt"):
        headers = b"X-File-Name: ../x.txt\r\nAccept: application/json\r\n"
        assert uploads.answer(request(b"POST", headers, b"1")).json["name"] == expected


def test_a_form_is_stored(uploads: Uploads) -> None:
    """
    Each file gets its name and its event.
    """
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\n%s\r\n' % pair
        for pair in ((b"a.txt", b"1"), (b"b.txt", b"22"))
    )
    kind = b"Content-Type: multipart/form-data; boundary=x\r\n"
    answer = uploads.answer(
        request(b"POST", kind + b"Accept: application/json\r\n", body + b"--x--\r\n")
    )

    assert [file["size"] for file in answer.json["files"]] == [1, 2]
    assert uploads.names() == ["a.txt", "b.txt"]
    assert [about["name"] for event, about in uploads.published() if event == "uploaded"] == [
        "a.txt",
        "b.txt",
    ]

    for wrong in (body, b"--x--\r\n", b"what"):
        assert uploads.answer(request(b"POST", kind, wrong)).status == 400
    assert uploads.names() == ["a.txt", "b.txt"]


def test_a_form_with_many_files_holds_one_open(uploads: Uploads) -> None:
    """
    The others are closed, and removed if the form is not complete.
    """
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n1\r\n'
    kind = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9999\r\n"
    caller = uploads.send(request(b"POST", kind), part * 30)
    uploads.place.clock.advance(0.5)
    assert len(uploads.names()) == 30
    files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert len([path for path in files if path.startswith(f"{uploads.folder}/")]) == 1

    caller.hang_up()
    assert uploads.names() == []


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_that_is_too_large_is_refused(tmp_path: Path, declared: bool) -> None:
    """
    Before it is sent, if the client says how large it is; nothing is left of it.
    """
    uploads = Uploads(tmp_path, ",max=9")
    if declared:
        pieces = [request(b"PUT", b"Content-Length: 10\r\n")]
    else:
        pieces = [request(b"PUT", b"Transfer-Encoding: chunked\r\n"), b"a\r\n0123456789\r\n"]

    assert uploads.answer(*pieces).status == 413
    assert uploads.answer(create(10)).status == 413
    assert uploads.names() == []


def test_types_are_limited(tmp_path: Path) -> None:
    """
    By what the client says, or else by the name.
    """
    uploads = Uploads(tmp_path, ",types=image/*,types=text/plain")

    def status(headers: bytes) -> int:
        return uploads.answer(request(b"PUT", headers, b"x")).status

    assert status(b"X-File-Name: a.png\r\n") == 200
    assert status(b"Content-Type: TEXT/plain; charset=utf-8\r\n") == 200
    assert status(b"Content-Type: text/html\r\nX-File-Name: a.png\r\n") == 415
    assert status(b"X-File-Name: a.exe\r\n") == 415
    assert status(b"X-File-Type: image/png\r\nContent-Type: text/html\r\n") == 200
    form = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n'
        b"Content-Type: text/html\r\n\r\nx\r\n--x--\r\n"
    )
    kind = b"Content-Type: multipart/form-data; boundary=x\r\n"
    assert uploads.answer(request(b"POST", kind, form)).status == 415


def test_one_file_is_replaced(tmp_path: Path) -> None:
    """
    The route line of uwsgi-realtime, with a file.
    """
    uploads = Uploads(tmp_path / "logo.png")
    for data in (b"1", b"2"):
        assert uploads.answer(request(b"POST", b"X-File-Name: x\r\n", data)).status == 200

    assert [path.name for path in tmp_path.iterdir()] == ["logo.png"]
    assert (tmp_path / "logo.png").read_bytes() == b"2"


def test_a_body_that_is_cut_off_leaves_nothing(uploads: Uploads) -> None:
    """
    A file is complete or does not exist.
    """
    caller = uploads.send(request(b"PUT", b"Content-Length: 10\r\n") + b"01234")
    uploads.place.wait(1)
    assert len(uploads.names()) == 1  # hidden
    caller.hang_up()

    assert uploads.names() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [(b"", 411), (b"Content-Encoding: gzip\r\nContent-Length: 0\r\n", 415)],
)
def test_a_body_is_needed(uploads: Uploads, headers: bytes, status: int) -> None:
    """
    A body of length 0 is an empty file; one that is packed is not unpacked.
    """
    assert uploads.answer(request(b"PUT", headers)).status == status
    assert uploads.answer(request(b"PUT", b"", b"")).status == 200


def test_uploads_need_a_key(uploads: Uploads) -> None:
    """
    Without any set, only this machine may upload.
    """
    caller = uploads.send(request(b"PUT", b"", b"x"), address="192.0.2.9")

    assert caller.responses()[0].status == 403
    assert uploads.names() == []


def test_nothing_is_served(uploads: Uploads) -> None:
    """
    An upload cannot be fetched.
    """
    uploads.answer(request(b"PUT", b"", b"x", b"/upload/a.txt"))

    assert uploads.answer(request(b"GET", path=b"/upload/a.txt")).status == 405


def test_tus_uploads_in_parts(uploads: Uploads) -> None:
    """
    The client asks how much is stored, and goes on there; the file appears with the last byte.
    """
    path = created(uploads)
    first = uploads.answer(patch(path, 0, b"01234"))
    assert (first.status, first.headers["upload-offset"]) == (204, "5")
    asked = uploads.answer(head(path))
    assert asked.status == 200
    assert asked.headers["upload-offset"] == "5"
    assert asked.headers["upload-length"] == "10"
    assert asked.headers["upload-metadata"] == "filename YS50eHQ="
    assert asked.headers["cache-control"] == "no-store"
    assert asked.headers["upload-expires"].endswith(" GMT")
    assert asked.headers["tus-resumable"] == "1.0.0"
    last = uploads.answer(patch(path, 5, b"56789"))

    assert (last.status, last.headers["upload-offset"]) == (204, "10")
    assert last.headers["x-file-name"] == "a.txt"
    assert (uploads.folder / "a.txt").read_bytes() == b"0123456789"
    assert uploads.published()[-1][1]["sha256"] == hashlib.sha256(b"0123456789").hexdigest()
    assert uploads.answer(head(path)).headers["upload-offset"] == "10"
    assert [event for event, _ in uploads.published()].count("uploaded") == 1
    assert uploads.answer(patch(path, 10, b"")).status == 204
    assert uploads.answer(patch(path, 10, b"x")).status == 413


def test_tus_creates_with_bytes(uploads: Uploads) -> None:
    """
    The first bytes may come with the first request; an empty file is complete by it.
    """
    answer = uploads.answer(create(10, BODY, b"0123456789"))
    assert (answer.status, answer.headers["upload-offset"]) == (201, "10")
    assert uploads.answer(create(0)).headers["x-file-name"] == "a-2.txt"

    assert (uploads.folder / "a.txt").read_bytes() == b"0123456789"
    assert (uploads.folder / "a-2.txt").read_bytes() == b""


@pytest.mark.parametrize(
    ("path", "location"), [(b"/a%20b", "a%20b/"), (b"/a%20b/", ""), (b"/c/d", "d/")]
)
def test_the_location_is_relative(tmp_path: Path, path: bytes, location: str) -> None:
    """
    The URL is right behind a proxy that changes the path.
    """
    uploads = Uploads(tmp_path, pattern="^/(a.b|c/d)")
    headers = TUS + b"Upload-Length: 1\r\n"
    answer = uploads.answer(request(b"POST", headers, b"", path))

    assert answer.headers["location"][:-32] == location


def test_a_wrong_offset_is_refused_before_the_body(uploads: Uploads) -> None:
    """
    The response has the right one.
    """
    path = created(uploads, 2**30)
    headers = TUS + BODY + b"Upload-Offset: 5\r\nContent-Length: 1000000000\r\n"
    answer = uploads.answer(request(b"PATCH", headers, None, path))

    assert (answer.status, answer.headers["upload-offset"]) == (409, "0")
    assert answer.headers["connection"] == "close"


def test_a_lost_connection_keeps_what_arrived(uploads: Uploads) -> None:
    """
    The client finds it by HEAD, and goes on.
    """
    path = created(uploads)
    headers = TUS + BODY + b"Upload-Offset: 0\r\nContent-Length: 10\r\n"
    caller = uploads.send(request(b"PATCH", headers, None, path) + b"0123")
    caller.hang_up()
    assert uploads.answer(head(path)).headers["upload-offset"] == "4"

    assert uploads.answer(patch(path, 4, b"456789")).status == 204
    assert (uploads.folder / "a.txt").read_bytes() == b"0123456789"


def test_a_client_goes_on_before_its_old_connection_is_lost(uploads: Uploads) -> None:
    """
    The old request ends with 423, after all that it has sent was stored.
    """
    path = created(uploads)
    headers = TUS + BODY + b"Upload-Offset: 0\r\nContent-Length: 10\r\n"
    old = uploads.send(request(b"PATCH", headers, None, path) + b"0123")

    assert uploads.answer(head(path)).headers["upload-offset"] == "4"
    assert old.responses()[0].status == 423
    old.send(b"xxx")
    assert uploads.answer(patch(path, 4, b"456789")).status == 204
    assert (uploads.folder / "a.txt").read_bytes() == b"0123456789"


def test_checksums_are_compared(uploads: Uploads) -> None:
    """
    A body with another checksum is dropped; one that is cut off, too.
    """
    path = created(uploads)
    digest = b64encode(hashlib.sha1(b"01234").digest())
    checksum = b"Upload-Checksum: sha1 %s\r\n" % digest
    wrong = uploads.answer(patch(path, 0, b"0123x", checksum))
    assert wrong.status == 460
    headers = TUS + BODY + checksum + b"Upload-Offset: 0\r\nContent-Length: 5\r\n"
    uploads.send(request(b"PATCH", headers, None, path) + b"012").hang_up()
    assert uploads.answer(head(path)).headers["upload-offset"] == "0"

    assert uploads.answer(patch(path, 0, b"01234", checksum)).status == 204
    assert uploads.answer(patch(path, 5, b"56789")).status == 204
    assert uploads.published()[-1][1]["sha256"] == hashlib.sha256(b"0123456789").hexdigest()


def test_an_upload_is_terminated(uploads: Uploads) -> None:
    """
    Nothing is left, and its path is unknown.
    """
    path = created(uploads)
    uploads.answer(patch(path, 0, b"01234"))

    assert uploads.answer(request(b"DELETE", TUS, path=path)).status == 204
    assert uploads.answer(head(path)).status == 404
    assert uploads.names() == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(b"POST", TUS, b""), 400),
        (request(b"POST", TUS + b"Upload-Length: -1\r\n", b""), 400),
        (request(b"POST", TUS + b"Upload-Length: 99999999999999999999\r\n", b""), 400),
        (request(b"POST", TUS + b"Upload-Defer-Length: 1\r\n", b""), 400),
        (request(b"POST", TUS + b"Upload-Length: 1\r\nUpload-Concat: partial\r\n", b""), 400),
        (request(b"POST", TUS + b"Upload-Length: 1\r\nUpload-Metadata: ,\r\n", b""), 400),
        (request(b"POST", TUS + b"Upload-Length: 1\r\n", b"x"), 415),
        (create(1, BODY, b"xy"), 413),
        (create(2**30 + 1), 413),
        (request(b"POST", b"Tus-Resumable: 0.2.2\r\nUpload-Length: 1\r\n", b""), 412),
        (request(b"HEAD", path=ID), 412),
        (head(ID), 404),
        (head(b"/upload/..%2fx"), 404),
        (head(b"/upload"), 404),
        (patch(ID, 0, b"x"), 404),
        (request(b"PATCH", TUS + b"Upload-Offset: 0\r\n", b"x", ID), 415),
        (request(b"PATCH", TUS + BODY, b"x", ID), 400),
        (request(b"PATCH", TUS + BODY + b"Upload-Offset: 1e3\r\n", b"", ID), 400),
        (request(b"PUT", TUS, b"x"), 405),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused(uploads: Uploads, sent: bytes, status: int) -> None:
    """
    With the status of the protocol, and the version that is supported.
    """
    answer = uploads.answer(sent)

    assert answer.status == status
    if status != 405 and b"/.." not in sent and b" /upload HTTP" not in sent[:18]:
        assert answer.headers["tus-resumable"] == "1.0.0"
    assert uploads.names() == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (b"../../etc/passwd", "passwd"),
        (b"a\r\nSet-Cookie: x=1.txt", "a__Set-Cookie_ x=1.txt"),
        (b"a\0b.txt", "a_b.txt"),
        (b"..", "unnamed"),
        (b".htaccess", "htaccess"),
        (b"\xff\xfe.txt", "\ufffd\ufffd.txt"),
        (b"C:\\windows\\con.txt", "_con.txt"),
        (b"x" * 300 + b".jpg", "x" * 196 + ".jpg"),
        (b".upload-" + b"0" * 32 + b".part", "upload-" + "0" * 32 + ".part"),
    ],
)  # fmt: skip
def test_names_of_tus_are_made_safe(uploads: Uploads, given: bytes, name: str) -> None:
    """
    Whatever the Base64 of a client hides, the name is that of a visible file in the folder, and no
    response or event has more lines by it.
    """
    more = b"Upload-Length: 0\r\nUpload-Metadata: filename %s\r\n" % b64encode(given)
    answer = uploads.answer(request(b"POST", TUS + more, b""))

    assert answer.status == 201
    assert "set-cookie" not in answer.headers
    assert [one for one in uploads.names() if not one.startswith(".")] == [name]
    path = b"/" + answer.headers["location"].encode()
    shown = uploads.answer(head(path)).headers["upload-metadata"]
    assert shown == f"filename {b64encode(given).decode()}"
    assert [data["name"] for event, data in uploads.published() if event == "uploaded"] == [name]


def test_methods_may_be_overridden(uploads: Uploads) -> None:
    """
    Some environments have POST only.
    """
    path = created(uploads)
    sent = patch(path, 0, b"01234", b"X-HTTP-Method-Override: PATCH\r\n")

    assert uploads.answer(sent.replace(b"PATCH", b"POST", 1)).status == 204
    assert uploads.answer(head(path)).headers["upload-offset"] == "5"


def test_a_pattern_that_ends_is_reported(tmp_path: Path) -> None:
    """
    The requests that follow would not find the route.
    """
    uploads = Uploads(tmp_path, pattern="^/upload$")

    answer = uploads.answer(create())
    assert answer.status == 501
    assert b"^/upload" in answer.body
    assert uploads.answer(request(b"PUT", b"", b"x")).status == 200


def test_pages_of_other_origins_may_upload(uploads: Uploads) -> None:
    """
    Their preflight names the headers of tus, and they may read those of the responses.
    """
    preflight = (
        b"Origin: https://a.example\r\nAccess-Control-Request-Method: PATCH\r\n"
        b"Access-Control-Request-Headers: tus-resumable,upload-offset\r\n"
    )
    answer = uploads.answer(request(b"OPTIONS", preflight, path=ID))
    assert answer.status == 204
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"]
    assert {"Tus-Resumable", "Upload-Offset", "X-File-Name"} <= set(allowed.split(", "))
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-max-size"] == str(2**30)
    assert "creation-with-upload" in answer.headers["tus-extension"]
    asked = uploads.send(
        request(b"HEAD", TUS + b"Origin: http://localhost\r\n", path=created(uploads))
    )
    exposed = b"Access-Control-Expose-Headers: Location, Tus-Checksum-Algorithm,"
    assert exposed in asked.written()
    sse = uploads.answer(request(b"OPTIONS", preflight.replace(b"PATCH", b"GET"), path=b"/events"))
    assert "Tus-Resumable" not in sse.headers["access-control-allow-headers"]


def test_progress_is_published_five_times_a_second(uploads: Uploads) -> None:
    """
    Each event says how much of how much is stored.
    """
    path = created(uploads, 10_000_000)
    headers = TUS + BODY + b"Upload-Offset: 0\r\nContent-Length: 10000000\r\n"
    caller = uploads.send(request(b"PATCH", headers, None, path))
    for _ in range(20):
        caller.send(bytes(300_000))
        uploads.place.clock.advance(0.1)

    progress = [about for event, about in uploads.published() if event == "progress"]
    assert 9 <= len(progress) <= 11
    assert {about["size"] for about in progress} == {10_000_000}
    received = [about["received"] for about in progress]
    assert received == sorted(set(received))
    assert received[0] == 300_000


def test_events_do_not_have_the_id_of_an_upload(uploads: Uploads) -> None:
    """
    Subscribers cannot write it; both events name it by the same hash.
    """
    path = created(uploads)
    assert uploads.answer(patch(path, 0, b"0123456789")).status == 204

    id = path.rpartition(b"/")[2]
    named = hashlib.sha256(id).hexdigest()[:32]
    events = uploads.published()
    assert [event for event, _ in events] == ["progress", "uploaded"]
    assert [about["id"] for _, about in events] == [named, named]


def test_a_slow_disk_pauses_the_client(uploads: Uploads) -> None:
    """
    Memory is bounded: the connection is not read until blocks are written.
    """
    caller = uploads.send(request(b"PUT", b"Content-Length: 1000000\r\n"))
    uploads.threads.hold = True
    sent = 0
    while caller.wire.producerState != "paused":
        caller.send(bytes(50_000))
        sent += 50_000
    assert sent <= 2 * (MAX_WAITING + 50_000)

    uploads.threads.step()
    assert caller.wire.producerState == "producing"
    uploads.threads.hold = False
    uploads.threads.step()
    caller.send(bytes(1_000_000 - sent))
    assert caller.responses()[0].status == 200
    assert (uploads.folder / "unnamed").stat().st_size == 1_000_000


def test_a_few_bytes_are_written_soon(uploads: Uploads) -> None:
    """
    A crash loses no more than half a second of a slow upload.
    """
    path = created(uploads)
    headers = TUS + BODY + b"Upload-Offset: 0\r\nContent-Length: 10\r\n"
    uploads.send(request(b"PATCH", headers, None, path) + b"0123")
    uploads.place.clock.advance(0.5)

    [part] = uploads.folder.glob("*.part")
    assert part.read_bytes() == b"0123"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("upload:to=/nowhere/at/all", "there is no folder /nowhere/at"),
        ("upload:/nowhere/", "there is no folder /nowhere"),
        ("upload:to=/tmp,types=png", "is not a media type"),
        ("upload:to=/tmp,max=-1", "cannot be negative"),
        ("upload:to=/tmp,expire=0", "more than 0"),
        ("upload:channel=x", "needs to="),
        ("upload", "needs to="),
    ],
)
def test_wrong_lines_are_refused(line: str, reason: str) -> None:
    """
    The daemon does not start.
    """
    with pytest.raises(ValueError, match=reason):
        parse_route(f"^/x {line}", Place().context)
