"""
The first line of the daemon's log: its version, and where it listens.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from rt_twisted import __version__
from rt_twisted.codecs.route_lines import BUILT_IN, parse_line, split_word

TEST_PAGE = "/try"
PROXIED = "haproxy:"  # begins the endpoint of a port with the PROXY protocol

_SCHEMES = (
    ("TLS ", "https"),
    ("ssl:", "https"),
    ("RTMP ", "rtmp"),
    ("RTSP ", "rtsp"),
    ("ICY ", "icy"),
)
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # addresses that stand for all of them

_log = Logger()

Listening = Sequence[tuple[str, IListeningPort]]  # each port with the description of its endpoint


def announce(listening: Listening, routes: Sequence[str], workers: int) -> None:
    """
    Log the version, the addresses, and that of the test page.

    Args:
        listening: all ports.
        routes: the lines of the setting.
        workers: how many processes accept connections.
    """
    addresses = [address_of(description, port.getHost()) for description, port in listening]
    _log.info(
        "rt_twisted {version}{workers}: listening on {addresses}{page}",
        version=__version__,
        workers=f" with {workers} workers" if workers > 1 else "",
        addresses=", ".join(addresses) or "nothing",
        page=_test_page(listening, routes),
    )


def address_of(description: str, host: object) -> str:
    """
    Return the URL of a port, or the path of a unix socket.

    Args:
        description: of its endpoint.
        host: its address, as Twisted has it.
    """
    suffix = " (PROXY protocol)" if description.startswith(PROXIED) else ""
    if isinstance(host, UNIXAddress):
        name = host.name or b""
        return f"unix:{name.decode(errors='replace')}{suffix}"
    schemes = (name for start, name in _SCHEMES if description.startswith(start))
    return f"{next(schemes, 'http')}://{_written(host)}/{suffix}"


def _written(host: object, any_address: bool = True) -> str:
    name, port = getattr(host, "host", "?"), getattr(host, "port", 0)
    name = name if any_address else _ANY.get(name, name)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _test_page(listening: Listening, routes: Sequence[str]) -> str:
    """
    Return the end of the line, with the URL of the test page if it has a route.
    """
    if not _has_test_page(routes):
        return ""
    for description, port in listening:
        host = port.getHost()
        url = address_of(description, host)
        if url.startswith(("http:", "https:")) and url.endswith("/"):
            scheme = url.partition(":")[0]
            return f"; a page to try it: {scheme}://{_written(host, False)}{TEST_PAGE}"
    return ""


def _has_test_page(routes: Sequence[str]) -> bool:
    if not routes or any(line.strip() == BUILT_IN for line in routes):
        return True
    parsed = [parse_line(*split_word(line)) for line in routes]
    return any(
        line.action == "page" and line.arguments == "" and line.pattern.search(TEST_PAGE)
        for line in parsed
    )
