"""
How a websocket comes to its end: both sides say goodbye, behind everything else
that is said (RFC 6455, 7.1), or one of them is not waited for.
"""

from __future__ import annotations

from enum import Enum

from rt_twisted.subscriber import Cause, Subscriber
from rt_twisted.wire import direct_send, hang_up


class Step(Enum):
    """
    How far it is.
    """

    CLOSING = "closing"  # our close frame is said, or waits to be; theirs is awaited
    ANSWERED = "answered"  # theirs came first, ours is said or waits to be
    DEAF = "deaf"  # what they say has no meaning any more


class Parting:
    """
    The end of one websocket; there is none while it is open.

    Args:
        reader: by whom the close frame goes out. The hub has let it go.
        step: where it begins.
        last: the close frame; b"" if none is to be said.
        cause: what is counted.
        end: code and reason that the conversation is told.
    """

    __slots__ = ("_cause", "_last", "_reader", "end", "step")

    def __init__(
        self, reader: Subscriber, step: Step, last: bytes, cause: Cause, end: tuple[int, str]
    ) -> None:
        self._reader = reader
        self._last = last
        self._cause = cause
        self.step = step
        self.end = end

    def go_on(self) -> None:
        """
        Say the close frame, if it is not said yet; do what follows when it has gone.
        """
        reader = self._reader
        last, self._last = self._last, b""
        if last:
            reader.write(last)
        if reader.behind or reader.gone:
            return
        # A turn of the hub that has begun might still write.
        reader.let_go(self._cause)
        transport = reader.transport
        if self.step is Step.ANSWERED:
            hang_up(transport)
        elif self.step is Step.DEAF and direct_send(transport) is not None:
            # Closing on somebody who is still sending takes the close frame
            # away from him: hear him out.
            transport.loseWriteConnection()

    def answered(self) -> None:
        """
        The close frame that was awaited is there, or not to be hoped for.
        """
        if self.step is Step.CLOSING:
            self.step = Step.ANSWERED
            if self._reader.gone:
                hang_up(self._reader.transport)

    def fell_quiet(self) -> None:
        """
        The client has not sent anything for a second.
        """
        # TLS cannot close one half: now nothing is taken away any more.
        if self.step is Step.DEAF and self._reader.gone:
            hang_up(self._reader.transport)

    def cut(self) -> None:
        """
        The time is up.
        """
        self._reader.let_go(self._cause)
        self._reader.transport.abortConnection()
