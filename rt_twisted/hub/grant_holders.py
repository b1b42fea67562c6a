"""
Subscribers and live publishers that have a grant, and how they are ended or lose channels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rt_twisted.codecs.wildcards import Selector
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.net.slices import run_in_slices

Granted = Subscriber | LivePublisher
BATCHES = 20  # of clients that are ended, in a second
RETRY = 1000  # milliseconds after which a client reconnects; up to twice as many

_log = Logger()


@dataclass(frozen=True, slots=True)
class GrantHolder:
    """
    What the hub has of a subscriber or live publisher with a grant.

    Args:
        grant: of the client.
        since: when the client got it, by the clock.
        end: disconnects the client; None for `Subscriber.end`.
        drop: unsubscribes the client from channels, and notifies it; None if the client
            cannot be notified.
    """

    grant: Any
    since: float
    end: Callable[[], object] | None
    drop: Callable[[Sequence[Selector]], object] | None


class GrantHolders:
    """
    All subscribers and live publishers of a hub that have grants.

    Args:
        clock: the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._holders: dict[Granted, GrantHolder] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def get(self, subscriber: Granted) -> GrantHolder | None:
        """
        Return what is known of *subscriber*; None if it has no grant.
        """
        return self._holders.get(subscriber)

    def items(self) -> Iterator[tuple[Granted, GrantHolder]]:
        """
        Iterate over all of them, as they are now.
        """
        yield from tuple(self._holders.items())

    def add(self, subscriber: Granted, holder: GrantHolder) -> None:
        """
        Add *subscriber*, or replace its grant.
        """
        self._holders[subscriber] = holder

    def discard(self, subscriber: Granted) -> None:
        """
        Forget *subscriber*; do nothing if it has no grant.
        """
        self._holders.pop(subscriber, None)

    def end_all(self, is_ended: Callable[[Any], bool], spread: float = 0.0) -> int:
        """
        End the subscribers and publishers whose grants *is_ended* returns true for, later and in
        slices: other clients are served in between.

        Args:
            is_ended: called with each grant.
            spread: seconds over which they are ended, so that they do not reconnect at once.

        Returns:
            How many they are.
        """
        found = [(one, holder.grant) for one, holder in self.items() if is_ended(holder.grant)]
        random.shuffle(found)
        batches = max(1, min(len(found), int(spread * BATCHES)))
        for number in range(batches):
            delay = spread * (number + random.random()) / batches
            self._clock.callLater(delay, self._end_batch, found[number::batches])
        return len(found)

    def _end_batch(self, batch: Sequence[tuple[Granted, Any]]) -> None:
        run_in_slices(self._clock, self._ends(batch))

    def _ends(self, batch: Sequence[tuple[Granted, Any]]) -> Generator[None, None, None]:
        for subscriber, grant in batch:
            holder = self._holders.get(subscriber)
            if holder is not None and holder.grant is grant:  # it was not renewed meanwhile
                try:
                    end_subscriber(subscriber, holder)
                except Exception:  # the others have to end all the same
                    _log.failure("ending a client whose grant is over")
            yield


def end_subscriber(subscriber: Granted, holder: GrantHolder | None) -> None:
    """
    Disconnect *subscriber*, whose client should reconnect, or end a live publisher.
    """
    if holder is not None and holder.end is not None:
        holder.end()
    elif isinstance(subscriber, Subscriber):
        subscriber.end(DisconnectReason.EXPIRED, RETRY + random.randrange(RETRY))
