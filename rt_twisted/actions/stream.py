"""
Plain streams: the bytes of each message, one behind the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.bodies import with_parameters
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.subscription import (
    check_static_channels,
    open_stream,
    read_channels,
    requested_start,
)
from rt_twisted.actions.template import Template
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.raw import Raw
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.interfaces import IFormat


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
        act = partial(self._act, exchange, match)
        return with_parameters(exchange, self.context.max_body, act)

    def _act(self, exchange: IExchange, match: Match, query: Mapping[str, list[str]]) -> object:
        names = read_channels(self.context, self.subscribe, exchange, match, query)
        start = requested_start(exchange, query, self.history)
        around = [one.expand(exchange, match) if one else "" for one in (self.prefix, self.suffix)]
        format = _format(self.type, *around, framed=exchange.framed)
        return open_stream(self.context, exchange, names, start, format, self.slow)


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
