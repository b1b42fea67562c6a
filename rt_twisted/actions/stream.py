"""
Plain streams: the bytes of each message, one behind the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.bodies import with_fields
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import STREAM_HEADERS
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.subscription import (
    check_static_channels,
    requested_channels,
    requested_start,
    when_admitted,
)
from rt_twisted.actions.template import Template
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.raw import Raw
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Newest, Since


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class StreamAction:
    r"""
    `stream:CHANNEL`, or `stream:subscribe=A,prefix=<,suffix=>\n,type=text/plain`;
    without a channel the client names them, as for `sse`.

    Args:
        house: the daemon.
        subscribe: the channels.
        prefix: in front of each message.
        suffix: behind it.
        type: the stream's content type.
        history: messages replayed to a client that does not say from where.
        slow: what meets a reader that is too far behind; the daemon's setting
            if not given.
    """

    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    prefix: Template | None = None
    suffix: Template | None = None
    type: str = "application/octet-stream"
    history: int = 0
    slow: SlowConsumerPolicy | None = None

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    methods: ClassVar[Sequence[str]] = ("GET",)
    spare_methods: ClassVar[Sequence[str]] = ("POST",)

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        if not self.type.isascii() or not self.type.isprintable():
            raise ValueError("type= must be a media type, such as text/plain")
        check_static_channels(self.subscribe, self.context)

    def act(self, exchange: IExchange, match: Match) -> object:
        """
        Open the stream when it is this reader's turn; or refuse.
        """
        if exchange.method == "POST":
            act = partial(self._act, exchange, match)
            return with_fields(exchange, self.context.max_body, act)
        return self._act(exchange, match, exchange.query())

    def _act(self, exchange: IExchange, match: Match, query: Mapping[str, list[str]]) -> object:
        context = self.context
        if self.subscribe:
            names = [template.expand(exchange, match) for template in self.subscribe]
        else:
            names = requested_channels(query)
        names = context.names.check_all(names)
        since = requested_start(exchange, query, True)
        if since is None and self.history:
            since = Newest(self.history)
        around = [one.expand(exchange, match) if one else "" for one in (self.prefix, self.suffix)]
        format = _format(self.type, *around, framed=exchange.framed)
        if exchange.method == "HEAD":
            exchange.answer(200, content_type=format.content_type, headers=STREAM_HEADERS)
            return None
        return when_admitted(context, exchange, partial(self._open, exchange, format, names, since))

    def _open(
        self,
        exchange: IExchange,
        format: IFormat,
        names: Sequence[str],
        since: Since | None,
        address: str,
    ) -> None:
        context = self.context
        opened = exchange.open(format.content_type, STREAM_HEADERS)
        backlog_limits = context.backlog_limits_for(self.slow)
        subscriber = Subscriber(opened.transport, format, context.hub, backlog_limits, address)
        context.hub.join(subscriber, names, since, opened.head)


@lru_cache(maxsize=256)
def _format(type: str, prefix: str, suffix: str, framed: bool) -> IFormat:
    """
    The same object for all readers of a route, unless they have a part in it.
    """
    # surrogateescape: what a query has may be any bytes.
    format = Raw(
        type, prefix.encode(errors="surrogateescape"), suffix.encode(errors="surrogateescape")
    )
    return Chunked(format) if framed else format
