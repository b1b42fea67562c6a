"""
Live publishers by websocket: `websocket:publish=cam,as=auto`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail
from websockets.frames import Close

from rt_twisted.access.keys import Key, Keys
from rt_twisted.actions.ingest import publication
from rt_twisted.media.matroska_writer import write_cluster, write_header
from rt_twisted.media.unit import Head, Kind, Track, Unit, read
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import Message
from rt_twisted.routes import parse_route
from tests.unit.actions.websocket.daemon import DEFLATE, LARGE, Peer, WebSocketDaemon
from tests.unit.codecs.websocket_frames import masked

VIDEO = Track(1, Kind.VIDEO, "vp8", size=(320, 240))
HEADER = write_header((VIDEO,))
ROUTES = (
    "^/pub$ websocket:publish=cam,as=auto,timeout=5,grace=2,events=cameras",
    "^/over$ websocket:publish=cam,as=auto,takeover=yes",
    "^/see$ websocket:cam,as=webm",
    "^/states$ websocket:cameras",
)
LOST = "the connection of the publisher was lost"


def picture(number: int, key: bool = False, size: int = 0) -> bytes:
    return write_cluster(1, number * 40_000, key, b"<%d>" % number + bytes(size))


def make(*lines: str, **context: Any) -> WebSocketDaemon:
    return WebSocketDaemon(*(lines or ROUTES), websockets=LARGE, **context)


def publisher(daemon: WebSocketDaemon, *messages: bytes, path: str = "/pub") -> Peer:
    """
    Connect a publisher that has sent *messages*.
    """
    peer = daemon.open(path)
    for message in messages:
        peer.send(masked(2, message))
    return peer


def published(daemon: WebSocketDaemon, channel: str = "cam") -> list[Message]:
    """
    Return what the channel retains.
    """
    found: list[Message] = []
    ensureDeferred(daemon.hub.live.newest_messages(channel)).addCallback(found.extend)
    return found


def seen(viewer: Peer) -> list[int]:
    """
    Return the numbers of the pictures that *viewer* was sent since the last call.
    """
    stream = b"".join([message for message in viewer.received() if isinstance(message, bytes)])
    return [number for number in range(10) if b"<%d>" % number in stream]


def test_messages_are_a_stream_of_bytes() -> None:
    """
    A recorder's messages end anywhere; a viewer is sent whole frames from a keyframe on.
    """
    daemon = make()
    stream = HEADER + picture(0, True) + picture(1)
    peer = publisher(daemon, *[stream[at : at + 7] for at in range(0, len(stream), 7)])
    viewer = daemon.open("/see")
    daemon.turn()
    peer.send(masked(2, picture(2)))

    assert peer.received() == []
    assert seen(viewer) == [0, 1, 2]


def test_messages_are_not_compressed() -> None:
    """
    A browser would compress what is video already, if the extension were negotiated.
    """
    daemon = make()

    assert "permessage-deflate" not in daemon.open("/pub", DEFLATE).head
    assert "permessage-deflate" in daemon.open("/states", DEFLATE).head


def test_a_recorder_that_starts_again_continues_the_run() -> None:
    """
    A second EBML header in mid-stream, whose times begin with 0, is no new stream.
    """
    daemon = make()
    peer = publisher(daemon, HEADER, picture(0, True), picture(1))
    viewer = daemon.open("/see")
    daemon.turn()
    assert seen(viewer) == [0, 1]

    for message in (HEADER, picture(0, True), picture(1)):
        peer.send(masked(2, message))

    assert seen(viewer) == [0, 1]
    things = [read(message) for message in published(daemon)]
    assert len({thing.run for thing in things if isinstance(thing, Head)}) == 1
    times = [thing.pts for thing in things if isinstance(thing, Unit)]
    assert times == sorted(set(times))
    assert max(after - before for before, after in pairwise(times)) < 50_000


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (masked(8, b"\x03\xe8"), "the publisher has ended"),
        (masked(8, b""), "the publisher has ended"),
        (b"", LOST),
    ],
)
def test_a_publisher_that_closes_has_ended(last: bytes, reason: str) -> None:
    """
    Without a close frame it was lost; viewers wait for it in both cases.
    """
    daemon = make()
    listener = daemon.open("/states")
    peer = publisher(daemon, HEADER, picture(0, True))
    viewer = daemon.open("/see")
    daemon.turn()

    peer.send(last)
    peer.disconnect()
    daemon.turn()

    states = listener.received()
    assert [state["state"] for state in states] == ["started", "lost"]
    assert states[1]["reason"] == reason
    daemon.clock.pump([1.0] * 3)
    assert viewer.received()[-1] == Close(1001, "")


def test_a_second_publisher_is_closed_with_the_reason() -> None:
    """
    With `takeover=yes` it gets the channel, and the first is closed.
    """
    daemon = make()
    first = publisher(daemon, HEADER, picture(0, True))

    second = publisher(daemon, HEADER)
    assert second.status == 101
    assert second.received() == [Close(1008, "the channel 'cam' has a publisher")]
    assert daemon.hub.metrics.refused["publishes"]["forbidden"] == 1

    third = publisher(daemon, HEADER, path="/over")
    assert first.received() == [Close(1008, "another publisher has taken over")]
    assert third.received() == []


def test_a_silent_publisher_is_closed() -> None:
    """
    The channel is free again after the time of the route.
    """
    daemon = make()
    peer = publisher(daemon)
    daemon.clock.pump([1.0] * 7)

    assert peer.received()[-1] == Close(1008, "nothing was received for 5 seconds")
    assert publisher(daemon, HEADER).received() == []


def test_malformed_bytes_close_the_websocket() -> None:
    """
    The reason is in the close frame; the channel is free again.
    """
    daemon = make()
    peer = publisher(daemon, HEADER, b"\0" * 100)

    [close] = peer.received()
    assert close.code == 1003
    assert close.reason
    assert publisher(daemon, HEADER).received() == []


def test_other_messages_are_published_as_they_are() -> None:
    """
    What is no container is one message for each message of the client.
    """
    daemon = make(*ROUTES, "^/raw$ websocket:cam")
    viewer = daemon.open("/raw")
    peer = publisher(daemon, b"one message", b"another")
    peer.text("and a third one")

    assert [bytes(each) if isinstance(each, bytes) else each for each in viewer.received()] == [
        "one message",
        "another",
        "and a third one",
    ]


def test_a_key_is_needed_if_one_is_set() -> None:
    """
    The key stands in the query or among the subprotocols; a refusal is a close frame.
    """
    keys = Keys([Key.of("secret", ["cam"]), Key.of("other", ["news"])])
    daemon = make(publish_keys=keys)

    assert publisher(daemon, path="/pub").received() == [Close(1008, "a key is needed")]
    assert publisher(daemon, path="/pub?key=wrong").received() == [Close(1008, "wrong key")]
    forbidden = Close(1008, "this key does not permit channel 'cam'")
    assert publisher(daemon, path="/pub?key=other").received() == [forbidden]
    assert publisher(daemon, HEADER, path="/pub?key=secret").received() == []
    assert daemon.hub.metrics.refused["publishes"]["key"] == 2


def test_another_machine_needs_a_key() -> None:
    """
    Without any key, only this machine may publish.
    """
    daemon = make()
    peer = daemon.open("/pub", address="10.0.0.7")

    [close] = peer.received()
    assert close.code == 1008
    assert "only its own machine" in close.reason


def test_a_publisher_is_paused_while_the_broker_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    At most 4 MiB wait; then nothing is read from the websocket.
    """
    monkeypatch.setattr(publication, "MAX_UNACKNOWLEDGED", 5000)
    daemon = make()
    peer = publisher(daemon, HEADER)
    waiting: list[Deferred[Any]] = []
    publish = daemon.hub.publish

    def defer(drafts: Any) -> Any:
        waiting.append(Deferred())
        waiting[-1].addCallback(lambda _: publish(drafts))
        return waiting[-1]

    monkeypatch.setattr(daemon.hub, "publish", defer)
    for number in range(3):
        peer.send(masked(2, picture(number, True, 2000)))
    assert not peer.is_read

    for deferred in waiting:
        deferred.callback(None)
    daemon.turn()
    assert peer.is_read


def test_the_broker_is_away_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The client is asked to try later.
    """
    daemon = make()
    publishers = daemon.hub.live.publishers
    monkeypatch.setattr(publishers, "claim", lambda *_: fail(Unavailable("redis is away")))

    assert publisher(daemon).received() == [Close(1013, "redis is away")]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("as=auto", "needs publish="),
        ("publish=a,publish=b,as=auto", "publish= is given twice"),
        ("publish=a,subscribe=b,as=auto", "has no argument 'subscribe'; it has: publish, as"),
        ("publish=a,prefix=x,as=auto", "has no argument 'prefix'"),
        ("publish=a,takeover=yes", "has no argument 'takeover'"),
        ("subscribe=a,as=webm,grace=3", "has no argument 'grace'; it has: subscribe, as, burst"),
        ("publish=a,as=auto,burst=3", "has no argument 'burst'"),
        ("publish=a,as=auto,timeout=0", "timeout= must be more than 0"),
        ("publish=a,as=auto,grace=-1", "grace= cannot be negative"),
        ("publish=a,as=ogg", "as= must be one of webm, mp4, auto"),
    ],
)
def test_wrong_arguments(arguments: str, reason: str) -> None:
    """
    One sentence says what the line lacks.
    """
    with pytest.raises(ValueError, match=reason):
        parse_route(f"^/pub$ websocket:{arguments}", make().context)
