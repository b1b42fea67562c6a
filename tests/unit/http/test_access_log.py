"""
Tests of client addresses behind proxies, and of the access log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rt_twisted.codecs.addresses import Networks
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
    log = AccessLog(LogFile(str(tmp_path / "access.log")))
    yield log
    log.file.close()


def test_the_access_log(access_log: AccessLog, tmp_path: Path) -> None:
    """
    The access log has one line per response, without query, cookies or keys.
    """
    place = Place(access_log=access_log, limits=make_http_limits())
    secret = b"Cookie: hush\r\nX-Publish-Key: hush\r\nAuthorization: Bearer hush\r\n"
    place.call(get(b"/echo?key=hush", secret) + get(b"/none?hush") + b"\0hush")
    place.call(get(b"http://a/news?key=hush", secret))
    place.call(get(version=b"1.0").replace(b"GET", b"HEAD"))

    text = tmp_path.joinpath("access.log").read_text()
    lines = text.splitlines()
    pattern = r'192\.0\.2\.1 - - \[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\] "(.*)" (\d+) (\d+)'
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
