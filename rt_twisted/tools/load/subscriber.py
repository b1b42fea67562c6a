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
from rt_twisted.tools.load.target import ConnectAttempt, Target, describe_failure

RETRY = 2.0  # seconds until a reader comes back if nobody says otherwise


class ClientState(Enum):
    """
    Where a reader is.
    """

    DISCONNECTED = "disconnected"  # not yet connected, or waiting to come back
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class IClientOwner(Shape):
    """
    Who wants to know what a reader hears.
    """

    def on_open(self, subscriber: ClientConnection) -> None:
        """
        It has been let in.
        """

    def on_event(self, subscriber: ClientConnection, event: ClientEvent) -> None:
        """
        It was told something.
        """

    def on_position(self, subscriber: ClientConnection) -> None:
        """
        It has learned where it is: its `position` is another.
        """

    def on_close(self, subscriber: ClientConnection, why: str) -> None:
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
        self, owner: IClientOwner, number: int, make: Callable[[str], IClient], context: Any
    ) -> None:
        self.number = number
        self.state = ClientState.DISCONNECTED
        self.context = context
        self.position = ""
        self.began = 0.0  # when it last began to connect
        self.retry = RETRY
        self.why = ""  # we hung up
        self._owner = owner
        self._make = make
        self._client = make("")

    def connect(self, target: Target, now: float) -> None:
        """
        Begin to connect.
        """
        self.began = now
        try:
            target.connect(ConnectAttempt(self, ClientConnection._failed), self.number)
        except OSError as error:  # no port left, no descriptor left
            self._owner.on_close(self, os.strerror(error.errno or 0).lower())

    def connectionMade(self) -> None:
        """
        Ask for the channels.
        """
        self.why = ""
        self._client = self._make(self.position)
        self.transport.write(self._client.begin())
        if self._client.opened:
            self._owner.on_open(self)

    def dataReceived(self, data: bytes) -> None:
        """
        Hear what comes.
        """
        client, owner = self._client, self._owner
        if self.why:
            return  # what was under way when we hung up
        try:
            heard = client.feed(data)
        except RemoteProtocolError:
            self.disconnect("malformed")
            return
        if client.retry is not None:
            self.retry = client.retry
        if client.opened and self.state is not ClientState.OPEN:
            owner.on_open(self)
        for each in heard:
            owner.on_event(self, each)
        if client.position != self.position:
            self.position = client.position
            owner.on_position(self)
        data = client.data_to_send()
        if data:
            self.transport.write(data)
        if client.close_reason:
            self.disconnect(client.close_reason)

    def disconnect(self, why: str) -> None:
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
        self._owner.on_close(self, self.why or describe_failure(reason))

    def _failed(self, reason: Failure) -> None:
        self._owner.on_close(self, describe_failure(reason))
