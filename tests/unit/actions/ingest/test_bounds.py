"""
What breaks a bound or the format of a live stream ends its publisher, with one sentence.
"""

from __future__ import annotations

import pytest

from rt_twisted.media.ebml import MAX_DEPTH
from rt_twisted.media.live_run import MAX_WAIT
from rt_twisted.media.matroska_writer import write_cluster, write_header
from rt_twisted.media.mp4_writer import write_fragment, write_init
from rt_twisted.media.unit import MAX_HEAD, MAX_TRACKS, MAX_UNIT, Kind, Track, Unit
from tests.unit.actions.ingest.test_istream import (
    OPUS_HEAD,
    VIDEO,
    LivePlace,
    chunk,
    picture,
    put,
    status,
)
from tests.unit.http.clients import Caller, get

CLUSTER = b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7  # of unknown size
TRACKS = b"\x16\x54\xae\x6b"
SEGMENT = write_header((VIDEO,)).partition(TRACKS)[0]
TWO_MINUTES = [picture(25 * second) for second in range(120)]


def size(number: int) -> bytes:
    """
    Return the size of an element in eight bytes.
    """
    return b"\x01" + number.to_bytes(7, "big")


def test_the_bounds() -> None:
    """
    They are those of the documentation.
    """
    assert (MAX_UNIT, MAX_HEAD, MAX_TRACKS) == (4 * 1024**2, 256 * 1024, 8)
    assert MAX_DEPTH == 8
    assert MAX_WAIT == 60_000_000


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([write_header((VIDEO,)), CLUSTER + b"\xa3" + size(MAX_UNIT + 2000)], "larger than"),
        ([SEGMENT + TRACKS + size(MAX_HEAD + 1)], "larger than"),
        ([SEGMENT + TRACKS + size(9) + b"\xae\x87" + bytes(7)], "EBML: "),
        ([write_header((VIDEO,)), b"\0" * 50], "EBML: an element ID"),
        ([write_header((VIDEO,)), *TWO_MINUTES], "no keyframe"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_what_breaks_a_bound_is_refused(pieces: list[bytes], reason: str, split: bool) -> None:
    """
    The sentence comes when the bound is announced, before the bytes; also byte by byte.
    """
    site = LivePlace()
    body = b"".join(pieces)
    step = 1 if split else len(body)
    publisher = site.publisher(*[body[at : at + step] for at in range(0, len(body), step)])

    [answer] = publisher.responses()
    assert answer.status == 400
    assert reason.encode() in answer.body
    assert answer.body.count(b"\n") == 1
    assert len(site.hub.live.publishers) == 0


def test_a_chunk_of_a_gibibyte_is_a_stream() -> None:
    """
    Frames within it are published as they arrive.
    """
    site = LivePlace()
    head = put().removesuffix(b"\r\n") + b"\r\n40000000\r\n"
    Caller(site.place.server, "127.0.0.1").send(
        head, write_header((VIDEO,)), picture(0, True), picture(1)
    )
    viewer = site.viewer()
    site.turn()

    assert viewer.written().count(b"<0>") == viewer.written().count(b"<1>") == 1


def test_a_large_chunk_is_no_message() -> None:
    """
    `max-message` holds for each of them; the part that has arrived is dropped.
    """
    site = LivePlace("^/cam$ istream:cam", "^/raw$ stream:subscribe=cam")
    reader = Caller(site.place.server).send(get(b"/raw"))
    limit = site.place.context.max_message
    publisher = Caller(site.place.server, "127.0.0.1").send(
        put(b"small"), b"40000000\r\n", b"x" * limit, b"x"
    )
    site.turn()

    [answer] = publisher.responses()
    assert answer.status == 413
    assert answer.body == b"a chunk is larger than max-message\n"
    assert reader.written().count(b"small") == 1
    assert b"xx" not in reader.written()


def test_a_publisher_that_sends_no_first_bytes_is_disconnected() -> None:
    """
    The channel is free again.
    """
    site = LivePlace()
    silent = site.publisher()

    site.pass_seconds(12)

    assert status(silent) in (403, 408)
    assert len(site.hub.live.publishers) == 0


def test_names_in_a_stream_reach_no_header() -> None:
    """
    A codec is text of the publisher: viewers get the response of unknown codecs.
    """
    site = LivePlace()
    data = write_header((VIDEO,)).replace(b"V_VP8", b"V\r\n:x")
    assert b"V\r\n:x" in data
    site.publisher(data, picture(0, True))

    viewer = site.viewer()
    site.turn()

    head = viewer.written().partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 415 ")
    assert b"\r\n:x" not in head


def test_an_empty_body_is_no_error() -> None:
    """
    The publisher had nothing to send; another one may follow.
    """
    site = LivePlace()
    publisher = site.publisher().send(b"0\r\n\r\n")

    assert status(publisher) == 200
    assert status(site.publisher().send(chunk(b"x") + b"0\r\n\r\n")) == 200


@pytest.mark.parametrize("container", ["webm", "mp4"])
@pytest.mark.parametrize(("more", "accepted"), [(0, True), (1, False)])
def test_the_size_of_a_frame_is_a_setting(container: str, more: int, accepted: bool) -> None:
    """
    `max-unit` holds for the frames of each container.
    """
    site = LivePlace(max_unit=1000)
    frame = Unit(1, 0, 0, 20_000, True, 0, 0, bytes(1000 + more))
    if container == "webm":
        data = write_header((VIDEO,)) + write_cluster(1, 0, True, frame.data)
    else:
        sound = Track(1, Kind.AUDIO, "opus", OPUS_HEAD, 48000, 2)
        data = write_init([sound]) + write_fragment(frame, 0, 1)

    publisher = site.publisher(data)

    if accepted:
        assert publisher.written() == b""
    else:
        [answer] = publisher.responses()
        assert answer.status == 400
        assert answer.body.endswith(b"a frame is larger than 1000 bytes\n")
