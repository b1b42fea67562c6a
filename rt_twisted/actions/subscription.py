"""
Subscribe over HTTP: admission, and the response as a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import STREAM_HEADERS
from rt_twisted.codecs.addresses import limit_key
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Since

T = TypeVar("T")


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
        if grant is not ANYONE:
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
    admission = context.hub.admission
    if not admission.rate:
        return None
    return admission.request_slot(lambda: exchange.answered or exchange.half_closed)


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


def check_slow(slow: SlowConsumerPolicy | None) -> None:
    """
    Check the policy for slow consumers of a route that leaves no message out silently.

    Raises:
        ValueError: the policy is for live streams.
    """
    if slow is SlowConsumerPolicy.SYNC or slow is SlowConsumerPolicy.NEWEST:
        raise ValueError(f"slow={slow.value} is for live streams; here it is disconnect or skip")
