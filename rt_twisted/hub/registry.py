"""
The hubs of a daemon: its main hub, and one for each further server of a route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import HubLimits
from rt_twisted.model.retention import Retention


@dataclass(frozen=True, slots=True)
class FurtherHub:
    """
    The hub of a further server, whose broker is not started yet.

    Args:
        hub: its channels.
        start_broker: starts the broker, which then connects.
    """

    hub: Hub
    start_broker: Callable[[], None]


class HubRegistry:
    """
    All hubs, started and stopped together.

    The routes are built before it is certain that they are used: a reload may fail. So
    new hubs wait for `adopt`, and no connection is opened for those that are discarded.

    Args:
        main: for routes that name no server.
        build: make the hub of a server, from its address and its password ("" for the
            setting's); raise ValueError, with one sentence, for a server that is not valid.
    """

    def __init__(self, main: Hub, build: Callable[[str, str], FurtherHub]) -> None:
        self.main = main
        self._build = build
        self._hubs = {("", ""): main}
        self._built: dict[tuple[str, str], FurtherHub] = {}  # not adopted yet
        self._running = False

    def __iter__(self) -> Iterator[Hub]:
        """
        Iterate over all hubs that are adopted, the main hub first.
        """
        return iter(self._hubs.values())

    def for_server(self, server: str, password: str = "") -> Hub:
        """
        Return the hub of *server*; the same one for the same text and *password*.

        Raises:
            ValueError: see `build`.
        """
        key = (server, password)
        if key in self._hubs:
            return self._hubs[key]
        if key not in self._built:
            self._built[key] = self._build(server, password)
        return self._built[key].hub

    def adopt(self) -> None:
        """
        Start the brokers of the hubs that were built since the last call, and use them.
        """
        built, self._built = self._built, {}
        for key, further in built.items():
            self._hubs[key] = further.hub
            further.start_broker()
            if self._running:
                further.hub.start()

    def discard(self) -> None:
        """
        Forget the hubs that were built since the last `adopt`: their routes are not used.
        """
        self._built.clear()

    def start(self) -> None:
        """
        Start all hubs, and those that are adopted later.
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
