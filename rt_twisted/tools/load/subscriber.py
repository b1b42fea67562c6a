"""
One subscriber, over all its connections.
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

RETRY = 2.0  # seconds to a reconnect if the server sends no `retry`


class ClientState(Enum):
    """
    State of a subscriber's connection.
    """

    DISCONNECTED = "disconnected"  # not yet connected, or waiting to reconnect
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class IClientOwner(Shape):
    """
    Receiver of a subscriber's events.
    """

    def on_open(self, subscriber: ClientConnection) -> None:
        """
        Handle that the server accepted the subscription.
        """

    def on_event(self, subscriber: ClientConnection, event: ClientEvent) -> None:
        """
        Handle a received message or gap.
        """

    def on_position(self, subscriber: ClientConnection) -> None:
        """
        Handle a change of the subscriber's `position`.
        """

    def on_close(self, subscriber: ClientConnection, why: str) -> None:
        """
        Handle that a connection ended or failed, for the reason *why*.
        """


class ClientConnection(Protocol):
    """
    One subscriber, over all its connections.

    Args:
        owner: receives its events.
        number: the subscriber's number.
        make: creates the client of a connection; gets the position to resume from.
        context: data of the owner.
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
        self.why = ""  # why this side closed the connection; "" if it did not
        self._owner = owner
        self._make = make
        self._client = make("")

    def connect(self, target: Target, now: float) -> None:
        """
        Start a connection attempt.
        """
        self.began = now
        try:
            target.connect(ConnectAttempt(self, ClientConnection._failed), self.number)
        except OSError as error:  # no port left, no descriptor left
            self._owner.on_close(self, os.strerror(error.errno or 0).lower())

    def connectionMade(self) -> None:
        self.why = ""
        self._client = self._make(self.position)
        self.transport.write(self._client.begin())
        if self._client.opened:
            self._owner.on_open(self)

    def dataReceived(self, data: bytes) -> None:
        client, owner = self._client, self._owner
        if self.why:
            return  # in flight when this side closed the connection
        try:
            events = client.feed(data)
        except RemoteProtocolError:
            self.disconnect("malformed")
            return
        if client.retry is not None:
            self.retry = client.retry
        if client.opened and self.state is not ClientState.OPEN:
            owner.on_open(self)
        for each in events:
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
        Abort the connection; *why* is the reason that the owner gets.
        """
        self.why = self.why or why
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        self._owner.on_close(self, self.why or describe_failure(reason))

    def _failed(self, reason: Failure) -> None:
        self._owner.on_close(self, describe_failure(reason))
