"""
A request body that is one JPEG picture: published as a plain message.
"""

from __future__ import annotations

from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.publish import publish_error
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.interfaces import IBodySink, IExchange
from rt_twisted.media.jpeg import JpegReader
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft


@implementer(IBodySink)
class OnePicture:
    """
    Receives one picture and publishes it.

    Args:
        context: the hub and the settings.
        exchange: answered when the picture is published, or refused.
        channel: where it is published.
    """

    def __init__(self, context: ActionContext, exchange: IExchange, channel: str) -> None:
        self._context = context
        self._exchange = exchange
        self._channel = channel
        self._reader = JpegReader()
        self._pictures: list[bytes] = []
        self._closed = False
        self._reserved = context.inbound.open(self)

    def data(self, piece: bytes) -> None:
        if self._closed:
            return
        try:
            self._pictures += self._reader.feed(piece)
        except RemoteProtocolError as error:
            self._refuse(HttpError(400, error.reason))
            return
        if len(self._pictures) > 1:
            self._refuse(HttpError(400, "more than one picture: send a stream without a length"))
            return
        self._reserved.grow(len(piece))

    def end(self) -> None:
        if self._closed:
            return
        self._close()
        if not self._pictures:
            self._exchange.refuse(HttpError(400, "JPEG: the picture is truncated"))
            return
        self._context.publish_stream([Draft(self._channel, self._pictures[0])]).addCallbacks(
            self._on_published, self._on_failed
        )

    def lost(self, reason: Exception) -> None:
        self._close()

    def pause_input(self) -> None:
        self._exchange.pause()

    def resume_input(self) -> None:
        self._exchange.resume()

    def drop_input(self) -> None:
        self._refuse(HttpError(503, "too many bodies at once", retry=2))

    def _on_published(self, _: object) -> None:
        self._exchange.answer(200, b'{"status": "ok"}\n', "application/json")

    def _on_failed(self, failure: Failure) -> None:
        self._exchange.refuse(publish_error(failure))

    def _refuse(self, error: HttpError) -> None:
        if not self._closed:
            self._close()
            self._exchange.refuse(error)

    def _close(self) -> None:
        self._closed = True
        self._reserved.close()
