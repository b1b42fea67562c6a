"""
A server on a clock, with routes of publishers by RTMP and of viewers over HTTP.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.task import Clock

from rt_twisted.access.gate import Gate
from rt_twisted.access.keys import Key, Keys
from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.routes import Routes, parse_route
from tests.defaults import make_context, make_hub, make_server
from tests.unit.http.clients import Caller, get
from tests.unit.rtmp.client import avc

VIEWERS = "GET ^/live/(\\w+)$ mp4:subscribe=$1,wait=3"
PUBLISHERS = "^/live/(\\w+)$ rtmp:$1"


class Studio:
    """
    A server without sockets.

    Args:
        lines: route lines; without any, VIEWERS and PUBLISHERS.
        key: that publishers need; "" for none.
        token_key: that tokens are signed by; "" for none.
    """

    def __init__(self, *lines: str, key: str = "", token_key: str = "") -> None:
        self.clock = Clock()
        self.hub = make_hub(MemoryBroker(self.clock, "e"), self.clock)
        context = make_context(self.hub, self.clock)
        if key:
            context = replace(context, publish_keys=Keys([Key.of(key)]))
        if token_key:
            tokens = TokenVerifier([TokenKey.of(token_key)], now=self.clock.seconds)
            context = replace(context, gate=Gate(tokens=tokens))
        self.context = context
        routes = Routes([parse_route(line, context) for line in lines or (VIEWERS, PUBLISHERS)])
        self.server = make_server(self.clock, routes.find)
        self.server.context.port_protocols = routes.port_protocols
        self.server.start()
        self.hub.start()

    def publisher(self, *pieces: bytes, address: str = "127.0.0.1") -> Caller:
        return Caller(self.server, address).send(*pieces)

    def viewer(self, path: bytes = b"/live/cam") -> Caller:
        return Caller(self.server).send(get(path))

    def turn(self) -> None:
        for _ in range(4):
            self.clock.advance(0)

    def pass_seconds(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)


def picture(number: int, key: bool = False, step: int = 40) -> bytes:
    """
    Return a frame of video with its number in it.
    """
    return avc(step * number, b"\x65<%d>" % number, key)
