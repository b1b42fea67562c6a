"""
RTMP in HTTP requests (RTMPT): sessions that stand for connections.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from rt_twisted.model.errors import HttpError

MAX_RESPONSES = 8  # that wait; clients send one request after the other
SILENCE = 30.0  # seconds without a request after which a session ends


class TunnelSession:
    """
    The transport of one tunneled connection.

    What is written waits for the next response. Responses wait while the connection does not
    read, so the client sends no more.

    Args:
        reactor: the reactor.
        id: names the session.
        on_end: called once with the session when it has ended.

    Attributes:
        id: names the session.
    """

    def __init__(self, reactor: Any, id: str, on_end: Callable[[TunnelSession], object]) -> None:
        self.id = id
        self._reactor = reactor
        self._on_end = on_end
        self._protocol: Any = None
        self._output: list[bytes] = []
        self._paused = False
        self._responses: list[Deferred[None]] = []  # that wait for the end of the pause
        self._closing = False  # when all output is fetched
        self._ended = False
        self._timer = reactor.callLater(SILENCE, self.end)

    def connect(self, protocol: Any) -> None:
        """
        Connect *protocol*, an `IProtocol` that has `publishing`.
        """
        self._protocol = protocol
        protocol.makeConnection(self)

    @property
    def publishing(self) -> bool:
        """
        Return whether the connection publishes.
        """
        return bool(self._protocol.publishing)

    async def exchange(self, data: bytes) -> bytes:
        """
        Deliver what a request has brought, and return what its response takes.

        Raises:
            HttpError: 404, the session has ended.
        """
        if self._ended:
            raise HttpError(404, "there is no such session")
        if len(self._responses) >= MAX_RESPONSES:
            self.end()
            return b""
        self._timer.reset(SILENCE)
        await self._while_paused()
        if self._ended:
            return b""
        if data and not self._closing:
            self._protocol.dataReceived(data)
        await self._while_paused()
        output, self._output = b"".join(self._output), []
        if self._closing:
            self.end()
        return output

    async def _while_paused(self) -> None:
        while self._paused and not self._ended:
            response: Deferred[None] = Deferred()
            self._responses.append(response)
            await response

    def end(self) -> None:
        """
        End the session, whatever waits.
        """
        if self._ended:
            return
        self._ended = self._closing = True
        if self._timer.active():
            self._timer.cancel()
        self._on_end(self)
        self.resumeProducing()
        self._protocol.connectionLost(Failure(ConnectionDone()))

    # The transport.

    def write(self, data: bytes) -> None:
        self._output.append(data)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        responses, self._responses = self._responses, []
        for response in responses:
            response.callback(None)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Do nothing: the client fetches the output of a request before it sends another one.
        """

    def unregisterProducer(self) -> None:
        """
        Do nothing, as `registerProducer`.
        """

    def loseConnection(self) -> None:
        """
        End the session when its output is fetched.
        """
        self._closing = True
        if not self._output:
            self._reactor.callLater(0, self.end)

    def abortConnection(self) -> None:
        """
        End the session.
        """
        self._reactor.callLater(0, self.end)


class TunnelSessions:
    """
    The sessions of this process.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, TunnelSession] = {}

    def open(self, reactor: Any, mark: str) -> TunnelSession:
        """
        Return a new session, whose id begins with *mark*.
        """
        id = f"{mark}-{secrets.token_hex(12)}"
        session = TunnelSession(reactor, id, lambda ended: self._sessions.pop(ended.id, None))
        self._sessions[id] = session
        return session

    def find(self, id: str) -> TunnelSession | None:
        """
        Return the session *id* of this process; None if there is none.
        """
        return self._sessions.get(id)

    def __len__(self) -> int:
        """
        Return the number of sessions.
        """
        return len(self._sessions)
