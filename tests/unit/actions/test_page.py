"""
The pages of live streams, and the default routes around them.
"""

from __future__ import annotations

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
