"""
A listener: what it is answered, and where in the stream it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rt_twisted.access.grants import Grant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.icecast.commands import listeners_of_process
from rt_twisted.actions.icecast.mount_counts import counts_of
from rt_twisted.actions.subscription import (
    address_of,
    end_with_grant,
    when_admitted,
    while_connected,
)
from rt_twisted.formats import build_format
from rt_twisted.formats.icecast import CODECS, IcecastAudio
from rt_twisted.formats.webm import WebM
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.first_message import first_message
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.media.icy import METAINT
from rt_twisted.media.ogg import OGG
from rt_twisted.media.unit import Head, read
from rt_twisted.model.errors import Header, HttpError
from rt_twisted.model.message import Sync

MAX_AGENT = 200  # characters of a User-Agent that are kept
_HEADERS = (
    ("Cache-Control", "no-cache, no-store"),
    ("Expires", "Mon, 26 Jul 1997 05:00:00 GMT"),
    ("Pragma", "no-cache"),
    ("X-Accel-Buffering", "no"),
)
_ICY = {
    "icy-br": "bitrate",
    "ice-audio-info": "audio_info",
    "icy-description": "description",
    "icy-genre": "genre",
    "icy-name": "name",
    "icy-pub": "public",
    "icy-url": "url",
}


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """
    What a mount offers to its listeners.

    Args:
        channel: of the mount.
        fallback: channel that they listen to while the mount has no source; "" for none.
        charset: of titles.
        burst: seconds of the stream that are sent at once.
        wait: seconds to wait for a source.
        behind: bytes that may wait before a listener skips; None for the daemon's.
        most: listeners of the mount; 0 for no limit.
    """

    channel: str
    fallback: str
    charset: str
    burst: float
    wait: float
    behind: int | None
    most: int


async def listen(
    context: ActionContext, exchange: IExchange, options: ListenerOptions, grant: Grant
) -> None:
    """
    Answer a listener, and join it to its mount when the stream has begun.

    Args:
        context: the hub and the settings.
        exchange: the request.
        options: of the mount.
        grant: of the listener; the stream ends when it does.

    Raises:
        HttpError: 404, the mount has no source; 503, too many listeners.
    """
    context.hub.admit(address_of(exchange, context))
    registry = listeners_of_process(context)
    elsewhere = 0

    def check_most() -> None:
        if options.most and registry.count(options.channel) + elsewhere >= options.most:
            raise HttpError(503, "the mount has too many listeners", retry=10)

    if options.most:
        counts = await counts_of(context, options.channel)
        elsewhere = counts.listeners - registry.count(options.channel)
        check_most()
        if exchange.answered:
            return
    agent = (exchange.header("user-agent") or "")[:MAX_AGENT]
    listener = registry.new(
        context.hub, exchange.path, options.channel, options.fallback, exchange.address, agent
    )
    registry.want(options.channel)
    head = await _first_head(context, exchange, options.channel, options.wait)
    if head is None and options.fallback:
        registry.want(options.fallback)
        head = await _first_head(context, exchange, options.fallback, options.wait)
        listener.current = options.fallback
    if head is None:
        raise HttpError(404, "the mount has no source")
    about = dict(head.about)
    listener.codec = codec = head.tracks[0].codec
    if codec in CODECS:
        wanted = exchange.header("icy-metadata") or ""
        titles = wanted.strip() == "1" and codec != OGG
        name, given = "icecast", {"titles": titles, "charset": options.charset}
        content_type = about.get("content_type", codec)
    else:
        titles, name, given = False, "webm", {}
        content_type = WebM().content_type_of(head)
    fields = [(header, about[key]) for header, key in _ICY.items() if about.get(key)]
    if titles:
        fields += [("icy-metadata", "1"), ("icy-metaint", str(METAINT))]
    headers = (*_HEADERS, *[(header, text) for header, text in fields if text.isascii()])
    if exchange.method == "HEAD":
        exchange.answer(200, content_type=content_type, headers=headers)
        return

    def join(address: str) -> None:
        check_most()  # others may have joined since
        opened = exchange.open(content_type, headers, framed=False, log_end=True)
        limits = context.backlog_limits_for(SlowConsumerPolicy.SYNC)
        if options.behind is not None:
            limits = replace(limits, bytes=options.behind)
        format = build_format(name, exchange.framed, **given)
        subscriber = Subscriber(opened.transport, format, listener, limits, address)
        listener.subscriber = subscriber
        start = _with_text(opened.head, fields)
        registry.add(listener)
        since = Sync(options.burst)
        context.hub.join(subscriber, [listener.current], since, start, entry=opened.entry)
        end_with_grant(context, subscriber, grant)

    joined: Any = when_admitted(context, exchange, join)
    if joined is not None:
        await joined


async def _first_head(
    context: ActionContext, exchange: IExchange, channel: str, wait: float
) -> Head | None:
    """
    Return the head at which a listener of *channel* begins; None if there is none in *wait*.
    """
    found = first_message(context.hub, context.reactor, channel, IcecastAudio(), wait)
    first = await while_connected(exchange, found)
    head = read(first) if first is not None else None
    return head if isinstance(head, Head) else None


def _with_text(head: bytes, fields: list[Header]) -> bytes:
    """
    Return the head of an HTTP/1 response with those *fields* that are not ASCII, in UTF-8.

    HTTP has Latin-1 in headers; players show UTF-8 names.
    """
    if not head.endswith(b"\r\n\r\n"):
        return head
    lines = [f"{name}: {text}\r\n".encode() for name, text in fields if not text.isascii()]
    return head[:-2] + b"".join(lines) + b"\r\n"
