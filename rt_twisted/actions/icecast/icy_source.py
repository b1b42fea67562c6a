"""
Sources that publish by ICY, the protocol of SHOUTcast: a password, headers, then audio.

There is no specification; see SHOUTcast DNAS 1.9.8, and libshout's `proto_icy.c`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access.keys import Key
from rt_twisted.access.secrets import secret
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.icecast.action import IcecastAction
from rt_twisted.actions.icecast.source_connection import SourceConnection
from rt_twisted.actions.icecast.source_request import about_of, begin_source, receive_audio
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.http.interfaces import IExchange, IPortProtocol
from rt_twisted.http.stream_handle import Find, PeerInfo, StreamHandle
from rt_twisted.metrics.responses import PUBLISHES
from rt_twisted.model.errors import HttpError

MAX_HEAD = 8192  # bytes of password and headers
ACCEPTED = b"OK2\r\nicy-caps:11\r\n\r\n"
REFUSED = b"invalid password\r\n"
MAX_PROBES = 8  # of one connection
PASSWORD_SECONDS = 10.0  # for the password, behind a probe
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PROBE = b"!POKE"  # libshout asks with it which protocol the server has

_log = Logger()


@implementer(IAction, IPortProtocol)
@dataclass(frozen=True, slots=True)
class IcyAction:
    """
    Accept sources by ICY: `icecast-icy:mount=/live.mp3,password=env:SOURCE_PASSWORD`.

    They are recognized by the password in their first line, on every port. Clients connect to
    the port behind the one that they are given.

    Args:
        context: the hub and the settings.
        mount: path of the mount to which they publish; another line serves it.
        password: of sources, also `file:PATH` or `env:NAME`.
    """

    context: ActionContext
    mount: str
    password: str = field(repr=False)

    bare: ClassVar[str] = "mount"
    counts_as: ClassVar[str] = PUBLISHES
    methods: ClassVar[Sequence[str]] = ()

    def __post_init__(self) -> None:
        if not self.mount.startswith("/"):
            raise ValueError("mount= is a path, such as /live.mp3")
        try:
            object.__setattr__(self, "password", secret(self.password))
        except ValueError as error:
            raise ValueError(f"password= must be {error}") from None
        if len(self.password) < 4 or not self.password.isprintable():
            raise ValueError("password= must have at least four printable characters")

    def act(self, exchange: IExchange, match: Match) -> NoReturn:
        raise HttpError(400, "publish by ICY, without HTTP")

    def matches(self, start: bytes) -> bool | None:
        line, end, _ = start.partition(b"\n")
        line = line.rstrip(b"\r")
        if end:
            return line == _PROBE or hmac.compare_digest(line, self.password.encode())
        # A part of a line is waited for whatever it is: otherwise the password could be guessed
        # byte by byte. Other protocols begin with four bytes of HTTP, or with a control byte.
        return None if not _CONTROL.search(line) else False

    def accept(self, connection: StreamHandle, peer: PeerInfo) -> None:
        assert connection.find is not None
        request = IcyRequest(self.mount, peer)
        connection.start(IcySource(self, connection.find, request))


class IcyRequest:
    """
    The part of an `IExchange` that mounts read of a source.

    Args:
        path: of the mount.
        peer: the source.

    Attributes:
        answered: the source has disconnected.
        age: seconds before the audio that the line in the access log counts.
        unlogged: not used.
    """

    method = "SOURCE"
    protocol = "ICY"
    version = "1.0"
    query_string = ""
    scheme = "icy"
    age = 0.0
    unlogged = False

    def __init__(self, path: str, peer: PeerInfo) -> None:
        self.path = path
        self.address = peer.host
        self.secure = peer.secure
        self.answered = False

    def header(self, name: str) -> str | None:
        """
        Return None: the headers follow when the source is accepted.
        """
        return None

    def query(self) -> Mapping[str, list[str]]:
        """
        Return no fields.
        """
        return {}

    def cookies(self) -> Mapping[str, str]:
        """
        Return no cookies.
        """
        return {}


@implementer(IHalfCloseableProtocol)
class IcySource(Protocol):
    """
    The connection of a source: the lines in front of the audio.

    Args:
        action: has the mount and the password.
        find: returns the action of the mount.
        request: stands for the source.
    """

    def __init__(self, action: IcyAction, find: Find, request: IcyRequest) -> None:
        self._action = action
        self._find = find
        self._request: Any = request
        self._data = b""
        self._probes = 0
        self._timer: IDelayedCall | None = None  # until the password
        self._began = False
        self._begun: Any = None  # what `begin_source` returned
        self._options: Any = None
        self._connection: SourceConnection | None = None  # receives the audio

    def connectionMade(self) -> None:
        reactor = self._action.context.reactor
        self._timer = reactor.callLater(PASSWORD_SECONDS, self._abort)

    def dataReceived(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.dataReceived(data)
            return
        self._data += data
        if self._begun is not None:
            self._read_headers()
        elif not self._began:
            self._read_password()
        if self._connection is None and len(self._data) > MAX_HEAD:
            self._abort()

    def _read_password(self) -> None:
        while not self._began and b"\n" in self._data:
            line, _, self._data = self._data.partition(b"\n")
            line = line.rstrip(b"\r")
            if line == _PROBE:
                self._probes += 1
                if self._probes > MAX_PROBES:
                    self._abort()
                    return
                continue
            self._began = True
            self._stop_timer()
            begun = ensureDeferred(self._begin(line))
            begun.addErrback(self._on_failed)

    async def _begin(self, password: bytes) -> None:
        action, request = self._action, self._request
        found = self._find("SOURCE", action.mount)
        if not hmac.compare_digest(password, action.password.encode()):
            raise HttpError(401, "the password is wrong")
        if not isinstance(found, tuple) or not isinstance(found[0], IcecastAction):
            raise HttpError(404, f"no icecast line serves {action.mount}")
        mount, match = found
        channel = mount.channel_of(request, match)
        self._options = mount.source_options(request, match, channel)
        begun = await begin_source(mount.context, request, self._options, Key.of(""))
        self._begun = begun
        begun[0].lost.addCallback(self._on_lost)
        self._context = mount.context
        self._transport().write(ACCEPTED)
        self._read_headers()

    def _read_headers(self) -> None:
        data = self._data.replace(b"\r\n", b"\n") if b"\n" in self._data[:MAX_HEAD] else b""
        end = 0 if data.startswith(b"\n") else data.find(b"\n\n", 0, MAX_HEAD)
        if end < 0:
            return
        headers: dict[str, str] = {}
        for line in data[:end].decode("latin-1").split("\n"):
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
        rest = _behind_headers(self._data)
        self._data = b""
        connection = SourceConnection(headers.get)
        connection.makeConnection(self._transport())  # type: ignore[no-untyped-call]  # Twisted's
        about = about_of(headers.get, self._options.mount)
        connection.sink, _ = receive_audio(
            self._context, self._options, connection, self._begun, about, self._request
        )
        self._connection = connection
        if rest:
            connection.dataReceived(rest)

    def _on_failed(self, failure: Failure) -> None:
        if failure.check(HttpError):
            _log.debug("a source was refused: {reason}", reason=failure.getErrorMessage())
        elif not failure.check(ConnectionLost):
            _log.failure("while a source began", failure)
        self._transport().write(REFUSED)
        self._transport().loseConnection()

    def readConnectionLost(self) -> None:
        if self._connection is not None:
            self._connection.readConnectionLost()
        else:
            self._transport().loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Do nothing: there is nothing more to send.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._request.answered = True
        self._stop_timer()
        if self._connection is not None:
            self._connection.connectionLost(reason)
        elif self._begun is not None:
            self._begun[0].close("the connection of the source was lost")

    def _on_lost(self, reason: str) -> str:
        self._abort()
        return reason

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _abort(self) -> None:
        self._data = b""
        self._transport().abortConnection()

    def _transport(self) -> Any:
        return self.transport


def _behind_headers(data: bytes) -> bytes:
    """
    Return what follows the first empty line.
    """
    while True:
        line, _, data = data.partition(b"\n")
        if not line.rstrip(b"\r"):
            return data
