"""
Tests of the lines of live publishers in the access log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rt_twisted.actions.ingest.publisher_lines import PublisherLines
from rt_twisted.media.matroska_writer import write_header
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.logfiles import LogFile
from tests.unit.actions.ingest.test_istream import (
    VIDEO,
    LivePlace,
    chunk,
    picture,
    put,
    status,
    whole,
)
from tests.unit.http.clients import Caller

BEGIN = (write_header((VIDEO,)), picture(0, True), picture(1))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LivePlace]:
    """
    Yield a server with a publisher's route and an access log.
    """
    file = LogFile(str(tmp_path / "access.log"))
    log = AccessLog(file, "json")
    site = LivePlace("^/cam$ istream:publish=cam,timeout=3,takeover=yes")
    site.place.server.context.access_log = log
    site.place.context.shared.get(PublisherLines, PublisherLines).log = log
    yield site
    file.close()


def end(site: LivePlace, publisher: Caller) -> None:
    publisher.send(b"0\r\n\r\n")
    assert status(publisher) == 200


def hang_up(site: LivePlace, publisher: Caller) -> None:
    publisher.hang_up()


def break_stream(site: LivePlace, publisher: Caller) -> None:
    publisher.send(chunk(bytes(100)))


def fall_silent(site: LivePlace, publisher: Caller) -> None:
    site.pass_seconds(5)


def take_over(site: LivePlace, publisher: Caller) -> None:
    site.publisher()


def stop(site: LivePlace, publisher: Caller) -> None:
    site.hub.stop(1000)


@pytest.mark.parametrize(
    ("act", "expected", "reason"),
    [
        (end, 200, "client"),
        (hang_up, 200, "lost"),
        (break_stream, 400, "broken"),
        (fall_silent, 408, "silent"),
        (take_over, 403, "ended"),
        (stop, 403, "shutdown"),
    ],
)
def test_the_line_of_a_publisher(
    act: Callable[[LivePlace, Caller], object],
    expected: int,
    reason: str,
    site: LivePlace,
    tmp_path: Path,
) -> None:
    """
    A publisher has one line, at its end: how long, how many bytes and messages, and why it ended.
    """
    publisher = site.publisher(*BEGIN)
    site.pass_seconds(2)
    assert not (tmp_path / "access.log").read_text()
    act(site, publisher)

    (line,) = map(json.loads, (tmp_path / "access.log").read_text().splitlines())
    sent = sum(map(len, BEGIN)) + (100 if act is break_stream else 0)
    assert (line["method"], line["path"], line["http"]) == ("PUT", "/cam", "1.1")
    assert (line["status"], line["reason"]) == (expected, reason)
    assert (line["bytes"], line["messages"]) == (sent, 3)  # a head and two frames
    assert 2 <= line["seconds"] <= 4


def test_a_refused_publisher_and_a_part_have_the_lines_of_a_response(
    site: LivePlace, tmp_path: Path
) -> None:
    """
    A publisher that is refused, and each request of a stream that comes in parts, is a response
    as others.
    """
    Caller(site.place.server, "127.0.0.1").send(put(method=b"GET"))
    Caller(site.place.server, "127.0.0.1").send(whole(b"".join(BEGIN)))

    lines = [*map(json.loads, (tmp_path / "access.log").read_text().splitlines())]
    assert [(line["status"], "reason" in line) for line in lines] == [(405, False), (200, False)]
