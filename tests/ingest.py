"""
Actions and protocols for the tests of live publishers, named by dotted names in route lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.api import (
    ActionContext,
    HttpError,
    IAction,
    IChunkSink,
    IExchange,
    IPortProtocol,
    Match,
    PeerInfo,
    StreamHandle,
)

PAUSE = 0.02  # seconds


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Ingest:
    """
    Receives bodies into files of *folder*: `1.body`, `2.body`; and at their end a report as JSON.

    Args:
        context: the daemon.
        folder: must exist.
        every: bytes after which a body is paused; 0 for never.
        seconds: for which it is paused.
        timeout: seconds between two pieces.
        early: write `HTTP/1.0 200 OK` before the body, as Icecast does for SOURCE.
        reports: one for each body.
    """

    context: ActionContext
    folder: str
    every: int = 0
    seconds: float = PAUSE
    timeout: float = 0.0
    early: bool = False
    reports: list[dict[str, Any]] = field(default_factory=list)

    bare: ClassVar[str] = "folder"
    ingest: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("POST", "PUT", "SOURCE")

    def act(self, exchange: IExchange, match: Match) -> None:
        self.context.publish_keys.authorize_live(exchange, ["live"])
        report: dict[str, Any] = {"method": exchange.method, "version": exchange.version}
        self.reports.append(report)
        number = len(self.reports)
        body = BodyFile(self, exchange, Path(self.folder) / f"{number}.body", report)
        if self.early:
            exchange.take_over(b"HTTP/1.0 200 OK\r\n\r\n").start(TakenBody(body))
        else:
            exchange.receive(body, self.timeout)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class WaitingIngest:
    """
    Leaves the response, and the body, to the test; refuses the path `/live/no` with 401.
    """

    waiting: list[IExchange] = field(default_factory=list)

    ingest: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET", "POST", "PUT", "SOURCE")

    def act(self, exchange: IExchange, match: Match) -> None:
        if exchange.path == "/live/no":
            raise HttpError(401, "wrong key")
        self.waiting.append(exchange)


@implementer(IChunkSink)
class BodyFile:
    """
    Writes a body to *path*, and its *report* beside it; see `Ingest`.
    """

    def __init__(
        self, action: Ingest, exchange: IExchange, path: Path, report: dict[str, Any]
    ) -> None:
        self._action = action
        self._exchange = exchange
        self._path = path
        self._report = report
        self._file = path.open("wb")
        self._hash = sha256()
        self._since_pause = self._size = 0
        self._paused = False
        report.update(chunks=[], pauses=0)

    def data(self, piece: bytes) -> None:
        assert not self._paused, "data arrived while the body was paused"
        self._file.write(piece)
        self._hash.update(piece)
        self._size += len(piece)
        self._since_pause += len(piece)
        every = self._action.every
        if every and self._since_pause >= every:
            self._since_pause = 0
            self._paused = True
            self._report["pauses"] += 1
            self._exchange.pause()
            self._action.context.reactor.callLater(self._action.seconds, self._resume)

    def _resume(self) -> None:
        self._paused = False
        self._exchange.resume()

    def chunk_end(self) -> None:
        assert not self._paused, "a chunk ended while the body was paused"
        self._report["chunks"].append(self._size)

    def end(self) -> None:
        self._close("end")
        self._exchange.answer(200, json.dumps(self._report).encode(), "application/json")

    def lost(self, reason: Exception) -> None:
        self._close(getattr(reason, "reason", repr(reason)))

    def _close(self, end: str) -> None:
        self._file.close()
        self._report.update(size=self._size, sha256=self._hash.hexdigest(), end=end)
        self._path.with_suffix(".json").write_text(json.dumps(self._report))


class TakenBody(Protocol):
    """
    Passes all bytes of a connection that was taken over to *body*.
    """

    def __init__(self, body: BodyFile) -> None:
        self._body = body

    def dataReceived(self, data: bytes) -> None:
        self._body.data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._body.end()


@implementer(IAction, IPortProtocol)
@dataclass(frozen=True, slots=True)
class Shout:
    """
    A protocol whose connections begin with a line of `SHOUT`: responds in upper case.

    By HTTP it is an action that refuses everything.
    """

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        raise HttpError(426, "connect with SHOUT")

    def matches(self, start: bytes) -> bool | None:
        word = b"SHOUT\n"
        return start.startswith(word) or (None if word.startswith(start) else False)

    def accept(self, connection: StreamHandle, peer: PeerInfo) -> None:
        connection.start(Shouting(peer))


class Shouting(Protocol):
    """
    Names the client, then repeats what it sends in upper case.
    """

    def __init__(self, peer: PeerInfo) -> None:
        self._peer = peer

    def connectionMade(self) -> None:
        self._write(f"{self._peer.host} {self._peer.secure}\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self._write(data.upper())

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)
