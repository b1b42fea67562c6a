"""
Subscribers whose clients send too: back-pressure on their input, and a closing handshake.

While output is buffered for a client, nothing is read from it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IProtocol
from zope.interface import implementer

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position
from rt_twisted.net.transports import close_transport, direct_send, replace_protocol

if TYPE_CHECKING:
    from twisted.python.failure import Failure


class CloseState(Enum):
    """
    How far the closing handshake is.
    """

    CLOSING = "closing"  # our last frame is sent or queued; the client's is awaited
    ANSWERED = "answered"  # the client's last frame was received; ours is sent or queued
    IGNORING = "ignoring"  # our last frame is sent or queued; all input is discarded


class CloseHandshake:
    """
    The end of one connection. Sends the last frame behind all queued frames.

    Args:
        subscriber: sends the last frame; the hub has released it.
        state: the first state.
        frame: the last frame; b"" to send none.
        reason: counted in the statistics.
    """

    __slots__ = ("_frame", "_subscriber", "reason", "state")

    def __init__(
        self,
        subscriber: Subscriber,
        state: CloseState,
        frame: bytes,
        reason: DisconnectReason,
    ) -> None:
        self._subscriber = subscriber
        self._frame = frame
        self.reason = reason
        self.state = state

    def advance(self) -> None:
        """
        Send the last frame, if it has not been sent; close once all output is sent.
        """
        subscriber = self._subscriber
        frame, self._frame = self._frame, b""
        if frame:
            subscriber.write(frame)
        if subscriber.behind or subscriber.closed:
            return
        # A flush of the hub that has begun might still write.
        subscriber.detach(self.reason)
        transport = subscriber.transport
        if self.state is CloseState.ANSWERED:
            close_transport(transport)
        elif self.state is CloseState.IGNORING and direct_send(transport) is not None:
            # Closing both directions while the client still sends makes the kernel reset
            # the connection, and the client loses the last frame: keep reading.
            transport.loseWriteConnection()

    def on_answered(self) -> None:
        """
        Close: the client's last frame was received, or is no longer waited for.
        """
        if self.state is CloseState.CLOSING:
            self.state = CloseState.ANSWERED
            if self._subscriber.closed:
                close_transport(self._subscriber.transport)

    def on_input_idle(self) -> None:
        """
        Close a connection whose input is ignored: no byte has arrived for a second.
        """
        # TLS cannot close one direction alone. Now the client cannot lose the last frame.
        if self.state is CloseState.IGNORING and self._subscriber.closed:
            close_transport(self._subscriber.transport)

    def on_timeout(self) -> None:
        """
        Abort the connection: the handshake has taken too long.
        """
        self._subscriber.detach(self.reason)
        self._subscriber.transport.abortConnection()


class DuplexOwner(Protocol):
    """
    Receives the input of a duplex subscriber, and its events.
    """

    def on_input(self, data: bytes) -> None:
        """
        Receive the next bytes of the client. They may arrive while reading is paused, and
        while the connection is closing.
        """

    def on_resumed(self) -> None:
        """
        Process pending input, then call `transport.resumeProducing`: the last pause ended.
        """

    def on_closing(self, closing: CloseHandshake) -> None:
        """
        Abort *closing*, which has just begun, unless it ends in time.
        """

    def on_lost(self) -> None:
        """
        Release what belongs to the connection: it is lost. Called once.
        """


@implementer(IProtocol)
class DuplexSubscriber:
    """
    A subscriber plus the bytes that its client sends.

    It is the connection's Twisted protocol, and the observer of its subscriber: it
    passes the subscriber's notifications on to the hub.

    Args:
        hub: which the subscriber joins.
        owner: receives the input.
        transport: the connection.
        format: see `Subscriber`, as for the next two.
        backlog_limits: how far behind it may be.
        address: the client's, as the limits count it.

    Attributes:
        subscriber: for `Hub.join`, `Hub.add_channels` and `Hub.remove_channels`.
        closing: None while the connection is open; afterwards it has left the hub.
        drained: called when no output is buffered any more; None for nothing.
        pauses: calls of `pause_reading` without their `resume_reading`.
    """

    __slots__ = ("_hub", "_is_behind", "_owner", "closing", "drained", "pauses", "subscriber")

    def __init__(
        self,
        hub: Hub,
        owner: DuplexOwner,
        transport: Any,
        format: IFormat,
        backlog_limits: BacklogLimits,
        address: str,
    ) -> None:
        self.closing: CloseHandshake | None = None
        self.pauses = 0
        self.drained: Callable[[], object] | None = None
        self._hub = hub
        self._owner = owner
        self._is_behind = False  # output is buffered, which is one of the pauses
        self.subscriber = Subscriber(transport, format, self, backlog_limits, address)
        replace_protocol(transport, self)

    @property
    def open(self) -> bool:
        """
        Whether the closing handshake has not begun and the connection is not lost.
        """
        return self.closing is None and not self.subscriber.closed

    def pause_reading(self) -> None:
        """
        Stop reading from the client until `resume_reading`.

        Pauses nest: each call needs one `resume_reading`.
        """
        self.pauses += 1
        if self.pauses == 1 and self.open:
            self.subscriber.transport.pauseProducing()

    def resume_reading(self) -> None:
        """
        Undo one `pause_reading`.
        """
        self.pauses -= 1
        if not self.pauses and self.open:
            self._owner.on_resumed()

    def close(self, state: CloseState, last: bytes, reason: DisconnectReason) -> None:
        """
        Leave the hub, and send the frame *last* behind all queued frames. The input is read
        again, in search of the client's last frame. Only while the connection is `open`.
        """
        closing = self.closing = CloseHandshake(self.subscriber, state, last, reason)
        self._leave_hub(reason)
        self._owner.on_closing(closing)
        if self.pauses:
            self.subscriber.transport.resumeProducing()
        if not self.subscriber.behind:
            closing.advance()

    def detach(self, reason: DisconnectReason) -> None:
        """
        Leave the hub, and leave the connection open for the owner, which replaces this as its
        protocol. Not while there is a backlog, which would be lost.
        """
        self.subscriber.detach(reason)
        self._release()

    def _release(self) -> None:
        # Break the reference cycles, else memory is held until the garbage collector runs.
        self.drained = None
        self.subscriber.observer = self._hub
        del self._owner

    # What Twisted calls.

    def makeConnection(self, transport: Any) -> None:
        pass  # never called: an existing connection was taken over

    def connectionMade(self) -> None:
        pass  # never called, likewise

    def dataReceived(self, data: bytes) -> None:
        self._owner.on_input(data)

    def connectionLost(self, reason: Failure) -> None:
        self.subscriber.connectionLost(reason)
        self._owner.on_lost()
        self._release()

    # What the subscriber calls.

    def seconds(self) -> float:
        return self._hub.seconds()

    def position(self) -> Position:
        return self._hub.position()

    def stream_ended(self, subscriber: Subscriber, last: Message | None) -> None:
        self._hub.stream_ended(subscriber, last)

    def fell_behind(self, subscriber: Subscriber) -> None:
        if self.closing is None:
            self._hub.fell_behind(subscriber)
        if not self._is_behind:  # TLS may report it twice
            self._is_behind = True
            self.pause_reading()  # back-pressure

    def caught_up(self, subscriber: Subscriber) -> None:
        self._hub.caught_up(subscriber)
        self._is_behind = False
        self.resume_reading()
        if self.drained is not None:
            self.drained()
        if self.closing is not None and not subscriber.closed:
            self.closing.advance()

    def skipped(self, subscriber: Subscriber) -> None:
        self._hub.skipped(subscriber)

    def parked(self, subscriber: Subscriber) -> None:
        self._hub.parked(subscriber)

    def leave(self, subscriber: Subscriber, reason: DisconnectReason) -> None:
        if self.closing is None:
            self.closing = CloseHandshake(subscriber, CloseState.IGNORING, b"", reason)
            self._leave_hub(reason)

    def _leave_hub(self, reason: DisconnectReason) -> None:
        self._hub.caught_up(self.subscriber)
        self._hub.leave(self.subscriber, reason)
