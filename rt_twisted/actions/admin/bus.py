"""
Carries administrative acts and revocations to all workers and nodes, by channels of the broker.

No client can name these channels, and no pattern of a route matches them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.access.revocations import Revocation, Revocations, read_revocations
from rt_twisted.actions.admin.acts import Acts, to_json
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.hub.watch import OnMessage, watch_channel
from rt_twisted.model.errors import HttpError
from rt_twisted.model.internal_channels import ACTS, REVOKED
from rt_twisted.model.message import Draft, Message, Newest
from rt_twisted.net.slices import run_in_slices

ANSWER_SECONDS = 0.6  # for which answers of other processes are collected
REPEAT = 600.0  # seconds after which revocations are published again, so that they are retained
MAX_WAITING = 100  # acts at once
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError, HttpError)

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
        self.node = secrets.token_hex(4)
        self.acts = Acts(hub, self.node)
        self.revocations = revocations
        self._hub = hub
        self._clock = clock
        self._alone = alone
        self._watches: list[Subscriber] = []
        self._number = 0
        self._waiting: dict[int, list[dict[str, Any]]] = {}
        self._repeat = LoopingCall(self._publish_revocations)
        self._repeat.clock = clock

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self.revocations.ready = False
        on_revoked = self._later(self._on_revoked)
        self._watches.append(
            watch_channel(self._hub, REVOKED, on_revoked, Newest(1), self._on_replay)
        )
        if not self._alone:
            self._watches.append(watch_channel(self._hub, ACTS, self._later(self._on_act)))
        self._repeat.start(REPEAT, now=False)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._repeat.running:
            self._repeat.stop()
        for watch in self._watches:
            if not watch.closed:
                watch.detach(DisconnectReason.ENDED)
        self._watches.clear()

    def _later(self, function: Callable[[bytes], object]) -> OnMessage:
        """
        Return what calls *function* with the data of a message, when the hub has sent it.
        """
        return lambda message: self._clock.callLater(0, function, message.data)

    # Revocations.

    def revoke(self, entry: Revocation) -> None:
        """
        Revoke tokens, or undo that, on all nodes.
        """
        self._apply([entry])
        self._publish_revocations()

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
            self._publish(REVOKED, self.revocations.encode(), False)

    # Acts.

    def request(self, act: str, filters: Mapping[str, str]) -> Deferred[list[dict[str, Any]]]:
        """
        Execute *act* on all workers and nodes; see `Acts.run`.

        Returns:
            The results of all that answer in ANSWER_SECONDS. Fails with HttpError.
        """
        if self._alone:
            return run_in_slices(self._clock, self.acts.run(act, filters))
        if len(self._waiting) >= MAX_WAITING:
            raise HttpError(503, "too many administrative requests at once", retry=1)
        self._number += 1
        number = self._number
        others = self._waiting[number] = []
        asked = {"node": self.node, "id": number, "act": act, "filters": dict(filters)}
        self._publish(ACTS, json.dumps(asked).encode(), True)
        in_time: Deferred[None] = Deferred()
        self._clock.callLater(ANSWER_SECONDS, in_time.callback, None)

        def end(result: Any) -> Any:
            self._waiting.pop(number)
            return result

        own = run_in_slices(self._clock, self.acts.run(act, filters))
        own.addCallback(lambda found: in_time.addCallback(lambda _: found + others))
        return own.addBoth(end)

    def forget(self, channel: str) -> Deferred[Any]:
        """
        Delete the retained messages of *channel* on all workers and nodes; their subscribers
        get a gap.

        Returns:
            Fires when all have been notified. Fails as `Hub.forget` does.
        """
        deleted: Deferred[Any] = self._hub.forget(channel)
        return deleted.addCallback(lambda _: self.request("forget", {"channel": channel}))

    def _on_act(self, data: bytes) -> None:
        try:
            value = json.loads(data)
            node, number = value["node"], value["id"]
            if value.get("to") == self.node and number in self._waiting:
                self._waiting[number] += [one for one in value["found"] if type(one) is dict]
            elif "to" not in value and node != self.node:
                filters = {str(name): str(text) for name, text in value["filters"].items()}
                steps = self._answer(str(value["act"]), filters, node, number)
                run_in_slices(self._clock, steps).addErrback(self._on_malformed)
        except MALFORMED:
            self._on_malformed()

    def _answer(
        self, act: str, filters: Mapping[str, str], node: object, number: object
    ) -> Generator[None, None, None]:
        found = yield from self.acts.run(act, filters)
        head = json.dumps({"node": self.node, "to": node, "id": number})
        listed = yield from to_json(found)
        self._publish(ACTS, f'{head[:-1]}, "found": {listed}}}'.encode(), True)

    def _on_malformed(self, failure: Failure | None = None) -> None:
        if failure is not None:
            failure.trap(*MALFORMED)
        _log.debug("a malformed message on the channel of administrative acts is ignored")

    def _publish(self, channel: str, data: bytes, transient: bool) -> None:
        published = self._hub.publish([Draft(channel, data, transient=transient)])
        published.addErrback(
            lambda failure: _log.warn(
                "an administrative act did not reach the other nodes: {reason}",
                reason=failure.getErrorMessage(),
            )
        )
