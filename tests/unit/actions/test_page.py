"""
The pages of live streams, and the default routes around them.
"""

from __future__ import annotations

import gzip
from importlib.resources import files

import pytest

from rt_twisted.actions.ingest.istream import IstreamAction
from rt_twisted.actions.live.action import LiveAction
from rt_twisted.actions.live.jpeg import JpegAction
from rt_twisted.actions.live.mjpeg import MjpegAction
from rt_twisted.actions.page import PageAction
from rt_twisted.routes import DEFAULT, Routes, parse_route
from tests.unit.http.clients import Place, get


@pytest.mark.parametrize(
    ("path", "location"),
    [
        (b"/live", "./live/"),
        (b"/live?key=a%26b", "./live/?key=a%26b"),
        (b"/li%0d%0ave%20", "./li%0D%0Ave%20/"),
    ],
)
def test_the_wall_is_a_folder(path: bytes, location: str) -> None:
    """
    Without the slash the browser is redirected, also behind a proxy with a prefix.
    """
    place = Place(r"^/li(?s:.*)ve\s?/?$ page:wall")

    [answer] = place.call(get(path)).responses()

    assert answer.status == 301
    assert answer.headers["location"] == location
    assert place.call(get(b"/live/")).responses()[0].status == 200


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", "/live", PageAction),
        ("GET", "/live/", PageAction),
        ("GET", "/live/cam", PageAction),
        ("GET", "/live/cam.webm", LiveAction),
        ("GET", "/live/cam.mp4", LiveAction),
        ("GET", "/live/cam.mjpg", MjpegAction),
        ("GET", "/live/cam.jpg", JpegAction),
        ("POST", "/live/cam", IstreamAction),
        ("PUT", "/live/cam.mjpg", IstreamAction),
        ("POST", "/live/cam.jpg", IstreamAction),
        ("SOURCE", "/live/cam.webm", IstreamAction),
    ],
)
def test_the_default_routes_of_live_streams(method: str, path: str, action: type) -> None:
    """
    A path shows a stream and takes its publisher.
    """
    routes = Routes([parse_route(line, Place().context) for line in DEFAULT])

    found = routes.find(method, path)

    assert isinstance(found, tuple)
    assert isinstance(found[0], action)


SCRIPT = files("rt_twisted.actions").joinpath("realtime.min.js").read_bytes()
PLACE = r"^/realtime\.js$ page:realtime.js"


def test_scripts_are_compressed() -> None:
    """
    A client that accepts gzip gets the same script in a third of the bytes.
    """
    place = Place(PLACE)

    [packed] = place.call(
        get(b"/realtime.js", b"Accept-Encoding: gzip, deflate, br\r\n")
    ).responses()
    [plain] = place.call(get(b"/realtime.js", b"Accept-Encoding: br, gzip;q=0\r\n")).responses()

    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body == SCRIPT
    assert len(packed.body) < len(SCRIPT) / 2
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert packed.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize("accepted", [b"", b"Accept-Encoding: gzip\r\n"])
def test_a_script_that_the_browser_has(accepted: bytes) -> None:
    """
    A browser sends the ETag of a script, and the script is not sent again.
    """
    place = Place(PLACE)
    [first] = place.call(get(b"/realtime.js", accepted)).responses()
    tag = first.headers["etag"].encode()

    has_it = b"If-None-Match: W/%s\r\n" % tag
    [second] = place.call(get(b"/realtime.js", accepted + has_it)).responses()
    [other] = place.call(get(b"/realtime.js", accepted + b'If-None-Match: "x"\r\n')).responses()

    assert (second.status, second.body, second.headers["etag"].encode()) == (304, b"", tag)
    assert other.status == 200 and other.body == first.body
    assert first.headers["cache-control"] == "no-cache"


def test_a_versioned_address_is_kept() -> None:
    """
    With the ETag in its query a script is kept for a year; an old address gets the present
    script, and is not kept.
    """
    place = Place(PLACE)
    [first] = place.call(get(b"/realtime.js")).responses()
    version = first.headers["etag"].strip('"').encode()

    [kept] = place.call(get(b"/realtime.js?v=" + version)).responses()
    [old] = place.call(get(b"/realtime.js?v=0123456789ab")).responses()

    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert old.headers["cache-control"] == "no-cache"
    assert kept.body == old.body == SCRIPT
