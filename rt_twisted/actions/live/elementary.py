"""
One track of a live stream without a container, for the action `stream`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from rt_twisted.access.grants import Grant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.subscription import address_of, open_stream, while_connected
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats import build_format, ogg
from rt_twisted.formats.elementary import ElementaryStream
from rt_twisted.formats.live import read_live
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.first_message import first_message
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.media import opus
from rt_twisted.media.elementary import check_adts
from rt_twisted.media.ogg_writer import write_headers
from rt_twisted.media.unit import Head, Track
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Message, Sync

WAIT = 10.0  # seconds for a publisher


class Elementary(Enum):
    """
    What a stream consists of; the values are those of `as=`.
    """

    PAYLOAD = "payload"  # messages as they are
    ANNEXB = "annexb"  # H264 or H265 with start codes
    ADTS = "adts"  # AAC
    MP3 = "mp3"
    OGG = "ogg"  # Opus or Vorbis, with header pages


_CODECS = {
    Elementary.ANNEXB: ("h264", "h265"),
    Elementary.ADTS: ("aac",),
    Elementary.MP3: ("mp3",),
    Elementary.OGG: ogg.CODECS,
}


async def open_elementary(
    context: ActionContext,
    exchange: IExchange,
    channel: str,
    as_: Elementary,
    burst: float,
    grant: Grant,
) -> None:
    """
    Send the first track of *channel* that has a codec of *as_*.

    Args:
        context: the hub and the limits.
        exchange: the request.
        channel: its name, checked.
        as_: not PAYLOAD.
        burst: seconds of the stream that are sent at once, if they are retained.
        grant: the client's; the stream ends when it does.

    Raises:
        HttpError: 503, the channel has no publisher in WAIT seconds; 415, it has no such
            track; and see `when_admitted`.
    """
    context.hub.admit(address_of(exchange, context))
    found = first_message(context.hub, context.reactor, channel, ElementaryStream(), WAIT)
    first = await while_connected(exchange, found)
    if first is None:
        raise HttpError(503, f"channel {channel!r} has no publisher", retry=2)
    name = "ogg" if as_ is Elementary.OGG else "elementary"
    format = build_format(name, exchange.framed, **_options(first, as_))
    slow = SlowConsumerPolicy.SYNC
    joined: Any = open_stream(context, exchange, [channel], Sync(burst), format, slow, grant=grant)
    if joined is not None:
        await joined


def _options(first: Message, as_: Elementary) -> dict[str, object]:
    """
    Return the options of the format for a stream that begins with *first*.
    """
    head = read_live(first)
    tracks = head.tracks if isinstance(head, Head) else ()
    codecs = _CODECS[as_]
    track = next((track for track in tracks if track.codec in codecs), None)
    if track is None:
        raise HttpError(415, f"the stream has no track of {' or '.join(codecs)}")
    if as_ is Elementary.OGG:
        return _ogg_options(track)
    if track.codec != "aac":
        return {"track": track.id, "codec": track.codec}
    try:
        check_adts(track.private)
    except RemoteProtocolError as error:
        raise HttpError(415, error.reason) from None
    return {"track": track.id, "codec": track.codec, "config": track.private}


def _ogg_options(track: Track) -> dict[str, object]:
    rate = opus.RATE
    if track.codec == "vorbis":
        try:
            write_headers(track, 0)
        except RemoteProtocolError as error:
            raise HttpError(415, error.reason) from None
        rate = track.rate
    return {"track": track.id, "codec": track.codec, "rate": rate}
