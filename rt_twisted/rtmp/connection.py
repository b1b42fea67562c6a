"""
One publisher's connection by RTMP.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.ingest.publication import CONNECTION_LOST, LivePublication
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.flv_reader import FlvReader
from rt_twisted.media.keyframe_interval import LONG, KeyframeInterval
from rt_twisted.media.unit import Kind
from rt_twisted.model.errors import HttpError
from rt_twisted.rtmp import amf
from rt_twisted.rtmp.chunks import RtmpMessage
from rt_twisted.rtmp.handshake import SIZE
from rt_twisted.rtmp.publishing import PublishTarget, RtmpRoutes
from rt_twisted.rtmp.request import RtmpClient, RtmpRequest
from rt_twisted.rtmp.session import (
    BAD_NAME,
    MetadataReceived,
    PlayRequested,
    PublishEnded,
    PublishRequested,
    RtmpSession,
    SessionEvent,
)
from rt_twisted.rtmp.waiting import WaitingConnections

START_SECONDS = 10.0  # for the handshake, and again for everything up to the publication
LINGER = 0.8  # seconds in which a refused client may read why
FAILED = "NetStream.Failed"
_PLAY_FAILED = "NetStream.Play.Failed"
_TAG_HEADER = 64  # bytes, at most

_log = Logger()


@implementer(IPushProducer)
class RtmpConnection(Protocol):
    """
    Receives a publisher's session, and publishes its stream.

    Reading pauses while the channel is claimed, while the broker has too much to acknowledge,
    and while the client does not read.

    Args:
        reactor: the reactor.
        routes: finds where the client may publish.
        waiting: has the connection until it publishes.
        client: at the other end.
    """

    def __init__(
        self,
        reactor: Any,
        routes: RtmpRoutes,
        waiting: WaitingConnections,
        client: RtmpClient,
    ) -> None:
        self._reactor = reactor
        self._routes = routes
        self._waiting = waiting
        self._client = client
        self._session = RtmpSession(os.urandom(SIZE), self._write)
        self._events: Iterator[SessionEvent] | None = None  # that wait for the claim
        self._unread = b""  # behind them
        self._pauses: set[str] = set()  # reasons for which the client is not read
        self._reading = True
        self._publication: LivePublication | None = None
        self._reader = FlvReader()
        self._interval = KeyframeInterval()
        self._request: RtmpRequest | None = None  # that is being answered
        self._announced: tuple[RtmpRequest, PublishTarget] | None = None
        self._timer: Any = None
        self.answered = False  # the client was refused, or has disconnected

    @property
    def publishing(self) -> bool:
        """
        Return whether the client publishes, and so may send frames.
        """
        return self._publication is not None

    # Called by Twisted.

    def connectionMade(self) -> None:
        self._waiting.add(self, self._client.address)
        self._transport.registerProducer(self, True)
        self._start_timer()

    def dataReceived(self, data: bytes) -> None:
        if self.answered:
            return
        publication = self._publication
        if publication is not None:
            publication.touch(len(data))
        if self._events is not None:
            self._unread += data
            return
        if publication is not None:
            self._take(self._session.feed(data))
            return
        began = self._session.begun
        self._take(self._session.feed(data))
        if self._session.begun and not began and self._publication is None and not self.answered:
            self._start_timer()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.answered = True
        self._events = None
        self._session.close()
        self._stop_timer()
        self._waiting.discard(self)
        if self._request is not None:
            self._request.lose()
        if self._publication is not None:
            self._publication.close(CONNECTION_LOST)
            self._publication = None  # which has a reference to this

    def pauseProducing(self) -> None:
        self._pause("output")

    def resumeProducing(self) -> None:
        self._resume("output")

    def stopProducing(self) -> None:
        self._pauses.add("output")

    # Called by the publication.

    def pause(self) -> None:
        """
        Receive no more from the publisher, as too much waits for the broker.
        """
        self._pause("broker")

    def resume(self) -> None:
        """
        Receive again after `pause`.
        """
        self._resume("broker")

    def acknowledged(self) -> None:
        """
        Do nothing: RTMP acknowledges bytes, not messages.
        """

    def refuse(self, error: HttpError) -> None:
        """
        Send the publisher the reason for which its publication has ended, and close.
        """
        self._finish(FAILED, error.reason)

    def abort(self) -> None:
        """
        Close at once.
        """
        self.answered = True
        self._transport.abortConnection()

    # Events.

    def _take(self, events: Iterator[SessionEvent]) -> None:
        """
        Handle *events* until one of them must wait.
        """
        try:
            for event in events:
                if isinstance(event, RtmpMessage):
                    self._publish(event)
                else:
                    self._handle(event)
                if self.answered:
                    return
                if "claim" in self._pauses:
                    self._events = events
                    return
        except RemoteProtocolError as error:
            if not self._session.begun:
                self.abort()
            elif self._publication is not None:
                self._publication.fail(HttpError(400, error.reason))
            else:
                self._finish(FAILED, error.reason)

    def _handle(self, event: SessionEvent) -> None:
        if isinstance(event, PublishRequested):
            self._on_request(event)
        elif isinstance(event, MetadataReceived):
            self._on_metadata(event.values)
        elif isinstance(event, PlayRequested):
            self._finish(_PLAY_FAILED, self._where_to_view(event.name))
        elif isinstance(event, PublishEnded):
            self._on_end()

    def _publish(self, tag: RtmpMessage) -> None:
        publication = self._publication
        if publication is None:
            return
        parts = self._reader.feed(tag.type, tag.timestamp, tag.payload)
        if not parts:
            return
        if self._reader.silent:
            silent = self._reader.take_silent()
            _log.warn(
                "the {kinds} of {channel} is left out: it was announced, but nothing of it came "
                "within a second",
                kinds=" and ".join(sorted([kind.value for kind in silent])),
                channel=publication.channel,
            )
        if self._interval.is_long(parts):
            _log.warn(
                "the publisher of {channel} has more than {seconds} seconds between keyframes, "
                "so viewers wait or are behind: set a keyframe interval of 2 s (OBS: Settings, "
                "Output; ffmpeg: -g)",
                channel=publication.channel,
                seconds=LONG // 1_000_000,
            )
        publication.feed(parts)

    def _on_metadata(self, values: Mapping[str, amf.Value]) -> None:
        kinds = {
            kind
            for kind, name in ((Kind.VIDEO, "videocodecid"), (Kind.AUDIO, "audiocodecid"))
            if values.get(name) is not None
        }
        width, height = (int(amf.number(values.get(name))) for name in ("width", "height"))
        self._reader.expect(kinds, (width, height))

    def _on_request(self, event: PublishRequested) -> None:
        self._pause("claim")
        request = self._request = RtmpRequest(f"/{event.name}", event.query, self._client)
        answering = self._confirm if event.announced else self._claim
        ensureDeferred(answering(request)).addErrback(self._on_error)

    async def _confirm(self, request: RtmpRequest) -> None:
        """
        Confirm a stream name that is announced, if the client may publish there.
        """
        target = await self._find(request)
        if target is not None:
            self._announced = request, target
            self._session.accept_name()
            self._go_on()

    async def _claim(self, request: RtmpRequest) -> None:
        """
        Claim the channel, and let the client publish.
        """
        target = await self._find(request)
        if target is None:
            return
        try:
            publisher, run = await target.begin(self)
        except HttpError as error:
            self._finish(BAD_NAME, error.reason)
            return
        except ConnectionLost:
            return
        self._stop_timer()
        self._waiting.discard(self)
        max_unit = target.context.max_unit
        self._reader, self._interval = FlvReader(max_unit), KeyframeInterval()
        self._publication = LivePublication(
            target.context, self, publisher, run, request, self._transport
        )
        if not self.answered:  # no other publisher has taken over meanwhile
            self._session.accept(max_unit + _TAG_HEADER)
            self._go_on()

    async def _find(self, request: RtmpRequest) -> PublishTarget | None:
        """
        Return where the client may publish; None if it was refused, or is gone.
        """
        announced, self._announced = self._announced, None
        if announced is not None and announced[0].target == request.target:
            return announced[1]
        try:
            target = await self._routes.find(request)
        except HttpError as error:
            self._finish(BAD_NAME, error.reason)
            return None
        except ConnectionLost:
            return None
        return None if self.answered else target

    def _go_on(self) -> None:
        """
        Handle what has arrived during the claim, and read on.
        """
        self._pauses.discard("claim")
        self._request = None
        events, self._events = self._events, None
        if events is not None:
            self._take(events)
        if self._unread and not self.answered and self._events is None:
            unread, self._unread = self._unread, b""
            self._take(self._session.feed(unread))
        self._update_reading()

    def _on_end(self) -> None:
        if self._publication is not None:
            self._publication.close()
            self._publication = None
            self._waiting.add(self, self._client.address)
            self._start_timer()

    def _on_error(self, failure: Failure) -> None:
        _log.failure("while a publisher begins by RTMP", failure)
        self.abort()

    def _where_to_view(self, name: str) -> str:
        try:
            host = urlsplit(amf.text(self._session.about.get("tcUrl"))).netloc
        except ValueError:
            host = ""
        url = self._routes.url_of(name, host, self._client.secure)
        return f"streams are not played by RTMP: open {url}"

    # The end, and the transport.

    def _finish(self, code: str, reason: str) -> None:
        """
        Send the client an error, and close when it has had time to read it.
        """
        if self.answered:
            return
        _log.debug("refused a publisher by RTMP: {reason}", reason=reason)
        self._session.refuse(code, reason)
        self.answered = True
        self._events = None
        self._stop_timer()
        self._waiting.discard(self)
        self._pauses.clear()
        self._update_reading()  # closing with unread bytes would reset the connection
        self._timer = self._reactor.callLater(LINGER, self._close)

    def _close(self) -> None:
        self._timer = None
        self._transport.unregisterProducer()
        self._transport.loseConnection()
        # A client that does not read what is left has no time for it.
        self._timer = self._reactor.callLater(START_SECONDS, self._on_timeout)

    @property
    def _transport(self) -> Any:
        return self.transport

    def _write(self, data: bytes) -> None:
        self._transport.write(data)

    def _pause(self, reason: str) -> None:
        self._pauses.add(reason)
        self._update_reading()

    def _resume(self, reason: str) -> None:
        self._pauses.discard(reason)
        self._update_reading()

    def _update_reading(self) -> None:
        reading = not self._pauses
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self._transport.resumeProducing()
            else:
                self._transport.pauseProducing()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self._reactor.callLater(START_SECONDS, self._on_timeout)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _on_timeout(self) -> None:
        self._timer = None
        self.abort()
