"""
Publishers of live streams: one per channel, over all nodes that share a broker.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rt_twisted.brokers.interfaces import ClaimTaken, IBroker, IClaim, IClaims
from rt_twisted.hub.local_claims import LocalClaims
from rt_twisted.hub.publisher_events import Announce, PublisherState, announce_nothing
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.media.unit import End, write
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, PublishResult

_log = Logger()

PARK_SECONDS = 3.0  # GStreamer sends a request for each frame
Publish = Callable[[Sequence[Draft]], Deferred[PublishResult]]


@dataclass(frozen=True, slots=True)
class ParkedRun:
    """
    A run between two requests.

    Args:
        connection: of the last request.
        received: bytes of its requests so far.
        state: what receives the next one.
    """

    connection: object
    received: int
    state: Any


class LivePublisher:
    """
    The right of one run to publish to a channel.

    Args:
        channel: its name.
        run: names the publication.
        timeout: seconds without `touch` after which the run is lost.
        grace: seconds that its viewers wait for another publisher before the stream ends.
        now: the time (seconds).
        on_close: called once, when the right is lost or given back, with the reason.
        announce: called with what happens to the publisher.
        returns: whether viewers of an earlier run on this node wait for this one.

    Attributes:
        begun: whether its start was announced.
        shown: whether it has published frames; those of messages as they are have none.
        category: why it was lost.
        lost: fires with the reason when the run must stop publishing.
        closed: fires when the right is lost or given back.
    """

    def __init__(
        self,
        channel: str,
        run: str,
        timeout: float,
        grace: float,
        now: float,
        on_close: Callable[[LivePublisher, str], object],
        announce: Announce = announce_nothing,
        returns: bool = False,
    ) -> None:
        self.channel = channel
        self.run = run
        self.timeout = timeout
        self.grace = grace
        self.touched_at = now
        self.announce = announce
        self._returns = returns
        self.begun = False
        self.shown = False
        self.category = DisconnectReason.ENDED
        self.lost: Deferred[str] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.parked: ParkedRun | None = None  # see `park`
        self._on_close: Callable[[LivePublisher, str], object] | None = on_close

    def begin(self, continues: bool) -> None:
        """
        Announce the publisher, which *continues* a stream of another node, or does not.
        """
        self.begun = True
        returns = continues or self._returns
        state = PublisherState.RETURNED if returns else PublisherState.STARTED
        self.announce(self.channel, state, "")

    def touch(self, now: float) -> None:
        """
        Note that something was received from the publisher at *now* (seconds).
        """
        self.touched_at = now

    def lose(self, reason: str, category: DisconnectReason = DisconnectReason.ENDED) -> None:
        """
        Take the right back for *reason*, which is of a *category*.
        """
        if self._on_close is not None:
            self.category = category
            lost = self.lost
            self.close(reason)
            self.lost = lost
            lost.callback(reason)

    def close(self, reason: str = "the publisher has ended") -> None:
        """
        Give the right back for *reason*. `lost` does not fire any more.
        """
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            # What waits for it is freed now: viewers may wait for another publisher for long.
            self.lost = Deferred()
            on_close(self, reason)
            self.closed.callback(None)

    def park(self, run: ParkedRun) -> None:
        """
        Keep the right for another request, which goes on with *run*: see `Publishers.resume`.
        Until then any other publisher may take the channel.
        """
        self.parked = run


class Publishers:
    """
    The publishers of live streams that are connected to this node.

    Args:
        broker: grants channels among all nodes, if it provides `IClaims`; otherwise this node
            grants them.
        clock: the reactor.
        publish: publishes the end of a stream.
    """

    def __init__(self, broker: IBroker, clock: IReactorTime, publish: Publish) -> None:
        self._claims: IClaims = IClaims(broker, None) or LocalClaims()
        self._clock = clock
        self._publish = publish
        self._held: dict[str, tuple[LivePublisher, IClaim]] = {}
        self._claiming: set[str] = set()
        # Those that were lost, until the end of their streams.
        self._grace: dict[str, tuple[LivePublisher, IDelayedCall]] = {}

    def __len__(self) -> int:
        """
        Return the number of publishers on this node.
        """
        return len(self._held)

    def __contains__(self, channel: str) -> bool:
        """
        Return whether *channel* has a publisher on this node, or had one that may return.
        """
        return channel in self._held or channel in self._grace

    def channels(self) -> list[str]:
        """
        Return the channels whose frames are published on this node, or whose viewers wait for
        a publisher.
        """
        found = {**self._grace, **self._held}
        return [name for name, (publisher, _) in found.items() if publisher.shown]

    async def claim(
        self,
        channel: str,
        run: str,
        takeover: bool,
        timeout: float,
        grace: float,
        announce: Announce = announce_nothing,
    ) -> LivePublisher:
        """
        Return the right of *run* to publish to *channel*.

        Args:
            channel: its name.
            run: letters and digits, unique among all runs.
            takeover: end the run that publishes to the channel now, on any node.
            timeout: seconds after which a publisher that sends nothing is lost.
            grace: seconds that viewers wait for another publisher after this one.
            announce: called when this one is lost, and at the end of the stream.

        Raises:
            HttpError: 403, the channel has a publisher.
            Unavailable: the broker is away.
        """
        held = self._held.get(channel)
        parked = held is not None and held[0].parked is not None
        if channel in self._claiming or (held is not None and not takeover and not parked):
            raise _taken(channel)
        if held is not None:
            held[0].lose("another publisher has taken over")
        self._claiming.add(channel)
        try:
            claim: IClaim = await self._claims.claim(channel, run, takeover)
        except ClaimTaken:
            raise _taken(channel) from None
        finally:
            self._claiming.remove(channel)
        awaited = self._grace.pop(channel, None)
        if awaited is not None:
            awaited[1].cancel()
        now = self._clock.seconds()
        publisher = LivePublisher(
            channel, run, timeout, grace, now, self._on_close, announce, awaited is not None
        )
        self._held[channel] = publisher, claim
        claim.lost.addCallback(publisher.lose)
        return publisher

    def resume(self, channel: str, connection: object, start: int | None) -> Any:
        """
        Return the state of the run that a request goes on with; None if there is none.

        Args:
            channel: its name.
            connection: of the request.
            start: how many bytes precede those of the request in its stream, if it says so;
                otherwise the run must be one of the same connection.
        """
        held = self._held.get(channel)
        publisher = held[0] if held is not None else None
        if publisher is None or publisher.parked is None:
            return None
        run = publisher.parked
        if run.connection is not connection if start is None else run.received != start:
            return None
        publisher.parked = None
        publisher.touch(self._clock.seconds())
        return run.state

    async def check_free(self, channel: str) -> None:
        """
        Check that *channel* has no publisher, on any node.

        Raises:
            HttpError: 403, it has one.
            Unavailable: the broker is away.
        """
        if channel in self._held or channel in self._claiming:
            raise _taken(channel)
        if await self._claims.is_claimed(channel):
            raise _taken(channel)

    def check(self) -> None:
        """
        Take the channels of silent publishers back; called once per second.
        """
        now = self._clock.seconds()
        for publisher, _ in tuple(self._held.values()):
            if publisher.parked is not None and now - publisher.touched_at > PARK_SECONDS:
                publisher.close()
            elif now - publisher.touched_at > publisher.timeout:
                silence = f"nothing was received for {publisher.timeout:g} seconds"
                publisher.lose(silence, DisconnectReason.SILENT)

    def stop(self) -> None:
        """
        End all publishers: the daemon is stopping. Viewers on other nodes wait for another one.
        """
        for publisher, _ in tuple(self._held.values()):
            publisher.lose("the server is stopping", DisconnectReason.SHUTDOWN)
        for _, grace_end in self._grace.values():
            grace_end.cancel()
        self._grace.clear()

    def _on_close(self, publisher: LivePublisher, reason: str) -> None:
        _, claim = self._held.pop(publisher.channel)
        claim.release()
        grace_end = self._clock.callLater(publisher.grace, self._on_grace_end, publisher)
        self._grace[publisher.channel] = publisher, grace_end
        if publisher.begun:
            publisher.announce(publisher.channel, PublisherState.LOST, reason)

    def _on_grace_end(self, publisher: LivePublisher) -> None:
        del self._grace[publisher.channel]
        ensureDeferred(self._end(publisher)).addErrback(
            lambda failure: _log.failure("while ending a live stream", failure)
        )

    async def _end(self, publisher: LivePublisher) -> None:
        """
        End the stream of *publisher*, unless another node has a publisher now.
        """
        channel = publisher.channel
        if channel in self._held or channel in self._claiming:
            return
        try:
            claim: IClaim = await self._claims.claim(channel, secrets.token_hex(8), False)
            try:
                event, data = write(End(publisher.run))
                await self._publish([Draft(channel, data, event, transient=True)])
                publisher.announce(channel, PublisherState.ENDED, "")
            finally:
                claim.release()
        except (ClaimTaken, Unavailable):
            pass  # while the broker is away each node ends its own viewers


def _taken(channel: str) -> HttpError:
    return HttpError(403, f"the channel {channel!r} has a publisher")
