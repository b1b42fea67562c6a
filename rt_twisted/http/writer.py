"""
What an HTTP/1.1 connection sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from rt_twisted.net.transports import direct_send, start_draining


@implementer(IPullProducer)
class ResponseWriter:
    """
    The kernel takes at once what it can, the transport the rest.

    Args:
        transport: of a connection that has just begun.
        drained: called when the transport has nothing left to send, if it had.
    """

    __slots__ = ("_closed", "_drained", "_send", "_transport", "draining")

    def __init__(self, transport: Any, drained: Callable[[], None]) -> None:
        self.draining = False  # the transport has something of ours to send
        self._closed = False
        self._transport = transport
        self._drained = drained
        self._send = direct_send(transport)
        if self._send is None:
            transport.registerProducer(self, True)

    @property
    def sealed(self) -> bool:
        """
        Whether the transport speaks TLS.
        """
        return self._send is None

    def write(self, data: bytes) -> None:
        """
        Send now what the kernel takes, the rest through the transport.
        """
        if self._send is None or self.draining:
            self._transport.write(data)
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._transport.abortConnection()
            return
        if sent != len(data):
            self._transport.write(data[sent:])
            self.drain()

    def drain(self) -> None:
        """
        The transport may have something to send, of somebody else: wait for it.
        """
        if self._send is not None and not self.draining:
            start_draining(self._transport, self)
            self.draining = True

    def lend(self, producer: Any, streaming: bool) -> None:
        """
        Somebody else produces what the transport sends.
        """
        if self._send is None:
            self._transport.unregisterProducer()
        self._transport.registerProducer(producer, streaming)

    def take_back(self) -> None:
        """
        And has done so.
        """
        self._transport.unregisterProducer()
        if self._send is None and not self._closed:
            self._transport.registerProducer(self, True)

    def close(self) -> None:
        """
        Nothing more is written here: the transport closes, or becomes another's.
        """
        self.lost()
        if self._send is None:
            self._transport.unregisterProducer()

    def lost(self) -> None:
        """
        The transport is no more.
        """
        self._closed = True
        self._drained = _ignore  # else only the garbage collector would find the connection

    # What the transport calls.

    def resumeProducing(self) -> None:
        """
        It has nothing left to send.
        """
        if not self.draining:
            return  # asked at once on registering
        self.draining = False
        if self._send is not None:
            self._transport.unregisterProducer()
        self._drained()

    def pauseProducing(self) -> None:
        """
        It has enough; only TLS says so.
        """
        self.draining = True

    def stopProducing(self) -> None:
        """
        connectionLost follows.
        """


def _ignore() -> None:
    pass
