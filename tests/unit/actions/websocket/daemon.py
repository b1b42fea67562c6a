"""
A daemon with websocket routes on a `Clock`, and clients for it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame
from websockets.frames import Opcode as PeerOpcode
from websockets.protocol import Protocol, Side
from zope.interface import implementer

from rt_twisted.access.keys import Key, Keys
from rt_twisted.actions.chain import Route
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, IWebSocketApp, Match
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.brokers.interfaces import ILimited
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.formats.websocket import RawFrames
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import HubLimits
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.routes import Routes, parse_route
from tests.defaults import (
    make_context,
    make_hub,
    make_hub_limits,
    make_server,
    make_websocket_limits,
)
from tests.unit.codecs.websocket_frames import KEY, compress, masked
from tests.unit.http.clients import Caller, Place, get

HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
)
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
LARGE = make_websocket_limits(message=1 << 20, rate=0, bytes=0)
LIMITS = make_websocket_limits(message=10_000, rate=50, bytes=100_000, silence=50.0)


@implementer(IWebSocketApp)
class RecordingApp:
    """
    Records the messages and the end of a websocket in `events`.
    """

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.websocket: Any = None

    def opened(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    def message(self, data: bytes, binary: bool) -> None:
        self.events.append((data, binary))
        if data == b"raise":
            raise ZeroDivisionError

    def closed(self, code: int, reason: str) -> None:
        self.events.append((code, reason))


@implementer(IAction)
class OwnAction:
    """
    A user's own action, with a RecordingApp for each websocket.
    """

    methods = ("GET",)

    def __init__(self, context: ActionContext) -> None:
        self.websockets = WebSocketEndpoint(context)
        self.apps: list[RecordingApp] = []

    def act(self, exchange: IExchange, match: Match) -> None:
        agreement = self.websockets.check(exchange, ("mqtt",))
        self.apps.append(RecordingApp())
        format = RawFrames(agreement.deflate)
        self.websockets.open(exchange, agreement, self.apps[-1], format, ["news"])


class WebSocketDaemon(Place):
    """
    A daemon with the routes /ws, /chat, /news and /own, and further route lines.
    """

    def __init__(
        self, *lines: str, limits: HubLimits = make_hub_limits(), broker: Any = None, **context: Any
    ) -> None:
        super().__init__()
        self.clock = Clock()
        self.hub = make_hub(broker or MemoryBroker(self.clock, "e"), self.clock, limits=limits)
        context.setdefault("websockets", LIMITS)
        context.setdefault("inbound", InboundMemory(self.clock, 0))
        self.context = make_context(self.hub, self.clock, **context)
        self.own = OwnAction(self.context)
        lines = (
            "^/ws$ websocket",
            "^/chat$ websocket:subscribe=chat,publish=chat,prefix=${qs[name]}:,suffix=!",
            "^/news$ sse:news",
            *lines,
        )
        routes = [parse_route(line, self.context) for line in lines]
        routes.append(Route(re.compile("^/own$"), None, self.own))
        self.server = make_server(self.clock, Routes(routes).find)
        self.server.start()
        self.hub.start()

    def publish(self, *texts: str | bytes, channel: str = "news") -> None:
        data = [text.encode() if isinstance(text, str) else text for text in texts]
        self.hub.publish([Draft(channel, each) for each in data])
        self.turn()

    def turn(self) -> None:
        self.clock.pump([0] * 4)

    def open(self, path: str = "/ws", headers: str = "", address: str = "127.0.0.1") -> Peer:
        request = get(path.encode(), (HANDSHAKE + headers).encode())
        peer = Peer(self, address)
        peer.send(request.replace(b"Host: a", b"Host: localhost:80"))
        return peer


class Peer:
    """
    A client that parses with the `websockets` library, and may send any bytes.
    """

    def __init__(self, daemon: WebSocketDaemon, address: str = "127.0.0.1") -> None:
        self._daemon = daemon
        self.caller = Caller(daemon.server, address)
        self._reader = Protocol(Side.CLIENT, max_size=None)
        self._read = 0

    @property
    def head(self) -> str:
        return self.caller.written().partition(b"\r\n\r\n")[0].decode()

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def is_closed(self) -> bool:
        return bool(self.caller.wire.disconnecting or self.caller.wire.disconnected)

    def send(self, data: bytes) -> None:
        self.caller.send(data)
        self._daemon.turn()

    def text(self, text: str) -> None:
        self.send(masked(1, text.encode()))

    def command(self, **fields: Any) -> list[Any]:
        self.text(json.dumps(fields))
        return self.received()

    def received(self) -> list[Any]:
        """
        Return what was received since the last call.

        Text that is JSON is parsed; pings and pongs are (name, payload) tuples.
        """
        if "permessage-deflate" in self.head and not self._reader.extensions:
            self._reader.extensions = [PerMessageDeflate(True, True, 15, 15)]
        body = self.caller.written().partition(b"\r\n\r\n")[2]
        self._reader.receive_data(body[self._read :])
        self._read = len(body)
        assert self._reader.parser_exc is None
        events: Any = self._reader.events_received()
        return [_plain(event) for event in events]

    @property
    def is_read(self) -> bool:
        return self.caller.wire.producerState == "producing"

    def disconnect(self) -> None:
        self.caller.hang_up()


def _plain(event: Frame) -> Any:
    if event.opcode is PeerOpcode.TEXT:
        text = bytes(event.data).decode()
        return json.loads(text) if text[:1] == "{" else text
    if event.opcode is PeerOpcode.BINARY:
        return bytes(event.data)
    if event.opcode is PeerOpcode.CLOSE:
        return Close.parse(event.data)
    return (event.opcode.name, bytes(event.data))


def deflated(data: bytes) -> bytes:
    """
    Return a compressed binary frame of a client.
    """
    return masked(2, compress(data), rsv=4)


def position(offset: int) -> dict[str, Any]:
    return {"type": "position", "position": f"e.{offset}"}


def message(data: str, offset: int, channel: str = "news") -> dict[str, Any]:
    return {"type": "message", "channel": channel, "position": f"e.{offset}", "data": data}


class DeferringBroker(MemoryBroker):
    """
    A broker that confirms the oldest publish when `answer` is called.
    """

    def __init__(self, clock: Any) -> None:
        super().__init__(clock, "e")
        self.drafts_waiting: list[tuple[Any, Deferred[Any]]] = []

    def publish(self, drafts: Any) -> Any:
        self.drafts_waiting.append((drafts, Deferred()))
        return self.drafts_waiting[-1][1]

    def answer(self) -> None:
        drafts, deferred = self.drafts_waiting.pop(0)
        MemoryBroker.publish(self, drafts).chainDeferred(deferred)


SECRETS = Keys([Key.of("s3cret"), Key.of("art", ["art*"])])


@implementer(ILimited)
class LimitedBroker(DeferringBroker):
    """
    A broker with short channel names.
    """

    def check_channel(self, channel: str) -> None:
        if len(channel) > 8:
            raise HttpError(400, "too long for the broker")
