"""
twisted.web behind our parser: a `Site` sees requests as from its own channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import Logger
from twisted.web.http import Request
from twisted.web.http_headers import Headers
from twisted.web.pages import notFound
from twisted.web.resource import getChildForRequest
from twisted.web.server import Site, version

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.forms import parse_fields
from rt_twisted.model.errors import HttpError

if TYPE_CHECKING:
    from rt_twisted.http.exchange import HttpExchange
    from rt_twisted.http.h1 import Http1Connection

_log = Logger()

_TWISTED = version  # how twisted.web names itself


class SiteChannel:
    """
    What a `twisted.web.http.Request` expects of its channel, for one request.

    This is the interface that Twisted's own HTTP/2 streams offer to requests.

    The site's applications see the client as our own code does: behind a trusted
    proxy, its address and scheme are the ones that the proxy names. Headers with
    an underscore in their name do not reach them: WSGI (PEP 3333) cannot tell them from
    those with a hyphen, which a proxy may vouch for.

    Args:
        connection: the response goes out through its transport.
        exchange: what was asked.
        site: who answers.
        depth: path segments that belong to the mount point.
    """

    factory = None  # the access log is ours

    def __init__(
        self, connection: Http1Connection, exchange: HttpExchange, site: Site, depth: int
    ) -> None:
        self.transport = connection.transport
        self.site = _Mounted(site, depth) if depth else site
        self._connection = connection
        self._exchange = exchange
        self._size = 0  # of the body so far
        self._lost = False
        self._declared: int | None = None  # length of the response
        self._sent = 0  # bytes of it
        self.request: Any = site.requestFactory(self, False)
        headers = self.request.requestHeaders
        for name, value in exchange.raw_headers:
            if b"_" not in name:
                headers.addRawHeader(name, value)
        self.request.parseCookies()
        # twisted.web would parse forms by the email package, which raises what it
        # likes, and has no limits. These are its private names.
        if getattr(site, "_parsePOSTFormSubmission", True):
            process = self.request.process
            self.request.process = partial(  # type: ignore[method-assign]  # it is Any
                self._process_form, process
            )
        self.request._parsePOSTFormSubmission = False

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
        limit = self._connection.server.limits.body
        if self._size <= limit:
            self.request.handleContentChunk(piece)
        elif not self._exchange.answered:
            self._exchange.refuse(HttpError(413, f"the body is larger than {limit} bytes"))

    def end(self) -> None:
        """
        The body is whole: let the resource answer.
        """
        exchange = self._exchange
        if exchange.answered:
            return
        version = b"HTTP/1.1" if exchange.framed else b"HTTP/1.0"
        self.request.requestReceived(exchange.method.encode(), exchange.target, version)

    def _process_form(self, process: Any) -> None:
        request = self.request
        if request.method == b"POST" and self._size:
            content_type = self._exchange.header("content-type") or ""
            try:
                fields = parse_fields(content_type, request.content.read())
            except RemoteProtocolError as error:
                _log.debug("malformed form: {why}", why=error.reason)
                self._exchange.refuse(HttpError(error.status, error.reason))
                return
            request.args.update(fields)
            request.content.seek(0, 0)
        process()

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
        exchange = self._exchange
        declared = headers.getRawHeaders(b"Content-Length")
        if declared and exchange.method != "HEAD" and code not in (b"204", b"304"):
            self._declared = int(declared[0])
        exchange.started(int(code), int(declared[0]) if declared else 0)
        if headers.getRawHeaders(b"Server", [_TWISTED]) == [_TWISTED]:
            headers.setRawHeaders(b"Server", [b"rt_twisted"])
        if not headers.hasHeader(b"X-Content-Type-Options"):
            headers.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
        pairs = [(n, v) for n, values in headers.getAllRawHeaders() for v in values]
        lines = [b"%s %s %s\r\n" % (version, code, reason)]
        lines += [b"%s: %s\r\n" % pair for pair in pairs]
        if self._connection.stays_open(exchange):
            lines.append(self._connection.server.kept_alive)
        else:
            lines.append(b"Connection: close\r\n")
        self.transport.write(b"".join(lines) + b"\r\n")

    def write(self, data: bytes) -> None:
        """
        A piece of the response; no more than the length that it declared.
        """
        if self._declared is not None:
            data = data[: self._declared - self._sent]
        self._sent += len(data)
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
        if self._declared is not None and self._sent < self._declared:
            _log.warn(
                "{path}: the application wrote {sent} of {declared} bytes; connection closed",
                path=self._exchange.path,
                sent=self._sent,
                declared=self._declared,
            )
            self.transport.abortConnection()  # there is no other way to end it
            return
        self._connection.writer.drain()
        self._exchange.finished()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        The response comes from a producer.
        """
        self._connection.writer.lend(producer, streaming)

    def unregisterProducer(self) -> None:
        """
        It is done.
        """
        self._connection.writer.take_back()

    def getPeer(self) -> Any:
        """
        The client's address, as the limits count it, with a host in any case: ""
        behind a unix socket. The port is 0 if nobody knows it.
        """
        peer, host = self.transport.getPeer(), self._exchange.address
        if getattr(peer, "host", None) == host:
            return peer
        return _address(host, 0)

    def getHost(self) -> Any:
        """
        Ours; behind a unix socket what the client calls us.
        """
        here = self.transport.getHost()
        if hasattr(here, "host"):
            return here
        name, _, port = (self._exchange.header("host") or "").rpartition(":")
        if not port.isdecimal():
            name, port = f"{name}:{port}" if name else port, ""
        default = 443 if self.isSecure() else 80
        return _address(name.strip("[]") or "localhost", int(port or default))

    def isSecure(self) -> bool:
        """
        Whether the client speaks TLS, to us or to a trusted proxy.
        """
        return self._exchange.scheme == "https"

    def _respondToBadRequestAndDisconnect(self) -> None:
        # twisted.web's own name, for forms that it would parse itself.
        self._exchange.refuse(HttpError(400, "malformed form"))

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


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, port)


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
