"""
The HTTP server: it accepts connections, and closes those that are slow or idle.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from importlib.util import find_spec
from operator import itemgetter
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.codecs.addresses import limit_key
from rt_twisted.http.context import HttpConnection, HttpContext
from rt_twisted.http.h1 import Http1Connection
from rt_twisted.model.load_object import load_object
from rt_twisted.net.address_groups import AddressGroups
from rt_twisted.net.slices import run_in_slices

_log = Logger()

_HTTP2 = "rt_twisted.http.h2.Http2Connection"
LOOKS = 500  # connections whose time is looked at, then other clients may be served
IDLE_GRACE = 3.0  # seconds in which a request may arrive that the client has sent already
IDLE_LOG = 60.0  # seconds between two log lines about idle connections


@implementer(IProtocolNegotiationFactory)
class HttpServer(Factory):
    """
    Makes the connections of all HTTP ports of the daemon.

    Args:
        context: the settings and state that the connections share.

    Attributes:
        ignores_address: `buildProtocol` may be called without an address (`QuickAcceptor`).
    """

    noisy = False
    ignores_address = True

    def __init__(self, context: HttpContext) -> None:
        self.context = context
        context.start_http2 = self._start_http2
        self._has_http2 = find_spec("h2") is not None  # it need not be installed
        self._evicted = 0  # idle connections, since the last log line about them...
        self._evictions_at = 0.0  # ...and when the next one may be written
        self._closing = False  # while slow connections are closed
        self._sweep = LoopingCall(self._close_slow)
        self._sweep.clock = context.clock

    @property
    def connections(self) -> set[HttpConnection]:
        """
        All connections that are open.
        """
        return self.context.connections

    def buildProtocol(self, addr: Any) -> Any:
        return Http1Connection(self.context)

    def acceptableProtocols(self) -> list[bytes]:
        """
        Return the protocols that TLS clients may choose (ALPN, RFC 7301).
        """
        return [b"h2", b"http/1.1"] if self._has_http2 else [b"http/1.1"]

    def load_http2(self) -> None:
        """
        Load HTTP/2, which is otherwise loaded with the first connection that uses it.
        """
        if self._has_http2:
            load_object(_HTTP2)

    def _start_http2(self, transport: Any, peer: IAddress) -> None:
        try:
            connection = load_object(_HTTP2)
        except ValueError as error:  # h2 is of another version than at the start
            _log.error("HTTP/2 is not available: {reason}", reason=error)
            transport.abortConnection()
            return
        connection(self.context, transport, peer)

    def start(self) -> None:
        """
        Begin to look for slow connections, once a second.
        """
        self._sweep.start(1.0, now=False)

    def stop(self) -> None:
        """
        Close idle connections, and the others when their requests are answered.
        """
        if self._sweep.running:
            self._sweep.stop()
        for connection in tuple(self.connections):
            connection.close_gracefully()

    def _close_slow(self) -> None:
        self.context.forget_heads()
        if not self._closing:  # else the last look still lasts
            self._closing = True
            closing = run_in_slices(self.context.clock, self._close_in_steps())
            closing.addErrback(_log_failure).addCallback(self._on_closed)

    def _on_closed(self, _: object) -> None:
        self._closing = False

    def _close_in_steps(self) -> Generator[None, None, None]:
        """
        Close slow and idle connections; yield after each, as there can be many.
        """
        now = self.context.clock.seconds()
        for at, connection in enumerate(tuple(self.connections)):
            if connection.deadline < now and connection in self.connections:
                connection.on_deadline()
                yield
            elif not at % LOOKS:
                yield
        yield from self._evict_idle(now)

    def _evict_idle(self, now: float) -> Generator[None, None, None]:
        """
        Close the connections above `idle_connections` that are idle longest.

        They are those of the address that has most of them. A proxy or client opens
        another when it needs one.
        """
        limit = self.context.limits.idle_connections
        if limit and len(self.connections) > limit:
            found = [(each.idle_since, each) for each in self.connections]
            yield
            idle = [(since, each) for since, each in found if since is not None]
            if len(idle) > limit:
                yield from self._evict(sorted(idle, key=itemgetter(0)), len(idle) - limit, now)
        if self._evicted and now >= self._evictions_at:
            self._evictions_at = now + IDLE_LOG
            _log.warn(
                "closed {count} idle connections: more than {limit} were idle at once "
                "(max-idle-connections)",
                count=self._evicted,
                limit=limit,
            )
            self._evicted = 0

    def _evict(
        self, idle: Sequence[tuple[float, HttpConnection]], count: int, now: float
    ) -> Generator[None, None, None]:
        """
        Close *count* idle connections, but none that has been idle for less than IDLE_GRACE.

        Args:
            idle: since when, and which; the one that is idle longest first.
            count: how many are too many.
            now: the time.
        """
        if now - idle[0][0] < IDLE_GRACE:
            return
        groups: AddressGroups[HttpConnection] = AddressGroups()
        since = {connection: when for when, connection in idle}
        for connection in since:
            groups.add(connection, limit_key(str(getattr(connection.peer, "host", ""))))
            yield
        while count:
            idlest = groups.oldest_of_largest()
            if idlest is None or now - since[idlest] < IDLE_GRACE:
                return  # those of other addresses need not make room for these
            groups.discard(idlest)
            count -= 1
            if idlest in self.connections and idlest.idle_since == since[idlest]:
                idlest.on_deadline()
                self._evicted += 1
            yield


def _log_failure(failure: Failure) -> None:
    _log.failure("while closing slow connections", failure)
