"""
Carries administrative acts to all workers and nodes, by a channel of the broker.

No client can name the channel, and no pattern of a route matches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.access.revocations import Revocation, Revocations
from rt_twisted.actions.admin.acts import NAMES, Acts
from rt_twisted.actions.admin.revocation_replication import RevocationReplication
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.peer_bus import PeerBus
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.hub.watch import watch_channel
from rt_twisted.model.errors import HttpError
from rt_twisted.model.internal_channels import ACTS
from rt_twisted.net.slices import run_in_slices

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
        self._bus = PeerBus(ACTS, hub.publish, clock, on_unsent=log_unsent)
        self._acts = Acts(hub, self._bus.node)
        for act in NAMES:
            self._bus.on_request(act, partial(self._run, act))
        self.revocations = revocations
        self._hub = hub
        self._clock = clock
        self._alone = alone
        self._replication = RevocationReplication(hub, clock, revocations, log_unsent)
        self._watch: Subscriber | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self._replication.start()
        if not self._alone:
            self._watch = watch_channel(self._hub, ACTS, self._bus.receive)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        self._replication.stop()
        if self._watch is not None and not self._watch.closed:
            self._watch.detach(DisconnectReason.ENDED)

    def revoke(self, entry: Revocation) -> None:
        """
        Revoke tokens, or undo that, on all nodes.
        """
        self._replication.revoke(entry)

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


def log_unsent(failure: Failure) -> None:
    """
    Log that the broker has not accepted what other nodes should get.
    """
    _log.warn(
        "an administrative act did not reach the other nodes: {reason}",
        reason=failure.getErrorMessage(),
    )
