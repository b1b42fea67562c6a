"""
One channel of this node, or one pattern of channels: its messages, and its subscribers by
format.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from rt_twisted.codecs.wildcards import Selector
from rt_twisted.hub.live_channel import LiveState, Wait
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position
from rt_twisted.model.retention import History

NOT_STARTED = Wait(started=False)


class Channel:
    """
    A name, its history, and its subscribers by format.

    Subscribers of several channels are kept apart: their frames may have to be merged
    with those of their other channels.

    A pattern is one too: to its subscribers it is a channel with the messages of all
    matching channels. It retains none itself, so its history is always empty, and has
    only the position after which the matching channels have everything.

    Args:
        name: of the channel, or the pattern.
        history: what it retains.

    Attributes:
        patterns: of a channel: the open patterns that match its name, found when it was
            opened.
        matched: of a pattern: matching channels that have received messages, by their last
            one; None for a channel.
    """

    __slots__ = (
        "history",
        "idle_since",
        "last_position",
        "live",
        "matched",
        "multi_channel",
        "name",
        "patterns",
        "pending_subscriptions",
        "received_count",
        "requested",
        "single_channel",
        "subscribed",
        "subscribers",
        "undelivered",
    )

    def __init__(self, name: Selector, history: History) -> None:
        self.name = name
        self.history = history
        self.patterns: tuple[Channel, ...] = ()
        self.matched: OrderedDict[Channel, None] | None = None
        self.single_channel: dict[IFormat, set[Subscriber]] = {}
        self.multi_channel: dict[IFormat, set[Subscriber]] = {}
        self.live: LiveState | None = None  # with subscribers that wait for a resync point
        self.subscribers = 0  # in all of these
        self.undelivered: list[Message] | None = None  # received, and not in a flush yet
        self.idle_since = math.inf  # when the last subscriber left
        self.requested = False  # subscribe() was called on the broker
        self.subscribed = False  # and has succeeded
        self.pending_subscriptions: Any = ()  # a set if there are some: it saves memory
        self.received_count = 0  # since it was opened
        self.last_position: Position | None = None  # of the newest of them

    @property
    def is_idle(self) -> bool:
        """
        Return whether the channel has no subscribers, no pending subscriptions and no
        undelivered messages, which a subscriber that joins now would receive.
        """
        return not (self.subscribers or self.pending_subscriptions or self.undelivered)

    def add(self, subscriber: Subscriber, several: bool) -> None:
        """
        Deliver what is received from now on to *subscriber*, which has *several* channels
        or only this one.
        """
        groups = self.multi_channel if several else self.single_channel
        group = groups.get(subscriber.format)
        if group is None:
            group = groups[subscriber.format] = set()
        group.add(subscriber)
        self.subscribers += 1
        self.idle_since = math.inf

    def remove(self, subscriber: Subscriber, several: bool, now: float) -> None:
        """
        Undo `add`, at *now* (seconds).
        """
        if self.live is None or not self.live.remove(subscriber):
            self._remove_from_group(subscriber, several)
        self.subscribers -= 1
        if not self.subscribers:
            self.idle_since = now

    def begin_live(self) -> LiveState:
        """
        Return what the channel keeps for subscribers that begin at resync points.
        """
        if self.live is None:
            self.live = LiveState()
        return self.live

    def add_waiting(self, subscriber: Subscriber, wait: Wait = NOT_STARTED) -> None:
        """
        Begin the stream of *subscriber* at the next resync point, or go on with it.
        """
        self.begin_live().add(subscriber, wait)
        self.subscribers += 1
        self.idle_since = math.inf

    def miss(self, position: Position) -> None:
        """
        Note that messages up to *position* were not received.
        """
        self.history.miss(position)
        if self.live is not None:
            self.live.searched = False

    def park(self, subscriber: Subscriber, last: Message | None) -> None:
        """
        Send *subscriber* nothing until the next resync point; *last* was its last message.
        """
        live = self.begin_live()
        if not live.waits(subscriber):
            self._remove_from_group(subscriber, several=False)
        live.add(subscriber, Wait(True, last))

    def end_waiting(self, subscriber: Subscriber, format: IFormat) -> None:
        """
        Deliver what is received from now on to *subscriber*, which has waited, in *format*.
        """
        assert self.live is not None
        self.live.remove(subscriber)
        subscriber.format = format
        self.single_channel.setdefault(format, set()).add(subscriber)

    def _remove_from_group(self, subscriber: Subscriber, several: bool) -> None:
        groups = self.multi_channel if several else self.single_channel
        group = groups[subscriber.format]
        group.remove(subscriber)
        if not group:
            del groups[subscriber.format]


def by_offset(message: Message) -> int:
    """
    Return the offset of *message*, as a sort key.
    """
    return message.position.offset
