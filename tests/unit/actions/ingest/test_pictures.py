"""
Pictures: `istream` in, `mjpeg` and `jpeg` out, on one server without sockets.
"""

from __future__ import annotations

import pytest

from rt_twisted.media.containers import find_reader
from rt_twisted.media.pictures import PictureReader
from rt_twisted.model.message import Draft
from tests.unit.actions.ingest.test_istream import LivePlace, chunk, put, status
from tests.unit.http.clients import Caller, get
from tests.unit.media.jpeg_bytes import jpeg, with_thumbnail

ROUTES = (
    "GET ^/cam$ mjpeg:subscribe=cam,wait=3",
    "GET ^/cam.jpg$ jpeg:subscribe=cam,wait=3",
    "GET ^/cam.webm$ webm:subscribe=cam,wait=3",
    "^/cam$ istream:cam",
)
HEADER = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"
FIRST, SECOND = jpeg(b"1"), with_thumbnail()
MULTIPART = b"--x\r\nContent-Type: image/jpeg\r\n\r\n"


def post(body: bytes, cut: int | None = None) -> bytes:
    """
    Return a request whose body has a length; *cut* leaves out all but so many bytes of it.
    """
    head = b"POST /cam HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body[:cut]


def publish(site: LivePlace, *pieces: bytes) -> Caller:
    caller = Caller(site.place.server, "127.0.0.1").send(*pieces)
    site.turn()
    return caller


@pytest.mark.parametrize("size", [1, 50, 100_000])
@pytest.mark.parametrize(
    "data",
    [FIRST + SECOND, MULTIPART + FIRST + b"\r\n" + MULTIPART + SECOND],
    ids=["bare", "parts"],
)
def test_a_stream_of_pictures(data: bytes, size: int) -> None:
    """
    The first bytes say what it is. A viewer begins with the last picture, and is sent the
    header of the next part at once.
    """
    site = LivePlace(*ROUTES)
    early = site.viewer()
    publisher = publish(site, put(*[data[at : at + size] for at in range(0, len(data), size)]))
    late = site.viewer()
    site.turn()

    written = early.written()
    assert b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n" in written
    assert b"Cache-Control: no-store\r\n" in written
    assert written.count(SECOND + b"\r\n" + HEADER) == 1
    assert FIRST not in late.written()
    assert late.written().count(SECOND + b"\r\n" + HEADER) == 1
    assert publisher.written() == b""


def test_a_snapshot() -> None:
    """
    A snapshot is the last picture; while the publisher is away too, and 503 after the grace time.
    """
    site = LivePlace(*ROUTES)
    publisher = publish(site, put(FIRST, SECOND))

    def snapshot() -> Caller:
        caller = site.viewer(b"/cam.jpg")
        site.turn()
        return caller

    [answer] = snapshot().responses()
    assert (answer.status, answer.headers["content-type"], answer.body) == (
        200,
        "image/jpeg",
        SECOND,
    )
    assert answer.headers["cache-control"] == "no-store"
    publisher.hang_up()
    site.pass_seconds(9)
    assert snapshot().responses()[0].body == SECOND
    site.pass_seconds(2)
    late = snapshot()
    assert late.written() == b""
    site.pass_seconds(3)
    assert status(late) == 503


def test_one_picture_with_a_length_is_a_plain_message() -> None:
    """
    A picture needs no claim, so any number of programs may send pictures, and their viewers stay.
    """
    site = LivePlace(*ROUTES)
    viewer = site.viewer()
    for picture in (FIRST, SECOND):
        sent = publish(site, post(picture))
        assert sent.responses()[0].body == b'{"status": "ok"}\n'
    site.pass_seconds(60)

    assert viewer.open
    assert viewer.written().count(HEADER) == 3
    assert "cam" not in site.hub.live.publishers
    late = site.viewer(b"/cam.jpg")
    site.turn()
    assert late.responses()[0].body == SECOND


def test_a_plain_message_that_is_a_picture_is_shown() -> None:
    """
    A picture may be published in any way; messages that are no pictures are left out.
    """
    site = LivePlace(*ROUTES)
    viewer = site.viewer()

    site.hub.publish([Draft("cam", b"text"), Draft("cam", FIRST), Draft("cam", b"more")])
    site.turn()

    assert viewer.written().count(HEADER) == 2
    assert FIRST in viewer.written()
    assert b"text" not in viewer.written()


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (post(FIRST[:-2] + bytes(9)), 400, b"the picture is truncated"),
        (post(FIRST + SECOND), 400, b"more than one picture"),
        (post(FIRST[:3] + bytes(9)), 400, b"JPEG: "),
        (post(FIRST + bytes(2_000_000), 3), 413, b"larger than"),
    ],
)
def test_pictures_that_are_refused(request_: bytes, code: int, reason: bytes) -> None:
    """
    The sentence says what is wrong.
    """
    [answer] = publish(LivePlace(*ROUTES), request_).responses()

    assert answer.status == code
    assert reason in answer.body


def test_pictures_are_refused_while_a_stream_is_published() -> None:
    """
    Afterwards they are accepted, and outlive the end of the stream.
    """
    site = LivePlace(*ROUTES)
    stream = publish(site, put(FIRST))
    assert status(publish(site, post(SECOND))) == 403

    stream.send(b"0\r\n\r\n")
    site.pass_seconds(11)
    assert status(publish(site, post(SECOND))) == 200
    site.pass_seconds(120)

    late = site.viewer(b"/cam.jpg")
    site.turn()
    assert late.responses()[0].body == SECOND


def test_a_body_with_a_length_may_be_another_stream() -> None:
    """
    Its first bytes decide, which may arrive one by one.
    """
    site = LivePlace(*ROUTES)
    text = b"message"
    sent = publish(site, post(text, 1), *[text[at : at + 1] for at in range(1, len(text))])

    assert sent.responses()[0].status == 200
    assert site.hub.statistics.counts_of("cam").messages


def test_a_client_that_leaves_before_the_first_bytes() -> None:
    """
    Nothing is published and no claim is kept.
    """
    site = LivePlace(*ROUTES)
    publish(site, post(FIRST, 2)).hang_up()
    publish(site, post(FIRST, 9)).hang_up()
    site.turn()

    assert "cam" not in site.hub.live.publishers._held
    assert status(publish(site, post(SECOND))) == 200


def test_other_codecs_are_refused() -> None:
    """
    Each route names the word that can show the stream.
    """
    site = LivePlace(*ROUTES)
    publish(site, put(FIRST))

    viewer = site.viewer(b"/cam.webm")
    site.turn()

    assert status(viewer) == 415
    assert b"the route word mjpeg can" in viewer.written()


def test_raw_bodies_are_not_looked_at() -> None:
    """
    With `as=raw` each chunk is a message, whatever it begins with.
    """
    site = LivePlace("GET ^/cam$ mjpeg:cam", "^/cam$ istream:cam,as=raw")
    viewer = site.viewer()

    publish(site, put(b"--x\r\n", FIRST, b"--y"), chunk(SECOND))

    assert viewer.written().count(HEADER) == 2  # it begins with the last one
    assert SECOND in viewer.written()


def test_without_a_picture_in_time() -> None:
    """
    The answer is 503; a viewer that leaves earlier gets none.
    """
    site = LivePlace(*ROUTES)
    viewer, left = site.viewer(), site.viewer()
    left.hang_up()
    site.pass_seconds(3)

    assert status(viewer) == 503
    assert left.written() == b""


def test_head_requests() -> None:
    """
    They have the type of the stream, and the length of a snapshot.
    """
    site = LivePlace(*ROUTES)
    publish(site, post(FIRST))
    for path, kind in ((b"/cam", b"multipart/x-mixed-replace"), (b"/cam.jpg", b"image/jpeg")):
        written = publish(site, get(path).replace(b"GET", b"HEAD")).written()
        assert b"Content-Type: " + kind in written
        assert FIRST not in written


@pytest.mark.parametrize(
    "kind",
    [
        'multipart/x-mixed-replace; boundary = "--x"',
        "Multipart/X-Mixed-Replace;boundary=x",
        'multipart/x-mixed-replace; boundary=" x "',
        "multipart/x-mixed-replace",
    ],
)
@pytest.mark.parametrize("line", [b"--x\r\n", b"x\r\n", b"\r\n--x\r\n"])
def test_the_announced_boundary_does_not_matter(kind: str, line: bytes) -> None:
    """
    Cameras announce it with and without dashes, quotes and blanks.
    """
    reader = find_reader(line[:8], kind, lambda: 1.0)

    assert isinstance(reader, PictureReader)
    assert len(reader.feed(line + b"\r\n" + FIRST)) == 2


def test_what_no_reader_reads() -> None:
    """
    Such bodies are messages, chunk by chunk.
    """
    assert find_reader(b"text", "image/jpeg", lambda: 0.0) is None
    assert find_reader(b"", "", lambda: 0.0) is None
    assert isinstance(find_reader(FIRST[:8], "", lambda: 0.0), PictureReader)


def test_viewers_may_need_a_key() -> None:
    """
    Pictures and snapshots are refused with 401 without it.
    """
    site = LivePlace(
        "GET ^/cam$ mjpeg:subscribe=cam,view_key=secret",
        "GET ^/cam.jpg$ jpeg:subscribe=cam,view_key=secret",
        "^/cam$ istream:cam",
    )
    publish(site, put(FIRST))
    for path in (b"/cam", b"/cam.jpg"):
        refused, seen = site.viewer(path), site.viewer(path + b"?key=secret")
        site.turn()

        assert status(refused) == 401
        assert status(seen) == 200
