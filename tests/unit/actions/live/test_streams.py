"""
Tests of `rt_twisted.actions.live.streams`.
"""

from __future__ import annotations

from rt_twisted.media.unit import End, Head, Kind, Track, Unit, write
from rt_twisted.model.message import Draft
from tests.unit.http.clients import Caller, Place, get

TRACK = Track(1, Kind.VIDEO, "vp8", size=(320, 240))


def publish(place: Place, channel: str, thing: Head | Unit | End) -> None:
    event, data = write(thing)
    place.hub.publish([Draft(channel, data, event, transient=True)])
    place.clock.advance(0)


def listed(place: Place, path: bytes = b"/list") -> bytes:
    """
    Return the body of the list.
    """
    response = Caller(place.server, "127.0.0.1").send(get(path)).written()
    return response.partition(b"\r\n\r\n")[2]


def test_streams_are_listed_from_their_first_frame_to_their_end() -> None:
    """
    Text channels and streams with another prefix are not listed.
    """
    place = Place("^/list$ streams:live/")
    place.hub.start()
    assert listed(place) == b'{"streams": []}\n'

    place.hub.publish([Draft("live/text", b"hello")])
    for channel in ("live/b", "live/a", "other/c"):
        publish(place, channel, Head("run", 0.0, (TRACK,)))
        publish(place, channel, Unit(1, 0, 0, 0, True, 0, 0, b"picture"))
    assert listed(place) == b'{"streams": ["a", "b"]}\n'

    publish(place, "live/a", End("run"))
    assert listed(place) == b'{"streams": ["b"]}\n'


def test_a_list_may_need_a_key() -> None:
    """
    A request without the key gets 401 and no names.
    """
    place = Place("^/list$ streams:prefix=live/,view_key=secret")
    place.hub.start()

    refused = Caller(place.server, "127.0.0.1").send(get(b"/list")).written()

    assert refused.startswith(b"HTTP/1.1 401 ")
    assert listed(place, b"/list?key=secret") == b'{"streams": []}\n'
