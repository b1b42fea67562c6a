"""
The closing handshake of a websocket (RFC 6455, 7.1).
"""

from __future__ import annotations

from enum import Enum

from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.net.transports import close_transport, direct_send


class CloseState(Enum):
    """
    How far the closing handshake is.
    """

    CLOSING = "closing"  # our close frame is sent or queued; the client's is awaited
    ANSWERED = "answered"  # the client's close frame was received; ours is sent or queued
    IGNORING = "ignoring"  # our close frame is sent or queued; all input is discarded


class CloseHandshake:
    """
    The end of one websocket. Sends the close frame behind all queued frames.

    Args:
        subscriber: sends the close frame. It has left the hub.
        state: the first state.
        frame: the close frame; b"" to send none.
        reason: counted in the statistics.
        status: close code and reason for `IWebSocketApp.closed`.
    """

    __slots__ = ("_frame", "_reason", "_subscriber", "state", "status")

    def __init__(
        self,
        subscriber: Subscriber,
        state: CloseState,
        frame: bytes,
        reason: DisconnectReason,
        status: tuple[int, str],
    ) -> None:
        self._subscriber = subscriber
        self._frame = frame
        self._reason = reason
        self.state = state
        self.status = status

    def advance(self) -> None:
        """
        Send the close frame, if it has not been sent; close once all output is sent.
        """
        subscriber = self._subscriber
        frame, self._frame = self._frame, b""
        if frame:
            subscriber.write(frame)
        if subscriber.behind or subscriber.closed:
            return
        # A flush of the hub that has begun might still write.
        subscriber.detach(self._reason)
        transport = subscriber.transport
        if self.state is CloseState.ANSWERED:
            close_transport(transport)
        elif self.state is CloseState.IGNORING and direct_send(transport) is not None:
            # Closing both directions while the client still sends makes the kernel reset
            # the connection, and the client loses the close frame: keep reading.
            transport.loseWriteConnection()

    def on_answered(self) -> None:
        """
        Close: the client's close frame was received, or is no longer waited for.
        """
        if self.state is CloseState.CLOSING:
            self.state = CloseState.ANSWERED
            if self._subscriber.closed:
                close_transport(self._subscriber.transport)

    def on_input_idle(self) -> None:
        """
        Close a connection whose input is ignored: no byte has arrived for a second.
        """
        # TLS cannot close one direction alone. Now the client cannot lose the close frame.
        if self.state is CloseState.IGNORING and self._subscriber.closed:
            close_transport(self._subscriber.transport)

    def on_timeout(self) -> None:
        """
        Abort the connection: the handshake has taken too long.
        """
        self._subscriber.detach(self._reason)
        self._subscriber.transport.abortConnection()
