"""
One reader, over all its connections.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import Any
from typing import Protocol as Shape

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.tools.clients.interfaces import ClientEvent, IClient
from rt_twisted.tools.load.target import Call, Target, kind

RETRY = 2.0  # seconds until a reader comes back if nobody says otherwise


class ClientState(Enum):
    """
    Where a reader is.
    """

    AWAY = "away"  # not yet connected, or waiting to come back
    CALLING = "calling"
    OPEN = "open"
    GONE = "gone"


class IClientOwner(Shape):
    """
    Who wants to know what a reader hears.
    """

    def opened(self, reader: ClientConnection) -> None:
        """
        It has been let in.
        """

    def heard(self, reader: ClientConnection, heard: ClientEvent) -> None:
        """
        It was told something.
        """

    def moved(self, reader: ClientConnection) -> None:
        """
        It has learned where it is: its `position` is another.
        """

    def ended(self, reader: ClientConnection, why: str) -> None:
        """
        Its connection has ended, or could not be made.
        """


class ClientConnection(Protocol):
    """
    One reader, over all its connections.

    Args:
        owner: is told of everything.
        number: of the reader.
        make: makes the wire of a connection, of the position it goes on from.
        receipt: what it has got; the owner's.
    """

    transport: Any

    def __init__(
        self, owner: IClientOwner, number: int, make: Callable[[str], IClient], receipt: Any
    ) -> None:
        self.number = number
        self.state = ClientState.AWAY
        self.receipt = receipt
        self.position = ""
        self.began = 0.0  # when it last began to connect
        self.retry = RETRY
        self.why = ""  # we hung up
        self._owner = owner
        self._make = make
        self._wire = make("")

    def call(self, target: Target, now: float) -> None:
        """
        Begin to connect.
        """
        self.began = now
        try:
            target.connect(Call(self, ClientConnection._failed), self.number)
        except OSError as error:  # no port left, no descriptor left
            self._owner.ended(self, os.strerror(error.errno or 0).lower())

    def connectionMade(self) -> None:
        """
        Ask for the channels.
        """
        self.why = ""
        self._wire = self._make(self.position)
        self.transport.write(self._wire.begin())
        if self._wire.opened:
            self._owner.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Hear what comes.
        """
        wire, owner = self._wire, self._owner
        if self.why:
            return  # what was under way when we hung up
        try:
            heard = wire.feed(data)
        except RemoteProtocolError:
            self.hang_up("malformed")
            return
        if wire.retry is not None:
            self.retry = wire.retry
        if wire.opened and self.state is not ClientState.OPEN:
            owner.opened(self)
        for each in heard:
            owner.heard(self, each)
        if wire.position != self.position:
            self.position = wire.position
            owner.moved(self)
        said = wire.take()
        if said:
            self.transport.write(said)
        if wire.over:
            self.hang_up(wire.over)

    def hang_up(self, why: str) -> None:
        """
        End the connection.
        """
        self.why = self.why or why
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It has ended.
        """
        self.transport = None
        self._owner.ended(self, self.why or kind(reason))

    def _failed(self, reason: Failure) -> None:
        self._owner.ended(self, kind(reason))
