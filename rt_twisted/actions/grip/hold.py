"""
Hold a response that an application has handed over by GRIP: as a stream, or until another
response is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rt_twisted.access.grants import Grant
from rt_twisted.actions.awaited_response import AwaitedResponse
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.grip.closing import HeldStreams
from rt_twisted.actions.headers import STREAM_HEADERS
from rt_twisted.actions.subscription import end_with_grant, when_admitted
from rt_twisted.codecs.chunks import chunk
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.eventsource import has_id, whole_events
from rt_twisted.codecs.grip import GripHold, GripResponse, HoldMode, KeepAlive
from rt_twisted.codecs.grip_items import decode_response
from rt_twisted.codecs.query import media_type
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.grip import GripEvents, GripResponses, GripStream
from rt_twisted.formats.sse import HEARTBEAT
from rt_twisted.http.head import BODILESS
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.errors import Header, HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.internal_channels import held_channel
from rt_twisted.model.message import NOWHERE, After, Position

EVENT_STREAM = "text/event-stream"
_BODILESS = BODILESS | {205}
_FRAMING = frozenset(("connection", "content-length", "keep-alive", "transfer-encoding",
                      "upgrade", "trailer", "te"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeldRequest:
    """
    A request whose response is held.

    Args:
        context: the hub and the settings.
        exchange: to answer.
        hold: how; its channels are checked.
        response: of the application: what goes first, or is sent in the end.
        grant: by which the client has the channels.
        position: after which messages are for a client that has received none: the end of the
            log when the application was asked. NOWHERE if it is not known.
    """

    context: ActionContext
    exchange: IExchange
    hold: GripHold
    response: GripResponse
    grant: Grant
    position: Position = NOWHERE


def hold_response(request: HeldRequest) -> object:
    """
    Hold the response of *request*.

    Returns:
        What `IAction.act` may return.

    Raises:
        HttpError: see `when_admitted`.
    """
    hold, response, exchange = request.hold, request.response, request.exchange
    if hold.status is not None:
        request = replace(request, response=replace(response, status=hold.status))
    if hold.mode is HoldMode.STREAM and request.response.status in _BODILESS:
        raise HttpError(502, "the application holds a stream whose status has no body")
    if exchange.method == "HEAD":
        answer(exchange, replace(request.response, body=b""))
        return None
    if hold.mode is HoldMode.RESPONSE:
        return when_admitted(request.context, exchange, partial(_join_response, request))
    join = partial(_join_stream, request)
    return when_admitted(request.context, exchange, join, _channels(hold))


def answer(exchange: IExchange, response: GripResponse) -> None:
    """
    Answer *exchange* with *response*, without the headers that frame it.
    """
    content_type, headers = _split(response.headers)
    exchange.answer(response.status, response.body, content_type, headers)


def _split(headers: Sequence[Header]) -> tuple[str, list[Header]]:
    """
    Return the content type, and the other headers without those of the framing.
    """
    content_type = next((text for name, text in headers if name.lower() == "content-type"), "")
    kept = [one for one in headers if one[0].lower() not in _FRAMING | {"content-type"}]
    return content_type, kept


def _channels(hold: GripHold) -> list[str]:
    return [held_channel(hold.mode.value, name) for name in hold.channels]


# Streams.


def _join_stream(request: HeldRequest, address: str) -> None:
    context, exchange, hold = request.context, request.exchange, request.hold
    hub = context.hub
    context.shared.get(HeldStreams, partial(HeldStreams, hub, context.reactor), hub)
    content_type, headers = _split(request.response.headers)
    names = {name.lower() for name, _ in headers}
    headers += [one for one in STREAM_HEADERS if one[0].lower() not in names]
    body = request.response.body
    is_events = media_type(content_type) == EVENT_STREAM
    keep_alive = b"" if hold.keep_alive is None else hold.keep_alive.content
    format: IFormat = GripStream(content_type, keep_alive)
    if is_events:
        body = whole_events(body)
        positioned = context.grip.ids and not has_id(body)
        format = GripEvents(content_type, keep_alive or HEARTBEAT, positioned)
    opened = exchange.open(content_type, headers, status=request.response.status, log_end=True)
    if exchange.framed:
        format = Chunked(format)
    subscriber = Subscriber(
        opened.transport, format, context.hub, context.backlog_limits_for(None), address
    )
    first = chunk(body) if exchange.framed else body
    start = (_resumed(exchange) if is_events else None) or _start(request)
    context.hub.join(subscriber, _channels(hold), start, opened.head + first, entry=opened.entry)
    end_with_grant(context, subscriber, request.grant)
    if hold.keep_alive is not None:
        _KeepAliveTimer(subscriber, context.reactor, hold.keep_alive)


def _start(request: HeldRequest) -> After | None:
    return After(request.position) if request.position.epoch else None


def _resumed(exchange: IExchange) -> After | None:
    """
    Return where a client resumes; None if its `Last-Event-ID` is the application's own.
    """
    position = Position.parse(exchange.header("last-event-id") or "")
    return None if position == NOWHERE else After(position)


class _KeepAliveTimer:
    """
    Sends the keep-alive of one stream until it ends.

    It is sent whether the stream is idle or not, which costs less than to find out.
    """

    __slots__ = ("_clock", "_seconds", "_subscriber")

    def __init__(self, subscriber: Subscriber, clock: Any, keep_alive: KeepAlive) -> None:
        self._subscriber = subscriber
        self._clock = clock
        self._seconds = keep_alive.seconds
        clock.callLater(self._seconds, self._send)

    def _send(self) -> None:
        subscriber = self._subscriber
        if subscriber.closed:
            return
        if not subscriber.behind:
            subscriber.write(subscriber.format.heartbeat)
        self._clock.callLater(self._seconds, self._send)


# Responses.


def _join_response(request: HeldRequest, address: str) -> None:
    held = HeldResponse(request, address)
    request.exchange.watch(held.on_client_lost)
    request.context.hub.join(held.subscriber, _channels(request.hold), _start(request))
    end_with_grant(request.context, held.subscriber, request.grant)


class HeldResponse(AwaitedResponse):
    """
    A subscriber that is answered with the first response that is published.

    Args:
        request: after its time, it is answered with the application's own response.
        address: the client's, as the limits count it.

    Attributes:
        subscriber: has not joined the hub yet.
    """

    def __init__(self, request: HeldRequest, address: str) -> None:
        self._response = request.response
        super().__init__(
            request.exchange, request.context, GripResponses(), request.hold.seconds, address
        )

    def _on_frames(self, frames: bytes) -> None:
        try:
            published = decode_response(frames.partition(b"\n")[0])
        except RemoteProtocolError:  # of another program; the next may be one of ours
            self._buffer.fetch(self._on_frames)
            return
        names = {name.lower() for name, _ in published.headers}
        own = [one for one in self._response.headers if one[0].lower() not in names]
        self._respond(replace(published, headers=(*own, *published.headers)))

    def _on_timeout(self) -> None:
        self._buffer.flush()
        self._respond(self._response)

    def _on_close(self, dropped: bool) -> None:
        if dropped:
            self._refuse()
        else:
            self._respond(self._response)

    def _respond(self, response: GripResponse) -> None:
        if self._leave():
            answer(self._exchange, response)
