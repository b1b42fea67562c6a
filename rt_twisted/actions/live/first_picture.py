"""
The picture with which a viewer begins.
"""

from __future__ import annotations

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.subscription import while_connected
from rt_twisted.formats.mjpeg import MotionJpeg, check_pictures
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.first_message import first_message
from rt_twisted.model.errors import HttpError

WAIT = 10.0


def check_wait(wait: float) -> None:
    """
    Check the argument `wait=` of a route.

    Raises:
        ValueError: it is negative.
    """
    if not wait >= 0:
        raise ValueError("wait= cannot be negative")


async def first_picture(
    context: ActionContext, exchange: IExchange, channel: str, wait: float
) -> bytes:
    """
    Return the last picture of *channel*; without any, wait for the next one.

    Args:
        context: the hub.
        exchange: the request that waits.
        channel: its name.
        wait: seconds.

    Returns:
        A JPEG picture.

    Raises:
        HttpError: 503, there was no picture in time; 415, the channel has a stream without
            pictures.
        ConnectionLost: the client has disconnected.
    """
    found = first_message(context.hub, context.reactor, channel, MotionJpeg(), wait)
    first = await while_connected(exchange, found)
    if first is None:
        raise HttpError(503, f"channel {channel!r} has no picture", retry=2)
    check_pictures(first)
    return first.data
