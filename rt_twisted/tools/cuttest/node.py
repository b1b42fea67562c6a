"""
A server, and the proxy in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rt_twisted.tools.cuttest.proxy import CutMode, ProxiedConnection, Proxy
from rt_twisted.tools.load.target import Target


@dataclass(frozen=True, slots=True)
class Node:
    """
    A server with a proxy in front.

    Args:
        url: of its event streams, or where it accepts messages.
        proxy: in front of it.
    """

    url: str
    proxy: Proxy

    @classmethod
    def find(cls, reactor: Any, url: str, timeout: float, verify: bool) -> Node:
        """
        Resolve the server's host, and start a proxy for it.

        Raises:
            SetupError: the host is unknown.
        """
        target = Target.find(reactor, url, 1, timeout, verify)
        # The proxy passes bytes unchanged, so TLS is end to end.
        return cls(url, Proxy(reactor, replace(target, security=None)))

    def route(self, url: str, verify: bool = True) -> NodeRoute:
        """
        Return the route to *url*, of the same server, through the proxy.
        """
        real = self.proxy.target
        found = Target.find(self.proxy.reactor, url, 1, real.timeout, verify)
        return NodeRoute(self, url, replace(found, address="127.0.0.1", port=self.proxy.port))

    def cut(self, connection: Any, mode: CutMode, seconds: float, left: int) -> bool:
        """
        Cut a client's *connection*; see `ProxiedConnection.cut`.
        """
        link: ProxiedConnection | None = self.proxy.links.get(connection.getHost().port)
        if link is not None:
            return link.cut(mode, seconds, left)
        connection.abortConnection()  # the proxy has not accepted it yet
        return True


@dataclass(frozen=True, slots=True)
class NodeRoute:
    """
    A route of a node.

    Args:
        node: the server.
        url: of the route.
        target: through the proxy.
    """

    node: Node
    url: str
    target: Target
