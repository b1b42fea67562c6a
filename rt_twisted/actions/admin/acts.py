"""
What administrators ask of one process: its subscribers and channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.formats import FORMATS
from rt_twisted.hub.grant_holders import GrantHolder, end_subscriber
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.no_transport import NoTransport
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.errors import HttpError

MOST = 1000  # subscribers or channels of one response
FILTERS = ("id", "channel", "sub", "jti", "address")
_NAMES = {dotted: name for name, dotted in FORMATS.items()}


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

    def run(self, act: str, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        """
        Execute *act*: `subscribers`, `channels`, `disconnect`, `unsubscribe` or `forget`.

        Args:
            act: its name.
            filters: which subscribers; values of FILTERS by name, and `limit` and `after`.

        Returns:
            The subscribers or channels; those that were disconnected or unsubscribed.

        Raises:
            HttpError: 400, there is no such act.
        """
        limit = min(int(filters.get("limit", "100")), MOST)
        if act == "forget":
            self._hub.drop_history(filters["channel"])
            return []
        if act == "channels":
            return self._channels(filters.get("after", ""), limit)
        found = self._find(filters)
        if act == "subscribers":
            after = filters.get("after", "")
            shown = sorted([one for one in map(self._describe, found) if one["id"] > after],
                           key=lambda one: one["id"])  # fmt: skip
            return shown[:limit]
        subscribers = list(found)
        described = [{"id": self._id(one)} for one in subscribers]
        if act == "disconnect":
            for one in subscribers:
                end_subscriber(one, self._hub.holders.get(one))
        elif act == "unsubscribe":
            for one in subscribers:
                self._unsubscribe(one, filters["channel"])
        else:
            raise HttpError(400, "there is no such act")
        return described

    def _find(self, filters: Mapping[str, str]) -> Iterator[Subscriber]:
        wanted = {name: filters[name] for name in FILTERS if filters.get(name)}
        for subscriber in list(self._hub.all_subscribers()):
            if isinstance(subscriber.transport, NoTransport):
                continue
            if all(self._has(subscriber, name, value) for name, value in wanted.items()):
                yield subscriber

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

    def _channels(self, after: str, limit: int) -> list[dict[str, Any]]:
        shown, _ = self._hub.busiest_channels(100_000)
        found = [
            {
                "name": one.name,
                "subscribers": one.subscribers,
                "messages": one.messages,
                "position": one.position,
            }
            for one in shown
            if one.name > after
        ]
        return sorted(found, key=lambda one: str(one["name"]))[:limit]


def _address(subscriber: Subscriber) -> str:
    if subscriber.address:
        return subscriber.address
    peer = getattr(subscriber.transport, "getPeer", lambda: None)()
    return str(getattr(peer, "host", "")).removeprefix("::ffff:")
