"""
How a channel's name becomes a routing key and a binding, and back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rt_twisted.brokers.amqp.config import ExchangeOptions, Topology
from rt_twisted.brokers.amqp.content import Delivery
from rt_twisted.brokers.amqp.table import SHORT
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import check_event

HEADER = "channel"  # names the channel where the exchange looks at headers

# `*` and `#` mean something where they are whole words of a binding's key.
_WILD = re.compile(r"(?<![^.])(~*[*#])(?![^.])")
_TAMED = re.compile(r"(?<![^.])~(~*[*#])(?![^.])")


@dataclass(frozen=True, slots=True)
class Binding:
    """
    What ties a queue to the exchange.

    Args:
        key: the routing key.
        arguments: what a headers exchange looks at.
    """

    key: str
    arguments: Mapping[str, Any]


class Routing:
    """
    The way of one exchange.

    Args:
        topology: which.
    """

    def __init__(self, topology: Topology) -> None:
        self._type = topology.type
        self._pattern = topology.pattern

    def everything(self) -> Binding | None:
        """
        The binding that brings every channel; None for a direct exchange,
        which has none.
        """
        if self._type is ExchangeOptions.TOPIC:
            return Binding(self._pattern or "#", {})
        if self._type is ExchangeOptions.FANOUT:
            return Binding("", {})
        if self._type is ExchangeOptions.HEADERS:
            return Binding("", {"x-match": "all"})
        return None

    def common(self) -> Binding | None:
        """
        The binding for all channels, if there is not one for each.
        """
        if self._type is ExchangeOptions.FANOUT or self._pattern:
            return self.everything()
        return None

    def binding(self, channel: str) -> Binding | None:
        """
        The binding of one channel; None if no message can have its name, which
        is too long.
        """
        key = self.key(channel)
        if key is None:
            return None
        if self._type is ExchangeOptions.HEADERS:
            return Binding("", {"x-match": "all", HEADER: channel})
        return Binding(key, {})

    def key(self, channel: str) -> str | None:
        """
        The routing key of *channel*'s messages.

        In a topic exchange, a word that is but `*` or `#` gets a `~` in front
        (and one more if it has some), so that nothing in a name is a pattern.
        """
        key = _WILD.sub(r"~\1", channel) if self._type is ExchangeOptions.TOPIC else channel
        return key if len(key) * 4 <= SHORT or len(key.encode()) <= SHORT else None

    def headers(self, channel: str) -> Mapping[str, Any]:
        """
        The headers of *channel*'s messages.
        """
        return {HEADER: channel} if self._type is ExchangeOptions.HEADERS else {}

    def channel(self, delivery: Delivery) -> str:
        """
        Whose message it is.
        """
        if self._type is ExchangeOptions.TOPIC:
            key = delivery.key
            return _TAMED.sub(r"\1", key) if "~" in key else key
        if self._type is ExchangeOptions.HEADERS:
            name = delivery.headers().get(HEADER)
            return name if isinstance(name, str) else ""
        return delivery.key


def event_of(delivery: Delivery) -> str | None:
    """
    The event type: AMQP's property `type`, or a header of that name where it
    is longer than a property can be. None if it cannot be one.
    """
    type = delivery.type or _header(delivery, "type")
    return _checked(type) if type else None


def key_of(delivery: Delivery) -> str:
    """
    The idempotency key: AMQP's property `message-id`, or a header of that name
    where it is longer than a property can be. "" for none.
    """
    return delivery.message_id or _header(delivery, "message-id")


def _header(delivery: Delivery, name: str) -> str:
    value = delivery.headers().get(name) if delivery.has_headers() else None
    return value if isinstance(value, str) else ""


@lru_cache(1024)
def _checked(type: str) -> str | None:
    try:
        return check_event(type)
    except RemoteProtocolError:
        return None
