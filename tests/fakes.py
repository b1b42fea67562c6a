"""
Small fakes for the other side of an interface.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IReceiver
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.model.message import NOWHERE, Message, Position, Replay


@implementer(IReceiver)
class RecordingReceiver:
    """
    Records what a broker delivers, and checks the order that brokers promise.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.missing: list[tuple[Selector, Position]] = []
        self.epochs: list[str] = []  # in order
        self.head = NOWHERE
        self._waiting: list[tuple[int, Deferred[list[Message]]]] = []

    def receive(self, message: Message) -> None:
        self._advance(message.position, 1)
        self.messages.append(message)
        for count, done in tuple(self._waiting):
            if len(self.messages) >= count:
                self._waiting.remove((count, done))
                done.callback(self.messages)

    def reached(self, position: Position) -> None:
        self._advance(position, 0)

    def missed(self, channel: Selector, position: Position) -> None:
        self._advance(position, 0)
        self.missing.append((channel, position))

    def until(self, count: int) -> Deferred[list[Message]]:
        """
        Return a Deferred of all messages, which fires when there are *count*.
        """
        done: Deferred[list[Message]] = Deferred()
        if len(self.messages) >= count:
            done.callback(self.messages)
        else:
            self._waiting.append((count, done))
        return done

    def _advance(self, position: Position, step: int) -> None:
        if position.epoch != self.head.epoch:
            self.epochs.append(position.epoch)
        else:
            assert position.offset >= self.head.offset + step
        self.head = position


class FakeTransport:
    """
    A transport as Twisted's, over a real socket pair.

    The test takes the part of the reactor: `pump` does what follows when the kernel reports
    that the socket is writable.
    """

    disconnecting = False

    def __init__(self, buffer: int = 4096) -> None:
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)
        self._here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self._waiting = b""
        self._producer: Any = None
        self._streaming = False
        self.protocol: Any = None
        self.aborted = False
        self.closed = False
        self.peer = IPv4Address("TCP", "10.0.0.7", 4711)

    def getHandle(self) -> socket.socket:
        return self._here

    def getPeer(self) -> IPv4Address:
        return self.peer

    def write(self, data: bytes) -> None:
        assert not (self.aborted or self.closed)
        self._waiting += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._producer is None
        self._producer = producer
        self._streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def startWriting(self) -> None:
        pass

    def abortConnection(self) -> None:
        self.aborted = True

    def loseConnection(self) -> None:
        assert self._producer is None, "Twisted keeps a connection open for its producer"
        self.closed = True

    def pump(self) -> None:
        """
        Write what the kernel accepts.
        """
        try:
            self._waiting = self._waiting[self._here.send(self._waiting) :]
        except BlockingIOError:
            return
        if not self._waiting and self._producer is not None and not self._streaming:
            self._producer.resumeProducing()

    def read(self, most: int = 1 << 20) -> bytes:
        """
        Return what has arrived at the other end, at most *most* bytes.
        """
        pieces = []
        while most:
            try:
                piece = self._there.recv(most)
            except BlockingIOError:
                break
            if not piece:
                break
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces)

    def read_all(self) -> bytes:
        """
        Write and read until nothing more arrives.
        """
        pieces: list[bytes] = []
        while True:
            self.pump()
            piece = self.read()
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)

    def hang_up(self) -> None:
        """
        Close the connection as the client, and notify the protocol as Twisted does.
        """
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.close()

    def close(self) -> None:
        """
        Close both sockets.
        """
        self._here.close()
        self._there.close()


def started(format: Any, replay: Replay) -> bytes:
    """
    Return what a subscriber of *format* that joins with *replay* is sent.
    """
    items = format.start(replay)
    return b"".join([item if isinstance(item, bytes) else format.encode(item) for item in items])
