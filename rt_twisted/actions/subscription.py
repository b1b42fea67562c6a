"""
Subscribe to channels over HTTP: which ones, from where, and when there is room.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from rt_twisted.access.channel_names import MAX_PATTERNS
from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import STREAM_HEADERS
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.template import GrantVariable, Template
from rt_twisted.codecs.addresses import limit_key
from rt_twisted.codecs.query import BRACKETED
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import After, Newest, Position, Since, Within

T = TypeVar("T")

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_COUNT = re.compile(r"[0-9]{1,9}")


def open_stream(
    context: ActionContext,
    exchange: IExchange,
    channels: Sequence[Selector],
    start: Since | None,
    format: IFormat,
    slow: SlowConsumerPolicy | None,
    limit: int = 0,
    grant: Grant = ANYONE,
) -> object:
    """
    Admit the client, open its response as a stream, and join the hub.

    Args:
        context: the hub and the limits.
        exchange: the request. HEAD is answered with the stream's headers.
        channels: distinct and checked, at least one.
        start: what is replayed first; None for the live stream alone.
        format: how messages are written; it frames the body as *exchange* needs it.
        slow: the route's policy for slow consumers; None for the daemon's.
        limit: bytes after which the stream ends; 0 for no limit.
        grant: the client's; the stream ends when it does.

    Returns:
        What `IAction.act` may return.

    Raises:
        HttpError: see `when_admitted`.
    """
    if exchange.method == "HEAD":
        exchange.answer(200, content_type=format.content_type, headers=STREAM_HEADERS)
        return None

    def join(address: str) -> None:
        opened = exchange.open(format.content_type, STREAM_HEADERS, log_end=True)
        backlog_limits = context.backlog_limits_for(slow)
        subscriber = Subscriber(
            opened.transport, format, context.hub, backlog_limits, address, limit
        )
        context.hub.join(subscriber, channels, start, opened.head, entry=opened.entry)
        end_with_grant(context, subscriber, grant)

    return when_admitted(context, exchange, join, channels)


def end_with_grant(context: ActionContext, subscriber: Subscriber, grant: Grant) -> None:
    """
    End *subscriber*, which has joined the hub, when the *grant* of its client does.
    """
    if grant is not ANYONE:
        context.hub.set_grant(subscriber, grant, context.gate.seconds_left(grant))


def when_admitted(
    context: ActionContext,
    exchange: IExchange,
    join: Callable[[str], object],
    channels: Sequence[Selector] = (),
) -> object:
    """
    Call *join* when admission control admits the client and the broker delivers its channels.

    It is called before this returns if nothing has to be waited for.

    Args:
        context: the hub and the limits.
        exchange: the request.
        join: called with the client's address as the limits count it.
        channels: which the client joins and knows to receive from its response on.

    Returns:
        What `IAction.act` may return.

    Raises:
        HttpError: 503 when the daemon is full or stopping, 429 when the address has
            too many subscribers. Raised here, or by the returned coroutine.
    """
    address = address_of(exchange, context)
    context.hub.admit(address)
    slot = None if exchange.admitted else request_slot(context, exchange)
    if slot is not None:
        return _join_later(slot, context, exchange, join, channels)
    subscribed = context.hub.when_subscribed(channels) if channels else None
    if subscribed is not None:
        return _join_subscribed(subscribed, context, exchange, join)
    join(address)
    return None


def request_slot(context: ActionContext, exchange: IExchange) -> Deferred[None] | None:
    """
    Return what `Admission.request_slot` does for the client of *exchange*.

    Raises:
        HttpError: 503, the queue is full.
    """
    return context.hub.admission.request_slot(lambda: exchange.answered or exchange.half_closed)


async def _join_later(
    slot: Deferred[None],
    context: ActionContext,
    exchange: IExchange,
    join: Callable[[str], object],
    channels: Sequence[Selector],
) -> None:
    await slot
    await _join_subscribed(context.hub.when_subscribed(channels), context, exchange, join)


async def _join_subscribed(
    subscribed: Deferred[None] | None,
    context: ActionContext,
    exchange: IExchange,
    join: Callable[[str], object],
) -> None:
    if subscribed is not None:
        await while_connected(exchange, subscribed)
    address = address_of(exchange, context)
    context.hub.admit(address)
    join(address)


async def while_connected(exchange: IExchange, found: Deferred[T]) -> T:
    """
    Return the result of *found*, which is cancelled if the client disconnects before.

    Raises:
        ConnectionLost: the client has disconnected; nothing can be answered.
    """
    exchange.watch(found.cancel)
    try:
        return await found
    except CancelledError:
        raise ConnectionLost from None


def address_of(exchange: IExchange, context: ActionContext) -> str:
    """
    Return the client's address as the limits count it; "" if they do not.
    """
    return limit_key(exchange.address) if context.count_addresses else ""


def read_channels(
    context: ActionContext,
    templates: Sequence[Template],
    exchange: IExchange,
    match: Match,
    parameters: Mapping[str, list[str]],
    pattern: bool = False,
) -> list[Selector]:
    """
    Return the channels of a route; without any, those that the client requests; without these,
    those of its grant.

    Args:
        context: has the rules for names.
        templates: the channels of the route line; may be empty.
        exchange: the request.
        match: what the route's pattern matched, with the grant of the client (`granted`).
        parameters: of the request's query or body.
        pattern: see `expand_channels`.

    Raises:
        HttpError: 400 if a name is not allowed, there is none, or there are too many; 403 if
            the grant does not cover one.
    """
    if templates:
        names = expand_channels(context, templates, exchange, match, pattern)
        return context.names.check_all(names)
    return requested_or_granted(context, parameters, match.grant)


def requested_or_granted(
    context: ActionContext, parameters: Mapping[str, list[str]], grant: Grant
) -> list[Selector]:
    """
    Return the channels that a client requests; without any, those of its *grant*.

    Raises:
        HttpError: see `read_channels`.
    """
    requested = requested_channels(parameters)
    names = context.names.check_all(requested or list(grant.channels))
    if grant is not ANYONE:
        for name in names:
            grant.check_subscribe(name)
    return [*names]


def asked_channels(
    context: ActionContext,
    templates: Sequence[Template],
    exchange: IExchange,
    match: Match,
    parameters: Mapping[str, list[str]],
    pattern: bool = False,
) -> list[str]:
    """
    Return the channels about which the application is asked: as `read_channels`, but without
    those that the grant names.

    Raises:
        HttpError: 400, see `read_channels`.
    """
    if templates:
        known = [template for template in templates if not template.has_grant]
        names = expand_channels(context, known, exchange, match, pattern)
    else:
        names = [*requested_channels(parameters)]
    return [str(name) for name in context.names.check_all(names)] if names else []


def expand_channels(
    context: ActionContext,
    templates: Sequence[Template],
    exchange: IExchange,
    match: Match,
    pattern: bool,
) -> list[Selector]:
    """
    Return the channels of a route line with the values of a request.

    Args:
        context: has the rules for names.
        templates: the channels of the route line.
        exchange: the request.
        match: what the route's pattern matched, with the grant of the client.
        pattern: whether those with a `*` in the route line are patterns of channels.

    Raises:
        HttpError: 400, a value that is inserted into a pattern is empty or has a `*`:
            the client would choose the pattern; 403, the client inserts something and the
            grant does not cover the result, or what the grant inserts is not allowed.
    """
    names: list[Selector] = []
    for template in templates:
        name: Selector
        if pattern and _has_star(template):
            name = _expand_pattern(template, exchange, match)
        else:
            name = template.expand(exchange, match)
        if match.grant is not ANYONE:
            _check_granted(context, template, name)
            if not template.is_granted(match):
                match.grant.check_subscribe(name)
        names.append(name)
    return names


def expand_channel(
    context: ActionContext, template: Template, exchange: IExchange, match: Match
) -> str:
    """
    Return the one channel of a route line with the values of a request, checked.

    Raises:
        HttpError: 400 if the name is not allowed; 403 as for `expand_channels`.
    """
    [name] = expand_channels(context, (template,), exchange, match, False)
    return context.names.check(str(name))


def expand_publish_channels(
    context: ActionContext, templates: Sequence[Template], exchange: IExchange, match: Match
) -> list[str]:
    """
    Return the channels to which a route publishes, with the values of a request, checked.

    Raises:
        HttpError: 400 if a name is not allowed; 403 as for `expand_channels`.
    """
    names = []
    for template in templates:
        name = template.expand(exchange, match)
        if match.grant is not ANYONE:
            _check_granted(context, template, name)
            if not template.is_granted(match):
                match.grant.check(name)
        names.append(context.names.check(name))
    return names


def _check_granted(context: ActionContext, template: Template, name: Selector) -> None:
    """
    Check that what the grant has inserted into *template* gives a valid channel *name*.

    Raises:
        HttpError: 403, it does not.
    """
    if template.has_grant:
        try:
            context.names.check(str(name).replace("*", "x") if isinstance(name, Wildcard) else name)
        except HttpError:
            raise HttpError(403, "the grant names what a channel cannot be called") from None


def _has_star(template: Template) -> bool:
    return any(isinstance(part, str) and "*" in part for part in template.parts)


def _expand_pattern(template: Template, exchange: IExchange, match: Match) -> Wildcard:
    text = ""
    for part in template.parts:
        if isinstance(part, str):
            text += part
            continue
        value = part(exchange, match)
        if not value or "*" in value:
            status = 403 if isinstance(part, GrantVariable) else 400
            raise HttpError(status, "a value for the channel pattern is empty, or has a *")
        text += value
    return Wildcard.of(text)


def check_static_channels(
    templates: Sequence[Template], context: ActionContext, pattern: bool = False
) -> None:
    """
    Check the channel names of a route line that do not depend on the request.

    Args:
        templates: the channels of the route line.
        context: has the rules for names.
        pattern: see `expand_channels`.

    Raises:
        ValueError: a name is not allowed, there are too many patterns, or there is none
            although *pattern* is set; or the route needs a grant, and clients have none.
    """
    check_grant_variables(templates, context)
    if pattern:
        patterns = [template for template in templates if _has_star(template)]
        if not patterns:
            raise ValueError("pattern=yes needs a * in subscribe=, such as subscribe=news.*")
        if len(patterns) > MAX_PATTERNS:
            raise ValueError(f"too many patterns: {MAX_PATTERNS} are allowed")
        templates = [template for template in templates if template not in patterns]
        for template in patterns:  # a value has at least one character
            text = "".join([part if isinstance(part, str) else "x" for part in template.parts])
            try:
                context.names.check(Wildcard.of(text))
            except HttpError as refusal:
                raise ValueError(refusal.reason) from None
    for template in templates:
        if all(isinstance(part, str) for part in template.parts):
            try:
                context.names.check(template.source)
            except HttpError as refusal:
                hint = "; add pattern=yes if it is a pattern" if _has_star(template) else ""
                raise ValueError(refusal.reason + hint) from None


def check_grant_variables(templates: Sequence[Template], context: ActionContext) -> None:
    """
    Check that clients have grants if *templates* insert claims of them.

    Raises:
        ValueError: they have none.
    """
    if context.gate.is_open and any(template.has_grant for template in templates):
        raise ValueError("${grant[...]} needs allow=token")


def check_slow(slow: SlowConsumerPolicy | None) -> None:
    """
    Check the policy for slow consumers of a route that leaves no message out silently.

    Raises:
        ValueError: the policy is for live streams.
    """
    if slow is SlowConsumerPolicy.SYNC or slow is SlowConsumerPolicy.NEWEST:
        raise ValueError(f"slow={slow.value} is for live streams; here it is disconnect or skip")


def requested_channels(parameters: Mapping[str, list[str]]) -> list[str]:
    """
    Return the channels that a client requests: `channels=a,b`, or `channels[]=a`.
    """
    lists = list(parameters.get("channels", ()))
    for name, values in parameters.items():
        if name[-1:] == "]" and BRACKETED.fullmatch(name):
            lists += values
    return [name for text in lists for name in text.split(",") if name]


def requested_start(
    exchange: IExchange,
    parameters: Mapping[str, list[str]],
    history: int = 0,
    positions: bool = True,
) -> Since | None:
    """
    Return where the replay for a client starts; None for the live stream alone.

    `Last-Event-ID` comes before the parameters: a browser reconnects to the same URL.

    Args:
        exchange: the request.
        parameters: of its query or body.
        history: how many messages are replayed if the request says nothing.
        positions: whether the event ids that clients send back are positions.

    Raises:
        HttpError: 400 for a parameter that cannot be read.
    """
    requested = _requested_start(exchange, parameters, positions)
    return Newest(history) if requested is None and history else requested


def _requested_start(
    exchange: IExchange, parameters: Mapping[str, list[str]], positions: bool
) -> Since | None:
    last = exchange.header("last-event-id")
    if last:
        return After(Position.parse(last)) if positions else None
    if not parameters:
        return None
    for name in ("lastEventId", "evs_last_event_id") if positions else ():
        text = parameters.get(name, [""])[-1]
        if text:
            return Within(math.inf) if text == "0" else After(Position.parse(text))
    text = parameters.get("since", [""])[-1]
    if text:
        return parse_start(text)
    count = requested_number(parameters, "history")
    return None if count is None else Newest(count)


def parse_start(text: str) -> Since:
    """
    Parse `since=`: a position, an age such as `30s`, `10m`, `2h`, `1d`, or `all`.

    Raises:
        HttpError: 400 for anything else.
    """
    if text in ("all", "0"):
        return Within(math.inf)
    age = _AGE.fullmatch(text)
    if age is not None:
        return Within(int(age[1]) * _UNITS[age[2]])
    if "." in text:
        return After(Position.parse(text))
    raise HttpError(400, "since is a position, an age such as 30s, 10m, 2h, 1d, or all")


def requested_number(parameters: Mapping[str, list[str]], name: str) -> int | None:
    """
    Return the last value of parameter *name* as a number; None if it is not given.

    Raises:
        HttpError: 400 if it is not a whole number of up to nine digits.
    """
    values = parameters.get(name)
    if values is None:
        return None
    if not _COUNT.fullmatch(values[-1]):
        raise HttpError(400, f"{name} is a whole number")
    return int(values[-1])
