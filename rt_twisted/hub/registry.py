"""
The hubs of a daemon: its main hub, and one for each further server of a route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import HubLimits
from rt_twisted.model.retention import Retention


class HubRegistry:
    """
    All hubs, started and stopped together.

    Args:
        main: for routes that name no server.
        build: make the hub of a server and start its broker; raise ValueError, with
            one sentence, for a server that is not valid.
    """

    def __init__(self, main: Hub, build: Callable[[str], Hub]) -> None:
        self.main = main
        self._build = build
        self._hubs = {"": main}
        self._running = False

    def __iter__(self) -> Iterator[Hub]:
        """
        Iterate over all hubs, the main hub first.
        """
        return iter(self._hubs.values())

    def for_server(self, server: str) -> Hub:
        """
        Return the hub of *server*; the same one for the same text.

        Raises:
            ValueError: see `build`.
        """
        hub = self._hubs.get(server)
        if hub is None:
            hub = self._hubs[server] = self._build(server)
            if self._running:
                hub.start()
        return hub

    def start(self) -> None:
        """
        Start all hubs, and those that are added later.
        """
        self._running = True
        for hub in self:
            hub.start()

    def reconfigure(self, retention: Retention, limits: HubLimits) -> None:
        """
        Reconfigure all hubs; see `Hub.reconfigure`.
        """
        for hub in self:
            hub.reconfigure(retention, limits)

    @property
    def subscribers(self) -> int:
        """
        Return the number of connected subscribers.
        """
        return sum([hub.subscribers for hub in self])

    def stop(self, retry: int) -> None:
        """
        Stop all hubs; see `Hub.stop`.
        """
        for hub in self:
            hub.stop(retry)
