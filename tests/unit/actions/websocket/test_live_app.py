"""
Live streams by websocket: `websocket:subscribe=cam,as=webm`.
"""

from __future__ import annotations

from typing import Any

import pytest
from websockets.frames import Close

from rt_twisted.media.unit import End, Head, Kind, Track, Unit, write
from rt_twisted.model.message import Draft
from rt_twisted.routes import parse_route
from tests.unit.actions.websocket.daemon import WebSocketDaemon
from tests.unit.http.clients import Place

VP8 = Track(1, Kind.VIDEO, "vp8", size=(320, 240))
VP9 = Track(1, Kind.VIDEO, "vp9", size=(320, 240))
ROUTES = (
    "^/webm$ websocket:subscribe=cam,as=webm,wait=3,behind=2000",
    "^/mp4$ websocket:cam,as=mp4",
    "^/secret$ websocket:cam,as=webm,view_key=secret",
)
EBML = b"\x1a\x45\xdf\xa3"


def publish(daemon: WebSocketDaemon, *things: Head | Unit | End) -> None:
    for event, data in map(write, things):
        daemon.hub.publish([Draft("cam", data, event, transient=True)])
    daemon.turn()


def picture(number: int, key: bool = False, size: int = 0) -> Unit:
    return Unit(1, number * 40_000, number * 40_000, 0, key, 0, 0, b"<%d>" % number + bytes(size))


@pytest.mark.parametrize(("path", "start"), [("/webm", EBML), ("/mp4", b"\0\0\0")])
def test_a_viewer_gets_the_header_and_then_frames(path: str, start: bytes) -> None:
    """
    The binary messages are what the HTTP stream has, the header first, also for a late viewer.
    """
    daemon = WebSocketDaemon(*ROUTES)
    early = daemon.open(path)
    assert early.status == 101
    publish(daemon, Head("run", 0.0, (VP9,)), picture(0, True), picture(1))
    late = daemon.open(path)
    daemon.turn()

    for viewer in (early, late):
        received = viewer.received()
        assert all(isinstance(message, bytes) for message in received)
        assert received[0].startswith(start)
        assert b"".join(received).count(b"<0>") == b"".join(received).count(b"<1>") == 1


def test_a_page_may_ask_for_the_codecs() -> None:
    """
    A page needs the content type before the first byte.
    """
    daemon = WebSocketDaemon(*ROUTES)
    publish(daemon, Head("run", 0.0, (VP8,)), picture(0, True))
    viewer = daemon.open("/webm?codecs=yes")
    daemon.turn()

    assert viewer.received()[0] == 'video/webm; codecs="vp8"'


def test_the_reason_of_a_refusal_is_in_the_close_frame() -> None:
    """
    Pages are not shown the status of a handshake.
    """
    daemon = WebSocketDaemon(*ROUTES)
    viewer = daemon.open("/webm")
    daemon.clock.pump([1.0] * 4)
    assert viewer.received() == [Close(1013, "channel 'cam' has no publisher")]

    publish(daemon, Head("run", 0.0, (VP8,)), picture(0, True))
    viewer = daemon.open("/mp4")
    daemon.turn()
    assert viewer.received() == [Close(1003, "MP4 cannot carry vp8; the route word webm can")]


def test_the_end_of_a_stream_closes_the_websocket() -> None:
    """
    A stream ends, and so does one whose tracks change: the client connects again.
    """
    daemon = WebSocketDaemon(*ROUTES)
    publish(daemon, Head("run", 0.0, (VP8,)), picture(0, True))
    viewers = [daemon.open("/webm"), daemon.open("/webm")]
    daemon.turn()
    viewers[0].text("hello")
    assert viewers[0].received()[-1] == Close(1003, "nothing can be published here")

    publish(daemon, picture(1), End("run"))

    received = viewers[1].received()
    assert b"<1>" in received[-2]
    assert received[-1] == Close(1001, "")
    assert daemon.hub.subscribers == 0


def test_a_viewer_who_leaves_while_it_waits_leaves_nothing() -> None:
    """
    The search for the first message ends with the connection.
    """
    daemon = WebSocketDaemon(*ROUTES)
    viewer = daemon.open("/webm")
    viewer.disconnect()
    daemon.turn()

    assert daemon.hub.subscribers == daemon.hub.subscribers_of("cam") == 0
    publish(daemon, Head("run", 0.0, (VP8,)), picture(0, True))
    assert daemon.hub.subscribers_of("cam") == 0


def test_a_slow_viewer_skips_to_a_later_keyframe() -> None:
    """
    The slow-consumer policy is that of HTTP viewers: no torn frame, no hole in the times.
    """
    daemon = WebSocketDaemon(*ROUTES)
    publish(daemon, Head("run", 0.0, (VP8,)), picture(0, True))
    slow = daemon.open("/webm")
    daemon.turn()
    producer: Any = slow.caller.wire.producer
    producer.pauseProducing()
    for number in range(1, 8):
        publish(daemon, picture(number, size=1000))
    assert daemon.hub.metrics.skips == 1

    producer.resumeProducing()
    publish(daemon, Head("run", 0.0, (VP8,), 320_000, True), picture(8, True), picture(9))

    received = b"".join(slow.received())
    assert b"<1>" in received and b"<7>" not in received
    assert b"<8>" in received and b"<9>" in received


def test_a_viewer_may_need_a_key() -> None:
    """
    Without it the handshake is refused.
    """
    daemon = WebSocketDaemon(*ROUTES)

    assert daemon.open("/secret").status == 401
    assert daemon.open("/secret?key=secret").status == 101


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("^/x$ websocket:as=webm", "action 'websocket' needs subscribe="),
        ("^/x$ websocket:subscribe=a,subscribe=b,as=webm", "subscribe= is given twice"),
        (
            "^/x$ websocket:subscribe=a,publish=b,as=mp4",
            "action 'websocket' has no argument 'publish'",
        ),
        ("^/x$ websocket:subscribe=a,as=mjpeg", "as= must be one of webm, mp4"),
        ("^/x$ websocket:subscribe=a,wait=1", "action 'websocket' has no argument 'wait'"),
    ],
)
def test_wrong_arguments(line: str, reason: str) -> None:
    """
    The sentence says what is missing.
    """
    with pytest.raises(ValueError) as raised:
        parse_route(line, Place().context)

    assert str(raised.value).startswith(reason)
