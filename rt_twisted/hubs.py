"""
The daemon's own hub, and one for each further server that a route names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rt_twisted.history import Keep
from rt_twisted.hub import Hub, Limits


class Hubs:
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

    def at(self, server: str) -> Hub:
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

    def adopt(self, keep: Keep, limits: Limits) -> None:
        """
        See `Hub.adopt`.
        """
        for hub in self:
            hub.adopt(keep, limits)

    @property
    def readers(self) -> int:
        """
        How many are connected.
        """
        return sum([hub.readers for hub in self])

    def stop(self, retry: int) -> None:
        """
        See `Hub.stop`.
        """
        for hub in self:
            hub.stop(retry)
