"""
The actions `istream` and `webm` on one server, without sockets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogLevel, capturedLogs

from rt_twisted.actions.ingest import publication
from rt_twisted.media.matroska_writer import write_cluster, write_header
from rt_twisted.media.mp4_writer import write_fragment, write_init
from rt_twisted.media.unit import Kind, Track, Unit
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import NOWHERE, Draft, PublishResult
from rt_twisted.routes import parse_route
from tests.unit.http.clients import Caller, Place, get

VIDEO = Track(1, Kind.VIDEO, "vp8", size=(320, 240))
MP3 = Track(1, Kind.AUDIO, "mp3", rate=48000, channels=2)
OPUS_HEAD = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"
ROUTES = ("GET ^/cam$ webm:subscribe=cam,wait=3", "^/cam$ istream:cam")


def picture(number: int, key: bool = False, size: int = 10) -> bytes:
    """
    Return a cluster with one frame.
    """
    return write_cluster(1, number * 40_000, key, b"<%d>" % number + bytes(size))


def put(*pieces: bytes, method: bytes = b"PUT") -> bytes:
    """
    Return a request whose body, in chunks, has not ended.
    """
    head = method + b" /cam HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(map(chunk, pieces))


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class LivePlace:
    """
    A server on a clock with a publisher's and a viewer's route.

    Args:
        lines: of the routes.
        changed: values of the actions' context.
    """

    def __init__(self, *lines: str, **changed: Any) -> None:
        self.place = Place(*(lines or ROUTES), changed=changed)
        self.hub = self.place.hub
        self.hub.start()

    def publisher(self, *pieces: bytes) -> Caller:
        """
        Connect a publisher that has sent *pieces*.
        """
        return Caller(self.place.server, "127.0.0.1").send(put(*pieces))

    def viewer(self, path: bytes = b"/cam") -> Caller:
        return Caller(self.place.server, "127.0.0.1").send(get(path))

    def pass_seconds(self, seconds: int) -> None:
        self.place.clock.pump([1.0] * seconds)

    def turn(self) -> None:
        for _ in range(4):
            self.place.clock.advance(0)


def status(caller: Caller) -> int:
    return int(caller.written().split(b" ", 2)[1])


def test_a_viewer_receives_what_a_publisher_sends() -> None:
    """
    The viewer waits for the first keyframe, and is answered with the codec.
    """
    site = LivePlace()
    viewer = site.viewer()
    assert viewer.written() == b""

    publisher = site.publisher(write_header((VIDEO,)), picture(0, True))
    publisher.send(chunk(picture(1)))
    site.turn()

    assert b'Content-Type: video/webm; codecs="vp8"\r\n' in viewer.written()
    assert b"Cache-Control: no-store\r\n" in viewer.written()
    assert viewer.written().count(b"<0>") == viewer.written().count(b"<1>") == 1
    late = site.viewer()
    site.turn()
    assert late.written().count(b"<0>") == late.written().count(b"<1>") == 1


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_publisher_may_split_its_stream_anywhere(size: int) -> None:
    """
    Chunks of HTTP say nothing about frames.
    """
    site = LivePlace()
    data = write_header((VIDEO,)) + picture(0, True) + picture(1)

    site.publisher(*[data[first : first + size] for first in range(0, len(data), size)])
    viewer = site.viewer()
    site.turn()

    assert viewer.written().count(b"<0>") == viewer.written().count(b"<1>") == 1


def test_an_end_is_answered_and_ends_the_viewers_later() -> None:
    """
    The publisher gets 200, its viewers a complete body after the grace time.
    """
    site = LivePlace()
    publisher = site.publisher(write_header((VIDEO,)), picture(0, True))
    viewer = site.viewer()
    site.turn()

    publisher.send(b"0\r\n\r\n")
    assert status(publisher) == 200
    site.pass_seconds(9)
    assert not viewer.written().endswith(b"0\r\n\r\n")
    site.pass_seconds(2)

    assert viewer.written().endswith(b"\r\n0\r\n\r\n")
    assert not viewer.open


def test_a_second_publisher_gets_403() -> None:
    """
    With `takeover=yes` it gets the channel instead, and the first gets 403.
    """
    site = LivePlace()
    site.publisher(write_header((VIDEO,)))
    assert status(site.publisher(write_header((VIDEO,)))) == 403

    site = LivePlace("^/cam$ istream:publish=cam,takeover=yes")
    first = site.publisher(write_header((VIDEO,)))
    second = site.publisher(write_header((VIDEO,)))

    assert first.responses()[0].status == 403
    assert b"another publisher has taken over" in first.responses()[0].body
    assert second.written() == b""


def test_a_publisher_that_disconnects_leaves_the_channel() -> None:
    """
    Another one may follow at once.
    """
    site = LivePlace()
    site.publisher(write_header((VIDEO,)), picture(0, True)).hang_up()

    assert site.publisher(write_header((VIDEO,))).written() == b""


def test_a_silent_publisher_is_disconnected() -> None:
    """
    The route's timeout comes before the daemon's.
    """
    site = LivePlace("^/cam$ istream:publish=cam,timeout=3,grace=0.5")
    publisher = site.publisher(write_header((VIDEO,)))

    site.pass_seconds(5)

    assert status(publisher) in (403, 408)
    assert len(site.hub.live.publishers) == 0


def test_a_malformed_stream_is_refused_in_words() -> None:
    """
    Its publisher is answered; the viewers keep the grace time.
    """
    site = LivePlace()
    publisher = site.publisher(write_header((VIDEO,)), picture(0, True))
    viewer = site.viewer()
    site.turn()

    publisher.send(chunk(bytes(100)))

    [answer] = publisher.responses()
    assert answer.status == 400
    site.pass_seconds(5)
    assert viewer.open
    assert len(site.hub.live.publishers) == 0


def test_any_other_body_is_one_message_per_chunk() -> None:
    """
    Text and bare frames are published as they are, as by uwsgi-realtime.
    """
    site = LivePlace("^/cam$ istream:cam", "^/raw$ stream:subscribe=cam,suffix=;")
    reader = Caller(site.place.server).send(get(b"/raw"))

    publisher = site.publisher(b"a", b"bcdefgh")
    publisher.send(chunk(b"ij") + b"0\r\n\r\n")
    site.turn()

    assert status(publisher) == 200
    body = reader.written().partition(b"\r\n\r\n")[2]
    assert b"".join(body.split(b"\r\n")[1::2]) == b"a;bcdefgh;ij;"


def test_a_prefix_and_a_suffix_surround_each_message() -> None:
    """
    Also variables of the request, as for streams; a container is published as it is.
    """
    site = LivePlace(
        "^/cam$ istream:cam,prefix=${qs[name]}:,suffix=!", "^/raw$ stream:subscribe=cam"
    )
    reader = Caller(site.place.server).send(get(b"/raw"))

    request = put(b"a", b"b").replace(b"/cam", b"/cam?name=k%FF", 1)
    Caller(site.place.server, "127.0.0.1").send(request + b"0\r\n\r\n")
    site.turn()

    body = reader.written().partition(b"\r\n\r\n")[2]
    assert b"".join(body.split(b"\r\n")[1::2]) == b"k\xff:a!k\xff:b!"


def whole(body: bytes, start: int | None = None) -> bytes:
    """
    Return a request with the whole *body*, which says that it begins at byte *start*.
    """
    head = b"PUT /cam HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
    if start is not None:
        head += b"Content-Range: bytes %d-%d/*\r\n" % (start, start + len(body) - 1)
    return head + b"\r\n" + body


@pytest.mark.parametrize("one_connection", [True, False])
def test_several_requests_may_be_one_run(one_connection: bool) -> None:
    """
    Programs that send a request for each buffer: each is answered, and the stream goes on. On
    other connections, as those of GStreamer, they say where.
    """
    site = LivePlace()
    viewer = site.viewer()
    publishers = [Caller(site.place.server, "127.0.0.1")]
    data = write_header((VIDEO,)) + picture(0, True) + picture(1)
    for first in range(0, len(data), 50):
        if first and not one_connection:
            publishers.append(Caller(site.place.server, "127.0.0.1"))
        start = None if one_connection or not first else first
        publishers[-1].send(whole(data[first : first + 50], start))
    site.turn()

    answers = [answer for one in publishers for answer in one.responses()]
    assert [answer.status for answer in answers] == [200] * ((len(data) + 49) // 50)
    assert viewer.written().count(b"<0>") == viewer.written().count(b"<1>") == 1
    assert len(site.hub.live.publishers) == 1

    site.pass_seconds(5)
    assert len(site.hub.live.publishers) == 0
    assert viewer.open
    site.pass_seconds(10)
    assert not viewer.open


def test_another_connection_may_follow_a_whole_body_at_once() -> None:
    """
    The first has ended, as far as the server can see.
    """
    site = LivePlace()
    data = write_header((VIDEO,)) + picture(0, True)
    first = Caller(site.place.server, "127.0.0.1").send(whole(data))
    second = Caller(site.place.server, "127.0.0.1").send(whole(data))
    first.send(whole(picture(1)))

    assert status(second) == 200
    assert [answer.status for answer in first.responses()] == [200, 200]


def test_a_part_that_continues_nothing_is_refused() -> None:
    """
    The daemon was restarted, or a part was lost: frames without their header are no messages.
    """
    site = LivePlace()
    first = Caller(site.place.server, "127.0.0.1").send(whole(write_header((VIDEO,)), 0))
    second = Caller(site.place.server, "127.0.0.1").send(whole(picture(0, True), 7))
    wrong = whole(b"x").replace(b"\r\n\r\n", b"\r\nContent-Range: lines 1-2/*\r\n\r\n")
    third = Caller(site.place.server, "127.0.0.1").send(wrong)

    assert [status(one) for one in (first, second, third)] == [200, 409, 400]
    assert second.responses()[0].body == b"no stream goes on at byte 7: begin again\n"


def test_messages_may_come_in_parts_too() -> None:
    """
    A body that is no container is one message for each of its requests.
    """
    site = LivePlace("^/cam$ istream:cam", "^/raw$ stream:subscribe=cam,suffix=;")
    reader = Caller(site.place.server).send(get(b"/raw"))
    parts = [
        Caller(site.place.server, "127.0.0.1").send(whole(body, start))
        for body, start in ((b"ab", 0), (b"cde", 2), (b"f", 5))
    ]
    site.turn()

    assert [status(part) for part in parts] == [200] * 3
    body = reader.written().partition(b"\r\n\r\n")[2]
    assert b"".join(body.split(b"\r\n")[1::2]) == b"ab;cde;f;"


def test_a_live_stream_has_numbers_of_its_own() -> None:
    """
    The frames of a camera are not in the counts of messages, which they would hide.
    """
    site = LivePlace()
    site.publisher(write_header((VIDEO,)), picture(0, True), picture(1))
    site.viewer()
    site.turn()
    Caller(site.place.server, "127.0.0.1").send(
        b"POST /publish?channel=text HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
    )
    metrics = site.hub.current_metrics()

    assert (metrics.live_publishers, metrics.live_viewers) == (1, 1)
    assert (metrics.live_units, metrics.live_delivered) == (3, 3)
    assert metrics.live_received_bytes > 26
    assert (metrics.published, metrics.delivered) == (1, 0)


def test_applications_learn_of_the_publisher() -> None:
    """
    Each change is a message of JSON on another channel.
    """
    site = LivePlace(
        "^/cam$ istream:cam,events=news,grace=4", "^/states$ stream:subscribe=news,suffix=;"
    )
    reader = Caller(site.place.server).send(get(b"/states"))
    publisher = site.publisher(write_header((VIDEO,)), picture(0, True))
    site.turn()
    publisher.hang_up()
    site.pass_seconds(1)
    site.publisher(write_header((VIDEO,))).send(b"0\r\n\r\n")
    site.pass_seconds(5)

    body = reader.written().partition(b"\r\n\r\n")[2]
    states = [json.loads(line) for line in b"".join(body.split(b"\r\n")[1::2]).split(b";")[:-1]]
    assert {one["channel"] for one in states} == {"cam"}
    assert [(one["state"], one.get("reason")) for one in states] == [
        ("started", None),
        ("lost", "the connection of the publisher was lost"),
        ("returned", None),
        ("lost", "the publisher has ended"),
        ("ended", None),
    ]


def test_a_publisher_that_is_refused_is_no_event() -> None:
    """
    Applications see the publisher that has the channel.
    """
    site = LivePlace("^/cam$ istream:cam,events=news", "^/states$ stream:subscribe=news")
    reader = Caller(site.place.server).send(get(b"/states"))
    site.publisher(write_header((VIDEO,)))
    assert status(site.publisher(write_header((VIDEO,)))) == 403
    site.turn()

    assert reader.written().count(b'"state"') == 1


def test_states_that_cannot_be_published_are_logged() -> None:
    """
    The stream itself does not wait for them.
    """
    site = LivePlace("^/cam$ istream:cam,events=news")
    published: list[Draft] = []

    def publish(drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        published.extend(drafts)
        return (
            fail(Unavailable("away"))
            if drafts[0].channel == "news"
            else succeed(PublishResult((NOWHERE,) * len(drafts)))
        )

    site.hub.publish = publish  # type: ignore[method-assign]
    publisher = site.publisher(write_header((VIDEO,)), picture(0, True))

    assert [draft.channel for draft in published] == ["news", "cam", "cam"]
    assert publisher.written() == b""


def test_a_publisher_is_paused_while_the_broker_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    At most so many bytes wait for the broker, and the pause is no silence of the publisher.
    """
    monkeypatch.setattr(publication, "MAX_UNACKNOWLEDGED", 1000)
    site = LivePlace()
    waiting: list[Deferred[PublishResult]] = []

    def publish(drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        waiting.append(Deferred())
        return waiting[-1]

    site.hub.publish = publish  # type: ignore[method-assign]
    publisher = site.publisher(write_header((VIDEO,)), picture(0, True, 600), picture(1, size=600))
    assert publisher.wire.producerState == "paused"
    site.pass_seconds(30)
    assert len(site.hub.live.publishers) == 1

    for done in tuple(waiting):
        done.callback(PublishResult((NOWHERE,)))

    assert publisher.wire.producerState == "producing"


def test_frames_are_dropped_while_the_broker_is_away() -> None:
    """
    The publisher stays; what is published again begins with a head.
    """
    site = LivePlace()
    published: list[Draft] = []
    away = True

    def publish(drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        if away:
            return fail(Unavailable("away"))
        published.extend(drafts)
        return succeed(PublishResult((NOWHERE,) * len(drafts)))

    site.hub.publish = publish  # type: ignore[method-assign]
    publisher = site.publisher(write_header((VIDEO,)), picture(0, True))
    away = False
    publisher.send(chunk(picture(1)))
    assert published == []
    publisher.send(chunk(picture(20, True)) + chunk(picture(21)))

    assert [(draft.event or "")[:6] for draft in published] == ["unit/h", "unit/k", "unit/d"]
    assert publisher.written() == b""


def test_an_outage_of_the_broker_is_logged_once() -> None:
    """
    However many keyframes are dropped meanwhile; the next outage is logged again.
    """
    site = LivePlace()
    away = True

    def publish(drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        if away:
            return fail(Unavailable("away"))
        return succeed(PublishResult((NOWHERE,) * len(drafts)))

    site.hub.publish = publish  # type: ignore[method-assign]
    with capturedLogs() as logged:
        publisher = site.publisher(write_header((VIDEO,)), picture(0, True))
        publisher.send(chunk(picture(20, True)))
        publisher.send(chunk(picture(40, True)))
        assert [event["log_level"] for event in logged] == [LogLevel.warn]
        away = False
        publisher.send(chunk(picture(60, True)))
        away = True
        publisher.send(chunk(picture(80, True)))
        publisher.send(chunk(picture(100, True)))

    assert [event["reason"] for event in logged] == ["away", "away"]


def test_a_refusal_of_the_broker_is_the_answer() -> None:
    """
    What can never be published is not tried again.
    """
    site = LivePlace()
    refusal = HttpError(400, "live streams cannot be published here")
    site.hub.publish = lambda drafts: fail(refusal)  # type: ignore[method-assign]

    publisher = site.publisher(write_header((VIDEO,)), picture(0, True))

    assert publisher.responses()[0].body == b"live streams cannot be published here\n"


def test_only_those_with_a_key_may_publish() -> None:
    """
    Without keys it is this machine alone.
    """
    site = LivePlace()
    stranger = Caller(site.place.server, "192.0.2.1").send(put(write_header((VIDEO,))))

    assert status(stranger) == 403
    assert len(site.hub.live.publishers) == 0


def test_a_viewer_without_a_publisher_gets_503() -> None:
    """
    The viewer is asked to come back, and costs nothing meanwhile if it leaves.
    """
    site = LivePlace()
    viewer, gone = site.viewer(), site.viewer()
    gone.hang_up()
    assert site.hub.subscribers_of("cam") == 1

    site.pass_seconds(3)

    [answer] = viewer.responses()
    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    assert site.hub.subscribers_of("cam") == 0
    assert gone.written() == b""


def test_a_codec_that_webm_cannot_carry_gets_415() -> None:
    """
    The answer names the route word that can.
    """
    site = LivePlace()
    site.publisher(write_header((MP3,)), picture(0, True))

    viewer = site.viewer()
    site.turn()

    [answer] = viewer.responses()
    assert answer.status == 415
    assert b"mp4" in answer.body


def test_head_has_the_content_type() -> None:
    """
    A player may ask before it opens the stream.
    """
    site = LivePlace("^/cam$ istream:cam", "^/see$ webm:cam")
    site.publisher(write_header((VIDEO,)), picture(0, True))

    viewer = Caller(site.place.server).send(get(b"/see").replace(b"GET", b"HEAD", 1))
    site.turn()

    [answer] = viewer.responses("HEAD")
    assert answer.headers["content-type"] == 'video/webm; codecs="vp8"'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("^/$ istream", "needs publish="),
        ("^/$ istream:publish=cam,timeout=0", "timeout= must be more than 0"),
        ("^/$ istream:publish=cam,grace=-1", "grace= cannot be negative"),
        ("^/$ istream:cam,events=", "a channel cannot be called ''"),
        ("^/$ istream:cam,prefix=$1", r"\$1 needs a pattern"),
        ("^/$ webm", "needs subscribe="),
        ("^/$ webm:subscribe=cam,burst=-1", "burst= cannot be negative"),
        ("^/$ webm:subscribe=cam,behind=-1", "behind= cannot be negative"),
        ("^/$ webm:subscribe=cam,video_codec=V_X", "video_codec=V_X is not one of"),
    ],
)
def test_a_wrong_route_line_is_one_sentence(line: str, reason: str) -> None:
    """
    The daemon does not start with it.
    """
    context: Any = Place().context

    with pytest.raises(ValueError, match=reason):
        parse_route(line, context)


def test_a_fragmented_mp4_becomes_a_live_stream() -> None:
    """
    MP4 is recognized by its first bytes, however they are split, and viewers of both
    containers get it.
    """
    site = LivePlace("GET ^/cam$ webm:cam", "GET ^/mp4$ mp4:cam", "^/cam$ istream:cam,as=auto")
    track = Track(1, Kind.AUDIO, "opus", OPUS_HEAD, 48000, 2)
    units = [Unit(1, n * 20_000, n * 20_000, 20_000, True, 0, 0, b"<%d>" % n) for n in range(3)]
    data = write_init([track]) + b"".join([write_fragment(unit, 0, unit.pts) for unit in units])

    site.publisher(data[:5], data[5:])
    webm, mp4 = site.viewer(), site.viewer(b"/mp4")
    site.turn()

    assert b'Content-Type: audio/webm; codecs="opus"\r\n' in webm.written()
    assert b'Content-Type: audio/mp4; codecs="opus"\r\n' in mp4.written()
    for viewer in (webm, mp4):
        assert b"<0>" in viewer.written()


def test_raw_bodies_are_messages_whatever_they_begin_with() -> None:
    """
    `as=raw` publishes each chunk as it is.
    """
    site = LivePlace("GET ^/cam$ stream:cam", "^/cam$ istream:cam,as=raw")
    viewer = site.viewer()
    site.turn()

    site.publisher(write_header((VIDEO,)), b"second")
    site.turn()

    assert write_header((VIDEO,)) in viewer.written()
    assert b"second" in viewer.written()
