"""
Connection that records what arrives, and when.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.python.failure import Failure

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.eventsource import Event, EventReader
from rt_twisted.codecs.response import ReceivedHead, ResponseReader


class Unreachable(Exception):
    """
    The connection failed; the text says why.
    """


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """
    Server to connect to.

    Args:
        reactor: connects, and is the clock.
        url: http:// or https://.
        verify: whether its certificate is checked.
        timeout: seconds for each wait.
    """

    reactor: Any
    url: str
    verify: bool
    timeout: float

    @property
    def path(self) -> str:
        """
        Return path and query, for a request line.
        """
        parts = urlsplit(self.url)
        return f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"

    async def connect(self) -> ProbeConnection:
        """
        Connect to the server.

        Raises:
            Unreachable: the connection failed.
        """
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        endpoint: Any = HostnameEndpoint(
            self.reactor, host, parts.port or (443 if parts.scheme == "https" else 80)
        )
        if parts.scheme == "https":
            options = optionsForClientTLS(host) if self.verify else CertificateOptions(verify=False)
            endpoint = wrapClientTLS(options, endpoint)
        connection = ProbeConnection(self.reactor, self.timeout)
        connecting: Deferred[ProbeConnection] = connectProtocol(endpoint, connection)
        try:
            return await connecting.addTimeout(self.timeout, self.reactor)
        except DNSLookupError:
            raise Unreachable(f"no address is known for {host}") from None
        except (DeferredTimeout, CancelledError):
            raise Unreachable(f"no response within {self.timeout:g} s") from None
        except ConnectError as error:
            raise Unreachable(f"cannot connect: {error}") from None

    async def send_request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> ProbeConnection:
        """
        Connect and send a request, without waiting for the response.
        """
        connection = await self.connect()
        connection.send(self.request(method, path, headers, body), method)
        return connection

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> bytes:
        """
        Encode a request.
        """
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        fields = {"Host": host, "User-Agent": "rt_twisted doctor", **(headers or {})}
        if method == "POST":
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items()), "", ""]
        return "\r\n".join(lines).encode() + body


class ProbeConnection(Protocol):
    """
    One connection, and the responses on it.

    Args:
        clock: the reactor.
        timeout: default seconds of `until`.
    """

    transport: Any

    def __init__(self, clock: Any, timeout: float) -> None:
        self.arrivals: list[float] = []  # when body bytes came
        self.events: list[tuple[float, Event]] = []
        self.body = bytearray()
        self.opened: float | None = None  # when the head came
        self.closed: float | None = None
        self.reason = ""  # why it was closed
        self.began = clock.seconds()
        self._clock = clock
        self._timeout = timeout
        self._method = "GET"
        self._response = ResponseReader()
        self._reader = EventReader()
        self._decompress: Any = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[bool]]] = []

    @property
    def head(self) -> ReceivedHead | None:
        """
        Return the head of the response; None before it has arrived.
        """
        return self._response.head

    @property
    def done(self) -> bool:
        """
        Return whether the response is complete or the connection closed.
        """
        bare = self._method == "HEAD" and self.head is not None
        return self._response.complete or bare or self.closed is not None

    @property
    def keeps_alive(self) -> bool:
        """
        Return whether the connection may be used again.
        """
        kept = self._response.keep_alive or self._method == "HEAD"
        option = ((self.head and self.head.header("connection")) or "").lower()
        return kept and "close" not in option and self.closed is None

    @property
    def retry_only(self) -> float | None:
        """
        Return the seconds of `retry` if the stream contained nothing else; None otherwise.
        """
        reader = self._reader
        # A refusal has one comment, its status and reason.
        other = self.events or reader.last_id or reader.comments > 1
        if not self.done or other or reader.retry is None:
            return None
        return reader.retry / 1e3

    @property
    def last_id(self) -> str:
        """
        Return the stream's last event id.
        """
        return self._reader.last_id

    @property
    def texts(self) -> list[str]:
        """
        Return the data of the received messages.
        """
        return [event.data for _, event in self.events if event.type == "message"]

    def send(self, request: bytes, method: str = "GET") -> None:
        """
        Send a request, and discard the previous response.
        """
        self._method = method
        self._response, self._reader = ResponseReader(), EventReader()
        self.body.clear()
        self.began = self._clock.seconds()
        self.transport.write(request)

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """
        Wait until *condition* is true, or the connection is closed.

        Args:
            condition: called whenever data arrived.
            seconds: the longest wait.

        Returns:
            Whether it is true.
        """
        if condition() or self.closed is not None:
            return condition()
        waiting: Deferred[bool] = Deferred()
        entry = (condition, waiting)
        self._waiting.append(entry)
        waiting.addTimeout(self._timeout if seconds is None else seconds, self._clock)
        try:
            return await waiting
        except (DeferredTimeout, CancelledError):
            return False
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    async def answered(self) -> bool:
        """
        Wait for the head of the response.
        """
        return await self.until(lambda: self.head is not None)

    async def finished(self) -> bool:
        """
        Wait for the end of the response.
        """
        return await self.until(lambda: self.done) and self.head is not None

    def dataReceived(self, data: bytes) -> None:
        now = self._clock.seconds()
        try:
            body = self._response.feed(data)
            if self.opened is None and self.head is not None:
                self.opened = now
                coding = (self.head.header("content-encoding") or "").lower()
                if coding in ("gzip", "deflate"):
                    self._decompress = zlib.decompressobj(47)  # either, by its first bytes
            if body and self._decompress is not None:
                body = self._decompress.decompress(body)
            if body:
                self.arrivals.append(now)
                self.body += body
                self.events += [(now, event) for event in self._reader.feed(body)]
        except (RemoteProtocolError, zlib.error) as error:
            self.reason = str(error)
            self.close()
            return
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.closed is None:
            self.closed = self._clock.seconds()
        self.reason = self.reason or _describe_failure(reason)
        self._wake()

    def close(self) -> None:
        """
        Abort the connection, and wake up all that wait.
        """
        if self.closed is None:
            self.closed = self._clock.seconds()
            self.transport.abortConnection()
            self._wake()

    def _wake(self) -> None:
        for condition, waiting in tuple(self._waiting):
            true = condition()
            if (true or self.closed is not None) and not waiting.called:
                waiting.callback(true)


def _describe_failure(reason: Failure) -> str:
    error: Any = reason.value
    if type(error).__module__.startswith("OpenSSL"):
        details = error.args[0] if error.args else ()
        reasons = (
            ", ".join(each[-1] for each in details if each) if isinstance(details, list) else ""
        )
        return f"TLS fails: {reasons or 'the peer closed the connection'}"
    if type(error).__module__.startswith("service_identity"):
        return "TLS fails: the certificate is for another name"
    return str(error).rstrip(".").lower() or type(error).__name__
