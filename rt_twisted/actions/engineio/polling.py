"""
The long-polling transport of an Engine.IO session: packets out by GET, packets in by POST.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rt_twisted.actions.bodies import read_body
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.transport import POLLING, Transport
from rt_twisted.actions.poll_buffer import PollBuffer
from rt_twisted.codecs.engineio import EngineIOPacket, EngineIOPacketType, encode_text
from rt_twisted.codecs.engineio_framing import PollFraming, reframe
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import Header
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Draft, PublishResult

HEADERS: Sequence[Header] = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
NOOP = encode_text(EngineIOPacketType.NOOP)
SLICE = 0.01  # seconds for which the packets of one post may hold the reactor

# python-engineio refuses a response with more (`Payload.max_decode_packets`) and reconnects.
PYTHON_PACKETS = 16
# Its `t` is the time in seconds with a fraction; other clients write theirs in base 36 or 64.
_PYTHON_TIME = re.compile(r"(?:^|&)t=[0-9]+\.[0-9]+(?:&|$)")


class PollingTransport:
    """
    Polls and posts of a session; after an upgrade it forwards what is still written to
    its subscriber.

    Args:
        context: settings and hub.
        framing: of the client's polls.
        format: of the subscriber.
        quiet: the same, but `start` returns nothing to send.
        address: the client's, as the limits count it.
        on_close: called once when the subscriber is closed, for whatever reason; see
            `PollBuffer`.
    """

    __slots__ = (
        "_buffer",
        "_confirmed",
        "_context",
        "_poll",
        "_posting",
        "_unconfirmed",
        "framing",
        "subscriber",
    )

    name = POLLING

    def __init__(
        self,
        context: ActionContext,
        framing: PollFraming,
        format: IFormat,
        quiet: IFormat,
        address: str,
        on_close: Callable[[bool], object],
    ) -> None:
        self.framing = framing
        self._context = context
        self._buffer = PollBuffer(context.reactor, on_close)
        self._posting = False
        self._unconfirmed = 0  # publishes that the broker has not confirmed
        self._confirmed: Deferred[None] | None = None  # a post waits for them
        self._poll: IExchange | None = None  # it waits for packets
        self.subscriber = Subscriber(
            self._buffer, format, context.hub, context.backlog_limits, address
        )
        context.hub.join(self.subscriber, (), None, counted=False, format=quiet)

    def poll(self, exchange: IExchange, on_lost: Callable[[], object]) -> None:
        """
        Respond to *exchange* with the packets that wait, or with the next ones.

        A response has a portion of what waits, as it arrives whole or not at all. Clients
        in Python get at most PYTHON_PACKETS packets; the others get as many as fit, as ten
        times as many responses would take ten times as long.

        Args:
            exchange: a poll.
            on_lost: called if its client disconnects before the response.

        Raises:
            RemoteProtocolError: another poll waits already.
        """
        if self._buffer.fetching:
            raise RemoteProtocolError("two polls at once")
        exchange.watch(on_lost)
        self._poll = exchange
        cut = self.framing.portion
        if _is_python(exchange):
            cut = partial(cut, count=PYTHON_PACKETS)
        self._buffer.fetch(partial(self._respond, exchange), cut)

    def _respond(self, exchange: IExchange, frames: bytes) -> None:
        self._poll = None
        content_type, body = self.framing.response(frames)
        exchange.answer(200, body, content_type, HEADERS)

    def end_poll(self, last: bytes = NOOP) -> None:
        """
        Respond to the waiting poll now, if there is one, with the packet *last*.
        """
        if self._buffer.fetching:
            self.subscriber.write(self.framing.text(last))
            self._buffer.flush()

    async def post(
        self, exchange: IExchange, framing: PollFraming, receive: Callable[[EngineIOPacket], object]
    ) -> None:
        """
        Call *receive* with each packet in the body of *exchange*, in order.

        If that takes longer than SLICE, the reactor runs in between. This ends when all that
        was published is confirmed, or has failed.

        Raises:
            RemoteProtocolError: the body is malformed, or another post is still being
                processed; or raised by *receive*.
            HttpError: see `IExchange.read`.
        """
        if self._posting:
            raise RemoteProtocolError("two posts at once")
        self._posting = True
        try:
            body = await read_body(exchange, self._context, self._context.socketio.max_payload)
            clock = self._context.reactor
            until = clock.seconds() + SLICE
            for packet in framing.packets(body):
                if clock.seconds() > until:
                    await deferLater(clock, 0)
                    until = clock.seconds() + SLICE
                receive(packet)
            if self._unconfirmed:
                self._confirmed = Deferred()
                await self._confirmed
        finally:
            self._posting = False

    def publish(self, drafts: Sequence[Draft]) -> PublishResult | Deferred[PublishResult]:
        self._unconfirmed += 1
        return self._context.publish(drafts).addBoth(self._on_confirmed)

    def _on_confirmed(self, result: Any) -> Any:
        self._unconfirmed -= 1
        confirmed = self._confirmed
        if not self._unconfirmed and confirmed is not None:
            self._confirmed = None
            confirmed.callback(None)
        return result

    def forward(self, target: Transport) -> None:
        """
        Write what comes to *target* from now on, instead of waiting for polls.
        """
        self._buffer.fetch(partial(self._forward, target))

    def _forward(self, target: Transport, frames: bytes) -> None:
        target.write(reframe(frames, self.framing, target.framing))
        self.forward(target)

    def write(self, frames: bytes) -> None:
        self.subscriber.write(frames)

    def close(
        self,
        cause: DisconnectReason,
        last: bytes = b"",
        code: CloseCode = CloseCode.NORMAL,
        reason: str = "",
    ) -> None:
        if last:
            self.end_poll(last)
        poll, self._poll = self._poll, None
        self.subscriber.drop(cause)
        if poll is not None:
            poll.answer(503, b"the session is over\n", "text/plain", HEADERS)


def _is_python(exchange: IExchange) -> bool:
    """
    Return whether a poll is python-engineio's.

    Its `t` can be switched off, and the application or a proxy may change its User-Agent;
    either is enough.
    """
    if _PYTHON_TIME.search(exchange.query_string):
        return True
    agent = (exchange.header("user-agent") or "").lower()
    return "python" in agent or "aiohttp" in agent
