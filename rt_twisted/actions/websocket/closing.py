"""
How a websocket comes to its end: both sides say goodbye, behind everything else
that is said (RFC 6455, 7.1), or one of them is not waited for.
"""

from __future__ import annotations

from enum import Enum

from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.net.transports import direct_send, hang_up


class CloseState(Enum):
    """
    How far it is.
    """

    CLOSING = "closing"  # our close frame is said, or waits to be; theirs is awaited
    ANSWERED = "answered"  # theirs came first, ours is said or waits to be
    DEAF = "deaf"  # what they say has no meaning any more


class CloseHandshake:
    """
    The end of one websocket; there is none while it is open.

    Args:
        reader: by whom the close frame goes out. The hub has let it go.
        step: where it begins.
        last: the close frame; b"" if none is to be said.
        cause: what is counted.
        end: code and reason that the conversation is told.
    """

    __slots__ = ("_cause", "_last", "_subscriber", "end", "step")

    def __init__(
        self,
        subscriber: Subscriber,
        step: CloseState,
        last: bytes,
        cause: DisconnectReason,
        end: tuple[int, str],
    ) -> None:
        self._subscriber = subscriber
        self._last = last
        self._cause = cause
        self.step = step
        self.end = end

    def go_on(self) -> None:
        """
        Say the close frame, if it is not said yet; do what follows when it has gone.
        """
        subscriber = self._subscriber
        last, self._last = self._last, b""
        if last:
            subscriber.write(last)
        if subscriber.behind or subscriber.closed:
            return
        # A turn of the hub that has begun might still write.
        subscriber.detach(self._cause)
        transport = subscriber.transport
        if self.step is CloseState.ANSWERED:
            hang_up(transport)
        elif self.step is CloseState.DEAF and direct_send(transport) is not None:
            # Closing on somebody who is still sending takes the close frame
            # away from him: hear him out.
            transport.loseWriteConnection()

    def answered(self) -> None:
        """
        The close frame that was awaited is there, or not to be hoped for.
        """
        if self.step is CloseState.CLOSING:
            self.step = CloseState.ANSWERED
            if self._subscriber.closed:
                hang_up(self._subscriber.transport)

    def fell_quiet(self) -> None:
        """
        The client has not sent anything for a second.
        """
        # TLS cannot close one half: now nothing is taken away any more.
        if self.step is CloseState.DEAF and self._subscriber.closed:
            hang_up(self._subscriber.transport)

    def cut(self) -> None:
        """
        The time is up.
        """
        self._subscriber.detach(self._cause)
        self._subscriber.transport.abortConnection()
