"""
twisted.web behind our parser: a `Site` sees requests as from its own channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.web.http import Request
from twisted.web.http_headers import Headers
from twisted.web.pages import notFound
from twisted.web.resource import getChildForRequest
from twisted.web.server import Site

from rt_twisted.interfaces import Refusal

if TYPE_CHECKING:
    from rt_twisted.front.connection import Connection
    from rt_twisted.front.exchange import HttpExchange


class SiteChannel:
    """
    What a `twisted.web.http.Request` expects of its channel, for one request.

    This is the interface that Twisted's own HTTP/2 streams offer to requests.

    Args:
        connection: the response goes out through its transport.
        exchange: what was asked.
        site: who answers.
        depth: path segments that belong to the mount point.
    """

    factory = None  # the access log is ours

    def __init__(
        self, connection: Connection, exchange: HttpExchange, site: Site, depth: int
    ) -> None:
        self.transport = connection.transport
        self.site = _Mounted(site, depth) if depth else site
        self._connection = connection
        self._exchange = exchange
        self._size = 0  # of the body so far
        self._lost = False
        self.request: Request = site.requestFactory(self, False)
        headers = self.request.requestHeaders
        for name, value in exchange.raw_headers:
            headers.addRawHeader(name, value)
        self.request.parseCookies()

    def start(self, length: int | None) -> None:
        """
        The head is read, a body of *length* bytes follows; None if unknown.
        """
        self.request.gotLength(length)

    def data(self, piece: bytes) -> None:
        """
        A piece of the body (`IBodySink`), as long as it is not too large.
        """
        self._size += len(piece)
        limit = self._connection.front.limits.body
        if self._size <= limit:
            self.request.handleContentChunk(piece)
        elif not self._exchange.answered:
            self._exchange.refuse(Refusal(413, f"the body is larger than {limit} bytes"))

    def end(self) -> None:
        """
        The body is whole: let the resource answer.
        """
        exchange = self._exchange
        if exchange.answered:
            return
        version = b"HTTP/1.1" if exchange.framed else b"HTTP/1.0"
        self.request.requestReceived(exchange.method.encode(), exchange.target, version)

    def lost(self, reason: Exception) -> None:
        """
        The client went away, or its body is refused.
        """
        if not self._lost:
            self._lost = True
            self.request.connectionLost(reason)

    # What the request calls.

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """
        The head of the response.
        """
        length = (headers.getRawHeaders(b"Content-Length") or [b"0"])[0]
        self._exchange.started(int(code), int(length))
        pairs = [(n, v) for n, values in headers.getAllRawHeaders() for v in values]
        if not self._connection.stays_open(self._exchange):
            pairs.append((b"Connection", b"close"))
        lines = [b"%s %s %s\r\n" % (version, code, reason)]
        lines += [b"%s: %s\r\n" % pair for pair in pairs]
        self.transport.write(b"".join(lines) + b"\r\n")

    def write(self, data: bytes) -> None:
        """
        A piece of the response.
        """
        self.transport.write(data)

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """
        Some pieces of it.
        """
        self.transport.writeSequence(pieces)

    def requestDone(self, request: Request) -> None:
        """
        The response is whole.
        """
        self._connection.outlet.drain()
        self._exchange.finished()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        The response comes from a producer.
        """
        self._connection.outlet.lend(producer, streaming)

    def unregisterProducer(self) -> None:
        """
        It is done.
        """
        self._connection.outlet.take_back()

    def getPeer(self) -> Any:
        """
        The client's address.
        """
        return self.transport.getPeer()

    def getHost(self) -> Any:
        """
        Ours.
        """
        return self.transport.getHost()

    def isSecure(self) -> bool:
        """
        Whether this is TLS.
        """
        return self._exchange.secure

    def _respondToBadRequestAndDisconnect(self) -> None:
        # twisted.web's own name: a form in the body cannot be parsed.
        self._exchange.refuse(Refusal(400, "malformed form"))

    def loseConnection(self) -> None:
        """
        The resource wants no more of this client.
        """
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """
        At once.
        """
        self.transport.abortConnection()


class _Mounted:
    """
    A site as seen from a mount point: sessions and settings are the site's.
    """

    def __init__(self, site: Site, depth: int) -> None:
        self._site = site
        self._depth = depth

    def getResourceFor(self, request: Any) -> Any:
        """
        The resource below the mount point.
        """
        if len(request.postpath) < self._depth:
            return notFound()  # an escaped slash counted in the route's match
        for _ in range(self._depth):
            request.prepath.append(request.postpath.pop(0))
        request.sitepath = list(request.prepath)
        return getChildForRequest(self._site.resource, request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)
