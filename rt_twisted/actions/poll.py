"""
The action `poll`: long-polling.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.access.grants import ANYONE
from rt_twisted.actions.bodies import with_parameters
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.poll_response import PollRequest, respond_once
from rt_twisted.actions.route_channels import asked_channels, check_static_channels, read_channels
from rt_twisted.actions.sse import EVENT_STREAM
from rt_twisted.actions.subscriber_parameters import requested_start
from rt_twisted.actions.subscription import when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.formats import build_format
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import After, Position, Since

# The position in an entity tag, which proxies change when they compress: "TAG-gzip",
# "TAG;gzip", "TAG"-br. What they add is never of letters and digits alone.
_POSITION = re.compile(r"(?<![^\W_]|\.)([0-9A-Za-z]+\.[0-9]{1,19})(?![^\W_]|\.[0-9])")
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?")


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class PollAction:
    """
    Answer polls: `poll:CHANNEL`, or `poll:subscribe=A,subscribe=B,history=10`.

    Without a channel the client requests some, as for `sse`.

    Args:
        context: the hub and the settings.
        subscribe: the channels.
        history: messages for a client that requests no position.
        wait: seconds a poll may wait; None for the daemon's setting.
        pattern: whether a `*` in the channels of *subscribe* stands for any characters.
    """

    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    history: int = 0
    wait: float | None = None
    pattern: bool = False

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)
    spare_methods: ClassVar[Sequence[str]] = ("POST",)

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        if self.wait is not None and not 0 <= self.wait <= 3600:
            raise ValueError("wait= is a number of seconds, up to 3600")
        check_static_channels(self.subscribe, self.context, self.pattern)

    def act(self, exchange: IExchange, match: Match) -> object:
        # A client without a position is answered at once: it has one from then on, and
        # loses nothing between two polls.
        act = partial(self._act, exchange, match)
        return with_parameters(exchange, self.context, act)

    def _act(self, exchange: IExchange, match: Match, query: Mapping[str, list[str]]) -> object:
        context, act = self.context, partial(self._enter, exchange, query)
        asked = partial(
            asked_channels, context, self.subscribe, exchange, match, query, self.pattern
        )
        return granted(context, exchange, match, act, "poll", asked)

    def _enter(self, exchange: IExchange, query: Mapping[str, list[str]], match: Match) -> object:
        context = self.context
        names = read_channels(context, self.subscribe, exchange, match, query, self.pattern)
        format = build_format(_format_name(exchange, query))
        start = _position_of_etag(exchange, context.hub.position().epoch)
        conditional = start is not None
        if start is None:
            start = requested_start(exchange, query, self.history)
        wait = min(_seconds(query), context.poll_seconds if self.wait is None else self.wait)
        if match.grant is not ANYONE:  # the next poll shows whether there is another grant
            wait = max(0.0, min(wait, context.gate.seconds_left(match.grant)))
        timeout = wait or context.poll_seconds
        if not isinstance(start, After):
            wait = 0.0
        start = match.start if start is None else start
        if exchange.method == "HEAD":
            exchange.answer(200, content_type=format.content_type, headers=NO_STORE)
            return None
        request = PollRequest(format, wait, timeout, conditional=conditional)
        join = partial(respond_once, exchange, context, names, start, request)
        return when_admitted(context, exchange, join)


def _format_name(exchange: IExchange, query: Mapping[str, list[str]]) -> str:
    named = query.get("format")
    if named is None:
        return "poll-sse" if EVENT_STREAM in (exchange.header("accept") or "") else "poll-json"
    if named[-1] not in ("json", "sse"):
        raise HttpError(400, "format is json or sse")
    return f"poll-{named[-1]}"


def _position_of_etag(exchange: IExchange, epoch: str) -> Since | None:
    """
    Return where a client continues that polls with `If-None-Match`; None for others.
    """
    tags = exchange.header("if-none-match")
    if tags is None or exchange.header("last-event-id") is not None:
        return None
    position = _position_in(tags, epoch)
    return None if position is None else After(position)


def _position_in(tags: str, epoch: str) -> Position | None:
    """
    Return the position in an `If-None-Match` header.

    Of several, the last one in the current log counts: the condition is met if any tag
    matches (RFC 9110, 13.1.2).

    Args:
        tags: the header, a list of entity tags.
        epoch: of the current log.

    Returns:
        None if no tag contains a position: the header is then ignored.
    """
    found = [Position.parse(text) for text in _POSITION.findall(tags)]
    current = [position for position in found if position.epoch == epoch]
    return max(current or found, key=lambda position: position.offset, default=None)


def _seconds(query: Mapping[str, list[str]]) -> float:
    values = query.get("wait")
    if values is None:
        return math.inf
    if not _SECONDS.fullmatch(values[-1]):
        raise HttpError(400, "wait is a number of seconds")
    return float(values[-1])
