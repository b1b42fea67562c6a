"""
Messages beside a live stream, and streams of payloads that end with it.
"""

from __future__ import annotations

import pytest

from rt_twisted.media.matroska_writer import write_header
from rt_twisted.media.unit import Head, Unit, write
from rt_twisted.model.message import Draft
from tests.unit.actions.ingest.test_istream import VIDEO, LivePlace, picture, status
from tests.unit.http.clients import Caller, post

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
STREAM = ("GET ^/cam$ stream:cam", "^/cam$ istream:cam")


def message(site: LivePlace, channel: bytes = b"cam") -> Caller:
    """
    Publish a message by a request of its own.
    """
    body = b"channel=" + channel + b"&message=hello"
    request = post(body, b"/publish", FORM).replace(b"Host: a", b"Host: localhost")
    caller = Caller(site.place.server, "127.0.0.1").send(request)
    site.turn()
    return caller


@pytest.mark.parametrize("first", [write_header((VIDEO,)), b"text"])
def test_other_messages_are_refused_while_a_publisher_has_the_channel(first: bytes) -> None:
    """
    They are accepted before, in other channels, and when the publisher has ended.
    """
    site = LivePlace()
    assert status(message(site)) == 200
    publisher = site.publisher(first, picture(0, True))
    site.turn()

    [answer] = message(site).responses()
    assert answer.status == 403
    assert answer.body == b"the channel 'cam' has a publisher\n"
    assert status(message(site, b"news")) == 200
    assert status(message(site, b"news&channel=cam")) == 403

    publisher.send(b"0\r\n\r\n")
    assert status(publisher) == 200
    assert status(message(site)) == 200


def test_a_stream_of_payloads_ends_with_the_live_stream() -> None:
    """
    Its viewers stay while they wait for the publisher's return. A stream of text does not end.
    """
    site = LivePlace(*STREAM, "^/text$ stream:news")
    early, text = site.viewer(), site.viewer(b"/text")
    site.turn()
    publisher = site.publisher(write_header((VIDEO,)), picture(0, True))
    site.turn()
    publisher.send(b"0\r\n\r\n")
    site.pass_seconds(9)
    site.publisher(write_header((VIDEO,)), picture(1, True)).hang_up()
    site.pass_seconds(9)
    assert early.open

    site.pass_seconds(2)

    assert early.written().count(b"<0>") == early.written().count(b"<1>") == 1
    assert early.written().endswith(b"\r\n0\r\n\r\n")
    assert not early.open
    assert text.open


def test_a_stream_of_payloads_ends_by_the_clock_of_its_node() -> None:
    """
    The end of a stream is not announced if the publisher's node was killed.
    """
    site = LivePlace(*STREAM)
    viewer = site.viewer()
    site.turn()
    for thing in (Head("run", 0.0, (VIDEO,)), Unit(1, 0, 0, 0, True, 0, 0, b"<0>")):
        event, data = write(thing)  # as from another node
        site.hub.publish([Draft("cam", data, event, transient=True)])
    site.turn()
    assert b"<0>" in viewer.written()

    site.pass_seconds(21)

    assert not viewer.open
