"""
Requests about live streams to the other processes that share a broker: workers and nodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.peer_bus import PeerBus, Responder
from rt_twisted.hub.peer_table import PeerTable
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.hub.watch import watch_channel
from rt_twisted.model.internal_channels import LIVE

ANNOUNCE: Final = 1.0  # seconds between two announcements of a process
GONE: Final = 3.5  # seconds without one, after which replies of a process are not awaited
KEPT: Final = 1.0  # seconds for which the replies to a request are used again


class LivePeers(MultiService):
    """
    The other processes with something that others request, and what they reply.

    A process announces itself each second while it has that. One that has nothing, and never
    requests anything, sends and receives nothing.

    Args:
        hub: whose broker all processes share.
        clock: the reactor.
    """

    def __init__(self, hub: Hub, clock: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self.hub = hub
        self._clock = clock
        self._watch: Subscriber | None = None
        self._since = 0.0  # when the watch began
        self._others: PeerTable[None] = PeerTable(clock.seconds, GONE)
        self._bus = PeerBus(LIVE, hub.publish, clock, self._on_announced)
        self._present: list[Callable[[], object]] = []
        self._kept: dict[tuple[str, str], tuple[float, Sequence[Any]]] = {}
        self._asking: dict[tuple[str, str], list[Deferred[Sequence[Any]]]] = {}
        self._further: dict[Hub, LivePeers] = {}
        self._loop = LoopingCall(self.announce)
        self._loop.clock = clock

    def of_hub(self, hub: Hub) -> LivePeers:
        """
        Return the same for *hub*, which may be that of a further server.
        """
        if hub is self.hub:
            return self
        if hub not in self._further:
            self._further[hub] = LivePeers(hub, self._clock)
            self._further[hub].setServiceParent(self)  # type: ignore[no-untyped-call]  # Twisted's
        return self._further[hub]

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # as above
        self._loop.start(ANNOUNCE, now=False)

    def stopService(self) -> Any:
        if self._loop.running:
            self._loop.stop()
        if self._watch is not None and not self._watch.closed:
            self._watch.detach(DisconnectReason.ENDED)
        return super().stopService()  # type: ignore[no-untyped-call]  # as above

    def on_request(
        self, name: str, responder: Responder, present: Callable[[], object] | None = None
    ) -> None:
        """
        Reply to the requests *name* of other processes.

        Args:
            name: of the request.
            responder: see `PeerBus.on_request`.
            present: returns whether this process has anything that others can request.
        """
        self._bus.on_request(name, responder)
        if present is not None:
            self._present.append(present)

    def announce(self) -> None:
        """
        Have the others await replies of this process from now on, if it has anything.
        """
        if not any(present() for present in self._present):
            return
        self._watch_others()
        if not self.hub.why_not_ready():
            self._bus.announce({})

    async def request(self, name: str, **arguments: str) -> Sequence[Any]:
        """
        Return what all other processes reply to the request *name*, as they are now.

        While the broker is away, there are no replies.
        """
        if self.hub.why_not_ready() or self._bus.is_full:
            return []
        self._watch_others()
        subscribed = self.hub.when_subscribed([LIVE])
        if subscribed is not None:
            await subscribed
        others = self._others.current()
        # Until all have announced themselves, the others are not known.
        is_new = self._clock.seconds() - self._since < 2 * ANNOUNCE
        if not others and not is_new:
            return []
        return await self._bus.request(name, arguments, None if is_new else others.keys())

    async def request_shared(self, name: str, **arguments: str) -> Sequence[Any]:
        """
        Return what `request` returns, or has returned in the last second.

        However many clients ask, this process sends one such request at a time.
        """
        key = name, json.dumps(arguments, sort_keys=True)
        now = self._clock.seconds()
        self._kept = {one: kept for one, kept in self._kept.items() if now - kept[0] < KEPT}
        if key in self._kept:
            return self._kept[key][1]
        waiting = self._asking.get(key)
        if waiting is not None:
            shared: Deferred[Sequence[Any]] = Deferred()
            waiting.append(shared)
            return await shared
        waiting = self._asking[key] = []
        found: Sequence[Any] = []
        try:
            found = await self.request(name, **arguments)
            self._kept[key] = self._clock.seconds(), found
        finally:
            del self._asking[key]
            for one in waiting:
                one.callback(found)
        return found

    def _watch_others(self) -> None:
        if self._watch is None:
            self._since = self._clock.seconds()
            self._watch = watch_channel(self.hub, LIVE, self._bus.receive)

    def _on_announced(self, node: str, _: object) -> None:
        self._others.put(node, None)
