"""
Where subscribers begin: the search for a resync point among retained messages.
"""

from __future__ import annotations

from collections.abc import Iterable

from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message


def from_resync_point(
    entries: Iterable[tuple[float, Message]], format: ISyncFormat, moment: float, max_bytes: int
) -> list[Message]:
    """
    Return the messages, in order, with which a subscriber begins.

    They begin at the newest resync point that is at least as old as *moment*, otherwise at
    the oldest one. What precedes the end of a stream, or a message at which *format* must
    restart, is not used.

    Args:
        entries: when each message was received (seconds), and the message; the newest first,
            and none missing between them.
        format: of the subscriber.
        moment: seconds.
        max_bytes: of data; a resync point farther back is not used.

    Returns:
        Nothing if there is no resync point: the subscriber has to wait for one.
    """
    found: list[Message] = []
    count = 0
    for when, message in entries:
        max_bytes -= len(message.data)
        if message.mark is Mark.END or max_bytes < 0:
            break
        found.append(message)
        if format.is_resync_point(message):
            count = len(found)
            if when <= moment:
                break
        if format.must_restart(message):
            break
    del found[count:]
    found.reverse()
    return found
