"""
The connection of a source that sends until it closes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.http.interfaces import IBodySink
from rt_twisted.model.errors import HttpError


@implementer(IHalfCloseableProtocol)
class SourceConnection(Protocol):
    """
    The connection of a source that sends until it closes; to the intake, its request.

    Args:
        header: returns the value of a header of the source.

    Attributes:
        sink: receives the audio; set before the connection is started.
        answered: False, as the intake ends the connection itself.
        connection: None, as no other request follows.
        length: None.
    """

    sink: IBodySink
    answered = False
    connection: object = None
    length: int | None = None

    def __init__(self, header: Callable[[str], str | None]) -> None:
        self.header = header
        self._over = False

    def dataReceived(self, data: bytes) -> None:
        if not self._over:
            self.sink.data(data)

    def readConnectionLost(self) -> None:
        self._end(None)

    def writeConnectionLost(self) -> None:
        """
        Do nothing: there is nothing more to send.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(None if reason.check(ConnectionDone) else ConnectionLost())

    def _end(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = True
        if error is None:
            self.sink.end()
        else:
            self.sink.lost(error)

    def _transport(self) -> Any:
        return self.transport

    def pause(self) -> None:
        """
        Receive no more of the audio.
        """
        self._transport().pauseProducing()

    def resume(self) -> None:
        """
        Receive the body again after `pause`.
        """
        if not self._over:
            self._transport().resumeProducing()

    def answer(self, status: int, body: bytes, content_type: str) -> None:
        """
        Close the connection, as the response was sent before the audio.
        """
        self._transport().loseConnection()

    def refuse(self, refusal: HttpError) -> None:
        """
        Abort the connection: the source may reconnect.
        """
        self._over = True
        self._transport().abortConnection()
