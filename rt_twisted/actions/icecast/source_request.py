"""
A source: its request, and what it says about itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import end_publisher
from rt_twisted.actions.icecast.commands import add_source
from rt_twisted.actions.icecast.connected_sources import Source
from rt_twisted.actions.icecast.source_connection import SourceConnection
from rt_twisted.actions.icecast.source_run import SourceReader, SourceRun
from rt_twisted.actions.icecast.titles import watch_titles
from rt_twisted.actions.ingest.begin_run import begin_run
from rt_twisted.actions.ingest.intake import LiveIntake
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.publisher_events import Announce, announce_nothing, announce_to
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.media.icy import clean_title
from rt_twisted.media.live_run import LiveRun
from rt_twisted.model.message import Draft

MAX_FIELD = 1000  # bytes of what a source says about itself in one header
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

_log = Logger()


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """
    What a mount does with its sources.

    Args:
        channel: that they publish to.
        mount: path of the mount.
        takeover: a new source replaces the one that is connected.
        grace: seconds that listeners wait for a source to return; None for the daemon's.
        events: channel of states and titles; "" for none.
    """

    channel: str
    mount: str
    takeover: bool = False
    grace: float | None = None
    events: str = ""

    def announce(self, context: ActionContext) -> Announce:
        """
        Return the function that publishes the states of a source.
        """
        return announce_to(self.events, context.publish) if self.events else announce_nothing


async def begin_source(
    context: ActionContext, exchange: Any, options: SourceOptions, permit: Key | Grant
) -> tuple[LivePublisher, LiveRun]:
    """
    Claim the mount for the source of *exchange*, which is authorized by *permit*.

    Raises:
        HttpError: 403, the channel has a source; 503, the broker is away.
        ConnectionLost: the source has disconnected.
    """
    limits = context.hub.live.limits()
    grace = limits.live_grace if options.grace is None else options.grace
    begun = await begin_run(
        context.hub,
        exchange,
        options.channel,
        options.takeover,
        limits.live_timeout,
        grace,
        options.announce(context),
    )
    end_publisher(context, begun[0], permit)
    return begun


def receive_audio(
    context: ActionContext,
    options: SourceOptions,
    connection: Any,
    begun: tuple[LivePublisher, LiveRun],
    about: dict[str, str],
    request: Any = None,
) -> tuple[LiveIntake, SourceRun]:
    """
    Return what publishes the audio of a source, and its titles.

    Args:
        context: the hub and the settings.
        options: of the mount.
        connection: of the source; see `LiveIntake`.
        begun: from `begin_source`.
        about: what the source says about itself.
        request: of the source, for the access log; None for no line.
    """
    publisher, run = begun
    reader = SourceReader(context.max_unit)
    on_title = _title_publisher(context, options) if options.events else None
    numbering = SourceRun(run, reader, about, on_title)
    intake = LiveIntake(context, connection, publisher, numbering, reader=reader, request=request)
    source = Source(
        options.channel,
        lambda: publisher.lose("the source was ended by the administrator"),
        lambda: numbering.head,
    )
    watch = watch_titles(context.hub, options.channel, numbering.set_title)

    def ended(_: object) -> None:
        watch.detach(DisconnectReason.ENDED)
        remove()

    remove = add_source(context, source)
    publisher.closed.addCallback(ended)
    return intake, numbering


async def receive_source(
    context: ActionContext, exchange: IExchange, options: SourceOptions, permit: Key | Grant
) -> None:
    """
    Publish what the source of *exchange* sends, which is authorized by *permit*.

    Raises:
        HttpError: 403, the channel has a source; 503, the broker is away.
    """
    begun = await begin_source(context, exchange, options, permit)
    connection = SourceConnection(exchange.header) if exchange.until_close else None
    about = about_of(exchange.header, options.mount)
    intake, _ = receive_audio(context, options, connection or exchange, begun, about, exchange)
    if connection is None:
        exchange.receive(intake, begun[0].timeout)
        return
    # Sources wait for 200 before they send, and ffmpeg for 100 before that.
    waits = exchange.header("expect") is not None and exchange.version != "1.0"
    head = b"HTTP/1.1 100 Continue\r\n\r\n" if waits else b""
    connection.sink = intake
    exchange.take_over(head + b"HTTP/1.0 200 OK\r\n\r\n").start(connection)


def about_of(header: Callable[[str], str | None], mount: str) -> dict[str, str]:
    """
    Return what the headers of a source say about its stream.

    Args:
        header: returns the value of one.
        mount: path of the mount.
    """
    about = {"mount": mount[:MAX_FIELD]}
    for name, headers in _ABOUT.items():
        value = next(filter(None, map(header, headers)), "")
        if value:
            about[name] = clean_title(value.encode("latin-1", "replace")[:MAX_FIELD])
    return about


def _title_publisher(context: ActionContext, options: SourceOptions) -> Callable[[str], object]:
    """
    Return a function that publishes a title as a message for pages.
    """

    def publish(title: str) -> None:
        fields = {"channel": options.channel, "mount": options.mount, "title": title}
        data = json.dumps(fields, ensure_ascii=False).encode(errors="surrogateescape")
        draft = Draft(options.events, data, "title")
        context.publish([draft]).addErrback(_on_failed, options.events)

    return publish


def _on_failed(failure: Failure, events: str) -> None:
    _log.warn(
        "a title was not published to {events}: {reason}",
        events=events,
        reason=failure.getErrorMessage(),
    )
