"""
The actions `icecast` and `icecast-admin` on one server, without sockets.
"""

from __future__ import annotations

import json
from base64 import b64encode
from xml.etree import ElementTree

import pytest

from rt_twisted.actions.icecast.commands import listeners_of_process
from rt_twisted.media.icy import METAINT
from rt_twisted.routes import parse_route
from tests.unit.http.clients import Caller, Place, get
from tests.unit.media.test_mpeg_audio import MP3
from tests.unit.media.test_ogg import audio, headers

MOUNT = r"^/(\w+\.\w+)$ icecast:channel=radio/$1,password=hackme"
ADMIN = r"^/(status(-json)?\.xsl|admin/\w+)$ icecast-admin:password=boss"
OK = b"HTTP/1.0 200 OK\r\n\r\n"


def basic(password: str, user: str = "source") -> bytes:
    return b"Authorization: Basic %s\r\n" % b64encode(f"{user}:{password}".encode())


def request(line: bytes, headers: bytes = b"", password: str | None = "hackme") -> bytes:
    secret = basic(password) if password is not None else b""
    return line + b"\r\nHost: localhost\r\n" + headers + secret + b"\r\n"


class Station:
    """
    A server on a clock with mounts.
    """

    def __init__(self, *lines: str) -> None:
        self.place = Place(*(lines or (ADMIN, MOUNT)))
        self.hub = self.place.hub
        self.hub.start()

    def call(self, data: bytes, address: str = "192.0.2.1") -> Caller:
        caller = Caller(self.place.server, address).send(data)
        self.turn()
        return caller

    def source(self, line: bytes = b"SOURCE /a.mp3 HTTP/1.0", headers: bytes = b"") -> Caller:
        return self.call(request(line, headers))

    def listener(self, path: bytes = b"/a.mp3", headers: bytes = b"") -> Caller:
        return self.call(get(path, headers))

    def admin(self, path: bytes, password: str = "boss", method: bytes = b"GET") -> Caller:
        return self.call(request(method + b" " + path + b" HTTP/1.1", b"", password))

    def turn(self, seconds: int = 0) -> None:
        for _ in range(4):
            self.place.clock.advance(0)
        self.place.clock.pump([1.0] * seconds)
        for _ in range(4):
            self.place.clock.advance(0)

    def status(self) -> dict[str, object]:
        [answer] = self.call(get(b"/status-json.xsl")).responses()
        found: dict[str, object] = answer.json["icestats"]
        return found


def status(caller: Caller) -> int:
    return int(caller.written().split(b" ", 2)[1])


def body(caller: Caller) -> bytes:
    return caller.written().partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("line", "expect", "answer"),
    [
        (b"SOURCE /a.mp3 HTTP/1.0", b"", OK),
        (b"SOURCE /a.mp3 ICE/1.0", b"", OK),
        (b"SOURCE /a.mp3 HTTP/1.1", b"", OK),
        (b"POST /a.mp3 HTTP/1.1", b"", OK),
        (
            b"PUT /a.mp3 HTTP/1.1",
            b"Expect: 100-continue\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        ),
    ],
)
def test_a_source_is_answered_before_it_sends(line: bytes, expect: bytes, answer: bytes) -> None:
    """
    Listeners receive what it sends then, whether it comes with the head or later.
    """
    station = Station()
    listener = station.listener()

    source = station.call(request(line, expect) + MP3 * 10)
    assert source.written() == answer
    source.send(MP3 * 10)
    station.turn()

    assert b"Content-Type: audio/mpeg\r\n" in listener.written()
    assert b"Transfer-Encoding" not in listener.written()
    assert body(listener) == MP3 * 20


def test_a_put_in_chunks_is_unchunked() -> None:
    """
    Its response comes at the end, as by any HTTP server.
    """
    station = Station()
    listener = station.listener()

    source = station.call(request(b"PUT /a.mp3 HTTP/1.1", b"Transfer-Encoding: chunked\r\n"))
    source.send(b"%x\r\n%b\r\n" % (len(MP3) * 20, MP3 * 20), b"0\r\n\r\n")
    station.turn()

    assert status(source) == 200
    assert body(listener) == MP3 * 20


@pytest.mark.parametrize("password", [None, "wrong", ""])
def test_sources_need_the_password(password: str | None) -> None:
    """
    The challenge is for Basic, which is all that sources have; no 100 comes before it.
    """
    station = Station()
    line, expect = b"PUT /a.mp3 HTTP/1.1", b"Expect: 100-continue\r\n"

    source = station.call(request(line, expect, password))

    assert source.written().startswith(b"HTTP/1.1 401 ")
    assert b"WWW-Authenticate: Basic realm=" in source.written()


def test_a_request_without_audio_is_no_source() -> None:
    """
    libshout asks with `Content-Length: 0` and no password first, even where none is needed.
    """
    station = Station("^/a.mp3$ icecast:radio")
    line, empty = b"PUT /a.mp3 HTTP/1.1", b"Content-Length: 0\r\n"

    assert status(station.call(request(line, empty, None), "127.0.0.1")) == 401
    assert status(station.call(request(line, empty), "127.0.0.1")) == 400
    assert station.call(request(line), "127.0.0.1").written() == OK


def test_a_mount_has_one_source() -> None:
    """
    A second one gets 403, until the first is gone.
    """
    station = Station()
    first = station.source()

    assert status(station.source()) == 403
    first.hang_up()
    assert station.source().written() == OK


def test_a_source_that_sends_nothing_loses_its_mount() -> None:
    """
    Its connection is aborted after `live-timeout`.
    """
    station = Station()
    source = station.source()

    station.turn(12)

    assert source.wire.aborted
    assert station.source().written() == OK


def test_a_mount_without_source() -> None:
    """
    A listener waits a second, for a source that is about to come back, and gets 404.
    """
    station = Station()
    listener = station.listener()
    assert listener.written() == b""

    station.turn(2)

    assert status(listener) == 404


def test_titles_are_sent_to_listeners_that_ask() -> None:
    """
    A title comes by the source's or the administrator's password, and is in the next block.
    """
    station = Station()
    source = station.source(headers=b"Ice-Name: R\xc3\xa0dio\r\nice-bitrate: 128\r\n")
    source.send(MP3 * 10)
    station.turn()
    listener = station.listener(headers=b"Icy-MetaData: 1\r\n")
    plain = station.listener()
    update = b"/admin/metadata?mount=%2fa%2emp3&mode=updinfo&song=A+-+T%EFtle"

    [answer] = station.admin(update, "hackme").responses()
    source.send(MP3 * 80)
    station.turn()

    assert answer.status == 200
    assert b"<return>1</return>" in answer.body
    head = listener.written().partition(b"\r\n\r\n")[0]
    assert b"\r\nicy-metaint: 16000" in head
    assert b"\r\nicy-br: 128" in head
    assert "\r\nicy-name: Ràdio".encode() in head
    assert body(listener)[METAINT:].startswith(b"\x02StreamTitle='A - T\xc3\xaftle';")
    assert body(plain) == MP3 * 90
    assert b"icy-metaint" not in plain.written()
    assert station.status()["source"]["title"] == "A - Tïtle"  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "password", "expected"),
    [
        (b"/admin/metadata?mount=/a.mp3&mode=updinfo&song=x", "boss", 200),
        (b"/admin/metadata?mount=/a.mp3&mode=updinfo&song=x", "wrong", 401),
        (b"/admin/metadata?mount=/b.mp3&mode=updinfo&song=x", "hackme", 400),
        (b"/admin/metadata?mount=/status.xsl&mode=updinfo&song=x", "boss", 400),
        (b"/admin/metadata?mount=/a.mp3&mode=other&song=x", "boss", 400),
        (b"/admin/metadata", "boss", 400),
        (b"/admin/metadata", "hackme", 401),
        (b"/admin/stats", "hackme", 401),
        (b"/admin/stats", "boss", 200),
        (b"/admin/listmounts", "boss", 200),
        (b"/admin/killsource?mount=/a.mp3", "hackme", 401),
        (b"/admin/other", "boss", 400),
    ],
)
def test_commands(path: bytes, password: str, expected: int) -> None:
    """
    A script gets the status that icecast2 gives.
    """
    station = Station()
    station.source().send(MP3 * 20)
    station.turn()

    assert status(station.admin(path, password)) == expected


def test_without_an_admin_password_only_this_machine_may_use_the_commands() -> None:
    """
    The status is for all, as in icecast2.
    """
    station = Station(r"^/(status-json.xsl|admin/\w+)$ icecast-admin", MOUNT)
    stats = b"GET /admin/stats HTTP/1.1\r\nHost: localhost\r\n\r\n"

    assert status(station.call(stats)) == 403
    assert status(station.call(stats, "127.0.0.1")) == 200
    assert status(station.call(get(b"/status-json.xsl"))) == 200


def test_the_status_has_the_shape_of_icecast2() -> None:
    """
    `source` is missing, an object or a list: as scripts expect.
    """
    station = Station()
    assert "source" not in station.status()

    about = b"ice-genre: Jazz\r\nContent-Type: audio/mpeg\r\n"
    info = b"ice-audio-info: ice-bitrate=128;ice-channels=2;quality=x\r\n"
    station.source(headers=about + info).send(MP3 * 20)
    station.turn()
    station.listener()
    source = station.status()["source"]
    assert isinstance(source, dict)
    assert source["listeners"] == 1
    assert source["genre"] == "Jazz"
    assert (source["ice-bitrate"], source["ice-channels"]) == (128, 2)
    assert "quality" not in source
    assert source["server_type"] == "audio/mpeg"
    assert source["listenurl"] == "https://a/a.mp3"
    assert source["stream_start_iso8601"]

    station.source(b"SOURCE /b.mp3 HTTP/1.0").send(MP3 * 20)
    station.turn()
    sources = station.status()["source"]
    assert isinstance(sources, list)
    assert [one["listenurl"] for one in sources] == ["https://a/a.mp3", "https://a/b.mp3"]
    assert b'<source mount="/a.mp3">' in body(station.admin(b"/admin/stats"))
    assert b"<listeners>1</listeners>" in body(station.admin(b"/admin/listmounts"))
    assert b"<td>/a.mp3</td>" in body(station.call(get(b"/status.xsl")))


def test_the_status_of_one_mount() -> None:
    """
    The query may name it; the others are not shown then.
    """
    station = Station()
    for name in (b"/a.mp3", b"/b.mp3"):
        station.source(b"SOURCE " + name + b" HTTP/1.0").send(MP3 * 20)
    station.turn()

    [answer] = station.call(get(b"/status-json.xsl?mount=/b.mp3")).responses()
    assert answer.json["icestats"]["source"]["listenurl"] == "https://a/b.mp3"
    [answer] = station.call(get(b"/status-json.xsl?mount=/c.mp3")).responses()
    assert "source" not in answer.json["icestats"]
    assert b"/a.mp3" not in body(station.call(get(b"/status.xsl?mount=/b.mp3")))
    one = body(station.admin(b"/admin/stats?mount=/b.mp3"))
    assert b'mount="/b.mp3"' in one and b'mount="/a.mp3"' not in one
    assert status(station.admin(b"/admin/stats?mount=/c.mp3")) == 400


def test_the_status_has_the_peak_of_the_listeners() -> None:
    """
    The peak is that since the source has connected, also when all listeners have left.
    """
    station = Station()

    def counts() -> tuple[object, object]:
        source = station.status()["source"]
        assert isinstance(source, dict)
        return source["listeners"], source["listener_peak"]

    source = station.source().send(MP3 * 20)
    station.turn()
    assert counts() == (0, 0)
    listeners = [station.listener() for _ in range(3)]
    assert counts() == (3, 3)
    for listener in listeners:
        listener.hang_up()
    assert counts() == (0, 3)
    stays = station.listener()
    assert counts() == (1, 3)
    assert b"<listener_peak>3</listener_peak>" in body(station.admin(b"/admin/stats"))
    source.hang_up()
    station.source().send(MP3 * 20)
    station.turn()
    assert counts() == (1, 1)
    assert stays.open


def test_peaks_of_mounts_without_source_and_listeners_are_not_kept() -> None:
    """
    Nothing is left of a mount when its source and its listeners have gone.
    """
    station = Station()
    context = station.place.context
    for number in range(3):
        name = b"/%d.mp3" % number
        source = station.source(b"SOURCE " + name + b" HTTP/1.0").send(MP3 * 20)
        station.turn()
        listener = station.listener(name)
        source.hang_up()
        listener.hang_up()
        station.turn(30)

    registry = listeners_of_process(context)
    assert (registry._peaks, registry._sources, registry.channels()) == ({}, set(), ())


def test_the_pages_are_xml_whatever_a_source_says() -> None:
    """
    Some characters cannot be in a document at all.
    """
    odd = '<n>&]]>"\ufffe\uffff\ud800'.encode(errors="surrogatepass")
    station = Station(r"^/\w+\.\w+\.(m3u|xspf)$ icecast-playlist", ADMIN, MOUNT)
    station.source(headers=b"ice-name: %b\r\nUser-Agent: %b\r\n" % (odd, odd)).send(MP3 * 20)
    station.turn()
    station.listener(headers=b"User-Agent: %b\r\n" % odd)

    for page in (b"stats", b"listmounts", b"listclients?mount=/a.mp3"):
        assert ElementTree.fromstring(body(station.admin(b"/admin/" + page))).tag == "icestats"
    kill = station.admin(b"/admin/killclient?mount=/a.mp3&id=%EF%BF%BE%00%3C/source%3E")
    assert ElementTree.fromstring(body(kill)).tag == "iceresponse"
    ElementTree.fromstring(body(station.listener(b"/a.mp3.xspf")))


def test_a_source_may_set_a_title_before_it_sends_audio() -> None:
    """
    As clients of libshout do.
    """
    station = Station()
    source = station.source()
    update = b"/admin/metadata?mount=/a.mp3&mode=updinfo&song=x"
    assert status(station.admin(update, "hackme")) == 200

    source.send(MP3 * 20)
    station.turn()

    assert station.status()["source"]["title"] == "x"  # type: ignore[index]


def test_playlists() -> None:
    """
    Players open them instead of the stream; the request's host is in them.
    """
    playlist = r"^/\w+\.\w+\.(m3u|xspf)$ icecast-playlist"
    station = Station(playlist, MOUNT)
    station.source().send(MP3 * 20)
    station.turn()

    assert body(station.listener(b"/a.mp3.m3u")) == b"https://a/a.mp3\r\n"
    assert b"<location>https://a/a.mp3</location>" in body(station.listener(b"/a.mp3.xspf"))
    assert status(station.listener(b"/b.mp3.m3u")) == 404


def test_a_source_can_be_ended() -> None:
    """
    Its connection is aborted; another may follow at once.
    """
    station = Station()
    source = station.source().send(MP3 * 20)
    station.turn()

    assert status(station.admin(b"/admin/killsource?mount=/a.mp3")) == 200
    assert source.wire.aborted
    assert station.source().written() == OK


def test_a_listener_of_ogg_begins_with_the_headers() -> None:
    """
    Also in the middle, and at each link of a chain. Titles are in the stream.
    """
    station = Station()
    pages = audio(9)
    kind = b"Content-Type: audio/ogg\r\n"
    source = station.source(b"SOURCE /a.ogg HTTP/1.0", kind)
    source.send(headers("TITLE=One") + b"".join(pages))
    station.turn()
    listener = station.listener(b"/a.ogg", b"Icy-MetaData: 1\r\n")
    assert b"Content-Type: audio/ogg\r\n" in listener.written()
    assert b"icy-metaint" not in listener.written()
    assert body(listener).startswith(headers("TITLE=One") + pages[0])
    assert station.status()["source"]["title"] == "One"  # type: ignore[index]

    source.send(headers("TITLE=Two", serial=8) + b"".join(audio(9, 8)))
    station.turn()

    assert body(listener).count(headers("TITLE=Two", serial=8)) == 1
    assert station.status()["source"]["title"] == "Two"  # type: ignore[index]


def test_listeners_of_a_mount_are_limited() -> None:
    """
    With `max=` one more gets 503.
    """
    station = Station(MOUNT + ",max=1")
    station.source().send(MP3 * 20)
    station.turn()

    assert status(station.listener()) == 200
    assert status(station.listener()) == 503


def test_listeners_that_come_at_once_are_limited() -> None:
    """
    All have been counted before the first of them joins.
    """
    station = Station(MOUNT + ",max=5")
    listeners = [station.listener() for _ in range(20)]
    station.source().send(MP3 * 20)
    station.turn()

    assert sorted(map(status, listeners)) == [200] * 5 + [503] * 15


def test_something_else_is_disconnected() -> None:
    """
    A source whose bytes are no audio frees the mount.
    """
    station = Station()
    source = station.source().send(bytes(300_000))
    station.turn()

    assert source.wire.aborted
    assert station.source().written() == OK


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("radio,burst=-1", "not 'name=value'|cannot be negative"),
        ("channel=a,burst=-1", "burst= cannot be negative"),
        ("channel=a,charset=nonsense", "charset=nonsense is not a character set"),
        ("channel=a,charset=base64", "charset=base64 is not a character set"),
        ("channel=a,password=env:NO_SUCH_NAME", "password= must be a secret"),
        ("", "needs channel="),
    ],
)
def test_wrong_arguments(arguments: str, reason: str) -> None:
    """
    One sentence says what is wrong with the route line.
    """
    with pytest.raises(ValueError, match=reason):
        parse_route(f"^/a$ icecast:{arguments}", Place().context)


def test_the_password_is_not_shown() -> None:
    """
    The text of an action does not contain its password.
    """
    context = Place().context
    for line in (MOUNT, ADMIN):
        shown = repr(parse_route(line, context).action)
        assert "hackme" not in shown
        assert "boss" not in shown


def test_status_is_json() -> None:
    """
    Titles are escaped.
    """
    station = Station()
    source = station.source(headers=b'ice-name: "<b>\r\n')
    source.send(MP3 * 20)
    station.turn()
    raw = body(station.call(get(b"/status-json.xsl")))

    assert json.loads(raw)["icestats"]["source"]["server_name"] == '"<b>'
    assert b"&lt;b&gt;" in body(station.call(get(b"/status.xsl")))


@pytest.mark.parametrize("page", [b"Sec-Fetch-Site: cross-site", b"Origin: https://evil.example"])
def test_a_foreign_page_cannot_use_the_password_of_a_browser(page: bytes) -> None:
    """
    Browsers add it to the requests of any page.
    """
    station = Station()
    for line in (b"GET /admin/killsource?mount=/a.mp3 HTTP/1.1", b"GET /admin/stats HTTP/1.1"):
        assert status(station.call(request(line, page + b"\r\n", "boss"))) == 401
    assert status(station.source(headers=page + b"\r\n")) in (401, 403)
