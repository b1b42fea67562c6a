"""
Requests to a twisted.web `Site`, as if its own HTTP channel had parsed them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import Logger
from twisted.web.http import Request
from twisted.web.http_headers import Headers
from twisted.web.pages import notFound
from twisted.web.resource import IResource, getChildForRequest
from twisted.web.server import Site, version

from rt_twisted.codecs.authority import split_authority
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.forms import parse_form
from rt_twisted.http.channel import ResponseChannel
from rt_twisted.http.collected_body import body_too_large
from rt_twisted.http.head import ResponseHead
from rt_twisted.http.interfaces import IServerExchange
from rt_twisted.model.errors import HttpError

_log = Logger()

_UNDERSCORE = ord("_")  # `in` with bytes is slow, see `codecs.forms`
_TWISTED = version  # twisted.web's Server header


def make_site(resource: IResource, parse_forms: bool = True) -> Site:
    """
    Return a site for `IExchange.render`.

    Args:
        resource: its root.
        parse_forms: whether fields of forms are arguments of a request.
    """
    return Site(resource, parsePOSTFormSubmission=parse_forms)


class SiteChannel:
    """
    The channel of one `twisted.web.http.Request`, as Twisted's HTTP/2 streams offer it.

    The site's applications see the client as our own code does: behind a trusted
    proxy, its address and scheme are the ones that the proxy names. Headers with
    an underscore in their name are removed: WSGI (PEP 3333) cannot tell them from
    those with a hyphen, which a proxy may vouch for.

    Args:
        channel: sends the response.
        exchange: the request.
        site: renders it.
        depth: path segments that belong to the mount point.
    """

    factory = None  # the access log is ours

    def __init__(
        self, channel: ResponseChannel, exchange: IServerExchange, site: Site, depth: int
    ) -> None:
        self.transport = channel.transport
        self.site = _MountedSite(site, depth) if depth else site
        self._channel = channel
        self._exchange = exchange
        self._size = 0  # bytes of the request body so far
        self._lost = False
        self._declared: int | None = None  # length of the response
        self._sent = 0  # bytes of it
        self.request: Any = site.requestFactory(self, False)
        headers = self.request.requestHeaders
        for name, value in exchange.raw_headers:
            if _UNDERSCORE not in name:
                headers.addRawHeader(name, value)
        self.request.parseCookies()
        # twisted.web would parse forms by the email package, which raises various
        # exceptions and has no limits. These are its private names.
        if getattr(site, "_parsePOSTFormSubmission", True):
            process = self.request.process
            self.request.process = partial(  # type: ignore[method-assign]  # it is Any
                self._process_form, process
            )
        self.request._parsePOSTFormSubmission = False

    def start(self, length: int | None) -> None:
        """
        Begin the request body, of *length* bytes; None if that is not known.
        """
        self.request.gotLength(length)

    # IBodySink.

    def data(self, piece: bytes) -> None:
        self._size += len(piece)
        limit = self._channel.context.limits.body
        if self._size <= limit:
            self.request.handleContentChunk(piece)
        elif not self._exchange.answered:
            self._exchange.refuse(body_too_large(limit))

    def end(self) -> None:
        exchange = self._exchange
        if exchange.answered:
            return
        version = b"HTTP/1.1" if exchange.framed else b"HTTP/1.0"
        self.request.requestReceived(exchange.method.encode(), exchange.target, version)

    def lost(self, reason: Exception) -> None:
        if not self._lost:
            self._lost = True
            self.request.connectionLost(reason)

    def _process_form(self, process: Any) -> None:
        request = self.request
        if request.method == b"POST" and self._size:
            content_type = self._exchange.header("content-type") or ""
            try:
                fields = parse_form(content_type, request.content.read())
            except RemoteProtocolError as error:
                _log.debug("malformed form: {reason}", reason=error.reason)
                self._exchange.refuse(HttpError(error.status, error.reason))
                return
            form: dict[bytes, list[bytes]] = {}
            for name, value in fields:
                form.setdefault(name, []).append(value)
            request.args.update(form)  # a field of the body replaces one of the query
            request.content.seek(0, 0)
        process()

    # Called by the request.

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        exchange = self._exchange
        declared = headers.getRawHeaders(b"Content-Length")
        if declared and exchange.method != "HEAD" and code not in (b"204", b"304"):
            self._declared = int(declared[0])
        exchange.response_started(int(code), int(declared[0]) if declared else 0)
        if headers.getRawHeaders(b"Server", [_TWISTED]) == [_TWISTED]:
            headers.setRawHeaders(b"Server", [b"rt_twisted"])
        if not headers.hasHeader(b"X-Content-Type-Options"):
            headers.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
        fields = [(n, v) for n, values in headers.getAllRawHeaders() for v in values]
        fields = exchange.edit_fields(fields)
        self._channel.start(ResponseHead(int(code), fields, reason, version), None)

    def write(self, data: bytes) -> None:
        # No more than the length that the response declared.
        if self._declared is not None:
            data = data[: self._declared - self._sent]
        self._sent += len(data)
        self._channel.write(data)

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        self._channel.writeSequence(pieces)

    def requestDone(self, request: Request) -> None:
        if self._declared is not None and self._sent < self._declared:
            _log.warn(
                "{path!r}: the application wrote {sent} of {declared} bytes; connection closed",
                path=self._exchange.path,
                sent=self._sent,
                declared=self._declared,
            )
            self._channel.abort()  # there is no other way to end it
            return
        self._channel.finish()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._channel.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._channel.unregisterProducer()

    def getPeer(self) -> Any:
        # The client's address as the limits count it, always with a host: "" behind a unix
        # socket. The port is 0 if it is not known.
        peer, host = self.transport.getPeer(), self._exchange.address
        if getattr(peer, "host", None) == host:
            return peer
        return _address(host, 0)

    def getHost(self) -> Any:
        # Ours; behind a unix socket the one that the Host header names.
        here = self.transport.getHost()
        if hasattr(here, "host"):
            return here
        name, port = split_authority(self._exchange.header("host") or "")
        default = 443 if self.isSecure() else 80
        return _address(name.strip("[]") or "localhost", int(port or default))

    def isSecure(self) -> bool:
        return bool(self._exchange.scheme == "https")

    def _respondToBadRequestAndDisconnect(self) -> None:
        # twisted.web calls this for forms that it would parse itself.
        self._exchange.refuse(HttpError(400, "malformed form"))

    def loseConnection(self) -> None:
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        self._channel.abort()


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, port)


class _MountedSite:
    """
    A site as seen from a mount point: sessions and settings are the site's.
    """

    def __init__(self, site: Site, depth: int) -> None:
        self._site = site
        self._depth = depth

    def getResourceFor(self, request: Any) -> Any:
        if len(request.postpath) < self._depth:
            return notFound()  # an escaped slash counted in the route's match
        for _ in range(self._depth):
            request.prepath.append(request.postpath.pop(0))
        request.sitepath = list(request.prepath)
        return getChildForRequest(self._site.resource, request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)
