"""
The state that all HTTP connections share: settings, clock, routes and response heads.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IReactorTime

from rt_twisted.http.cors import Cors
from rt_twisted.http.head import Field, ResponseHead
from rt_twisted.http.interfaces import IExchange, ResponseLog
from rt_twisted.http.request import HttpLimits
from rt_twisted.http.stream_handle import FindRoute
from rt_twisted.model.errors import Header
from rt_twisted.net.inbound_memory import InboundMemory

MAX_HEADS = 100  # response heads of one second that are kept for equal responses

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_ALLOW_ORIGIN = "access-control-allow-origin"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, 5.5: tabs and obs-text may be sent


class ConnectionState(Enum):
    """
    How far a connection of either HTTP version is on its way to its end.
    """

    OPEN = "open"
    FINISHING = "finishing"  # answers what it has begun, and then closes
    CLOSING = "closing"  # answers nothing more


class HttpConnection(Protocol):
    """
    A connection of either HTTP version, as the server watches over it.
    """

    @property
    def deadline(self) -> float:
        """
        When `on_deadline` has to be called; infinity for never.
        """

    @property
    def idle_since(self) -> float | None:
        """
        Since when no request is being answered; None while one is, and when the
        connection is closing.
        """

    @property
    def peer(self) -> Any:
        """
        The client's address.
        """

    def on_deadline(self) -> None:
        """
        Close or refuse what takes too long.
        """

    def close_gracefully(self) -> None:
        """
        Close when what has begun is answered.
        """


class HttpContext:
    """
    Settings and state that an `HttpServer` shares with its connections.

    Args:
        clock: the reactor.
        find: returns the action for a request.
        limits: of every connection.
        cors: for every response of ours.
        site: the twisted.web site for paths without a route; None answers 404.
        access_log: receives every response that begins; None for no log.
        inbound_memory: bounds the bodies of requests.

    Attributes:
        connections: all that are open.
        start_http2: makes an HTTP/2 connection of a transport whose client has chosen
            it by ALPN, and its address. The server sets it.
        port_protocols: other protocols on the same ports, which each provide `IPortProtocol`.
        keep_alive: fields of HTTP/1.1 responses after which the connection stays open.
    """

    def __init__(
        self,
        clock: IReactorTime,
        find: FindRoute,
        limits: HttpLimits,
        cors: Cors,
        site: Any,
        access_log: ResponseLog | None,
        inbound_memory: InboundMemory,
    ) -> None:
        self.clock = clock
        self.site = site
        self.inbound_memory = inbound_memory
        self.connections: set[HttpConnection] = set()
        self.start_http2: Callable[[Any, IAddress], object]
        self.port_protocols: Sequence[Any] = ()
        self._heads: dict[Any, ResponseHead] = {}  # of this second, as their Date
        self._date = b""  # of this second; empty if it is not known yet
        self.reconfigure(find, limits, cors, access_log)

    def reconfigure(
        self, find: FindRoute, limits: HttpLimits, cors: Cors, access_log: ResponseLog | None
    ) -> None:
        """
        Use other settings for the requests that follow.
        """
        self.find = find
        self.limits = limits
        self.cors = cors
        self.access_log = access_log
        self.keep_alive = _keep_alive(limits)
        self._heads.clear()

    def is_ingest(self, exchange: IExchange) -> bool:
        """
        Return whether the action of *exchange* is for live publishers (`IAction`, ingest).
        """
        found = self.find(exchange.method, exchange.path, exchange)
        return isinstance(found, tuple) and bool(getattr(found[0], "ingest", False))

    def forget_heads(self) -> None:
        """
        Forget the response heads of the second that has passed.
        """
        self._heads.clear()
        self._date = b""

    def response_head(
        self, status: int, content_type: str, headers: Sequence[Header], origin: str | None
    ) -> ResponseHead:
        """
        Return the head of a response of ours. Heads are kept for a second if *headers* is a tuple.

        Args:
            status: of the response.
            content_type: "" for none.
            headers: further ones.
            origin: of the page that sent the request; None if no page did.

        Raises:
            ValueError: a header has control characters.
        """
        key = (status, content_type, origin, headers)
        kept = self._heads.get(key) if type(headers) is tuple else None
        if kept is not None:
            return kept
        given = {name.lower() for name, _ in headers}
        if not self._date:
            self._date = http_date(time.time())
        fields: list[Field] = [(b"Date", self._date)]
        if "server" not in given:
            fields.insert(0, (b"Server", b"rt_twisted"))
        # A response of the application may have rules of its own; two would be none.
        if _ALLOW_ORIGIN not in given:
            fields += self.cors.headers(origin)
        if content_type:
            # Without nosniff browsers guess, and hold the start of text/plain streams back.
            fields.append((b"Content-Type", content_type.encode("latin-1")))
            if "x-content-type-options" not in given:
                fields.append((b"X-Content-Type-Options", b"nosniff"))
        for name, value in headers:
            if _CONTROL.search(value):
                raise ValueError(f"header {name} has control characters")
            fields.append((name.encode("latin-1"), value.encode("latin-1")))
        head = ResponseHead(status, fields, _REASONS.get(status, b""))
        if type(headers) is tuple and len(self._heads) < MAX_HEADS:
            self._heads[key] = head
        return head


def _keep_alive(limits: HttpLimits) -> bytes:
    """
    Return the fields of an HTTP/1.1 response after which the connection stays open.

    They name the timeout: clients stop using the connection in time, instead of
    sending a request while it closes.
    """
    seconds = int(limits.idle_seconds)
    timeout = b"Keep-Alive: timeout=%d\r\n" % seconds if seconds else b""
    return b"Connection: keep-alive\r\n" + timeout


def http_date(seconds: float) -> bytes:
    """
    Return a time in unix seconds as header fields have it (RFC 9110, 5.6.7).
    """
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    name, of_year = _DAYS[weekday], _MONTHS[month - 1]
    return f"{name}, {day:02} {of_year} {year:04} {hour:02}:{minute:02}:{second:02} GMT".encode()
