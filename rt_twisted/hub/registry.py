"""
The daemon's own hub, and one for each further server that a route names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import HubLimits
from rt_twisted.model.retention import Retention


class HubRegistry:
    """
    All of them, started and stopped together.

    Args:
        main: for routes that name no server.
        build: makes the hub of a server, and has its broker started; raises
            ValueError, with one sentence, for one that cannot be.
    """

    def __init__(self, main: Hub, build: Callable[[str], Hub]) -> None:
        self.main = main
        self._build = build
        self._hubs = {"": main}
        self._running = False

    def __iter__(self) -> Iterator[Hub]:
        """
        Each of them, the daemon's own first.
        """
        return iter(self._hubs.values())

    def for_server(self, server: str) -> Hub:
        """
        The hub of *server*; the same for the same words.

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
        See `Hub.start`.
        """
        self._running = True
        for hub in self:
            hub.start()

    def reconfigure(self, retention: Retention, limits: HubLimits) -> None:
        """
        See `Hub.adopt`.
        """
        for hub in self:
            hub.reconfigure(retention, limits)

    @property
    def subscribers(self) -> int:
        """
        How many are connected.
        """
        return sum([hub.subscribers for hub in self])

    def stop(self, retry: int) -> None:
        """
        See `Hub.stop`.
        """
        for hub in self:
            hub.stop(retry)
