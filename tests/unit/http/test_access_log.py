"""
Tests of client addresses behind proxies, and of the access log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rt_twisted.codecs.addresses import Networks
from rt_twisted.model.message import Draft
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.logfiles import LogFile
from tests.defaults import make_http_limits
from tests.unit.http.clients import Place, get


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ("", "192.0.2.1", "1.1.1.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1", "1.1.1.1", "1.1.1.1"),
        ("192.0.2.1", "192.0.2.1", "9.9.9.9, 1.1.1.1", "1.1.1.1"),
        ("192.0.2.1 192.0.2.2", "192.0.2.1", "9.9.9.9,1.1.1.1,  192.0.2.2", "1.1.1.1"),
        ("192.0.2.1 192.0.2.2", "192.0.2.1", "192.0.2.2", "192.0.2.2"),
        ("192.0.2.1", "192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1", " , ", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.7", "1.1.1.1", "192.0.2.7"),
    ],
)
def test_proxies(trusted: str, peer: str, forwarded: str, address: str) -> None:
    """
    Only trusted proxies may name the client's address, and only the part of the header that they
    added counts.
    """
    place = Place(limits=make_http_limits(trusted_proxies=Networks.of(trusted.split())))
    header = f"X-Forwarded-For: {forwarded}\r\n".encode()
    place.call(get(b"/late", header), address=peer)

    assert place.waiting[0].address == address


@pytest.fixture
def access_log(tmp_path: Path) -> Iterator[AccessLog]:
    """
    Return an access log that writes to access.log.
    """
    file = LogFile(str(tmp_path / "access.log"))
    yield AccessLog(file)
    file.close()


def test_the_access_log(access_log: AccessLog, tmp_path: Path) -> None:
    """
    The access log has one line per response, without query, cookies or keys.
    """
    place = Place(access_log=access_log, limits=make_http_limits())
    secret = b"Cookie: hush\r\nX-Publish-Key: hush\r\nAuthorization: Bearer hush\r\n"
    place.call(get(b"/echo?key=hush", secret) + get(b"/none?hush") + b"\0hush")
    place.call(get(b"http://a/news?key=hush", secret)).hang_up()
    place.call(get(version=b"1.0").replace(b"GET", b"HEAD"))

    text = tmp_path.joinpath("access.log").read_text()
    lines = text.splitlines()
    pattern = r'192\.0\.2\.1 - - \[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\] "(.*)" (\d+) (\d+).*'
    found = [re.fullmatch(pattern, line) for line in lines]
    assert [each and (each[1], each[2]) for each in found] == [
        ("GET /echo HTTP/1.1", "200"),
        ("GET /none HTTP/1.1", "404"),
        ("- / HTTP/1.1", "400"),
        ("GET /news HTTP/1.1", "200"),
        ("HEAD /echo HTTP/1.0", "200"),
    ]
    assert "hush" not in text


@pytest.mark.parametrize(
    "path",
    [b'/a"b', b"/a\\x22", b"/%0a%0d%22", b"/\x7f", b"/\xc2\x9b31m", b"/\x1b[31m", b"/\xe2\x80\xae"],
)
def test_clients_cannot_inject_into_the_access_log(
    path: bytes, access_log: AccessLog, tmp_path: Path
) -> None:
    """
    A target stays within its quotes, and an address is one word, whatever a client sends.
    """
    limits = make_http_limits(trusted_proxies=Networks.of(["192.0.2.1"]))
    place = Place(access_log=access_log, limits=limits)
    place.call(get(path, b'X-Forwarded-For: 1.1.1.1 - - [now] "GET /fake HTTP/1.1" 200 1\r\n'))

    (line,) = tmp_path.joinpath("access.log").read_text().splitlines()
    assert re.fullmatch(r'\S+ - - \[[^]]+\] "(?:[^"\\]|\\.)*" \d+ \d+', line)
    assert line.isprintable()


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def read_lines(folder: Path) -> list[dict[str, Any]]:
    lines = folder.joinpath("access.log").read_text().splitlines()
    return [json.loads(line) for line in lines]


def publish(place: Place, *data: bytes) -> None:
    place.hub.publish([Draft("news", each) for each in data])
    place.clock.advance(0)


def test_lines_of_json(access_log: AccessLog, tmp_path: Path) -> None:
    """
    Each line is one JSON object, with the time that the response has taken.
    """
    access_log.use(access_log.file, "json")
    place = Place(access_log=access_log)
    place.call(get(b"/late?key=hush", b"Cookie: hush\r\n"))
    place.clock.advance(1.5)
    place.waiting[0].answer(200, b"four")

    (line,) = read_lines(tmp_path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", line.pop("time"))
    assert line == {
        "address": "192.0.2.1",
        "method": "GET",
        "path": "/late",
        "http": "1.1",
        "status": 200,
        "bytes": 4,
        "seconds": 1.5,
    }


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_line_of_a_stream(access_log: AccessLog, tmp_path: Path, version: bytes) -> None:
    """
    A stream is logged when it ends, with what was sent, how long and why it has ended.
    """
    access_log.use(access_log.file, "json")
    place = Place(access_log=access_log)
    publish(place, b"before", b"and before")
    client = place.call(get(b"/news?history=1", version=version))
    publish(place, b"one")
    publish(place, b"two", b"three")
    place.clock.advance(2.25)
    assert not read_lines(tmp_path)

    client.hang_up()

    (line,) = read_lines(tmp_path)
    body = client.written().partition(b"\r\n\r\n")[2]
    assert (line["status"], line["seconds"], line["reason"]) == (200, 2.25, "client")
    assert (line["messages"], line["bytes"]) == (4, len(body))


def test_a_stream_in_the_common_format(access_log: AccessLog, tmp_path: Path) -> None:
    """
    What the format has no place for follows behind it.
    """
    place = Place(access_log=access_log)
    client = place.call(get(b"/news", b"traceparent: %s\r\n" % TRACE.encode()))
    publish(place, b"one")
    place.hub.stop(1000)

    line = tmp_path.joinpath("access.log").read_text()
    size = len(client.written().partition(b"\r\n\r\n")[2])
    rest = f"200 {size} seconds=0.000 messages=1 reason=shutdown traceparent={TRACE}\n"
    assert line.endswith(f'"GET /news HTTP/1.1" {rest}')


def test_streams_of_several_channels(access_log: AccessLog, tmp_path: Path) -> None:
    """
    Messages count once for each channel or pattern of the stream that they are received by.
    """
    access_log.use(access_log.file, "json")
    place = Place("^/two$ sse:subscribe=news,subscribe=other", access_log=access_log)
    client = place.call(get(b"/two"))
    publish(place, b"one")
    place.hub.publish([Draft("other", b"two"), Draft("third", b"three")])
    place.clock.advance(0)
    client.hang_up()

    (line,) = read_lines(tmp_path)
    assert line["messages"] == 2


def test_a_log_that_is_replaced(access_log: AccessLog, tmp_path: Path) -> None:
    """
    After a reload with another file, streams that have begun are logged there.
    """
    place = Place(access_log=access_log)
    first, second = place.call(get(b"/news")), place.call(get(b"/news"))
    other = LogFile(str(tmp_path / "other.log"))

    access_log.use(other, "text")
    first.hang_up()
    access_log.use(None, "text")
    second.hang_up()
    other.close()

    assert not tmp_path.joinpath("access.log").read_text()
    assert tmp_path.joinpath("other.log").read_text().count("reason=client") == 1


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (TRACE, TRACE),
        (f"01{TRACE[2:]}-what-follows", f"01{TRACE[2:]}"),
        (f"{TRACE}-more", None),
        (f"ff{TRACE[2:]}", None),
        (TRACE.upper(), None),
        ("00-" + "0" * 32 + TRACE[35:], None),
        (f"{TRACE}, {TRACE}", None),
        ("x" * 300, None),
    ],
)
def test_traces(access_log: AccessLog, tmp_path: Path, sent: str, logged: str | None) -> None:
    """
    The trace of a client is logged (W3C Trace Context), and a malformed header is ignored.
    """
    access_log.use(access_log.file, "json")
    place = Place(access_log=access_log, limits=make_http_limits())
    place.call(get(b"/echo", b"traceparent: %s\r\n" % sent.encode()))

    assert read_lines(tmp_path)[0].get("traceparent") == logged
