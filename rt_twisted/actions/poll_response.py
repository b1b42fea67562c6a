"""
The response to a long-poll.

Long-polling has no session: the client sends its position, and gets what its channels have
after that, at once from history or with the next messages. Nothing is lost between two polls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.poll_buffer import PollBuffer
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.poll import EventPoll, JsonPoll, PollBody
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Since

RETRY_AFTER = 2  # seconds, when the broker fails


@dataclass(frozen=True, slots=True)
class PollRequest:
    """
    What the client requests.

    Args:
        format: of the response.
        wait: seconds to wait for messages; 0 to respond with those that there are.
        timeout: seconds until the response at the latest, also if the broker is away.
        count: messages in the response; 0 for no limit.
        conditional: respond with 304 if there are no messages (`If-None-Match`).
    """

    format: JsonPoll | EventPoll
    wait: float
    timeout: float
    count: int = 0
    conditional: bool = False


def respond_once(
    exchange: IExchange,
    context: ActionContext,
    names: Sequence[Selector],
    since: Since | None,
    request: PollRequest,
    address: str,
) -> None:
    """
    Subscribe to the channels *names* until *exchange* is answered.
    """
    poll = LongPoll(exchange, context, request, address)
    exchange.watch(poll.on_client_lost)
    context.hub.join(poll.subscriber, names, since)


class LongPoll:
    """
    A subscriber whose messages become one response.

    The messages of one turn of the reactor are sent together.

    Args:
        exchange: to answer.
        context: settings and hub.
        request: of the client.
        address: the client's, as the limits count it.

    Attributes:
        subscriber: has not joined the hub yet.
    """

    def __init__(
        self, exchange: IExchange, context: ActionContext, request: PollRequest, address: str
    ) -> None:
        self._exchange = exchange
        self._request = request
        self._max_bytes = context.poll_bytes
        self._frames = b""
        self._done = False
        self._buffer = PollBuffer(context.reactor, self._on_close)
        self._buffer.fetch(self._on_frames)
        self._timer: Any = context.reactor.callLater(request.timeout, self._on_timeout)
        self.subscriber = Subscriber(
            self._buffer, request.format, context.hub, context.backlog_limits, address
        )

    def on_client_lost(self) -> None:
        """
        Leave the hub, as the client has disconnected.
        """
        if self._finish():
            self._buffer.close()

    def _on_frames(self, frames: bytes) -> None:
        self._frames += frames
        body = self._body()
        if body.position and (body.has_content or not self._request.wait):
            self._respond(body)
        else:
            self._buffer.fetch(self._on_frames)

    def _on_timeout(self) -> None:
        self._buffer.flush()
        if self._done:
            return
        body = self._body()
        if body.position:
            self._respond(body)
        else:  # the broker has not confirmed the channels yet
            self.subscriber.drop(DisconnectReason.LOST)

    def _on_close(self, dropped: bool) -> None:
        """
        Respond with what there is, as the daemon stops; with 503 if an error *dropped* it.
        """
        if self._done:
            return
        body = self._body()
        if body.position and not dropped:
            self._respond(body)
        elif self._finish():  # a client that continues without a position misses messages
            self._exchange.refuse(HttpError(503, "the broker is not available", retry=RETRY_AFTER))

    def _body(self) -> PollBody:
        request = self._request
        return request.format.build_body(self._frames, self._max_bytes, request.count)

    def _respond(self, body: PollBody) -> None:
        if not self._finish():
            return
        # Leave first: the response may start the next request of the connection.
        self.subscriber.drop(DisconnectReason.LIMIT)
        headers = [*NO_STORE, ("ETag", f'"{body.position}"')]
        if self._request.conditional and not body.has_content:
            self._exchange.answer(304, headers=headers)
            return
        content_type = self._request.format.content_type
        self._exchange.answer(200, body.body, content_type, headers)

    def _finish(self) -> bool:
        """
        Return True the first time, False if the poll is finished already.
        """
        if self._done:
            return False
        self._done = True
        timer, self._timer = self._timer, None  # it has a reference to this object
        if timer.active():
            timer.cancel()
        return True
