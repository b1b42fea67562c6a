"""
Write HTTP/1.1 responses to the socket directly where the transport allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from rt_twisted.net.transports import direct_send, start_draining

MAX_HELD = 16384  # bytes of responses that are joined for one send(2)


@implementer(IPullProducer)
class ResponseWriter:
    """
    Sends at once what the kernel takes, and the rest through the transport.

    Args:
        transport: of a connection that has just begun.
        drained: called when the transport has nothing left to send, if it had.

    Attributes:
        draining: the transport has bytes of ours to send.
    """

    __slots__ = ("_detached", "_drained", "_held", "_send", "_transport", "draining")

    def __init__(self, transport: Any, drained: Callable[[], None]) -> None:
        self.draining = False
        self._detached = False
        self._held: bytes | None = None  # see `hold`; None while nothing is held
        self._transport = transport
        self._drained = drained
        self._send = direct_send(transport)
        if self._send is None:
            transport.registerProducer(self, True)

    @property
    def is_tls(self) -> bool:
        """
        Whether the transport uses TLS.
        """
        return self._send is None

    @property
    def holds(self) -> bool:
        """
        Whether `flush` would send something.
        """
        return bool(self._held)

    def hold(self) -> None:
        """
        Join what is written from now on, up to MAX_HELD bytes, until `release`.
        """
        if self._held is None:
            self._held = b""

    def release(self) -> None:
        """
        Send what `hold` has joined, and join nothing more.
        """
        held, self._held = self._held, None
        if held:
            self._write_now(held)

    def flush(self) -> None:
        """
        Send what `hold` has joined so far.
        """
        if self._held:
            held, self._held = self._held, b""
            self._write_now(held)

    def write(self, data: bytes) -> None:
        """
        Send now what the kernel takes, the rest through the transport.
        """
        if self._held is None:
            self._write_now(data)
            return
        self._held += data
        if len(self._held) > MAX_HELD:
            self.flush()

    def _write_now(self, data: bytes) -> None:
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
        Wait until the transport has sent all that was written to it, by others too.
        """
        if self._send is not None and not self.draining:
            start_draining(self._transport, self)
            self.draining = True

    def register_producer(self, producer: Any, streaming: bool) -> None:
        """
        Let *producer* write to the transport, instead of our own producer.
        """
        if self._send is None:
            self._transport.unregisterProducer()
        self._transport.registerProducer(producer, streaming)

    def unregister_producer(self) -> None:
        """
        Unregister the producer of `register_producer`, and register our own again.
        """
        self._transport.unregisterProducer()
        if self._send is None and not self._detached:
            self._transport.registerProducer(self, True)

    def detach(self) -> None:
        """
        Release the transport: it closes, or another protocol takes it over. Nothing is held.
        """
        self.connection_lost()
        if self._send is None:
            self._transport.unregisterProducer()

    def connection_lost(self) -> None:
        """
        Stop calling *drained*: the transport is closed.
        """
        self._detached = True
        self._held = None
        self._drained = _ignore  # else only the garbage collector would find the connection

    # Called by the transport.

    def resumeProducing(self) -> None:
        if not self.draining:
            return  # called at once on registering
        self.draining = False
        if self._send is not None:
            self._transport.unregisterProducer()
        self._drained()

    def pauseProducing(self) -> None:
        # Only TLS transports call this.
        self.draining = True

    def stopProducing(self) -> None:
        """
        Do nothing: connectionLost follows.
        """


def _ignore() -> None:
    pass
