"""
What administrators ask of one process: its subscribers and channels.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from heapq import nsmallest
from typing import Any

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.formats import FORMATS
from rt_twisted.hub.grant_holders import GrantHolder, end_subscriber
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.no_transport import NoTransport
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.errors import HttpError

MOST = 1000  # subscribers or channels of one response
STEP = 1000  # channels, then other clients may be served
NAMES = ("subscribers", "channels", "disconnect", "unsubscribe", "forget")
FILTERS = ("id", "channel", "sub", "jti", "address")
_NAMES = {dotted: name for name, dotted in FORMATS.items()}

Steps = Generator[None, None, list[dict[str, Any]]]


class Acts:
    """
    Executes what the admin API asks, for the subscribers of this process.

    Args:
        hub: has them.
        node: names the process; the ids of its subscribers begin so.
    """

    def __init__(self, hub: Hub, node: str) -> None:
        self._hub = hub
        self._node = node

    def run(self, act: str, filters: Mapping[str, str]) -> Steps:
        """
        Execute the administrative act *act*.

        Args:
            act: one of NAMES.
            filters: which subscribers; values of FILTERS by name, and `limit` and `after`.

        Yields:
            after each subscriber, and after some channels: see `run_in_slices`.

        Returns:
            The subscribers or channels; those that were disconnected or unsubscribed.

        Raises:
            HttpError: 400, there is no such act.
        """
        limit = min(int(filters.get("limit", "100")), MOST)
        match act:
            case "forget":
                self._hub.drop_history(filters["channel"])
                return []
            case "channels":
                return (yield from self._channels(filters.get("after", ""), limit))
            case "subscribers":
                return (yield from self._subscribers(filters, limit))
            case "disconnect" | "unsubscribe":
                return (yield from self._end(act, filters))
        raise HttpError(400, "there is no such act")

    def _subscribers(self, filters: Mapping[str, str], limit: int) -> Steps:
        after = filters.get("after", "")
        found: dict[str, Subscriber] = {}
        for one in self._find(filters):
            if one is not None and (id := self._id(one)) > after:
                found[id] = one
            yield
        shown = []
        for id in nsmallest(limit, found):
            if not found[id].closed:  # it may have left meanwhile
                shown.append(self._describe(found[id]))
            yield
        return shown

    def _end(self, act: str, filters: Mapping[str, str]) -> Steps:
        ended = []
        for one in self._find(filters):
            if one is not None:
                ended.append({"id": self._id(one)})
                if act == "disconnect":
                    end_subscriber(one, self._hub.holders.get(one))
                else:
                    self._unsubscribe(one, filters["channel"])
            yield
        return ended

    def _find(self, filters: Mapping[str, str]) -> Iterator[Subscriber | None]:
        """
        Yield each subscriber that has joined by now; None for those that do not match.
        """
        wanted = {name: filters[name] for name in FILTERS if filters.get(name)}
        for subscriber in list(self._hub.all_subscribers()):
            matches = not (subscriber.closed or isinstance(subscriber.transport, NoTransport))
            if matches and all(self._has(subscriber, *each) for each in wanted.items()):
                yield subscriber
            else:
                yield None

    def _has(self, subscriber: Subscriber, name: str, value: str) -> bool:
        if name == "channel":
            return any(str(channel.name) == value for channel in subscriber.channels)
        if name == "id":
            return self._id(subscriber) == value
        if name == "address":
            return _address(subscriber) == value
        grant = self._grant(subscriber)
        return (grant.subject if name == "sub" else grant.token_id) == value

    def _grant(self, subscriber: Subscriber) -> Grant:
        holder = self._hub.holders.get(subscriber)
        grant: Grant = ANYONE if holder is None else holder.grant
        return grant

    def _id(self, subscriber: Subscriber) -> str:
        return f"{self._node}-{id(subscriber):x}"

    def _unsubscribe(self, subscriber: Subscriber, name: str) -> None:
        holder: GrantHolder | None = self._hub.holders.get(subscriber)
        names = [one.name for one in subscriber.channels if str(one.name) == name]
        if holder is not None and holder.drop is not None:
            holder.drop(names)
            return
        self._hub.remove_channels(subscriber, names)
        if not subscriber.channels:  # nothing is left to receive
            end_subscriber(subscriber, holder)

    def _describe(self, subscriber: Subscriber) -> dict[str, Any]:
        holder = self._hub.holders.get(subscriber)
        grant = self._grant(subscriber)
        kind = type(getattr(subscriber.format, "inner", subscriber.format))
        ends = math.isfinite(grant.expires)
        return {
            "id": self._id(subscriber),
            "transport": _NAMES.get(
                f"{kind.__module__}.{kind.__qualname__}", kind.__name__.lower()
            ),
            "address": _address(subscriber),
            "sub": grant.subject,
            "jti": grant.token_id,
            "channels": sorted([str(channel.name) for channel in subscriber.channels])[:MOST],
            "seconds": round(self._hub.seconds() - holder.since, 1) if holder is not None else None,
            "expires": grant.expires if ends else None,
            "waiting_bytes": subscriber.backlog_bytes,
        }

    def _channels(self, after: str, limit: int) -> Steps:
        names = self._hub.statistics.names()
        first: list[str] = []
        for at in range(0, len(names), STEP):
            some = [name for each in names[at : at + STEP] if (name := str(each)) > after]
            first = nsmallest(limit, first + some)
            yield
        return [
            {
                "name": one.name,
                "subscribers": one.subscribers,
                "messages": one.messages,
                "position": one.position,
            }
            for one in map(self._hub.statistics.counts_of, first)
        ]


def _address(subscriber: Subscriber) -> str:
    if subscriber.address:
        return subscriber.address
    peer = getattr(subscriber.transport, "getPeer", lambda: None)()
    return str(getattr(peer, "host", "")).removeprefix("::ffff:")
