"""
The way into the hub for one more reader.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.template import Template
from rt_twisted.codecs.addresses import counted
from rt_twisted.codecs.query import BRACKETED
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import After, Newest, Position, Since, Within

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_COUNT = re.compile(r"[0-9]{1,9}")


def when_admitted(
    context: ActionContext, exchange: IExchange, enter: Callable[[str], object]
) -> object:
    """
    Call *enter*, with the client's address as the limits count it, when it is
    this reader's turn: before this returns, unless others wait.

    Returns:
        what `IAction.act` may return.

    Raises (here, or when it is waited for):
        Refusal: 503 when the daemon is full or stopping, 429 when the address
            has its share.
    """
    address = address_of(exchange, context)
    context.hub.admit(address)
    slot = context.hub.admission.request_slot(lambda: exchange.answered)
    if slot is not None:
        return _wait(slot, context, address, enter)
    enter(address)
    return None


async def _wait(
    slot: Deferred[None], context: ActionContext, address: str, enter: Callable[[str], object]
) -> None:
    await slot
    context.hub.admit(address)
    enter(address)


async def admitted(context: ActionContext, exchange: IExchange) -> str:
    """
    `when_admitted` for who waits anyway.

    Returns:
        the client's address.
    """
    address = address_of(exchange, context)
    context.hub.admit(address)
    slot = context.hub.admission.request_slot(lambda: exchange.answered)
    if slot is not None:
        await slot
        context.hub.admit(address)
    return address


def address_of(exchange: IExchange, context: ActionContext) -> str:
    """
    The client's, as the limits count it: "" where they do not.
    """
    return counted(exchange.address) if context.count_addresses else ""


def check_static_channels(templates: Sequence[Template], context: ActionContext) -> None:
    """
    Check the names of channels that no request has a part in.

    Raises:
        ValueError: one cannot be.
    """
    for template in templates:
        if all(isinstance(part, str) for part in template.parts):
            try:
                context.names.check(template.source)
            except HttpError as refusal:
                raise ValueError(refusal.reason) from None


def requested_channels(query: Mapping[str, list[str]]) -> list[str]:
    """
    The channels that a query names.
    """
    lists = list(query.get("channels", ()))
    for name, values in query.items():
        if name[-1:] == "]" and BRACKETED.fullmatch(name):
            lists += values
    return [name for text in lists for name in text.split(",") if name]


def requested_start(
    exchange: IExchange, query: Mapping[str, list[str]], ours: bool
) -> Since | None:
    """
    From where the client wants to go on. What it last received decides before
    what its URL says: a browser reconnects to the same URL.

    Args:
        exchange: the request.
        query: of its URL.
        ours: whether the ids that clients send back are positions.
    """
    last = exchange.header("last-event-id")
    if last:
        return After(Position.parse(last)) if ours else None
    if not query:
        return None
    for name in ("lastEventId", "evs_last_event_id") if ours else ():
        text = query.get(name, [""])[-1]
        if text:
            return Within(math.inf) if text == "0" else After(Position.parse(text))
    text = query.get("since", [""])[-1]
    if text:
        return parse_start(text)
    count = requested_number(query, "history")
    return None if count is None else Newest(count)


def parse_start(text: str) -> Since:
    """
    Read `since=`: a position, an age such as `30s`, `10m`, `2h`, `1d`, or `all`.

    Raises:
        Refusal: 400 for anything else.
    """
    if text in ("all", "0"):
        return Within(math.inf)
    age = _AGE.fullmatch(text)
    if age is not None:
        return Within(int(age[1]) * _UNITS[age[2]])
    if "." in text:
        return After(Position.parse(text))
    raise HttpError(400, "since is a position, an age such as 30s, 10m, 2h, 1d, or all")


def requested_number(query: Mapping[str, list[str]], name: str) -> int | None:
    """
    A number in a query; None if it is not there.

    Raises:
        Refusal: 400, it is none.
    """
    values = query.get(name)
    if values is None:
        return None
    if not _COUNT.fullmatch(values[-1]):
        raise HttpError(400, f"{name} is a whole number")
    return int(values[-1])
