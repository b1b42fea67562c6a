"""
The fields of RTSP messages, as clients spell them.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtsp.fields import (
    TransportSpecification,
    choose_transport,
    find_track,
    free_channels,
    parse_transport,
    parse_url,
)

CONTROLS = ("streamid=0", "streamid=1", "streamid=10")


@pytest.mark.parametrize(
    ("text", "channels", "mode"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=0-1", (0, 1), ""),
        ("rtp/avp/tcp; Unicast ; INTERLEAVED = 168-169 ;mode=\"RECORD\"", (168, 169), "record"),
        ("RTP/AVP/TCP;interleaved=2;mode=record", (2, 3), "record"),
        ("RTP/AVP/TCP", None, ""),
        ("RTP/AVP/UDP;client_port=1-2,RTP/AVP;client_port=5,RTP/AVP/TCP;interleaved=4-5",
         (4, 5), ""),
        ("RTP/AVP;mode=\"a,b;c\",RTP/AVP/TCP;interleaved=1-0", (1, 0), ""),
    ],
)  # fmt: skip
def test_transports(text: str, channels: tuple[int, int] | None, mode: str) -> None:
    """
    The first one by TCP is chosen, in any letter case, with quotes and blanks.
    """
    assert choose_transport(text) == TransportSpecification(True, channels, mode)


@pytest.mark.parametrize(
    "text",
    [
        "", "RTP/AVP", "RTP/AVP/UDP;interleaved=0-1", "RTP/SAVP/TCP;interleaved=0-1",
        "RTP/AVP/TCP;interleaved=0-256", "RTP/AVP/TCP;interleaved=5-5",
        "RTP/AVP/TCP;interleaved=255", "RTP/AVP/TCP;interleaved=x", "RTP/AVP/TCP;interleaved=-1",
    ],
)  # fmt: skip
def test_transports_that_are_not_supported(text: str) -> None:
    """
    Clients try another one behind 461.
    """
    with pytest.raises(RemoteProtocolError) as error:
        choose_transport(text)
    assert error.value.status == 461


def test_too_many_transports() -> None:
    """
    The number of specifications is bounded.
    """
    with pytest.raises(RemoteProtocolError, match="too many"):
        parse_transport(",".join(["RTP/AVP"] * 17))


@given(st.text(alphabet='RTP/AVC;,="interlad-0129 \t') | st.text())
def test_no_transport_raises_anything_else(text: str) -> None:
    """
    Whatever the field has.
    """
    try:
        choose_transport(text)
    except RemoteProtocolError as error:
        assert error.status in (400, 461)


@pytest.mark.parametrize(
    ("url", "index"),
    [
        ("rtsp://h/cam/streamid=0", 0),
        ("rtsp://h/cam/streamid=1", 1),
        ("rtsp://h/cam/streamid=10", 2),
        ("rtsp://h/cam?key=k/streamid=1", 1),
        ("rtsp://h/cam/streamid=1?key=k", 1),
        ("rtsp://h/cam/streamid=1/?key=k", 1),
        ("RTSP://u:p@h:554/cam/streamid%3D1", 1),
        ("rtsp://h/cam//streamid=1", 1),
        ("streamid=1", 1),
        ("rtsp://h/cam", None),
        ("rtsp://h/cam/streamid=2", None),
        ("rtsp://h/cam/xstreamid=1", None),
    ],
)
def test_tracks_are_found_by_the_end_of_their_control(url: str, index: int | None) -> None:
    """
    The query stands before or behind the part of the track.
    """
    parsed = parse_url(url) if "://" in url else parse_url("/" + url)
    assert find_track(parsed, "/cam", CONTROLS) == index


@pytest.mark.parametrize(
    ("control", "url"),
    [
        ("rtsp://h/cam/track1", "rtsp://other:8554/cam/track1"),
        ("/cam/track1", "rtsp://h/cam/track1"),
        ("track1?x=1", "rtsp://h/cam/track1?x=1"),
        ("?ctl=1/track1", "rtsp://h/cam?ctl=1/track1"),
        ("", "rtsp://h/cam/"),
        ("*", "rtsp://h/cam?key=k"),
    ],
)
def test_controls_of_one_track(control: str, url: str) -> None:
    """
    Absolute ones, those with a query, and none, for which the base is the only track.
    """
    assert find_track(parse_url(url), "/cam", [control]) == 0


def test_urls() -> None:
    """
    The path is decoded; its last slash and the user are left out.
    """
    found = parse_url("rtsp://user:p%40ss@host:8554/a%20b/?key=k#x")
    assert (found.host, found.path, found.query) == ("host:8554", "/a b", "key=k")
    assert parse_url("rtsp://host").path == "/"
    assert parse_url("*").path == "*"
    assert parse_url("/cam?x").query == "x"
    for wrong in ("ftp://h/", "rtsp:/h", "rtsp://h/" + "a" * 9000):
        with pytest.raises(RemoteProtocolError):
            parse_url(wrong)


@given(st.text(max_size=50), st.lists(st.text(max_size=20), max_size=4))
def test_no_url_raises_anything_else(rest: str, controls: list[str]) -> None:
    """
    Whatever the URL and the description have.
    """
    found = find_track(parse_url("rtsp://h/" + rest), "/cam", controls)
    assert found is None or 0 <= found < len(controls)


def test_channels_run_out() -> None:
    """
    There are 128 pairs.
    """
    used: list[int] = []
    for _ in range(128):
        used += free_channels(used)
    assert sorted(used) == [*range(256)]
    with pytest.raises(RemoteProtocolError) as error:
        free_channels(used)
    assert error.value.status == 453
