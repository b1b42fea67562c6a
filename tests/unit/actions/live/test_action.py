"""
Tests of `rt_twisted.actions.live.action`.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from rt_twisted.codecs.route_lines import mask_secrets
from rt_twisted.media.unit import Head, Kind, Track, Unit, write
from rt_twisted.model.message import Draft
from rt_twisted.routes import parse_route
from tests.unit.http.clients import Caller, Place, get

ROUTES = ("^/cam.webm$ webm:subscribe=cam,wait=3", "^/cam.mp4$ mp4:subscribe=cam,wait=3")
AVC = bytes.fromhex("0142c00affe1000467420a0a01000468ce3c80")
VP8 = Track(1, Kind.VIDEO, "vp8", size=(320, 240))
H264 = Track(1, Kind.VIDEO, "h264", AVC, size=(320, 240))
VP9 = Track(1, Kind.VIDEO, "vp9", size=(320, 240))
VORBIS = Track(2, Kind.AUDIO, "vorbis", b"\x02\x01\x01abc", 48000, 2)
MP3 = Track(1, Kind.AUDIO, "mp3", rate=48000, channels=2)


class LiveSite:
    """
    A server with the routes *lines*.
    """

    def __init__(self, *lines: str) -> None:
        self.place = Place(*(lines or ROUTES))
        self.place.hub.start()

    def publish(self, track: Track) -> None:
        """
        Publish a head and a keyframe of *track*, as publishers on any node do.
        """
        for thing in (Head("run", 0.0, (track,)), Unit(track.id, 0, 0, 0, True, 0, 0, b"<0>")):
            event, data = write(thing)
            self.place.hub.publish([Draft("cam", data, event, transient=True)])
        self.turn()

    def view(self, path: bytes, headers: bytes = b"", method: bytes = b"GET") -> Caller:
        """
        Connect a viewer that requests *path*.
        """
        request = get(path).replace(b"GET", method, 1).replace(b"\r\n", b"\r\n" + headers, 1)
        caller = Caller(self.place.server, "127.0.0.1").send(request)
        self.turn()
        return caller

    def turn(self) -> None:
        for _ in range(4):
            self.place.clock.advance(0)


def status(caller: Caller) -> int:
    return int(caller.written().split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("track", "webm", "mp4"),
    [
        (VP8, b'video/webm; codecs="vp8"', b"the route word webm can"),
        (VP9, b'video/webm; codecs="vp09.', b'video/mp4; codecs="vp09.'),
        (H264, b"the route word mp4 can", b'video/mp4; codecs="avc1.42C00A"'),
        (VORBIS, b'audio/webm; codecs="vorbis"', b"the route word webm can"),
        (MP3, b"the route word mp4 can", b'audio/mp4; codecs="mp3"'),
    ],
)
def test_each_container_carries_its_codecs(track: Track, webm: bytes, mp4: bytes) -> None:
    """
    The codecs are in the content type; for others a sentence names the container that can.
    """
    site = LiveSite()
    site.publish(track)

    for path, expected in ((b"/cam.webm", webm), (b"/cam.mp4", mp4)):
        viewer = site.view(path)
        assert status(viewer) == (415 if b"route word" in expected else 200)
        assert expected in viewer.written()
        assert (b"<0>" in viewer.written()) is (status(viewer) == 200)


@pytest.mark.parametrize("path", [b"/cam.webm", b"/cam.mp4"])
def test_head_and_ranges_are_answered_as_get(path: bytes) -> None:
    """
    HEAD has the codecs too; browsers send a range of the whole stream.
    """
    site = LiveSite()
    site.publish(VP9)

    head = site.view(path, method=b"HEAD").written()
    ranged = site.view(path, b"Range: bytes=0-\r\n")

    assert b"codecs=" in head and b"<0>" not in head
    assert status(ranged) == 200
    for header in (b"Cache-Control: no-store\r\n", b"X-Accel-Buffering: no\r\n"):
        assert header in head and header in ranged.written()


@pytest.mark.parametrize("path", [b"/cam.webm", b"/cam.mp4"])
def test_without_a_publisher_a_viewer_is_refused_in_time(path: bytes) -> None:
    """
    The response says when to ask again.
    """
    site = LiveSite()
    viewer = site.view(path)
    site.place.clock.pump([1.0] * 2)
    assert viewer.written() == b""

    site.place.clock.pump([1.0] * 2)

    assert status(viewer) == 503
    assert b"Retry-After: 2\r\n" in viewer.written()
    assert b"has no publisher" in viewer.written()


def test_a_viewer_that_waits_is_refused_when_the_daemon_stops() -> None:
    """
    A stop does not wait for a publisher.
    """
    site = LiveSite()
    viewer = site.view(b"/cam.webm")

    site.place.hub.stop(2000)

    assert status(viewer) == 503


BASIC = b"Authorization: Basic " + b64encode(b"anyone:secret") + b"\r\n"


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        (b"", b"", 401),
        (b"?key=wrong", b"", 401),
        (b"?key=secret", b"", 200),
        (b"", BASIC, 200),
        (b"", b"Authorization: Bearer secret\r\n", 200),
    ],
)
@pytest.mark.parametrize("key", ["secret", "env:VIEW_KEY", "file:{path}"])
def test_a_route_may_need_a_key(
    key: str,
    query: bytes,
    headers: bytes,
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The key is in the query or in a header, and a browser is asked for it.
    """
    monkeypatch.setenv("VIEW_KEY", "secret")
    (tmp_path / "key").write_text("secret\n")
    key = key.format(path=tmp_path / "key")
    site = LiveSite(f"^/cam.webm$ webm:cam,view_key={key}")
    site.publish(VP8)

    viewer = site.view(b"/cam.webm" + query, headers)

    assert status(viewer) == expected
    assert (b"WWW-Authenticate: Basic" in viewer.written()) is (expected == 401)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("^/x$ mp4:cam,video_codec=V_VP8", "video_codec= is not for mp4"),
        ("^/x$ mp4:cam,wait=-1", "wait= cannot be negative"),
        ("^/x$ webm:cam,video_codec=V_X", "video_codec=V_X is not one of"),
        ("^/x$ webm:cam,view_key=file:/none", "view_key= must be readable: file /none"),
        ("^/x$ webm:wait=1", "action 'webm' needs subscribe="),
    ],
)
def test_wrong_arguments(line: str, reason: str) -> None:
    """
    The sentence names the argument.
    """
    with pytest.raises(ValueError) as raised:
        parse_route(line, Place().context)

    assert str(raised.value).startswith(reason)


def test_the_key_of_viewers_is_not_shown() -> None:
    """
    Error texts and the log name the route without it.
    """
    assert mask_secrets("^/x$ webm:cam,view_key=abc,wait=1") == "^/x$ webm:cam,view_key=***,wait=1"
