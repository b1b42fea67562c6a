"""
Listeners that move between mounts: to a fallback and back, and by command.
"""

from __future__ import annotations

import re

import pytest

from rt_twisted.media.icy import METAINT
from tests.unit.actions.icecast.test_icecast import ADMIN, Station, body, request, status
from tests.unit.http.clients import Caller, get
from tests.unit.media.test_mpeg_audio import MP3
from tests.unit.media.test_ogg import audio, headers

FALLBACK = r"^/(a\.\w+)$ icecast:channel=radio/$1,password=hackme,fallback=/quiet.mp3"
OTHERS = r"^/(\w+\.\w+)$ icecast:channel=radio/$1,password=hackme"
ICY = b"Icy-MetaData: 1\r\n"
QUIET = bytes.fromhex("fffb9064").ljust(417, b"\x11")


def station() -> Station:
    return Station(ADMIN, FALLBACK, OTHERS, "^/events$ sse:events")


def source(one: Station, path: bytes, data: bytes) -> Caller:
    caller = one.source(b"SOURCE %s HTTP/1.0" % path)
    caller.send(data)
    one.turn()
    return caller


def audio_of(stream: bytes) -> bytes:
    """
    Return a stream without its titles, which have to stand at the right places.
    """
    found = b""
    while len(stream) > METAINT:
        found += stream[:METAINT]
        size = stream[METAINT] * 16
        assert stream[METAINT + 1 : METAINT + 1 + size].startswith(b"StreamTitle='"[:size])
        stream = stream[METAINT + 1 + size :]
    return found + stream


@pytest.mark.parametrize("asked", [b"", ICY])
def test_listeners_move_to_the_fallback_and_return(asked: bytes) -> None:
    """
    They stay connected, frames stay whole, and titles stay where players expect them.
    """
    one = station()
    quiet = source(one, b"/quiet.mp3", QUIET * 50)
    first = source(one, b"/a.mp3", MP3 * 50)
    listener = one.listener(headers=asked)
    first.send(MP3 * 45)
    one.turn()
    first.hang_up()
    one.turn(1)
    quiet.send(QUIET * 100)
    one.turn()
    assert listener.open
    assert QUIET in body(listener)

    again = source(one, b"/a.mp3", MP3 * 50)
    one.turn(1)
    count = body(listener).count(QUIET)
    again.send(MP3 * 100)
    quiet.send(QUIET * 100)
    one.turn()

    assert body(listener).count(QUIET) == count
    sound = audio_of(body(listener)) if asked else body(listener)
    first_part, _, rest = sound.partition(QUIET)
    assert first_part.count(MP3) >= 40
    assert rest.count(QUIET) >= 10
    assert rest.count(MP3) >= 40
    others = re.sub(b"(%b|%b)" % (MP3, QUIET), b"", sound)
    assert len(others) < 4 * 417  # a listener with titles begins and moves within a frame


def test_a_listener_may_begin_with_the_fallback() -> None:
    """
    The mount has no source yet; the listener moves when it has one.
    """
    one = station()
    source(one, b"/quiet.mp3", QUIET * 50)
    listener = one.listener()
    one.turn(3)
    assert QUIET in body(listener)

    source(one, b"/a.mp3", MP3 * 50).send(MP3 * 50)
    one.turn(1)
    assert MP3 in body(listener)


def test_without_a_source_the_fallback_ends_listeners() -> None:
    """
    The fallback has none, or one of another codec: a player could not go on.
    """
    one = station()
    first = source(one, b"/a.mp3", MP3 * 50)
    listener = one.listener()
    first.hang_up()
    one.turn(1)
    assert not listener.open

    ogg = one.source(b"SOURCE /quiet.mp3 HTTP/1.0", b"Content-Type: audio/ogg\r\n")
    ogg.send(headers() + b"".join(audio(9)))
    second = source(one, b"/a.mp3", MP3 * 50)
    listener = one.listener()
    second.hang_up()
    one.turn(1)
    assert not listener.open


def test_a_listener_of_the_fallback_can_leave() -> None:
    """
    Nothing is left of it when the mount has a source again.
    """
    one = station()
    source(one, b"/quiet.mp3", QUIET * 50)
    listener = one.listener()
    one.turn(3)
    listener.hang_up()
    source(one, b"/a.mp3", MP3 * 50)
    one.turn(1)

    assert one.status()["source"][0]["listeners"] == 0  # type: ignore[index]


def command(one: Station, line: bytes) -> tuple[int, str]:
    [answer] = one.admin(b"/admin/" + line).responses()
    return answer.status, answer.body.decode()


def test_listeners_are_listed_moved_and_killed() -> None:
    """
    In the shapes of icecast2.
    """
    one = station()
    source(one, b"/a.mp3", MP3 * 50)
    source(one, b"/b.mp3", QUIET * 50)
    listener = one.listener(headers=b"User-Agent: me/1 <x>\r\n")
    assert command(one, b"listclients?mount=/a.mp3") == (
        200,
        '<?xml version="1.0"?>\n<icestats><source mount="/a.mp3"><Listeners>1</Listeners><listener>'
        "<IP>192.0.2.1</IP><UserAgent>me/1 &lt;x&gt;</UserAgent><Connected>0</Connected><ID>1</ID>"
        "</listener></source></icestats>\n",
    )

    moved = command(one, b"moveclients?mount=/a.mp3&destination=/b.mp3")
    assert moved[0] == 200
    assert "<message>Clients moved from /a.mp3 to /b.mp3</message><return>1</return>" in moved[1]
    one.turn(1)
    assert "<Listeners>0<" in command(one, b"listclients?mount=/a.mp3")[1]
    assert QUIET in body(listener)

    assert "<return>0</return>" in command(one, b"killclient?mount=/b.mp3&id=7")[1]
    killed = command(one, b"killclient?mount=/b.mp3&id=1")
    assert "<message>Client 1 removed</message><return>1</return>" in killed[1]
    assert listener.wire.aborted


@pytest.mark.parametrize(
    "line",
    [
        b"listclients",
        b"listclients?mount=/none.mp3",
        b"moveclients?mount=/a.mp3",
        b"moveclients?mount=/a.mp3&destination=/a.mp3",
        b"moveclients?mount=/a.mp3&destination=/none.mp3",
        b"moveclients?mount=/a.mp3&destination=/status.xsl",
        b"killclient?mount=/a.mp3",
    ],
)
def test_wrong_commands(line: bytes) -> None:
    """
    A mount that is missing or has no source is 400.
    """
    one = station()
    source(one, b"/a.mp3", MP3 * 50)

    assert command(one, line)[0] == 400


def test_titles_are_messages_for_pages() -> None:
    """
    A page shows the title by an event stream.
    """
    one = Station(ADMIN, MOUNT_WITH_EVENTS, "^/events$ sse:events")
    page = one.call(get(b"/events"))
    sender = source(one, b"/a.mp3", MP3 * 50)
    one.admin(b"/admin/metadata?mount=/a.mp3&mode=updinfo&song=T%EFtle")
    sender.send(MP3 * 20)
    one.turn()

    shown = page.written().decode()
    assert '"state": "started"' in shown
    event = 'event: title\ndata: {"channel": "radio/a.mp3", "mount": "/a.mp3", "title": "Tïtle"}\n'
    assert shown.count(event) == 1


MOUNT_WITH_EVENTS = r"^/(\w+\.mp3)$ icecast:channel=radio/$1,password=hackme,events=events"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"SOURCE /a.mp3 HTTP/1.0", b"HTTP/1.0 401 "),
        (b"SOURCE /a.mp3 HTTP/1.1", b"HTTP/1.1 401 "),
        (b"SOURCE /nowhere HTTP/1.0", b"HTTP/1.0 404 "),
        (b"GET /none.mp3 HTTP/1.0", b"HTTP/1.1 401 "),
    ],
)
def test_sources_are_refused_in_their_version(line: bytes, expected: bytes) -> None:
    """
    Some take HTTP/1.1 for another server.
    """
    one = station()
    if line.startswith(b"GET"):
        caller = one.admin(b"/admin/stats", "wrong")
    else:
        caller = one.call(request(line, password="wrong"))

    assert caller.written().startswith(expected)


def test_a_put_with_a_length_is_a_source() -> None:
    """
    The source is answered when all of it was received.
    """
    one = station()
    data = MP3 * 60
    caller = one.call(request(b"PUT /a.mp3 HTTP/1.1", b"Content-Length: %d\r\n" % len(data)))
    caller.send(data[: len(data) // 2])
    listener = one.listener()
    caller.send(data[len(data) // 2 :])
    one.turn()

    assert status(caller) == 200
    assert body(listener).count(MP3) >= 40
