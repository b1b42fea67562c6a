"""
A websocket that a session of Engine.IO speaks by, or may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from rt_twisted.actions.engineio.session import Session
from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.websocket.connection import WebSocket


@implementer(IWebSocketApp)
class WebSocketTransport:
    """
    A websocket's conversation: packets of a session.

    Args:
        session: which.
        begin: what its websocket is for: `Session.open_socket` or `.propose`, of
            the class: a bound method each would be remembered as long.
    """

    __slots__ = ("_begin", "_session", "_websocket")

    def __init__(self, session: Session, begin: Callable[[Session, WebSocket], None]) -> None:
        self._session = session
        self._begin = begin
        self._websocket: Any = None

    def opened(self, websocket: WebSocket) -> None:
        """
        See `IConversation`.
        """
        self._websocket = websocket
        self._begin(self._session, websocket)

    def message(self, data: bytes, binary: bool) -> None:
        """
        See `IConversation`.
        """
        self._session.said(self._websocket, data, binary)

    def closed(self, code: int, reason: str) -> None:
        """
        See `IConversation`.
        """
        self._session.lost(self._websocket)
