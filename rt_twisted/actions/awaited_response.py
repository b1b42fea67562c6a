"""
A request that waits for messages, and is answered once: a poll, or a response that is held.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.poll_buffer import PollBuffer
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat

RETRY_AFTER = 2  # seconds, when the broker fails


class AwaitedResponse:
    """
    A subscriber whose messages become one response. Subclasses decide which response that is.

    Args:
        exchange: to answer.
        context: settings and hub.
        format: of the messages.
        seconds: after which `_on_timeout` is called.
        address: the client's, as the limits count it.

    Attributes:
        subscriber: has not joined the hub yet.
    """

    def __init__(
        self,
        exchange: IExchange,
        context: ActionContext,
        format: IFormat,
        seconds: float,
        address: str,
    ) -> None:
        self._exchange = exchange
        self._done = False
        self._buffer = PollBuffer(context.reactor, self._on_close)
        self._buffer.fetch(self._on_frames)
        self._timer: Any = context.reactor.callLater(seconds, self._on_timeout)
        self.subscriber = Subscriber(
            self._buffer, format, context.hub, context.backlog_limits, address
        )

    def on_client_lost(self) -> None:
        """
        Leave the hub, as the client has disconnected.
        """
        if self._finish():
            self._buffer.close()

    def _on_frames(self, frames: bytes) -> None:
        """
        Respond with *frames*, or fetch more of them.
        """
        raise NotImplementedError

    def _on_timeout(self) -> None:
        """
        Respond, as the time is over.
        """
        raise NotImplementedError

    def _on_close(self, dropped: bool) -> None:
        """
        Respond, as the daemon stops; with 503 if an error *dropped* the subscriber.
        """
        raise NotImplementedError

    def _leave(self) -> bool:
        """
        Leave the hub before the response, which may start the next request of the connection.

        Returns:
            False if the client is answered already.
        """
        if not self._finish():
            return False
        self.subscriber.drop(DisconnectReason.LIMIT)
        return True

    def _refuse(self) -> None:
        if self._finish():
            self._exchange.refuse(HttpError(503, "the broker is not available", retry=RETRY_AFTER))

    def _finish(self) -> bool:
        """
        Return True the first time, False if the client is answered already.
        """
        if self._done:
            return False
        self._done = True
        timer, self._timer = self._timer, None  # it has a reference to this object
        if timer.active():
            timer.cancel()
        return True
