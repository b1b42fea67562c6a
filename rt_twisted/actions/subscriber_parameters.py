"""
What the request of a subscriber says: which channels, and where the replay starts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from rt_twisted.codecs.query import BRACKETED
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import After, Newest, Position, Since, Within

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_COUNT = re.compile(r"[0-9]{1,9}")
_STARTS = frozenset(("lastEventId", "evs_last_event_id", "since", "history"))


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
    otherwise: Since | None = None,
) -> Since | None:
    """
    Return where the replay for a client starts; None for the live stream alone.

    `Last-Event-ID` comes before the parameters: a browser reconnects to the same URL.

    Args:
        exchange: the request.
        parameters: of its query or body.
        history: how many messages are replayed if the request says nothing.
        positions: whether the event ids that clients send back are positions.
        otherwise: where it starts if neither the request nor *history* says so.

    Raises:
        HttpError: 400 for a parameter that cannot be read.
    """
    requested = _requested_start(exchange, parameters, positions)
    if requested is not None:
        return requested
    return Newest(history) if history else otherwise


def _requested_start(
    exchange: IExchange, parameters: Mapping[str, list[str]], positions: bool
) -> Since | None:
    last = exchange.header("last-event-id")
    if last:
        return After(Position.parse(last)) if positions else None
    if _STARTS.isdisjoint(parameters):
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
