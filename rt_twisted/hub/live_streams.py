"""
The live streams of this node: their publishers, what continues them, and when they end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rt_twisted.brokers.interfaces import IBroker, IClaims, IHistory
from rt_twisted.hub.channel_table import ChannelTable
from rt_twisted.hub.limits import HubLimits
from rt_twisted.hub.live_bundles import end_all
from rt_twisted.hub.live_directory import LiveAnnouncer
from rt_twisted.hub.live_memory import LiveMemory
from rt_twisted.hub.peer_bus import PeerBus
from rt_twisted.hub.publishers import Publishers
from rt_twisted.model.internal_channels import STREAMS
from rt_twisted.model.message import Draft, Mark, Message, Newest

NEWEST = 512  # messages of the broker's history: some of each track


class LiveStreams:
    """
    What concerns live streams alone.

    Args:
        broker: may provide `IHistory` and `IClaims`.
        clock: the reactor.
        channels: of this node.
        memory: of the live channels among them.
        limits: return the present limits.

    Attributes:
        publishers: the publishers on this node.
        limits: return the present limits.
        searches: of viewers that wait for a first message; each fires with None when the
            daemon stops.
        shared: other nodes may have live streams, too.
    """

    def __init__(
        self,
        broker: IBroker,
        clock: IReactorTime,
        channels: ChannelTable,
        memory: LiveMemory,
        limits: Callable[[], HubLimits],
    ) -> None:
        self.publishers = Publishers(broker, clock, broker.publish)
        self.searches: set[Deferred[Message | None]] = set()
        self.shared = IClaims.providedBy(broker)
        bus = PeerBus(STREAMS, broker.publish, clock)
        self._announcer = LiveAnnouncer(bus.announce) if self.shared else None
        self._history: IHistory | None = IHistory(broker, None)
        self._clock = clock
        self._channels = channels
        self._memory = memory
        self.limits = limits

    def end_searches(self) -> None:
        """
        Answer viewers that wait for a publisher: the daemon is stopping.
        """
        for found in tuple(self.searches):
            found.callback(None)

    async def newest_messages(self, name: str) -> list[Message]:
        """
        Return the newest messages of the live stream in the channel *name*, in order, for a
        publisher that continues it; none if it has ended.

        Raises:
            Unavailable: the broker cannot read its history.
        """
        if self._history is not None:
            replay = await self._history.after([name], Newest(NEWEST))
            return _after_end(list(replay.messages))
        channel = self._channels.get(name)
        if channel is None or channel.live is None:
            return []
        retained = [message for _, message in channel.history.newest_first()]
        last = channel.live.last  # of a group that exceeds the bounds nothing is retained
        return _after_end(retained[::-1] or ([last] if last is not None else []))

    def names_among(self, drafts: Sequence[Draft]) -> Set[str]:
        """
        Return the channels of *drafts* in which this node has a live stream, or had one.
        """
        if not self._memory and not self.publishers:
            return frozenset()
        return {
            draft.channel
            for draft in drafts
            if draft.channel in self._memory or draft.channel in self.publishers
        }

    def names(self, prefix: str) -> list[str]:
        """
        Return the channels of the live streams that are published or viewed on this node, and
        whose names begin with *prefix*.
        """
        found = []
        for name in self._memory:
            channel = self._channels.get(name) if name.startswith(prefix) else None
            live = channel.live if channel is not None else None
            if live is not None and live.received_at is not None:
                found.append(name)
        return found

    def check(self) -> None:
        """
        End what has had no publisher for too long; called once per second.

        Nodes that were killed announce no end, so each node ends its viewers by its own clock.
        """
        self.publishers.check()
        if self._announcer is not None:
            # Without a viewer here, a node does not receive what it publishes.
            self._announcer.announce(tuple(self.publishers.channels()), self._clock.seconds())
        limits = self.limits()
        oldest = self._clock.seconds() - limits.live_timeout - limits.live_grace
        for name in tuple(self._memory):
            channel = self._channels.get(name)
            live = channel.live if channel is not None else None
            if channel is None or live is None or name in self.publishers:
                continue
            if live.received_at is not None and live.received_at < oldest:
                live.last = None
                self._channels.end_live(channel)
                end_all(channel, live)


def _after_end(messages: list[Message]) -> list[Message]:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].mark is Mark.END:
            return messages[index + 1 :]
    return messages
