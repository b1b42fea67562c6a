"""
Actions of built-in routes that are built when they are first used.

Most daemons use a few of them, and all would take several MiB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from rt_twisted.http.interfaces import IPortProtocol
from rt_twisted.http.stream_handle import PeerInfo, StreamHandle

Recognize = Callable[[bytes], bool | None]  # as `IPortProtocol.matches`


class LazyAction:
    """
    An action that is built with the first request that reaches its line.

    The action must not be a service (`IService`): it would not be started.

    Args:
        word: of its line.
        build: returns the action. It raises HttpError if a package of the action was replaced
            on disk since the start.
    """

    def __init__(self, word: str, build: Callable[[], Any]) -> None:
        self.word = word
        self._build = build
        self._action: Any = None

    def action(self) -> Any:
        """
        Return the action; build it with the first call.
        """
        if self._action is None:
            self._action = self._build()
        return self._action


@implementer(IPortProtocol)
class LazyPortProtocol:
    """
    Connections that are not HTTP, for a `LazyAction`.

    Args:
        lazy: its action provides `IPortProtocol`.
        recognize: returns whether bytes are the first ones of such a connection.
    """

    def __init__(self, lazy: LazyAction, recognize: Recognize) -> None:
        self._lazy = lazy
        self._recognize = recognize

    def matches(self, start: bytes) -> bool | None:
        return self._recognize(start)

    def accept(self, connection: StreamHandle, peer: PeerInfo) -> None:
        self._lazy.action().accept(connection, peer)


def built(action: Any) -> Any:
    """
    Return *action*; if it is a `LazyAction`, what that builds.
    """
    return action.action() if type(action) is LazyAction else action
