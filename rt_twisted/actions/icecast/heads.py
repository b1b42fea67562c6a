"""
The newest head of a stream, which says what its source is.
"""

from __future__ import annotations

from rt_twisted.formats.live import read_live
from rt_twisted.hub.hub import Hub
from rt_twisted.media.unit import Head
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import Mark


async def newest_head(hub: Hub, channel: str) -> Head | None:
    """
    Return the newest head of *channel*; None if it has no source.
    """
    try:
        messages = await hub.live.newest_messages(channel)
    except Unavailable:
        return None
    for message in reversed(messages):
        head = read_live(message) if message.mark is Mark.HEAD else None
        if isinstance(head, Head):
            return head
    return None
