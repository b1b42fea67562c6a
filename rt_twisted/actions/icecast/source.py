"""
A source: its request, its audio and its titles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import end_publisher
from rt_twisted.actions.icecast.sources import IcecastSources, Source
from rt_twisted.actions.icecast.titles import watch_titles
from rt_twisted.actions.ingest.begin_run import begin_run
from rt_twisted.actions.ingest.intake import LiveIntake
from rt_twisted.http.interfaces import IBodySink, IExchange
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.media.containers import ContainerReader
from rt_twisted.media.icy import clean_title
from rt_twisted.media.live_run import LiveRun
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.mpeg_audio import ADTS, MPEG, MpegAudioReader
from rt_twisted.media.ogg import OGG, START, OggReader
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Head, Unit
from rt_twisted.model.errors import HttpError

MAX_FIELD = 1000  # bytes of what a source says about itself in one header
_EBML_START = b"\x1a\x45\xdf\xa3"
_ABOUT = {
    "name": ("ice-name", "icy-name"),
    "description": ("ice-description", "icy-description"),
    "genre": ("ice-genre", "icy-genre"),
    "url": ("ice-url", "icy-url"),
    "public": ("ice-public", "icy-pub", "ice-pub"),
    "bitrate": ("ice-bitrate", "icy-br", "ice-br"),
    "audio_info": ("ice-audio-info",),
    "content_type": ("content-type",),
    "agent": ("user-agent",),
}
_OGG_TYPES = ("application/ogg", "audio/ogg", "video/ogg", "audio/opus")


async def receive_source(
    context: ActionContext,
    exchange: IExchange,
    channel: str,
    takeover: bool,
    permit: Key | Grant,
) -> None:
    """
    Publish what the source of *exchange* sends, which is authorized by *permit*, to *channel*.

    Raises:
        HttpError: 403, the channel has a source; 503, the broker is away.
    """
    limits = context.hub.live.limits()
    publisher, run = await begin_run(
        context.hub, exchange, channel, takeover, limits.live_timeout, limits.live_grace
    )
    reader = SourceReader(context.max_unit)
    numbering = SourceRun(run, reader, about_of(exchange))
    connection = _SourceConnection(exchange) if exchange.until_close else None
    intake = LiveIntake(context, connection or exchange, publisher, numbering, reader=reader)
    sources = context.shared.get(IcecastSources, IcecastSources)
    source = Source(channel, lambda: publisher.lose("the source was ended by the administrator"))
    watch = watch_titles(context.hub, channel, numbering.set_title)

    def ended(_: object) -> None:
        watch.detach(DisconnectReason.ENDED)
        sources.remove(source)

    sources.add(source)
    publisher.closed.addCallback(ended)
    end_publisher(context, publisher, permit)
    if connection is None:
        exchange.receive(intake, publisher.timeout)
        return
    # Sources wait for 200 before they send, and ffmpeg for 100 before that.
    waits = exchange.header("expect") is not None and exchange.version != "1.0"
    head = b"HTTP/1.1 100 Continue\r\n\r\n" if waits else b""
    connection.sink = intake
    exchange.take_over(head + b"HTTP/1.0 200 OK\r\n\r\n").start(connection)


def about_of(exchange: IExchange) -> dict[str, str]:
    """
    Return what the headers of a source say about its stream.
    """
    about = {"mount": exchange.path[:MAX_FIELD]}
    for name, headers in _ABOUT.items():
        value = next(filter(None, map(exchange.header, headers)), "")
        if value:
            about[name] = clean_title(value.encode("latin-1", "replace")[:MAX_FIELD])
    return about


class SourceReader:
    """
    Reads MPEG audio, Ogg, WebM or Matroska, whichever it is.

    Args:
        max_unit: bytes of a frame.

    Attributes:
        title: in the stream itself; "" for none.
    """

    def __init__(self, max_unit: int) -> None:
        self._max_unit = max_unit
        self._start = b""
        self._reader: ContainerReader | None = None

    @property
    def title(self) -> str:
        """
        Return the title of the present link of an Ogg stream; "" for other streams.
        """
        return self._reader.title if isinstance(self._reader, OggReader) else ""

    def feed(self, data: bytes) -> list[Part]:
        """
        Return the tracks and frames that *data* completes, in order.

        Raises:
            RemoteProtocolError: the stream is malformed, or none of those.
        """
        if self._reader is None:
            data = self._start = self._start + data
            if len(data) < len(START):
                return []
            self._start = b""
            if data.startswith(START):
                self._reader = OggReader(self._max_unit)
            elif data.startswith(_EBML_START):
                self._reader = MatroskaReader(max_unit=self._max_unit)
            else:
                self._reader = MpegAudioReader()
        return self._reader.feed(data)


class SourceRun:
    """
    One publication of a source: what `LiveRun` makes of it, with titles.

    Args:
        run: numbers the frames.
        reader: has the titles that are in the stream.
        about: what the source says about itself.
    """

    def __init__(self, run: LiveRun, reader: SourceReader, about: dict[str, str]) -> None:
        self._run = run
        self._reader = reader
        self._about = about
        self._set = ""  # the title that was requested last
        self._shown: str | None = None  # the title in the last head
        self._head: Head | None = None

    def set_title(self, title: str) -> None:
        """
        Use *title*, from `clean_title`, from now on.
        """
        self._set = title

    def feed(self, parts: Iterable[Part]) -> list[Head | Unit]:
        """
        Return what is published for *parts*; see `LiveRun.feed`.
        """
        title = self._set or clean_title(self._reader.title.encode())
        found: list[Head | Unit] = []
        for thing in self._run.feed(parts):
            if isinstance(thing, Head):
                self._head = self._describe(thing, title)
                found.append(self._head)
                continue
            if self._head is not None and title != self._shown:
                again = replace(self._head, time=thing.pts, again=True)
                self._head = self._describe(again, title)
                found.append(self._head)
            is_mpeg = self._head is not None and self._head.tracks[0].codec in (MPEG, ADTS)
            found.append(replace(thing, title=title) if title and is_mpeg else thing)
        return found

    def _describe(self, head: Head, title: str) -> Head:
        self._shown = title
        about = {**self._about, "content_type": self._content_type(head), "title": title}
        return replace(head, about=tuple([(name, text) for name, text in about.items() if text]))

    def _content_type(self, head: Head) -> str:
        """
        Return the type that the source names, unless it names another kind of stream: ffmpeg
        names audio/mpeg for everything.
        """
        named, codec = self._about.get("content_type", ""), head.tracks[0].codec
        if codec == OGG:
            return named if named.startswith(_OGG_TYPES) else OGG
        if codec == MPEG:
            return named if named.startswith("audio/") else MPEG
        if codec == ADTS:
            return named if named.startswith("audio/aac") else ADTS
        return ""


@implementer(IHalfCloseableProtocol)
class _SourceConnection(Protocol):
    """
    The connection of a source that sends until it closes; to the intake, its request.

    Attributes:
        sink: receives the audio; set before the connection is started.
        answered: False, as the intake ends the connection itself.
        connection: None, as no other request follows.
        length: None.
    """

    sink: IBodySink
    answered = False
    connection: object = None
    length: int | None = None

    def __init__(self, exchange: IExchange) -> None:
        self.header: Callable[[str], str | None] = exchange.header
        self._over = False

    def dataReceived(self, data: bytes) -> None:
        if not self._over:
            self.sink.data(data)

    def readConnectionLost(self) -> None:
        self._end(None)

    def writeConnectionLost(self) -> None:
        """
        Do nothing: there is nothing more to send.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(None if reason.check(ConnectionDone) else ConnectionLost())

    def _end(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = True
        if error is None:
            self.sink.end()
        else:
            self.sink.lost(error)

    def _transport(self) -> Any:
        return self.transport

    def pause(self) -> None:
        """
        Receive no more of the audio.
        """
        self._transport().pauseProducing()

    def resume(self) -> None:
        """
        Receive the body again after `pause`.
        """
        if not self._over:
            self._transport().resumeProducing()

    def answer(self, status: int, body: bytes, content_type: str) -> None:
        """
        Close the connection, as the response was sent before the audio.
        """
        self._transport().loseConnection()

    def refuse(self, refusal: HttpError) -> None:
        """
        Abort the connection: the source may reconnect.
        """
        self._over = True
        self._transport().abortConnection()
