"""
Cameras that are fetched: their URLs, the dialogue with them, and when it takes place.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rt_twisted.rtsp.camera import CameraConnection, CameraLost
from rt_twisted.rtsp.camera_url import CameraUrl, join_control, parse_camera_url
from rt_twisted.rtsp.fetching import Fetcher
from tests.unit.http.clients import Caller, get
from tests.unit.rtsp.clients import IDR, URL, RtspClient, RtspPlace


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://h/cam", CameraUrl(False, "h", 554, "rtsp://h/cam")),
        ("RTSPS://h", CameraUrl(True, "h", 322, "rtsps://h")),
        ("rtsp://u:p%40s%23@h:99/", CameraUrl(False, "h", 99, "rtsp://h:99/", "u", "p@s#")),
        ("rtsp://u:p@s#/:x@h/", CameraUrl(False, "h", 554, "rtsp://h/", "u", "p@s#/:x")),
        ("rtsp://[::1]:5/a?b=c", CameraUrl(False, "::1", 5, "rtsp://[::1]:5/a?b=c")),
        ("rtsp://h/a@b", CameraUrl(False, "h", 554, "rtsp://h/a@b")),
    ],
)
def test_urls_of_cameras(text: str, expected: CameraUrl) -> None:
    """
    The password ends at the last `@`, and may have any characters.
    """
    assert parse_camera_url(text) == expected
    assert "p@s" not in repr(expected)


@pytest.mark.parametrize("text", ["", "http://h/", "rtsp://", "rtsp://h:0/", "rtsp://a b/"])
def test_wrong_urls_of_cameras(text: str) -> None:
    """
    The error is the end of a sentence.
    """
    with pytest.raises(ValueError, match="a URL"):
        parse_camera_url(text)


@pytest.mark.parametrize(
    ("base", "control", "url"),
    [
        ("rtsp://h/cam/", "track1", "rtsp://h/cam/track1"),
        ("rtsp://h/cam", "track1", "rtsp://h/cam/track1"),
        ("rtsp://h/cam", "rtsp://other/track1", "rtsp://other/track1"),
        ("rtsp://h/cam/", "*", "rtsp://h/cam/"),
        ("rtsp://h/cam/", "", "rtsp://h/cam/"),
    ],
)
def test_urls_of_tracks(base: str, control: str, url: str) -> None:
    """
    Relative ones are appended.
    """
    assert join_control(base, control) == url


class Camera:
    """
    A camera: a server of ours with a publisher, to which connections lead.
    """

    def __init__(self, *lines: str) -> None:
        self.place = RtspPlace(*(lines or ("^/cam$ rtsp:cam,view_key=p@s",)))
        self.publisher: RtspClient = self.place.connect()
        self.publisher.record()
        self.publisher.sound(0)
        self.publisher.picture(0, IDR)
        self.number = 0
        self.links: list[tuple[CameraConnection, StringTransport, Caller]] = []
        self.refuses = False
        self.film()
        self.film()

    def connect(self, url: CameraUrl, connection: CameraConnection) -> Deferred[Any]:
        if self.refuses:
            return fail(ConnectionRefusedError())
        transport = StringTransport()
        transport.abortConnection = (  # type: ignore[method-assign]  # as TCP does
            lambda: connection.connectionLost(Failure(ConnectionDone()))
        )
        caller = Caller(self.place.place.server, "127.0.0.1")
        connection.makeConnection(transport)  # type: ignore[no-untyped-call]  # Twisted's
        self.links.append((connection, transport, caller))
        return succeed(connection)

    def pump(self) -> None:
        """
        Carry bytes in both directions until nothing is left.
        """
        for connection, transport, caller in self.links:
            for _ in range(12):
                sent = transport.value()
                transport.clear()
                caller.send(sent)
                self.place.turn()
                received = caller.written()
                caller.wire.clear()  # type: ignore[no-untyped-call]  # Twisted's
                if received and not connection.lost.called:
                    connection.dataReceived(received)

    def film(self) -> None:
        """
        Send another picture, each tenth of which is a keyframe, and a sound.
        """
        self.number += 1
        self.publisher.picture(self.number, IDR if self.number % 10 == 0 else b"\x41\x9ax")
        self.publisher.sound(self.number)
        self.pump()


SOURCE = parse_camera_url(URL.replace("//", "//any:p%40s@"))


def test_the_dialogue_with_a_camera() -> None:
    """
    By Digest, as the camera offers; the tracks are set up and played.
    """
    camera = Camera()
    connection = CameraConnection(SOURCE, camera.place.place.clock)
    camera.connect(SOURCE, connection)

    played = ensureDeferred(connection.play())
    camera.pump()

    found: list[Any] = []
    played.addCallback(found.append)
    assert [track.media.encoding for track in found[0].tracks] == ["h264", "mpeg4-generic"]
    assert found[0].channels == {0: (0, 1), 1: (2, 3)}


def test_a_wrong_password() -> None:
    """
    The camera is not asked again and again.
    """
    camera = Camera()
    url = parse_camera_url(URL.replace("//", "//any:wrong@"))
    connection = CameraConnection(url, camera.place.place.clock)
    camera.connect(url, connection)

    played = ensureDeferred(connection.play())
    camera.pump()

    found: list[Failure] = []
    played.addErrback(found.append)
    assert found[0].check(CameraLost)
    assert "DESCRIBE with 401" in found[0].getErrorMessage()


def test_a_camera_that_does_not_answer() -> None:
    """
    The wait for a response ends.
    """
    camera = Camera()
    connection = CameraConnection(SOURCE, camera.place.place.clock)
    camera.connect(SOURCE, connection)
    played = ensureDeferred(connection.play())
    found: list[Failure] = []
    played.addErrback(found.append)

    camera.place.pass_seconds(11)

    assert found[0].check(CameraLost)


def fetching(camera: Camera, demand: bool) -> tuple[RtspPlace, Fetcher]:
    place = RtspPlace("GET ^/door.mp4$ mp4:door", "^/door$ rtsp:door")
    context = place.place.context
    return place, Fetcher(context, "door", SOURCE, demand, None, None, camera.connect)


def test_a_camera_is_fetched_and_comes_back() -> None:
    """
    Viewers stay while it is away; it is connected to again, at growing intervals.
    """
    camera = Camera()
    place, fetcher = fetching(camera, demand=False)
    viewer = Caller(place.place.server, "127.0.0.1").send(get(b"/door.mp4"))
    fetcher.start()
    camera.pump()
    for _ in range(5):
        camera.film()
        place.turn()
    assert b"keyframe" in viewer.written()

    camera.refuses = True
    camera.links.pop()[0].connectionLost(Failure(ConnectionDone()))
    place.pass_seconds(4)
    viewer.wire.clear()  # type: ignore[no-untyped-call]  # Twisted's
    camera.refuses = False
    place.pass_seconds(5)
    assert len(camera.links) == 1
    for _ in range(15):
        camera.film()
        place.turn()
    assert b"keyframe" in viewer.written()
    assert viewer.open

    fetcher.stop()
    assert camera.links[0][0].lost.called


def test_a_camera_is_fetched_on_demand() -> None:
    """
    From the first viewer until ten seconds after the last one.
    """
    camera = Camera()
    place, fetcher = fetching(camera, demand=True)
    fetcher.start()
    place.pass_seconds(3)
    assert camera.links == []

    viewer = Caller(place.place.server, "127.0.0.1").send(get(b"/door.mp4"))
    place.pass_seconds(1)
    camera.pump()
    for _ in range(3):
        camera.film()
        place.turn()
    assert b"keyframe" in viewer.written()
    viewer.hang_up()
    for _ in range(8):
        place.pass_seconds(1)
        camera.film()
    connection, transport, _ = camera.links[0]
    assert not transport.disconnecting
    place.pass_seconds(5)
    assert transport.disconnecting
    connection.connectionLost(Failure(ConnectionDone()))
    fetcher.stop()


def playing() -> tuple[Camera, CameraConnection, StringTransport]:
    """
    Return a camera that plays, the connection to it and its transport.
    """
    camera = Camera()
    connection = CameraConnection(SOURCE, camera.place.place.clock)
    camera.connect(SOURCE, connection)
    ensureDeferred(connection.play())
    camera.pump()
    return camera, connection, camera.links[0][1]


def test_a_camera_that_sends_garbage() -> None:
    """
    Some of it is skipped; with more the connection ends, and the reason names it.
    """
    _, connection, _ = playing()
    lost: list[str] = []
    connection.lost.addCallback(lost.append)
    connection.dataReceived(bytes(60_000))
    assert lost == []

    connection.dataReceived(bytes(10_000))

    assert lost == ["more than 65536 bytes between two packets"]


def test_requests_of_a_camera() -> None:
    """
    They are answered; a camera that sends nothing else, and may read nothing, is disconnected.
    """
    _, connection, transport = playing()
    lost: list[str] = []
    connection.lost.addCallback(lost.append)

    connection.dataReceived(
        b"OPTIONS * RTSP/1.0\r\nCSeq: 5\r\n\r\nSET_PARAMETER * RTSP/1.0\r\n\r\n"
    )
    answers = transport.value()
    assert answers.startswith(b"RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\nRTSP/1.0 501 ")
    connection.dataReceived(b"OPTIONS * RTSP/1.0\r\n\r\n" * 1000)

    assert lost == ["the camera has sent more than 100 requests"]
    assert len(transport.value()) < 10_000
