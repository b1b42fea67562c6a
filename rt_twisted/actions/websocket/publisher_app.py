"""
Websocket application that publishes a live stream, as a page does with a MediaRecorder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.ingest.intake import LiveIntake, PublisherExchange
from rt_twisted.actions.ingest.publishing import Publishing, PublishPermit
from rt_twisted.actions.interfaces import IWebSocketApp, Match
from rt_twisted.actions.subscription import when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.codecs.websocket import CloseCode, WebSocketHandshake
from rt_twisted.formats import build_format
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import PUBLISHES, count_refusal
from rt_twisted.model.errors import HttpError

_log = Logger()
_CODES = {  # by status; others are POLICY
    400: CloseCode.UNSUPPORTED,
    413: CloseCode.TOO_BIG,
    500: CloseCode.INTERNAL_ERROR,
    503: CloseCode.TRY_LATER,
}

# Begins a run for the client of an exchange; fails with HttpError.
Begin = Callable[[PublisherExchange], Awaitable[LiveIntake]]


@implementer(IWebSocketApp)
class PublisherApp:
    """
    Passes the messages of a client to a live stream, as an HTTP body in chunks.

    A refusal is a close frame with the reason: browsers do not show a page why a handshake was
    refused. A client that closes the websocket ends its publication.

    Args:
        begin: claims the channel when the websocket is open.

    Attributes:
        answered: whether the client was refused, or has left before it could publish.
    """

    __slots__ = ("_begin", "_begun", "_intake", "_websocket", "answered")

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._begun: Deferred[Any] | None = None
        self._intake: LiveIntake | None = None
        self._websocket: Any = None
        self.answered = False

    # For `IWebSocketApp`.

    def opened(self, websocket: Any) -> None:
        self._websocket = websocket
        websocket.pause_reading()
        self._begun = ensureDeferred(self._begin(self))  # type: ignore[arg-type]
        self._begun.addCallbacks(self._on_begun, self._on_refused)

    def message(self, data: bytes, binary: bool) -> None:
        if self._intake is not None:
            self._intake.data(data)
            self._intake.chunk_end()

    def closed(self, code: int, reason: str) -> None:
        self._websocket = None
        if self._intake is None:
            self.answered = True
        elif code == CloseCode.LOST:
            self._intake.lost(ConnectionLost())
        else:
            self._intake.end()

    # For the intake: `PublisherExchange`.

    @property
    def connection(self) -> object:
        """
        What the messages of one publisher have in common.
        """
        return self._websocket

    @property
    def length(self) -> int | None:
        """
        The length of the stream, which is not known.
        """
        return None

    def header(self, name: str) -> str | None:
        """
        Return a header of an HTTP body in chunks.
        """
        return "chunked" if name == "transfer-encoding" else None

    def pause(self) -> None:
        """
        Receive nothing from the client.
        """
        if self._websocket is not None:
            self._websocket.pause_reading()

    def resume(self) -> None:
        """
        Receive from the client again.
        """
        if self._websocket is not None:
            self._websocket.resume_reading()

    def answer(self, status: int, body: bytes, content_type: str) -> None:
        """
        Do nothing: a client whose stream has ended has closed the websocket.
        """

    def refuse(self, refusal: HttpError) -> None:
        """
        Close the websocket with the reason.
        """
        self.answered = True
        if self._websocket is not None:
            code = _CODES.get(refusal.status, CloseCode.POLICY)
            self._websocket.close(code, refusal.reason)

    def _on_begun(self, intake: LiveIntake) -> None:
        self._intake = intake
        if self._websocket is None:
            intake.lost(ConnectionLost())
        else:
            self._websocket.resume_reading()

    def _on_refused(self, failure: Failure) -> None:
        if failure.check(ConnectionLost, CancelledError):
            return
        if failure.check(HttpError):
            self.refuse(failure.value)  # type: ignore[arg-type]  # it was checked
        else:
            _log.failure("while a live publisher began", failure)
            self.refuse(HttpError(500, "internal error"))


async def open_publisher(
    endpoint: WebSocketEndpoint,
    publishing: Publishing,
    exchange: IExchange,
    handshake: WebSocketHandshake,
    match: Match,
    publish: Template,
) -> None:
    """
    Open a websocket for a live publisher.

    Args:
        endpoint: of the route.
        publishing: how the route takes publishers.
        exchange: the request.
        handshake: from `WebSocketEndpoint.check`.
        match: what the route's pattern matched.
        publish: the channel.

    Raises:
        HttpError: there are too many connections.
        ConnectionLost: the client has disconnected.
    """
    context = publishing.context
    permit: PublishPermit | HttpError
    try:
        permit = await publishing.authorize(exchange, match, "websocket", publish)
    except HttpError as error:
        permit = error.copy()  # for the close frame

    async def begin(client: PublisherExchange) -> LiveIntake:
        try:
            if isinstance(permit, HttpError):
                raise permit
            return await publishing.begin(client, permit)
        except HttpError as error:
            count_refusal(context.metrics, PUBLISHES, error.status)
            raise

    def enter(address: str) -> None:
        format = build_format("websocket-raw", deflate=handshake.deflate, binary=True)
        endpoint.open(exchange, handshake, PublisherApp(begin), format)

    admitted: Any = when_admitted(context, exchange, enter)
    if admitted is not None:
        await admitted
