"""
A reader that waits for one answer.

It needs no session: the client says up to where it has everything, and is
answered from history at once, or with the first turn that brings something.
Between two polls nobody is there, and nothing is lost: the position is the client's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.formats.poll import EventPoll, JsonPoll, PollBody
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Since

RETRY_AFTER = 2  # seconds, when the broker fails


@dataclass(frozen=True, slots=True)
class PollRequest:
    """
    What the client asked for.

    Args:
        format: of the answer.
        wait: seconds to wait for has_content; 0 to answer with what there is.
        count: messages in the answer, 0 for as many as come.
        conditional: nothing new is 304, as it asked by `If-None-Match`.
    """

    format: JsonPoll | EventPoll
    wait: float
    count: int = 0
    conditional: bool = False


def respond_once(
    exchange: IExchange,
    context: ActionContext,
    names: Sequence[str],
    since: Since | None,
    terms: PollRequest,
    address: str,
) -> None:
    """
    Join for as long as it takes to answer *exchange*.
    """
    waiting = PollTransport(exchange, context, terms)
    subscriber = Subscriber(waiting, terms.format, context.hub, context.backlog_limits, address)
    exchange.watch(waiting.lost)
    context.hub.join(subscriber, names, since)


class PollTransport:
    """
    A transport without a socket: what is written to it becomes the answer.

    What is written within one turn of the reactor goes together.

    Args:
        exchange: to be answered.
        house: the daemon.
        terms: what was asked for.
    """

    protocol: Any = None  # the reader

    def __init__(self, exchange: IExchange, context: ActionContext, terms: PollRequest) -> None:
        self._exchange = exchange
        self._terms = terms
        self._most = context.poll_bytes
        self._clock = context.reactor
        self._pieces: list[bytes] = []
        self._done = False
        self._look: Any = None
        self._timer = self._clock.callLater(terms.wait or context.poll_seconds, self._time_is_up)

    # What the reader calls.

    def write(self, data: bytes) -> None:
        """
        Keep a piece of what there is to tell.
        """
        self._pieces.append(data)
        if self._look is None and not self._done:
            self._look = self._clock.callLater(0, self._consider)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Nothing ever waits here for room.
        """

    def unregisterProducer(self) -> None:
        """
        Nor does anybody.
        """

    def loseConnection(self) -> None:
        """
        The daemon stops: the answer is what came until now.
        """
        frames = self._take()
        if frames.position:
            self._answer(frames)
        else:  # a client that went on from nowhere would miss something
            self.abortConnection()

    def abortConnection(self) -> None:
        """
        The broker failed, or a format; the client may try again.
        """
        if self._end():
            refusal = HttpError(503, "the broker is not available", retry=RETRY_AFTER)
            self._exchange.refuse(refusal)

    # What happens.

    def lost(self) -> None:
        """
        The client is gone.
        """
        if self._end():
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def _consider(self) -> None:
        self._look = None
        frames = self._take()
        if frames.has_content or not self._terms.wait:
            self._answer(frames)

    def _time_is_up(self) -> None:
        frames = self._take()
        if frames.position:
            self._answer(frames)
        else:  # the broker has not said yet what there is
            self.protocol.drop(DisconnectReason.LOST)

    def _take(self) -> PollBody:
        return self._terms.format.build_body(b"".join(self._pieces), self._most, self._terms.count)

    def _answer(self, frames: PollBody) -> None:
        if not self._end():
            return
        # First of all: the answer may begin the connection's next request.
        self.protocol.drop(DisconnectReason.LIMIT)
        format = self._terms.format
        headers = [*NO_STORE, ("ETag", f'"{frames.position}"')]
        if self._terms.conditional and not frames.has_content:
            self._exchange.answer(304, headers=headers)
            return
        self._exchange.answer(200, frames.body, format.content_type, headers)

    def _end(self) -> bool:
        """
        Returns:
            whether it is only now.
        """
        if self._done:
            return False
        self._done = True
        for call in (self._timer, self._look):
            if call is not None and call.active():
                call.cancel()
        return True
