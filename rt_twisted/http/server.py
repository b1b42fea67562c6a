"""
The HTTP port: its limits, and what all its connections share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from operator import itemgetter
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.http import datetimeToString
from zope.interface import implementer

from rt_twisted.codecs.addresses import limit_key
from rt_twisted.http.cors import Cors
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.h1 import Http1Connection
from rt_twisted.http.interfaces import Find
from rt_twisted.http.request import HttpLimits
from rt_twisted.model.errors import Header
from rt_twisted.net.address_groups import AddressGroups
from rt_twisted.net.inbound_memory import InboundMemory

try:
    from rt_twisted.http.h2 import Http2Connection
except ImportError:  # the h2 library is not installed
    Http2Connection = None  # type: ignore[assignment,misc]  # one of the two

_log = Logger()
_sweeping = _log.failureHandler("while looking for slow connections")

HEADS = 100  # responses of one second whose first lines are kept for the next alike

IDLE_GRACE = 3.0  # seconds in which a request may come that the client has sent already
IDLE_LOG = 60.0  # seconds between two log lines about idle connections

_KNOWN = frozenset(HTTPStatus)

AccessLog = Callable[[HttpExchange, int, int], None]  # request, status, size of the body


@implementer(IProtocolNegotiationFactory)
class HttpServer(Factory):
    """
    Makes connections; one for all ports of the daemon.

    Args:
        clock: the reactor.
        find: return the action for a method and a path.
        limits: for every connection.
        cors: for every response of ours.
        site: the twisted.web site for what no route claims; None answers 404.
        access_log: is told of every response that begins.
        inbound: for the bodies of requests.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        find: Find,
        limits: HttpLimits = HttpLimits(),
        cors: Cors = Cors(),
        site: Any = None,
        access_log: AccessLog | None = None,
        inbound: InboundMemory | None = None,
    ) -> None:
        self.clock = clock
        self.find = find
        self.limits = limits
        self.kept_alive = _kept_alive(limits)
        self.cors = cors
        self.site = site
        self.access_log = access_log
        self.inbound = inbound or InboundMemory(clock, 0)
        self.connections: set[Http1Connection | Http2Connection] = set()
        self._heads: dict[Any, bytes] = {}  # of this second, as their Date
        self._evicted = 0  # idle connections, since the last log line about them...
        self._evictions_at = 0.0  # ...and when the next one may be written
        self._sweep = LoopingCall(self._swept)
        self._sweep.clock = clock

    def buildProtocol(self, addr: Any) -> Any:
        """
        A connection from *addr*.
        """
        return Http1Connection(self)

    def acceptableProtocols(self) -> list[bytes]:
        """
        What TLS clients may choose from (ALPN, RFC 7301).
        """
        return [b"http/1.1"] if Http2Connection is None else [b"h2", b"http/1.1"]

    def speak_h2(self, transport: Any, peer: IAddress) -> None:
        """
        The client at the other end of *transport* has chosen so.
        """
        assert Http2Connection is not None
        Http2Connection(self, transport, peer)

    def start(self) -> None:
        """
        Begin to look for slow connections, once a second.
        """
        self._sweep.start(1.0, now=False)

    def stop(self) -> None:
        """
        Hang up on connections that ask for nothing; others finish what they do.
        """
        if self._sweep.running:
            self._sweep.stop()
        for connection in tuple(self.connections):
            connection.finish()

    def reconfigure(
        self, find: Find, limits: HttpLimits, cors: Cors, access_log: AccessLog | None
    ) -> None:
        """
        Go on with other settings; requests that are being answered stay what they are.
        """
        self.find = find
        self.limits = limits
        self.kept_alive = _kept_alive(limits)
        self.cors = cors
        self.access_log = access_log
        self._heads.clear()

    def head(
        self, status: int, content_type: str, headers: Sequence[Header], origin: str | None
    ) -> bytes:
        """
        The first lines of a response, without those that frame its body.

        Args:
            status: of the response.
            content_type: "" for none.
            headers: further ones.
            origin: the page's that asks; None if it is not a page's request.
        """
        key = (status, content_type, origin, headers)
        if type(headers) is tuple and key in self._heads:
            return self._heads[key]
        phrase = HTTPStatus(status).phrase if status in _KNOWN else ""
        lines = [
            b"HTTP/1.1 %d %s\r\n" % (status, phrase.encode()),
            b"Server: rt_twisted\r\nDate: %s\r\n" % datetimeToString(),
            self.cors.headers(origin),
        ]
        if content_type:
            # Without nosniff browsers guess, and hold the start of text/plain streams back.
            lines.append(
                b"Content-Type: %s\r\nX-Content-Type-Options: nosniff\r\n"
                % content_type.encode("latin-1")
            )
        for name, value in headers:
            if not value.isprintable():
                raise ValueError(f"header {name} cannot be {value!r}")
            lines.append(b"%s: %s\r\n" % (name.encode("latin-1"), value.encode("latin-1")))
        head = b"".join(lines)
        if type(headers) is tuple and len(self._heads) < HEADS:
            self._heads[key] = head
        return head

    def _swept(self) -> None:
        self._heads.clear()
        with _sweeping:
            now = self.clock.seconds()
            for connection in tuple(self.connections):
                if connection.deadline < now:
                    connection.too_slow()
            self._evict_idle(now)

    def _evict_idle(self, now: float) -> None:
        """
        Close the idlest connections above `idle_connections`, of the address that
        has most of them; a proxy or client opens another when it needs one.
        """
        most = self.limits.idle_connections
        if most and len(self.connections) > most:
            found = [(each.idle_since, each) for each in self.connections]
            idle = [(since, each) for since, each in found if since is not None]
            if len(idle) > most:
                self._evict(sorted(idle, key=itemgetter(0)), len(idle) - most, now)
        if self._evicted and now >= self._evictions_at:
            self._evictions_at = now + IDLE_LOG
            _log.warn(
                "closed {count} idle connections: more than {most} were idle at once "
                "(max-idle-connections)",
                count=self._evicted,
                most=most,
            )
            self._evicted = 0

    def _evict(
        self,
        idle: Sequence[tuple[float, Http1Connection | Http2Connection]],
        count: int,
        now: float,
    ) -> None:
        """
        Args:
            idle: since when, and which; the idlest first.
            count: how many are too many.
            now: the time.
        """
        groups: AddressGroups[Http1Connection | Http2Connection] = AddressGroups()
        since = {connection: when for when, connection in idle}
        for connection in since:
            groups.add(connection, limit_key(str(getattr(connection.peer, "host", ""))))
        for _ in range(count):
            idlest = groups.oldest_of_largest()
            if idlest is None or now - since[idlest] < IDLE_GRACE:
                return  # others shall not make room for these
            groups.discard(idlest)
            idlest.too_slow()
            self._evicted += 1


def _kept_alive(limits: HttpLimits) -> bytes:
    """
    The headers of a response behind which the connection stays open, by HTTP/1: clients
    stop using it in time, instead of sending a request while it closes.
    """
    seconds = int(limits.idle_seconds)
    timeout = b"Keep-Alive: timeout=%d\r\n" % seconds if seconds else b""
    return b"Connection: keep-alive\r\n" + timeout
