"""
Publishers by RTMP and viewers over HTTP, on one server without sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from rt_twisted.actions.ingest import publication
from rt_twisted.media.h264 import write_avcc
from rt_twisted.model.message import NOWHERE, PublishResult
from rt_twisted.rtmp import waiting
from rt_twisted.rtmp.connection import FAILED, LINGER, START_SECONDS
from rt_twisted.rtmp.session import BAD_NAME
from tests.unit.http.clients import Caller
from tests.unit.rtmp.client import (
    HANDSHAKE,
    SPS,
    aac,
    aac_configuration,
    avc_configuration,
    codes,
    command,
    commands,
    dialogue,
    metadata,
)
from tests.unit.rtmp.studio import PUBLISHERS, VIEWERS, Studio, picture

START = dialogue("live", "cam") + metadata(videocodecid=7.0) + avc_configuration()
STARTED = ["NetStream.Publish.Start"]


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """
    The lines that are logged, as warnings or worse.
    """
    found: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"].name in ("warn", "error", "critical"):
            found.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def description(caller: Caller) -> str:
    """
    Return the sentence in the last status.
    """
    found = [each[3]["description"] for each in commands(caller.written()) if each[0] == "onStatus"]
    text: str = found[-1]
    return text


@pytest.mark.parametrize("step", [0, 1, 100])
def test_a_viewer_receives_what_a_publisher_sends(step: int) -> None:
    """
    The first keyframe is the beginning, however the bytes of the publisher are split.
    """
    studio = Studio()
    viewer = studio.viewer()
    sent = START + picture(0, True) + picture(1)
    step = step or len(sent)

    publisher = studio.publisher(*[sent[at : at + step] for at in range(0, len(sent), step)])
    studio.turn()

    assert codes(publisher.written()) == STARTED
    assert b'video/mp4; codecs="avc1.42C00B"' in viewer.written()
    assert viewer.written().count(b"<0>") == viewer.written().count(b"<1>") == 1


def test_audio_and_video() -> None:
    """
    Both tracks are in the stream.
    """
    studio = Studio()
    studio.publisher(
        dialogue("live", "cam"),
        metadata(videocodecid=7.0, audiocodecid=10.0),
        avc_configuration() + aac_configuration(),
        picture(0, True) + aac(0, b"sound"),
    )
    viewer = studio.viewer()
    studio.turn()

    assert b'codecs="avc1.42C00B,mp4a.40.2"' in viewer.written()
    assert viewer.written().count(b"<0>") == viewer.written().count(b"sound") == 1


def test_other_parameter_sets_begin_with_another_head() -> None:
    """
    A response has one configuration: it ends, and the next one has the new one.
    """
    studio = Studio()
    changed = write_avcc(SPS, b"\x68\xcb\x8c\xb3")
    publisher = studio.publisher(START, picture(0, True))
    viewer = studio.viewer()
    publisher.send(avc_configuration(changed), picture(1, True))
    studio.turn()
    late = studio.viewer()
    studio.turn()

    assert viewer.written().endswith(b"<0>\r\n0\r\n\r\n")
    assert changed in late.written()
    assert late.written().count(b"<1>") == 1


@pytest.mark.parametrize(
    ("name", "reason", "counted"),
    [
        ("cam?key=wrong", "wrong key: append ?key=SECRET or ?token=TOKEN to the stream key", 1),
        ("cam", "a key is needed: append ?key=SECRET or ?token=TOKEN to the stream key", 1),
        ("no.such?key=secret", "there is no stream '/live/no.such'", 0),
    ],
)
def test_a_refused_publisher(name: str, reason: str, counted: int) -> None:
    """
    A refused publisher gets BadName with a sentence, never Start, and is closed. Those that a
    route refuses are counted.
    """
    studio = Studio(key="secret")

    publisher = studio.publisher(dialogue("live", name))

    assert codes(publisher.written()) == [BAD_NAME]
    assert description(publisher).startswith(reason)
    assert b"Publish.Start" not in publisher.written()
    assert publisher.open
    studio.clock.advance(LINGER)
    assert not publisher.open
    assert studio.hub.metrics.refused["publishes"]["key"] == counted


def test_the_key() -> None:
    """
    The key is part of the stream name, or of the application.
    """
    studio = Studio(key="secret")

    assert codes(studio.publisher(dialogue("live", "a?key=secret")).written()) == STARTED
    assert codes(studio.publisher(dialogue("live?key=secret", "b")).written()) == STARTED


def test_tokens() -> None:
    """
    A token is part of the stream name, too; the stream ends when the token expires.
    """
    secret = "0123456789abcdef" * 4
    lines = (VIEWERS, "^/live/(\\w+)$ rtmp:publish=$1,allow=token")
    studio = Studio(*lines, token_key=secret)
    token = jwt.encode({"publish": ["cam"], "exp": 60}, secret)

    publisher = studio.publisher(dialogue("live", f"cam?token={token}"))
    assert codes(publisher.written()) == STARTED
    other = studio.publisher(dialogue("live", f"other?token={token}"))
    assert "does not permit publishing to 'other'" in description(other)
    wrong = studio.publisher(dialogue("live", f"cam?token={token}x"))
    assert "the token is not valid" in description(wrong)
    without = studio.publisher(dialogue("live", "cam"))
    assert "a token is needed" in description(without)
    assert all(codes(each.written()) == [BAD_NAME] for each in (other, wrong, without))

    for _ in range(60):
        studio.clock.advance(1)
        publisher.send(aac(0, b"x"))
    assert description(publisher) == "the grant of the publisher has expired"


def test_other_machines_need_a_key() -> None:
    """
    Without a key in the settings, only this machine may publish.
    """
    publisher = Studio().publisher(START, address="192.0.2.9")

    assert codes(publisher.written()) == [BAD_NAME]
    assert "only its own machine" in description(publisher)


def test_a_channel_in_use() -> None:
    """
    The second publisher is refused, and the first one stays.
    """
    studio = Studio()
    first = studio.publisher(START, picture(0, True))

    second = studio.publisher(START)

    assert codes(second.written()) == [BAD_NAME]
    assert description(second) == "the channel 'cam' has a publisher"
    assert first.open
    assert studio.hub.metrics.refused["publishes"] == {"forbidden": 1}


def test_takeover() -> None:
    """
    With `takeover=yes` the new publisher replaces the old one, whose viewers stay.
    """
    studio = Studio(VIEWERS, f"{PUBLISHERS},takeover=yes".replace("rtmp:", "rtmp:publish="))
    first = studio.publisher(START, picture(0, True))
    viewer = studio.viewer()
    second = studio.publisher(START, picture(9, True))
    studio.turn()

    assert codes(first.written()) == [*STARTED, FAILED]
    assert description(first) == "another publisher has taken over"
    assert codes(second.written()) == STARTED
    assert viewer.written().count(b"<9>") == 1
    assert viewer.open


def test_a_publisher_that_is_silent() -> None:
    """
    A silent publisher loses the channel after ten seconds; another one then continues the stream.
    """
    studio = Studio()
    first = studio.publisher(START, picture(0, True))
    viewer = studio.viewer()
    studio.pass_seconds(9)
    assert codes(studio.publisher(START).written()) == [BAD_NAME]
    studio.pass_seconds(3)
    assert description(first) == "nothing was received for 10 seconds"

    studio.publisher(START, picture(1, True))
    studio.turn()

    assert viewer.written().count(b"<1>") == 1


def test_a_publisher_ends_and_publishes_again() -> None:
    """
    One connection may carry several publications, one after the other.
    """
    studio = Studio()
    publisher = studio.publisher(START, picture(0, True))
    publisher.send(command("deleteStream", 6, None, 1.0))
    assert not len(studio.hub.live.publishers)

    publisher.send(command("publish", 7, None, "cam", "live", stream=1))

    assert codes(publisher.written()) == STARTED * 2
    assert len(studio.hub.live.publishers) == 1
    publisher.hang_up()
    assert not len(studio.hub.live.publishers)


def test_play_is_refused() -> None:
    """
    The sentence names the URL of the stream.
    """
    studio = Studio()
    about = {"app": "live", "tcUrl": "rtmp://host.example:8080/live"}

    player = studio.publisher(
        HANDSHAKE + command("connect", 1, about) + command("play", 2, None, "cam", stream=1)
    )

    assert codes(player.written()) == ["NetStream.Play.Failed"]
    assert description(player).endswith("://host.example:8080/live/cam")


@pytest.mark.parametrize("address", ["rtmp://[::1/live", "", "rtmp://h/live"])
def test_play_with_an_odd_address(address: str) -> None:
    """
    Whatever the client has connected to, it gets a sentence.
    """
    studio = Studio(PUBLISHERS)

    player = studio.publisher(
        HANDSHAKE
        + command("connect", 1, {"app": "live", "tcUrl": address})
        + command("play", 2, None, "cam", stream=1)
    )

    assert description(player) == "streams are not played by RTMP: open it by HTTP"


def test_what_cannot_be_shown() -> None:
    """
    The publisher gets a sentence on what to encode.
    """
    studio = Studio()
    publisher = studio.publisher(dialogue("live", "cam"))
    publisher.send(avc_configuration().replace(b"\x17\0\0\0\0", b"\x12\0\0\0\0"))

    assert codes(publisher.written()) == [*STARTED, FAILED]
    assert "Sorenson H.263" in description(publisher)
    assert not len(studio.hub.live.publishers)


def test_slow_clients_are_aborted() -> None:
    """
    The handshake, and then the request to publish, have ten seconds each.
    """
    studio = Studio()
    silent = studio.publisher(b"\x03")
    connected = studio.publisher(HANDSHAKE[:-1])
    studio.clock.advance(START_SECONDS - 1)
    connected.send(HANDSHAKE[-1:])
    studio.clock.advance(1)
    assert silent.wire.aborted
    assert not connected.wire.aborted

    studio.clock.advance(START_SECONDS)
    assert connected.wire.aborted


def test_a_refused_client_that_does_not_read_is_aborted() -> None:
    """
    The sentence that refuses it may stay in the buffers: the connection ends nevertheless.
    """
    studio = Studio(key="secret")
    refused = studio.publisher(dialogue("live", "cam"))
    studio.clock.advance(LINGER)
    studio.clock.advance(START_SECONDS)

    assert refused.wire.aborted
    refused.hang_up()


@pytest.mark.parametrize("sent", [HANDSHAKE + b"\xc4", HANDSHAKE + command("publish", 1, None)])
def test_broken_clients_are_closed(sent: bytes) -> None:
    """
    A client that breaks the protocol harms its own connection alone.
    """
    studio = Studio()
    other = studio.publisher(START)

    broken = studio.publisher(sent)
    studio.clock.advance(LINGER)

    assert not broken.open
    assert other.open


def test_waiting_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The address with most of them loses its oldest one.
    """
    monkeypatch.setattr(waiting, "MAX_WAITING", 3)
    studio = Studio()
    other = studio.publisher(b"\x03", address="192.0.2.1")
    many = [studio.publisher(b"\x03", address="192.0.2.2") for _ in range(3)]

    assert [each.wire.aborted for each in many] == [True, False, False]
    assert not other.wire.aborted
    published = studio.publisher(START)
    assert not published.wire.aborted


class SlowBroker:
    """
    A broker that acknowledges when the test says so.
    """

    def __init__(self) -> None:
        self.waiting: list[Deferred[PublishResult]] = []

    def __call__(self, drafts: Any) -> Deferred[PublishResult]:
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def acknowledge(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(PublishResult((NOWHERE,)))


def test_a_slow_broker_pauses_the_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    At most a bounded number of bytes waits for the broker.
    """
    monkeypatch.setattr(publication, "MAX_UNACKNOWLEDGED", 100)
    studio = Studio()
    broker = SlowBroker()
    monkeypatch.setattr(type(studio.hub), "publish", lambda hub, drafts: broker(drafts))

    publisher = studio.publisher(START, picture(0, True))
    assert publisher.wire.producerState == "paused"

    broker.acknowledge()
    assert publisher.wire.producerState == "producing"


def test_a_client_that_does_not_read_is_not_read() -> None:
    """
    Responses to its pings do not fill the memory.
    """
    studio = Studio()
    publisher = studio.publisher(START)
    producer: Any = publisher.wire.producer

    producer.pauseProducing()
    assert publisher.wire.producerState == "paused"
    producer.resumeProducing()
    assert publisher.wire.producerState == "producing"


def test_long_keyframe_intervals_are_logged_once(lines: list[str]) -> None:
    """
    The line says what to set.
    """
    studio = Studio()
    studio.publisher(START, *[picture(n, n == 0, 500) for n in range(20)])

    [line] = lines
    assert "more than 4 seconds between keyframes" in line
    assert "set a keyframe interval of 2 s" in line


def test_silent_tracks_are_logged(lines: list[str]) -> None:
    """
    A track that was announced and does not come is left out after a second.
    """
    studio = Studio()
    studio.publisher(
        dialogue("live", "cam"),
        metadata(videocodecid=7.0, audiocodecid=10.0),
        avc_configuration() + aac_configuration(),
        *[picture(n, n % 10 == 0, 100) for n in range(12)],
    )
    viewer = studio.viewer()
    studio.turn()

    [line] = lines
    assert line.startswith("the audio of cam is left out")
    assert b'codecs="avc1.42C00B"' in viewer.written()


def test_applications_get_the_states() -> None:
    """
    `events=` names a channel for them.
    """
    studio = Studio("^/events$ sse:events", "^/live/(\\w+)$ rtmp:publish=$1,events=events")
    events = studio.viewer(b"/events")
    publisher = studio.publisher(START)
    publisher.hang_up()
    studio.turn()

    assert b'"state": "started"' in events.written()
    assert b'"state": "lost"' in events.written()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("^/x$ rtmp", "needs publish="),
        ("^/x$ rtmp:publish=x,timeout=0", "timeout="),
        ("^/x$ rtmp:publish=x,grace=-1", "grace="),
        ("^/x$ rtmp:publish=x,as=raw", "no argument 'as'"),
    ],
)
def test_wrong_route_lines(line: str, reason: str) -> None:
    """
    A mistake is one sentence at start.
    """
    with pytest.raises(ValueError, match=reason):
        Studio(line)


def test_http_requests_of_such_a_route() -> None:
    """
    By HTTP the path has no such route.
    """
    studio = Studio(PUBLISHERS)

    assert studio.viewer().responses()[0].status == 404
