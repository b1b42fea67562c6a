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
        self._repeat = LoopingCall(self._publish_revocations)
        self._repeat.clock = clock

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self.revocations.ready = False
        self._watches.append(
            watch_channel(self._hub, REVOKED, self._on_message, Newest(1), self._on_replay)
        )
        if not self._alone:
            self._watches.append(watch_channel(self._hub, ACTS, self._bus.receive))
        self._repeat.start(REPEAT, now=False)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._repeat.running:
            self._repeat.stop()
        for watch in self._watches:
            if not watch.closed:
                watch.detach(DisconnectReason.ENDED)
        self._watches.clear()

    # Revocations.

    def revoke(self, entry: Revocation) -> None:
        """
        Revoke tokens, or undo that, on all nodes.
        """
        self._apply([entry])
        self._publish_revocations()

    def _on_message(self, message: Message) -> None:
        # Not now: a flush is in progress.
        self._clock.callLater(0, self._on_revoked, message.data)

    def _on_replay(self, messages: Sequence[Message]) -> None:
        self._clock.callLater(0, self._on_start, [message.data for message in messages])

    def _on_start(self, messages: Sequence[bytes]) -> None:
        self.revocations.ready = True
        for data in messages:
            self._apply(read_revocations(data))

    def _on_revoked(self, data: bytes) -> None:
        received = read_revocations(data)
        self._apply(received)
        # Of two nodes that revoke at the same time, each publishes what both have.
        known = {entry.key: entry for entry in received}
        if any(known.get(one.key) is None for one in self.revocations.current()):
            self._publish_revocations()

    def _apply(self, entries: Sequence[Revocation]) -> None:
        changed = [entry for entry in self.revocations.merge(entries) if not entry.removed]
        self._hub.metrics.revocations = len(self.revocations)
        if changed:
            self._hub.holders.end_all(lambda grant: any(one.covers(grant) for one in changed))

    def _publish_revocations(self) -> None:
        if self.revocations.has_entries:
            published = self._hub.publish([Draft(REVOKED, self.revocations.encode())])
            published.addErrback(_log_unsent)

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
