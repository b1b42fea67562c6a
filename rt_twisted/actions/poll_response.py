"""
The response to a long-poll.

Long-polling has no session: the client sends its position, and gets what its channels have
after that, at once from history or with the next messages. Nothing is lost between two polls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.actions.awaited_response import AwaitedResponse
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.poll import EventPoll, JsonPoll, PollBody
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.model.message import Since


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


class LongPoll(AwaitedResponse):
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
        self._request = request
        self._max_bytes = context.poll_bytes
        self._frames = b""
        super().__init__(exchange, context, request.format, request.timeout, address)

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
        if self._done:
            return
        body = self._body()
        if body.position and not dropped:
            self._respond(body)
        else:  # a client that continues without a position misses messages
            self._refuse()

    def _body(self) -> PollBody:
        request = self._request
        return request.format.build_body(self._frames, self._max_bytes, request.count)

    def _respond(self, body: PollBody) -> None:
        if not self._leave():
            return
        headers = [*NO_STORE, ("ETag", f'"{body.position}"')]
        if self._request.conditional and not body.has_content:
            self._exchange.answer(304, headers=headers)
            return
        content_type = self._request.format.content_type
        self._exchange.answer(200, body.body, content_type, headers)
