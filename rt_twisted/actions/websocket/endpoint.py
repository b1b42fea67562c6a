"""
From a request to a websocket, and what all websockets of a route share: their
limits, and one look a second at who is silent.
"""

from __future__ import annotations

from weakref import WeakSet

from twisted.internet.interfaces import IDelayedCall
from zope.interface.verify import verifyObject

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.subscription import address_of
from rt_twisted.actions.websocket.closing import CloseHandshake
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.actions.websocket.context import WebSocketContext
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.origins import matches_origin
from rt_twisted.codecs.websocket import REQUIRED, WebSocketHandshake, agree
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import BacklogLimits
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Since

BUCKETS = 8  # each second one of them is looked at: silence is found so much late


class WebSocketEndpoint:
    """
    Opens websockets, and looks after them until they are closed.

    Args:
        house: the daemon.
    """

    def __init__(self, context: ActionContext) -> None:
        self.context = context
        self.shared = WebSocketContext(
            context.hub, context.inbound, context.websockets, context.reactor
        )
        self._buckets: list[set[WebSocket]] = [set() for _ in range(BUCKETS)]
        self._closing: dict[WebSocket, tuple[CloseHandshake, int]] = {}  # until which second
        self._verified: WeakSet[type] = WeakSet()  # dear, and once is enough
        self._count = 0
        self._sweep: IDelayedCall | None = None

    def check(self, exchange: IExchange, subprotocols: tuple[str, ...] = ()) -> WebSocketHandshake:
        """
        The opening handshake, as far as it is the client's.

        Args:
            exchange: the request.
            subprotocols: that the application speaks.

        Raises:
            Refusal: 426 for a plain request, 400 for a malformed handshake, 403
                for a page from elsewhere, 501 for another version of HTTP.
        """
        if exchange.method != "GET":
            raise HttpError(405, "a websocket is opened by GET", [("Allow", "GET")])
        if exchange.version != "1.1":
            raise HttpError(501, "websockets are to be had by HTTP/1.1")
        if exchange.length != 0:
            # A proxy would take for a body what we take for frames.
            raise HttpError(400, "who asks for a websocket sends no body")
        try:
            agreement = agree(exchange.header, subprotocols, self.shared.limits.compress_from)
        except RemoteProtocolError as error:
            required = REQUIRED if error.status == 426 else ()
            raise HttpError(error.status, error.reason, required) from None
        self._check_origin(exchange)
        return agreement

    def open(
        self,
        exchange: IExchange,
        agreement: WebSocketHandshake,
        conversation: object,
        format: IFormat,
        names: list[str] | tuple[str, ...] = (),
        since: Since | None = None,
        backlog_limits: BacklogLimits | None = None,
    ) -> WebSocket:
        """
        Answer 101, and join the hub.

        Args:
            exchange: the request; it has been admitted.
            agreement: what `check` gave.
            conversation: provides `IConversation`.
            format: how broadcasts look; see `IFormat`. Its heartbeat is sent
                every `heartbeat` seconds: it shall contain a ping.
            names: of the channels; may be none.
            since: what is replayed first.
            patience: the house's, if not given.

        Raises:
            ConnectionLost: the client is gone; let it pass.
        """
        if type(conversation) not in self._verified:
            verifyObject(IWebSocketApp, conversation)
            self._verified.add(type(conversation))
        opened = exchange.upgrade(agreement.headers)
        websocket = WebSocket(
            self.shared,
            self,
            self._count % BUCKETS,
            agreement,
            opened,
            format,
            backlog_limits or self.context.backlog_limits,
            address_of(exchange, self.context),
        )
        self._add(websocket)
        self.context.hub.join(websocket.subscriber, names, since, opened.head)
        websocket.begin(conversation, opened.rest)
        return websocket

    # What websockets call.

    def on_closing(self, websocket: WebSocket, handshake: CloseHandshake) -> None:
        """
        *websocket* is to be gone within `close_seconds`.
        """
        until = self.shared.second + max(1, round(self.shared.limits.close_seconds))
        self._closing[websocket] = (handshake, until)

    def on_closed(self, websocket: WebSocket) -> None:
        """
        It is gone.
        """
        self._closing.pop(websocket, None)
        self._buckets[websocket.bucket].discard(websocket)
        self._count -= 1
        self.shared.metrics.websockets -= 1
        if not self._count and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    # Within.

    def _add(self, websocket: WebSocket) -> None:
        self._count += 1
        self.shared.metrics.websockets += 1
        self._buckets[websocket.bucket].add(websocket)
        if self._sweep is None:
            self._sweep = self.shared.clock.callLater(1.0, self._swept)

    def _swept(self) -> None:
        self.shared.second += 1
        self._sweep = self.shared.clock.callLater(1.0, self._swept)
        for websocket, (parting, until) in tuple(self._closing.items()):
            if self.shared.second >= until:
                parting.cut()
            elif self.shared.second - websocket.heard > 1:
                parting.fell_quiet()
        for websocket in tuple(self._buckets[self.shared.second % BUCKETS]):
            websocket.look()

    def _check_origin(self, exchange: IExchange) -> None:
        """
        Whose page it is: a browser lets every page open a websocket anywhere,
        with the cookies of there (RFC 6455, 10.2).
        """
        origin = exchange.header("origin")
        allowed = self.shared.limits.origins
        if origin is None or "*" in allowed or matches_origin(allowed, origin):
            return
        page = _host(origin.partition("://")[2])
        # "null" has no host, as little as a client that names none.
        if page and "same" in allowed and page == _host(exchange.header("host") or ""):
            return
        raise HttpError(403, f"websocket-origins does not name {origin[:200]}")


def _host(authority: str) -> str:
    """
    Without the port: a page on another port of a host has its cookies anyway.
    """
    name, colon, port = authority.rpartition(":")
    return (name if colon and port.isdigit() else authority).lower()
