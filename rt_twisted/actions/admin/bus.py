"""
Carries administrative acts and revocations to all workers and nodes, by channels of the broker.

No client can name these channels, and no pattern of a route matches them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.access.revocations import Revocation, Revocations, read_revocations
from rt_twisted.actions.admin.acts import NAMES, Acts
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.peer_bus import PeerBus
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.hub.watch import watch_channel
from rt_twisted.model.errors import HttpError
from rt_twisted.model.internal_channels import ACTS, REVOKED
from rt_twisted.model.message import Draft, Message, Newest
from rt_twisted.net.slices import run_in_slices

REPEAT = 600.0  # seconds after which revocations are published again, so that they are retained
RESEND = 5.0  # the same, if that failed

_log = Logger()


class AdminBus(Service):
    """
    The acts of a process, and those of all others.

    Args:
        hub: of the daemon.
        clock: the reactor.
        revocations: of this process.
        alone: whether there are no other processes.
    """

    def __init__(self, hub: Hub, clock: Any, revocations: Revocations, alone: bool) -> None:
        self._bus = PeerBus(ACTS, hub.publish, clock, on_unsent=_log_unsent)
        self._acts = Acts(hub, self._bus.node)
        for act in NAMES:
            self._bus.on_request(act, partial(self._run, act))
        self.revocations = revocations
        self._hub = hub
        self._clock = clock
        self._alone = alone
        self._watches: list[Subscriber] = []
        self._missed = False  # revocations of other nodes, maybe
        self._unsent: IDelayedCall | None = None
        self._repeat = LoopingCall(self._publish_revocations)
        self._repeat.clock = clock

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self.revocations.ready = False
        self._watch_revoked()
        if not self._alone:
            self._watches.append(watch_channel(self._hub, ACTS, self._bus.receive))
        self._repeat.start(REPEAT, now=False)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._repeat.running:
            self._repeat.stop()
        if self._unsent is not None:
            self._unsent.cancel()
            self._unsent = None
        for watch in self._watches:
            if not watch.closed:
                watch.detach(DisconnectReason.ENDED)
        self._watches.clear()

    # Revocations.

    def revoke(self, entry: Revocation) -> None:
        """
        Revoke tokens, or undo that, on all nodes.
        """
        self._apply([self.revocations.supersede(entry)])
        self._publish_revocations()

    def _watch_revoked(self) -> None:
        self._watches.insert(
            0,
            watch_channel(
                self._hub, REVOKED, self._on_message, Newest(1), self._on_replay, self._on_gap
            ),
        )

    def _on_gap(self) -> None:
        if not self._missed:
            self._missed = True
            self._clock.callLater(0, self._watch_again)

    def _watch_again(self) -> None:
        """
        Read what the broker retains: revocations were published while it was away, maybe.
        """
        if self._watches:
            self._watches.pop(0).detach(DisconnectReason.ENDED)
            self._watch_revoked()

    def _on_message(self, message: Message) -> None:
        # Not now: a flush is in progress.
        self._clock.callLater(0, self._on_revoked, message.data)

    def _on_replay(self, messages: Sequence[Message]) -> None:
        self._clock.callLater(0, self._on_start, [message.data for message in messages])

    def _on_start(self, messages: Sequence[bytes]) -> None:
        self.revocations.ready = True
        missed, self._missed = self._missed, False
        for data in messages:
            self._on_revoked(data)
        if missed and not messages:  # nothing is retained: nodes that have more publish it
            self._send()

    def _on_revoked(self, data: bytes) -> None:
        received = read_revocations(data)
        self._apply(received)
        # Of two nodes that revoke at the same time, each publishes what both have.
        if self.revocations.is_ahead_of(received):
            self._publish_revocations()

    def _apply(self, entries: Sequence[Revocation]) -> None:
        changed = [entry for entry in self.revocations.merge(entries) if not entry.removed]
        self._hub.metrics.revocations = len(self.revocations)
        if changed:
            self._hub.holders.end_all(lambda grant: any(one.covers(grant) for one in changed))

    def _publish_revocations(self) -> None:
        if self.revocations.has_entries:
            self._send()

    def _send(self) -> None:
        published = self._hub.publish([Draft(REVOKED, self.revocations.encode())])
        published.addErrback(self._on_unsent)

    def _on_unsent(self, failure: Failure) -> None:
        """
        Publish again, soon, until the broker accepts it.
        """
        if self._unsent is None and self.running:
            _log_unsent(failure)
            self._unsent = self._clock.callLater(RESEND, self._send_again)

    def _send_again(self) -> None:
        self._unsent = None
        self._publish_revocations()

    # Acts.

    def request(self, act: str, filters: Mapping[str, str]) -> Deferred[list[dict[str, Any]]]:
        """
        Execute *act* on all workers and nodes; see `Acts.run`.

        Returns:
            The results of all that reply in REPLY_SECONDS. Fails with HttpError.
        """
        if self._alone:
            return self._run(act, filters)
        if self._bus.is_full:
            raise HttpError(503, "too many administrative requests at once", retry=1)
        others = self._bus.request(act, filters)

        def add_others(found: list[dict[str, Any]]) -> Deferred[list[dict[str, Any]]]:
            return others.addCallback(
                lambda replied: found + [one for one in replied if type(one) is dict]
            )

        return self._run(act, filters).addCallback(add_others)

    def forget(self, channel: str) -> Deferred[Any]:
        """
        Delete the retained messages of *channel* on all workers and nodes; their subscribers
        get a gap.

        Returns:
            Fires when all have been notified. Fails as `BrokerCapabilities.forget` does.
        """
        deleted: Deferred[Any] = self._hub.capabilities.forget(channel)
        return deleted.addCallback(lambda _: self.request("forget", {"channel": channel}))

    def _run(self, act: str, filters: Mapping[str, str]) -> Deferred[list[dict[str, Any]]]:
        return run_in_slices(self._clock, self._acts.run(act, filters))


def _log_unsent(failure: Failure) -> None:
    _log.warn(
        "an administrative act did not reach the other nodes: {reason}",
        reason=failure.getErrorMessage(),
    )
