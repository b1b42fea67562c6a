"""
The websocket transport of an Engine.IO session.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.actions.engineio.session import Session
from rt_twisted.actions.engineio.transport import WEBSOCKET
from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.message import Draft, PublishResult


@implementer(IWebSocketApp)
class WebSocketTransport:
    """
    A websocket which carries the packets of a session, or is proposed for that.

    Args:
        session: new, or polling.
    """

    __slots__ = ("_session", "_websocket", "framing", "subscriber")

    name = WEBSOCKET

    def __init__(self, session: Session) -> None:
        self.framing: Framing
        self.subscriber: Subscriber
        self._session = session
        self._websocket: WebSocket

    def opened(self, websocket: WebSocket) -> None:
        self.framing = self._session.websocket_framing(websocket.handshake)
        self.subscriber = websocket.subscriber
        self._websocket = websocket
        self._session.websocket_opened(self)

    def message(self, data: bytes, binary: bool) -> None:
        self._session.websocket_message(self, data, binary)

    def closed(self, code: int, reason: str) -> None:
        self._session.websocket_closed(self)
        del self._session  # a reference cycle

    def write(self, frames: bytes) -> None:
        self._websocket.write(frames)

    def publish(self, drafts: Sequence[Draft]) -> PublishResult | Deferred[PublishResult]:
        return self._websocket.publish(drafts)

    def close(
        self,
        cause: DisconnectReason,
        last: bytes = b"",
        code: CloseCode = CloseCode.NORMAL,
        reason: str = "",
    ) -> None:
        expired = cause is DisconnectReason.EXPIRED
        self._websocket.end(code, reason, cause if expired else DisconnectReason.ENDED)
