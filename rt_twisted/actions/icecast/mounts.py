"""
The mounts that have a source, found by the heads of their streams.
"""

from __future__ import annotations

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.icecast.listener import listeners_of
from rt_twisted.actions.icecast.status import MountStatus
from rt_twisted.formats.live import read_live
from rt_twisted.http.interfaces import IExchange
from rt_twisted.media.unit import Head
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import Mark


async def newest_head(context: ActionContext, channel: str) -> Head | None:
    """
    Return the newest head of *channel*; None if it has no source.
    """
    try:
        messages = await context.hub.live.newest_messages(channel)
    except Unavailable:
        return None
    for message in reversed(messages):
        head = read_live(message) if message.mark is Mark.HEAD else None
        if isinstance(head, Head):
            return head
    return None


async def mount_of(context: ActionContext, channel: str) -> MountStatus | None:
    """
    Return the mount that publishes to *channel*; None if it has no source.
    """
    head = await newest_head(context, channel)
    about = dict(head.about) if head is not None else {}
    if head is None or "mount" not in about:
        return None
    track = head.tracks[0]
    listeners = listeners_of(context, channel)
    return MountStatus(about, listeners, head.wall, track.channels, track.rate)


async def live_mounts(context: ActionContext) -> list[MountStatus]:
    """
    Return the mounts whose streams this process receives, in the order of their channels.
    """
    found = [await mount_of(context, channel) for channel in sorted(context.hub.live.names(""))]
    return [mount for mount in found if mount is not None]


def base_url(exchange: IExchange) -> str:
    """
    Return the URL under which the client reaches the server, without a slash at the end.
    """
    return f"{exchange.scheme}://{exchange.header('host') or 'localhost'}"
