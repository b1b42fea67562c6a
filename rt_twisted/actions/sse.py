"""
The actions `sse` and `sseraw`: streams of server-sent events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.bodies import with_parameters
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.headers import STREAM_HEADERS
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.poll_response import PollRequest, respond_once
from rt_twisted.actions.route_channels import asked_channels, check_static_channels, read_channels
from rt_twisted.actions.subscriber_parameters import (
    requested_channels,
    requested_number,
    requested_start,
)
from rt_twisted.actions.subscription import address_of, check_slow, open_stream, when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.codecs.eventsource import CONTENT_TYPE
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats import build_format
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.message import Since

EVENT_STREAM = "text/event-stream"
XHR = "XMLHttpRequest"  # X-Requested-With of jQuery
PADDING = 2056  # bytes of comment that old browsers wait for (amvtek's evs_preamble)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class SseAction:
    """
    Stream messages as server-sent events: `sse:CHANNEL`, or
    `sse:subscribe=A,subscribe=B,history=10`.

    Without a channel the client requests some: `?channels=a&channels=b` or `?channels=a,b`.
    `sseraw` forwards messages that are event stream text already.

    Args:
        word: `sse` or `sseraw`.
        context: the hub and the settings.
        subscribe: the channels.
        history: messages that are replayed to a client that requests no position.
        retry: milliseconds after which a disconnected client is asked to reconnect; None
            for the daemon's setting, 0 to leave it to the client.
        slow: the policy for slow consumers; None for the daemon's.
        ids: whether events have an `id`; without ids a client cannot resume.
        page: path to which browsers are redirected that request no channel.
        buffer_size: accepted for uWSGI's route lines, and ignored.
        pattern: whether a `*` in the channels of *subscribe* stands for any characters.
    """

    word: str
    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    history: int = 0
    retry: int | None = None
    slow: SlowConsumerPolicy | None = None
    ids: bool = True
    page: str = ""
    buffer_size: int = 0
    pattern: bool = False

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    body_first: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)
    spare_methods: ClassVar[Sequence[str]] = ("POST",)

    def __post_init__(self) -> None:
        if self.history < 0 or (self.retry or 0) < 0:
            raise ValueError("history= and retry= cannot be negative")
        check_slow(self.slow)
        check_static_channels(self.subscribe, self.context, self.pattern)

    def act(self, exchange: IExchange, match: Match) -> object:
        return with_parameters(exchange, self.context, self._act, exchange, match)

    def _act(self, exchange: IExchange, match: Match, query: Mapping[str, list[str]]) -> object:
        context = self.context
        if self.page and self._shows_page(exchange, query):
            exchange.answer(303, headers=[("Location", self.page)])
            return None
        if context.gate.is_open:
            return self._enter(exchange, query, match)
        act = partial(self._enter, exchange, query)
        asked = partial(
            asked_channels, context, self.subscribe, exchange, match, query, self.pattern
        )
        return granted(context, exchange, match, act, self.word, asked)

    def _enter(self, exchange: IExchange, query: Mapping[str, list[str]], match: Match) -> object:
        context = self.context
        names = read_channels(context, self.subscribe, exchange, match, query, self.pattern)
        has_ids = self.word != "sseraw"
        start = requested_start(exchange, query, self.history, has_ids, match.start)
        if self.ids and self.word == "sse" and _is_long_poller(exchange, query):
            return self._poll(exchange, names, start)
        limit = 0
        if "evs_buffer_size_limit" in query:
            limit = requested_number(query, "evs_buffer_size_limit") or 0
        retry = context.retry if self.retry is None else self.retry
        padded = bool(query) and (query.get("padding") == ["true"] or "evs_preamble" in query)
        wants_json = self.ids and self.word == "sse" and query.get("format") == ["json"]
        format = build_format(
            "sse-json" if wants_json else self.word,
            exchange.framed,
            retry=retry,
            padding=PADDING if padded else 0,
            ids=self.ids,
        )
        if exchange.method == "HEAD":
            context.hub.admit(address_of(exchange, context))
        return open_stream(context, exchange, names, start, format, self.slow, limit, match.grant)

    def _shows_page(self, exchange: IExchange, query: Mapping[str, list[str]]) -> bool:
        if self.subscribe or "text/html" not in (exchange.header("accept") or ""):
            return False
        return not requested_channels(query)

    def _poll(self, exchange: IExchange, names: Sequence[Selector], start: Since | None) -> object:
        """
        Answer with one event: clients of cyclone-sse without EventSource poll for each.
        """
        if exchange.method == "HEAD":
            exchange.answer(200, content_type=CONTENT_TYPE, headers=STREAM_HEADERS)
            return None
        wait = self.context.poll_seconds
        request = PollRequest(build_format("poll-sse"), wait, wait, count=1)
        join = partial(respond_once, exchange, self.context, names, start, request)
        return when_admitted(self.context, exchange, join)


def _is_long_poller(exchange: IExchange, query: Mapping[str, list[str]]) -> bool:
    """
    Return whether the client is cyclone-sse's jQuery plugin, which reads one event per response.

    amvtek's polyfill sends the same `X-Requested-With` and reads a stream: it also
    sends `Accept`, and parameters whose names begin with `evs_`.
    """
    if exchange.header("x-requested-with") != XHR:
        return False
    streams = EVENT_STREAM in (exchange.header("accept") or "")
    return not streams and not any(name.startswith("evs_") for name in query)
