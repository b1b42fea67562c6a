"""
Conversion of channel names to routing keys and bindings, and back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rt_twisted.brokers.amqp.config import ExchangeType, Topology
from rt_twisted.brokers.amqp.content import Delivery
from rt_twisted.brokers.amqp.table import MAX_SHORT
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import MAX_EVENT, check_event
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import UNIT

HEADER = "channel"  # the header with the channel's name, for a headers exchange
UNIT_HEADER = "unit"  # the header with the event type of a message of a live stream

# `*` and `#` are wildcards where they are whole words of a binding's key.
_WILDCARD = re.compile(r"(?<![^.])(~*[*#])(?![^.])")
_ESCAPED = re.compile(r"(?<![^.])~(~*[*#])(?![^.])")


@dataclass(frozen=True, slots=True)
class Binding:
    """
    A binding of a queue to the exchange.

    Args:
        key: the routing key.
        arguments: the headers to match, for a headers exchange.
    """

    key: str
    arguments: Mapping[str, Any]


class Routing:
    """
    Routing of channels by one exchange.

    Args:
        topology: of the exchange.
    """

    def __init__(self, topology: Topology) -> None:
        self._type = topology.type
        self._pattern = topology.pattern

    def everything(self) -> Binding | None:
        """
        Return the binding for all channels at once; None for a direct exchange,
        which has no such binding.
        """
        if self._type is ExchangeType.TOPIC:
            return Binding(self._pattern or "#", {})
        if self._type is ExchangeType.FANOUT:
            return Binding("", {})
        if self._type is ExchangeType.HEADERS:
            return Binding("", {"x-match": "all"})
        return None

    def common(self) -> Binding | None:
        """
        Return the binding for all channels, if they are not bound one by one.
        """
        if self._type is ExchangeType.FANOUT or self._pattern:
            return self.everything()
        return None

    def binding(self, channel: str) -> Binding | None:
        """
        Return the binding of one channel; None if its name is too long for a routing key.
        """
        key = self.key(channel)
        if key is None:
            return None
        if self._type is ExchangeType.HEADERS:
            return Binding("", {"x-match": "all", HEADER: channel})
        return Binding(key, {})

    def pattern_binding(self, pattern: Wildcard) -> Binding | None:
        """
        Return a binding for all channels that *pattern* matches; None for a direct
        exchange, which has no such binding, and for a pattern that is too long.

        It may be for more channels: in a topic exchange, `#` stands for whole words, and
        what is between the first and the last word with a star is left to this node. The
        other types have no wildcards: this node gets all messages.
        """
        if self._type is not ExchangeType.TOPIC:
            return self.everything()
        words = _WILDCARD.sub(r"~\1", "\0".join(pattern.pieces)).split(".")
        starred = [index for index, word in enumerate(words) if "\0" in word]
        if starred:
            words[starred[0] : starred[-1] + 1] = ["#"]
        key = ".".join(words)
        return Binding(key, {}) if len(key.encode()) <= MAX_SHORT else None

    def key(self, channel: str) -> str | None:
        """
        Return the routing key of *channel*'s messages; None if the name is too long.

        In a topic exchange, a word that is only `*` or `#` gets a `~` before it
        (one more if it has some), so that no name is a pattern.
        """
        key = _WILDCARD.sub(r"~\1", channel) if self._type is ExchangeType.TOPIC else channel
        return key if len(key) * 4 <= MAX_SHORT or len(key.encode()) <= MAX_SHORT else None

    def check_pattern(self, pattern: Wildcard) -> None:
        """
        Check that the exchange can route the channels of *pattern* to this node.

        Raises:
            HttpError: 400; see `IPatterns.check_pattern`.
        """
        if self._type is ExchangeType.DIRECT:
            raise HttpError(
                400,
                "a direct exchange routes no patterns of channels: set amqp-exchange-type = topic",
            )
        if self.pattern_binding(pattern) is None:
            raise HttpError(400, f"AMQP carries patterns of up to {MAX_SHORT} bytes in UTF-8")

    def headers(self, channel: str) -> Mapping[str, Any]:
        """
        Return the headers of *channel*'s messages.
        """
        return {HEADER: channel} if self._type is ExchangeType.HEADERS else {}

    def channel(self, delivery: Delivery) -> str:
        """
        Return the channel of a message.
        """
        if self._type is ExchangeType.TOPIC:
            key = delivery.key
            return _ESCAPED.sub(r"\1", key) if "~" in key else key
        if self._type is ExchangeType.HEADERS:
            name = delivery.headers().get(HEADER)
            return name if isinstance(name, str) else ""
        return delivery.key


def event_of(delivery: Delivery) -> str | None:
    """
    Return the event type: AMQP's property `type`, or a header of that name where it
    is longer than a property can be. None if it is not a valid event type.

    Those of live streams, which other publishers cannot use, are in a header of their own.
    """
    type = delivery.type or _header(delivery, "type")
    if type:
        return _valid_event(type)
    live = _header(delivery, UNIT_HEADER)
    return live if live.startswith(UNIT) and len(live) <= MAX_EVENT else None


def key_of(delivery: Delivery) -> str:
    """
    Return the idempotency key: AMQP's property `message-id`, or a header of that name
    where it is longer than a property can be. "" for none.
    """
    return delivery.message_id or _header(delivery, "message-id")


def _header(delivery: Delivery, name: str) -> str:
    value = delivery.headers().get(name) if delivery.has_headers() else None
    return value if isinstance(value, str) else ""


@lru_cache(1024)
def _valid_event(type: str) -> str | None:
    try:
        return check_event(type)
    except RemoteProtocolError:
        return None
