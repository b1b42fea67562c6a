"""
Websocket application that sends a live stream.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.live.viewing import Viewing
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.model.errors import HttpError

_log = Logger()
_CODES = {415: CloseCode.UNSUPPORTED, 503: CloseCode.TRY_LATER}


@implementer(IWebSocketApp)
class LiveApp:
    """
    Sends the stream of a channel when it can begin.

    The handshake is over before: browsers do not show a page why one was refused, and open
    one websocket of a host at a time. So a refusal is a close frame with the reason, 1003 for
    415 and 1013 for 503.

    Args:
        viewing: of the route. The websocket's format is its container in binary frames.
        channel: its name.
        announces: send the content type, with the codecs, as a text message first.
    """

    __slots__ = ("_announces", "_channel", "_found", "_viewing", "_websocket")

    def __init__(self, viewing: Viewing, channel: str, announces: bool) -> None:
        self._viewing = viewing
        self._channel = channel
        self._announces = announces
        self._websocket: Any = None
        self._found: Deferred[Any] | None = None

    def opened(self, websocket: Any) -> None:
        self._websocket = websocket
        self._found = self._viewing.content_type(self._channel)
        self._found.addCallbacks(self._on_found, self._on_refused)

    def message(self, data: bytes, binary: bool) -> None:
        self._websocket.close(CloseCode.UNSUPPORTED, "nothing can be published here")

    def closed(self, code: int, reason: str) -> None:
        self._websocket = None
        if self._found is not None:
            self._found.cancel()

    def _on_found(self, content_type: str) -> None:
        if self._websocket is None or not self._websocket.open:
            return
        if self._announces:
            self._websocket.send(content_type.encode())
        hub = self._viewing.context.hub
        hub.add_channels(self._websocket.subscriber, [self._channel], self._viewing.start)

    def _on_refused(self, failure: Failure) -> None:
        error = failure.value
        if self._websocket is None or isinstance(error, CancelledError):
            return
        if isinstance(error, HttpError):
            self._websocket.close(_CODES.get(error.status, CloseCode.POLICY), error.reason)
            return
        _log.failure("while a live stream began", failure)
        self._websocket.close(CloseCode.INTERNAL_ERROR, "internal error")
