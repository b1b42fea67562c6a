"""
Engine.IO by long-polling: what a session says goes out with the next poll, what
its client says comes in by posts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.task import deferLater

from rt_twisted.actions.bodies import read_body
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.poll_buffer import PollBuffer
from rt_twisted.codecs.engineio import EngineIOPacket, EngineIOPacketType, text_of
from rt_twisted.codecs.engineio_framing import Framing, PollFraming, reframed
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import Header
from rt_twisted.model.interfaces import IFormat

HEADERS: Sequence[Header] = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
NOOP = text_of(EngineIOPacketType.NOOP)
SLICE = 0.01  # seconds in which one post is heard at a stretch

# python-engineio refuses an answer with more (`Payload.max_decode_packets`) and reconnects.
PYTHON_PACKETS = 16
# Its `t` is the time in seconds with a fraction; other clients write theirs in base 36 or 64.
_PYTHON_TIME = re.compile(r"(?:^|&)t=[0-9]+\.[0-9]+(?:&|$)")


class PollingTransport:
    """
    A session's transport while it polls, and behind its websocket, once it has
    one, for what is still on the way to this reader.

    Args:
        house: the daemon.
        framing: the client's.
        format: its reader's; says nothing when it joins.
        address: the client's, as the limits count it.
        closed: called when the reader is gone, whoever ended it.
    """

    __slots__ = ("_context", "_mailbox", "_posting", "_waiting", "framing", "subscriber")

    def __init__(
        self,
        context: ActionContext,
        framing: PollFraming,
        format: IFormat,
        address: str,
        closed: Callable[[], object],
    ) -> None:
        self.framing = framing
        self._context = context
        self._mailbox = PollBuffer(context.reactor, closed)
        self._posting = False
        self._waiting: IExchange | None = None  # a poll
        self.subscriber = Subscriber(
            self._mailbox, format, context.hub, context.backlog_limits, address
        )
        context.hub.join(self.subscriber, (), None, counted=False)

    def poll(self, exchange: IExchange, lost: Callable[[], Any]) -> None:
        """
        Answer *exchange* with what waits, or with what comes next: with a portion
        of it, as an answer comes whole or not at all. Clients in Python get
        PYTHON_PACKETS at once; the others get as many as there are, as ten times
        as many answers would take ten times as long.

        Args:
            exchange: a poll.
            lost: called if its client goes away before.

        Raises:
            RemoteProtocolError: another poll waits already.
        """
        if self._mailbox.asked:
            raise RemoteProtocolError("two polls at once")
        exchange.watch(lost)
        self._waiting = exchange
        cut = self.framing.portion
        if _is_python(exchange):
            cut = partial(cut, count=PYTHON_PACKETS)
        self._mailbox.ask(partial(self._answer, exchange), cut)

    def _answer(self, exchange: IExchange, frames: bytes) -> None:
        self._waiting = None
        content_type, body = self.framing.response(frames)
        exchange.answer(200, body, content_type, HEADERS)

    def end_poll(self, last: bytes = NOOP) -> None:
        """
        Answer the poll that waits now, if one does, with the packet *last*.
        """
        if self._mailbox.asked:
            self.subscriber.write(self.framing.text(last))
            self._mailbox.deliver()

    async def post(
        self, exchange: IExchange, framing: PollFraming, hear: Callable[[EngineIOPacket], object]
    ) -> None:
        """
        *hear* each packet that *exchange* posts, in order. Others have their turn
        in between if that takes long.

        Raises:
            RemoteProtocolError: it is malformed, or another post has not come
                to its end; or raised by *hear*.
            Refusal: see `IExchange.read`.
        """
        if self._posting:
            raise RemoteProtocolError("two posts at once")
        self._posting = True
        try:
            body = await read_body(exchange, self._context.socketio.max_payload)
            clock = self._context.reactor
            until = clock.seconds() + SLICE
            for packet in framing.packets(body):
                if clock.seconds() > until:
                    await deferLater(clock, 0)
                    until = clock.seconds() + SLICE
                hear(packet)
        finally:
            self._posting = False

    def forward(self, framing: Framing, write: Callable[[bytes], object]) -> None:
        """
        From now on *write* what comes, in *framing*, instead of waiting for polls.
        """
        self._mailbox.ask(partial(self._forwarded, framing, write))

    def _forwarded(self, framing: Framing, write: Callable[[bytes], object], frames: bytes) -> None:
        write(reframed(frames, self.framing, framing))
        self.forward(framing, write)

    def close(self, cause: DisconnectReason) -> None:
        """
        The reader leaves. A poll that still waits fails, so that its client comes
        back.
        """
        waiting, self._waiting = self._waiting, None
        self.subscriber.drop(cause)
        if waiting is not None:
            waiting.answer(503, b"the session is over\n", "text/plain", HEADERS)


def _is_python(exchange: IExchange) -> bool:
    """
    Whether a poll is python-engineio's: by its `t`, which can be switched off, or
    by its User-Agent, which the application or a proxy may change.
    """
    if _PYTHON_TIME.search(exchange.query_string):
        return True
    agent = (exchange.header("user-agent") or "").lower()
    return "python" in agent or "aiohttp" in agent
