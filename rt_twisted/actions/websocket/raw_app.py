"""
Websocket application in which one frame is one message, as in uwsgi-realtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.publish import fitting, publish_error
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft

_CODES = {413: CloseCode.TOO_BIG, 503: CloseCode.TRY_LATER}  # by status; others are POLICY


@implementer(IWebSocketApp)
class RawApp:
    """
    Publishes each message of the client.

    Args:
        context: the daemon.
        channels: to publish to; a client that sends to a route without any is disconnected.
        prefix: is put before each message.
        suffix: is put after each message.
        address: of the client.
    """

    __slots__ = ("_address", "_channels", "_context", "_prefix", "_suffix", "_websocket")

    def __init__(
        self,
        context: ActionContext,
        channels: Sequence[str],
        prefix: bytes = b"",
        suffix: bytes = b"",
        address: str = "",
    ) -> None:
        self._context = context
        self._channels = channels
        self._prefix = prefix
        self._suffix = suffix
        self._address = address
        self._websocket: Any = None

    def opened(self, websocket: Any) -> None:
        self._websocket = websocket

    def message(self, data: bytes, binary: bool) -> None:
        websocket = self._websocket
        if not self._channels:
            websocket.close(CloseCode.UNSUPPORTED, "nothing can be published here")
            return
        if self._prefix or self._suffix:
            data = self._prefix + data + self._suffix
        try:
            data = fitting(self._context, data)
            rate, count = self._context.publish_rate, len(self._channels)
            rate.consume(websocket.grant, self._address, count)
        except HttpError as error:
            self._close(error)
            return
        published = websocket.publish([Draft(channel, data) for channel in self._channels])
        if isinstance(published, Deferred):
            published.addErrback(self._on_publish_failed)

    def closed(self, code: int, reason: str) -> None:
        self._websocket = None

    def _on_publish_failed(self, failure: Failure) -> None:
        self._close(publish_error(failure))

    def _close(self, error: HttpError) -> None:
        # A raw route has no error frame; without the close the client would not notice.
        if self._websocket is not None:
            self._websocket.close(_CODES.get(error.status, CloseCode.POLICY), error.reason)
