"""
Revocations of tokens on all workers and nodes, by a channel of the broker that retains them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from rt_twisted.access.revocations import Revocation, Revocations, read_revocations
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.hub.watch import watch_channel
from rt_twisted.model.internal_channels import REVOKED
from rt_twisted.model.message import Draft, Message, Newest

REPEAT = 600.0  # seconds after which revocations are published again, so that they are retained
RESEND = 5.0  # the same, if that failed
EXCHANGE = 0.5  # the same at most, if others have less: until then another node may publish it


class RevocationReplication:
    """
    Publishes the revocations of this process, and merges those of the others.

    Args:
        hub: of the daemon.
        clock: the reactor.
        revocations: of this process.
        log_unsent: called with the failure to publish.
    """

    def __init__(
        self,
        hub: Hub,
        clock: Any,
        revocations: Revocations,
        log_unsent: Callable[[Failure], object],
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._revocations = revocations
        self._log_unsent = log_unsent
        self._watch: Subscriber | None = None
        self._missed = False  # revocations of other nodes, maybe
        self._unsent: IDelayedCall | None = None
        self._is_ahead = False  # of what was published last
        self._exchange: IDelayedCall | None = None
        self._repeat = LoopingCall(self._publish_revocations)
        self._repeat.clock = clock

    def start(self) -> None:
        """
        Read what the broker retains; until then `Revocations.ready` is false.
        """
        self._revocations.ready = False
        self._watch_revoked()
        self._repeat.start(REPEAT, now=False)

    def stop(self) -> None:
        """
        Publish and receive no more.
        """
        if self._repeat.running:
            self._repeat.stop()
        for call in (self._unsent, self._exchange):
            if call is not None:
                call.cancel()
        self._unsent = self._exchange = None
        self._end_watch()

    def revoke(self, entry: Revocation) -> None:
        """
        Revoke tokens, or undo that, on all nodes.
        """
        self._apply([self._revocations.supersede(entry)])
        self._publish_revocations()

    def _watch_revoked(self) -> None:
        self._watch = watch_channel(
            self._hub, REVOKED, self._on_message, Newest(1), self._on_replay, self._on_gap
        )

    def _end_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and not watch.closed:
            watch.detach(DisconnectReason.ENDED)

    def _on_gap(self) -> None:
        if not self._missed:
            self._missed = True
            self._clock.callLater(0, self._watch_again)

    def _watch_again(self) -> None:
        """
        Read what the broker retains: revocations were published while it was away, maybe.
        """
        if self._watch is not None:
            self._end_watch()
            self._watch_revoked()

    def _on_message(self, message: Message) -> None:
        # Not now: a flush is in progress.
        self._clock.callLater(0, self._on_revoked, message.data)

    def _on_replay(self, messages: Sequence[Message]) -> None:
        self._clock.callLater(0, self._on_start, [message.data for message in messages])

    def _on_start(self, messages: Sequence[bytes]) -> None:
        self._revocations.ready = True
        missed, self._missed = self._missed, False
        for data in messages:
            self._on_revoked(data)
        if missed and not messages:  # nothing is retained: nodes that have more publish it
            self._send()

    def _on_revoked(self, data: bytes) -> None:
        received = read_revocations(data)
        self._apply(received)
        # Of two nodes that revoke at the same time, one publishes what both have. Not at once:
        # this may be one of many that a node publishes, whose last one has all.
        self._is_ahead = self._revocations.is_ahead_of(received)
        if self._is_ahead and self._exchange is None and self._repeat.running:
            delay = random.uniform(EXCHANGE / 5, EXCHANGE)
            self._exchange = self._clock.callLater(delay, self._publish_missing)

    def _publish_missing(self) -> None:
        self._exchange = None
        if self._is_ahead:
            self._publish_revocations()

    def _apply(self, entries: Sequence[Revocation]) -> None:
        changed = [entry for entry in self._revocations.merge(entries) if not entry.removed]
        self._hub.metrics.revocations = len(self._revocations)
        if changed:
            self._hub.holders.end_all(lambda grant: any(one.covers(grant) for one in changed))

    def _publish_revocations(self) -> None:
        if self._revocations.has_entries:
            self._send()

    def _send(self) -> None:
        published = self._hub.publish([Draft(REVOKED, self._revocations.encode())])
        published.addErrback(self._on_unsent)

    def _on_unsent(self, failure: Failure) -> None:
        """
        Publish again, soon, until the broker accepts it.
        """
        if self._unsent is None and self._repeat.running:
            self._log_unsent(failure)
            self._unsent = self._clock.callLater(RESEND, self._send_again)

    def _send_again(self) -> None:
        self._unsent = None
        self._publish_revocations()
