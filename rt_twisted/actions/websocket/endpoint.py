"""
The opening handshake of websockets, and one timer for all websockets of a route.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakSet

from twisted.internet.interfaces import IDelayedCall
from zope.interface.verify import verifyObject

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.subscription import address_of
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.actions.websocket.context import WebSocketContext
from rt_twisted.codecs.authority import split_authority
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.origins import matches_origin
from rt_twisted.codecs.websocket import REQUIRED, WebSocketHandshake, negotiate
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.duplex import CloseHandshake
from rt_twisted.hub.limits import BacklogLimits
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Since

BUCKETS = 8  # seconds ahead: every websocket is checked at least that often


class WebSocketEndpoint:
    """
    Opens websockets, and closes those that time out.

    Args:
        context: the daemon.
    """

    def __init__(self, context: ActionContext) -> None:
        self.context = context
        self._shared = WebSocketContext(
            context.hub,
            context.publish,
            context.inbound,
            context.inflate_quota,
            context.websockets,
            context.reactor,
        )
        # Those to check in each of the next seconds: one is emptied every second.
        self._buckets: list[set[WebSocket]] = [set() for _ in range(BUCKETS)]
        # The second in which each closing handshake is aborted.
        self._closing: dict[WebSocket, tuple[CloseHandshake, int]] = {}
        self._verified: WeakSet[type] = WeakSet()  # verifyObject is slow: once per class
        self._count = 0
        self._timer: IDelayedCall | None = None

    def check(
        self, exchange: IExchange, subprotocols: tuple[str, ...] = (), compress: bool = True
    ) -> WebSocketHandshake:
        """
        Check a request that asks for a websocket, and negotiate its parameters.

        Args:
            exchange: the request.
            subprotocols: that the application supports.
            compress: whether messages may be compressed, if the settings permit it.

        Raises:
            HttpError: 426 for a plain request, 400 for a malformed handshake, 403 for
                a page of an origin that is not allowed, 501 for another version of HTTP.
        """
        if exchange.method != "GET":
            raise HttpError(405, "a websocket is opened by GET", [("Allow", "GET")])
        if exchange.version != "1.1":
            raise HttpError(501, "WebSocket requires HTTP/1.1")
        if exchange.length != 0:
            # A proxy would forward as a body what is read as frames here.
            raise HttpError(400, "a WebSocket request must not have a body")
        try:
            compress_from = self.context.websockets.compress_from if compress else 0
            handshake = negotiate(exchange.header, subprotocols, compress_from)
        except RemoteProtocolError as error:
            required = REQUIRED if error.status == 426 else ()
            raise HttpError(error.status, error.reason, required) from None
        self._check_origin(exchange)
        return handshake

    def open(
        self,
        exchange: IExchange,
        handshake: WebSocketHandshake,
        app: object,
        format: IFormat,
        names: Sequence[Selector] = (),
        since: Since | None = None,
        backlog_limits: BacklogLimits | None = None,
        grant: Grant = ANYONE,
    ) -> WebSocket:
        """
        Respond 101, and subscribe the websocket to channels.

        Args:
            exchange: the request, after admission.
            handshake: from `check`.
            app: provides `IWebSocketApp`.
            format: how the hub's messages are encoded. Its heartbeat, sent every
                `heartbeat` seconds, has to contain a ping.
            names: the channels; may be empty.
            since: where the replay starts; None for no replay.
            backlog_limits: None for those of the daemon.
            grant: of the client; the websocket is closed when it ends.

        Raises:
            ConnectionLost: the client has disconnected; let the exception pass.
        """
        if type(app) not in self._verified:
            verifyObject(IWebSocketApp, app)
            self._verified.add(type(app))
        opened = exchange.upgrade(handshake.headers, log_end=True)
        websocket = WebSocket(
            self._shared,
            self,
            handshake,
            opened,
            format,
            backlog_limits or self.context.backlog_limits,
            address_of(exchange, self.context),
            grant,
        )
        self._add(websocket)
        hub = self.context.hub
        hub.join(websocket.subscriber, names, since, opened.head, entry=opened.entry)
        if grant is not ANYONE:
            left = self.context.gate.seconds_left(grant)
            drop = getattr(app, "drop_channels", None)
            hub.set_grant(websocket.subscriber, grant, left, websocket.expire, drop)
        websocket.start(app, opened.rest)
        return websocket

    def on_closing(self, websocket: WebSocket, closing: CloseHandshake) -> None:
        seconds = max(1, round(self.context.websockets.close_seconds))
        self._closing[websocket] = (closing, self._shared.second + seconds)

    def on_closed(self, websocket: WebSocket) -> None:
        self._closing.pop(websocket, None)
        self._buckets[websocket.bucket].discard(websocket)
        self._count -= 1
        self._shared.metrics.websockets -= 1
        if not self._count and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _add(self, websocket: WebSocket) -> None:
        self._count += 1
        self._shared.metrics.websockets += 1
        self._schedule(websocket)
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = self._shared.clock.callLater(1.0, self._check_timeouts)

    def _check_timeouts(self) -> None:
        shared = self._shared
        shared.second += 1
        self._start_timer()
        for websocket, (closing, deadline) in tuple(self._closing.items()):
            if shared.second >= deadline:
                closing.on_timeout()
            elif shared.second - websocket.last_input > 1:
                closing.on_input_idle()
        due = self._buckets[shared.second % BUCKETS]
        self._buckets[shared.second % BUCKETS] = set()
        for websocket in due:
            if websocket.check_timeouts():
                self._schedule(websocket)

    def _schedule(self, websocket: WebSocket) -> None:
        """
        Check *websocket* in the second in which it will have been silent for too long.

        A long time is waited for in steps, in which slow messages are found.
        """
        wait = int(min(websocket.seconds_left, BUCKETS))
        websocket.bucket = (self._shared.second + wait) % BUCKETS
        self._buckets[websocket.bucket].add(websocket)

    def _check_origin(self, exchange: IExchange) -> None:
        """
        Check which page opens the websocket.

        A browser lets any page open a websocket to any host, and sends that host's
        cookies (RFC 6455, 10.2).
        """
        origin = exchange.header("origin")
        allowed = self.context.websockets.origins
        if origin is None or "*" in allowed or matches_origin(allowed, origin):
            return
        page = _host(origin.partition("://")[2])
        # Neither the origin "null" nor a request without Host names a host: they never match.
        if page and "same" in allowed and page == _host(exchange.header("host") or ""):
            return
        raise HttpError(403, f"websocket-origins does not name {origin[:200]}")


def _host(authority: str) -> str:
    """
    Return *authority* without the port: cookies are not separated by port.
    """
    return split_authority(authority)[0].lower()
