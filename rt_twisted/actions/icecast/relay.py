"""
Mounts that are fetched from another server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn
from urllib.parse import quote, urlsplit, urlunsplit

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionLost,
    DNSLookupError,
)
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access.keys import Key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.icecast.commands import listeners_of_process
from rt_twisted.actions.icecast.source_connection import SourceConnection
from rt_twisted.actions.icecast.source_request import (
    SourceOptions,
    about_of,
    begin_source,
    receive_audio,
)
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.icy_client import IcyReader, read_icy_response
from rt_twisted.http.interfaces import IExchange
from rt_twisted.media.icy import clean_title
from rt_twisted.model.errors import HttpError

CHECK_SECONDS = 2.0  # between two looks whether the relay is needed
IDLE_SECONDS = 10.0  # without listeners, after which a relay on demand disconnects
MAX_RETRY = 30.0  # seconds between two attempts
HEAD_SECONDS = 15.0  # for the response head
MAX_HEAD = 16384  # bytes of a response head

_log = Logger()


@implementer(IAction)
@dataclass(eq=False)
class IcecastRelayAction(Service):
    """
    Fetch a mount: `icecast-relay:channel=radio/a.mp3,mount=/a.mp3,url=http://other:8000/a.mp3`.

    Another line serves the mount. Of all processes and nodes one fetches it; another one takes
    its place. The address is that of the route line: no request can name one.

    Args:
        context: the hub and the settings.
        channel: of the mount.
        mount: its path, for status and titles.
        url: http or https.
        demand: fetch it only while it has listeners.
    """

    context: ActionContext
    channel: str
    mount: str
    url: str
    demand: bool = False
    link: RelayLink = field(init=False)

    methods: ClassVar[Sequence[str]] = ()

    def __post_init__(self) -> None:
        if not self.mount.startswith("/"):
            raise ValueError("mount= is a path, such as /live.mp3")
        try:
            self.context.names.check(self.channel)
        except HttpError as error:
            raise ValueError(error.reason) from None
        self.link = RelayLink(self.context, SourceOptions(self.channel, self.mount), self.url)
        self._check = LoopingCall(self._on_check)
        self._check.clock = self.context.reactor
        self._needed = 0.0  # when it had listeners last

    def act(self, exchange: IExchange, match: Match) -> NoReturn:
        raise HttpError(404, "nothing here")

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        listeners_of_process(self.context).on_wanted(self.channel, self._on_wanted)
        self._check.start(CHECK_SECONDS)

    def stopService(self) -> Any:
        self._check.stop()
        listeners_of_process(self.context).on_wanted(self.channel, None)
        self.link.stop()
        return super().stopService()  # type: ignore[no-untyped-call]  # Twisted's

    def _on_wanted(self) -> None:
        self._needed = self.context.reactor.seconds()
        self.link.start()

    def _on_check(self) -> None:
        now = self.context.reactor.seconds()
        if not self.demand or listeners_of_process(self.context).count(self.channel):
            self._needed = now
        elif not self._needed or now - self._needed > IDLE_SECONDS:
            self.link.stop()
            return
        self.link.start()


class RelayLink:
    """
    The connection to another server, which is made again after a while when it is lost.

    Args:
        context: the hub and the settings.
        options: of the mount.
        url: of the other server's mount.

    Raises:
        ValueError: *url* is no address of HTTP.
    """

    def __init__(self, context: ActionContext, options: SourceOptions, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url= is an address of http or https, not {url!r}")
        self.context = context
        self.options = options
        self._host = parts.hostname
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        authority = parts.netloc.rpartition("@")[2]
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = f"?{parts.query}" if parts.query else ""
        self.request = (
            f"GET {path}{query} HTTP/1.0\r\nHost: {authority}\r\n"
            "User-Agent: rt_twisted\r\nIcy-MetaData: 1\r\n\r\n"
        ).encode()
        # For the log: what is left out may be secret.
        self.url = urlunsplit((parts.scheme, authority, parts.path, "", ""))
        self._attempt: Deferred[Any] | None = None
        self._protocol: RelaySource | None = None
        self._retry_at = 0.0
        self._wait = 1.0

    def start(self) -> None:
        """
        Connect, unless there is a connection, or the last attempt was a moment ago.
        """
        now = self.context.reactor.seconds()
        if self._attempt is not None or self._protocol is not None or now < self._retry_at:
            return
        endpoint: Any = HostnameEndpoint(self.context.reactor, self._host, self._port)
        if self._secure:
            endpoint = wrapClientTLS(optionsForClientTLS(self._host), endpoint)
        self._attempt = endpoint.connect(Factory.forProtocol(lambda: RelaySource(self)))
        self._attempt.addCallbacks(self._on_connected, self._on_failed)

    def stop(self) -> None:
        """
        Close the connection, or stop connecting.
        """
        attempt, protocol = self._attempt, self._protocol
        if attempt is not None:
            attempt.cancel()
        if protocol is not None:
            protocol.abort()

    def on_audio(self) -> None:
        """
        Note that the mount was received.
        """
        self._wait = 1.0
        _log.info("{url} is relayed to {mount}", url=self.url, mount=self.options.mount)

    def on_lost(self, reason: str) -> None:
        """
        Note that the connection was lost.
        """
        self._protocol = None
        self._later(reason)

    def _on_connected(self, protocol: Any) -> None:
        self._attempt = None
        self._protocol = protocol

    def _on_failed(self, failure: Failure) -> None:
        self._attempt = None
        if failure.check(CancelledError, ConnectingCancelledError):
            return
        if not failure.check(ConnectError, DNSLookupError, OSError):
            _log.failure("while connecting to {url}", failure, url=self.url)
        self._later(failure.getErrorMessage())

    def _later(self, reason: str) -> None:
        _log.debug("{url} is not relayed: {reason}", url=self.url, reason=reason)
        self._retry_at = self.context.reactor.seconds() + self._wait
        self._wait = min(2 * self._wait, MAX_RETRY)


class RelaySource(Protocol):
    """
    The connection to another server: its response, then the audio with its titles.

    Args:
        link: is notified.

    Attributes:
        answered: the connection is lost.
    """

    def __init__(self, link: RelayLink) -> None:
        self.answered = False
        self._link = link
        self._data = b""
        self._headers: dict[str, str] | None = None
        self._titles: IcyReader | None = None
        self._connection: SourceConnection | None = None
        self._run: Any = None
        self._publisher: Any = None
        self._reason = "the connection was lost"
        self._timer: IDelayedCall | None = None  # until the response head

    def connectionMade(self) -> None:
        self._timer = self._link.context.reactor.callLater(
            HEAD_SECONDS, self.abort, f"it has not answered in {HEAD_SECONDS:g} s"
        )
        self._transport().write(self._link.request)

    def dataReceived(self, data: bytes) -> None:
        if self._connection is not None:
            self._receive(data)
            return
        self._data += data
        if self._headers is None:
            try:
                found = read_icy_response(self._data, MAX_HEAD)
            except RemoteProtocolError as error:
                self.abort(error.reason)
                return
            if found is None:
                return
            self._headers, self._data = found
            self._stop_timer()
            self._transport().pauseProducing()  # until the mount is ours
            ensureDeferred(self._begin()).addErrback(self._on_failed)

    async def _begin(self) -> None:
        link, headers = self._link, self._headers or {}
        exchange: Any = self
        begun = await begin_source(link.context, exchange, link.options, Key.of(""))
        self._publisher = begun[0]
        interval = headers.get("icy-metaint", "0")
        self._titles = IcyReader(int(interval) if interval.isdecimal() else 0)
        connection = SourceConnection(headers.get)
        connection.makeConnection(self._transport())  # type: ignore[no-untyped-call]  # Twisted's
        about = about_of(headers.get, link.options.mount)
        connection.sink, self._run = receive_audio(
            link.context, link.options, connection, begun, about
        )
        self._connection = connection
        link.on_audio()
        data, self._data = self._data, b""
        self._receive(data)
        self._transport().resumeProducing()

    def _receive(self, data: bytes) -> None:
        assert self._titles is not None and self._connection is not None
        for thing in self._titles.feed(data):
            if isinstance(thing, bytes):
                self._connection.dataReceived(thing)
            else:
                self._run.set_title(clean_title(thing.text))

    def _on_failed(self, failure: Failure) -> None:
        if not failure.check(HttpError, ConnectionLost):
            _log.failure("while a relay began", failure)
        self.abort(failure.getErrorMessage())

    def abort(self, reason: str = "it is not needed") -> None:
        """
        Disconnect for *reason*.
        """
        self._reason = reason
        self._transport().abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.answered = True
        self._stop_timer()
        if self._connection is not None:
            self._connection.connectionLost(reason)
        elif self._publisher is not None:
            self._publisher.close()
        self._link.on_lost(self._reason)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _transport(self) -> Any:
        return self.transport
