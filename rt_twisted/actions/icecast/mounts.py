"""
The mounts that have a source, found by the heads of their streams.
"""

from __future__ import annotations

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.icecast.heads import newest_head
from rt_twisted.actions.icecast.listeners import listeners_of_process
from rt_twisted.actions.icecast.status import MountStatus
from rt_twisted.http.interfaces import IExchange


async def mount_of(context: ActionContext, channel: str) -> MountStatus | None:
    """
    Return the mount that publishes to *channel*; None if it has no source.
    """
    head = await newest_head(context.hub, channel)
    about = dict(head.about) if head is not None else {}
    if head is None or "mount" not in about:
        return None
    track = head.tracks[0]
    listeners = listeners_of_process(context).count(channel)
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
