"""
The beginning of a run: the channel is claimed, and what earlier runs left is continued.
"""

from __future__ import annotations

import secrets
import time
from typing import Protocol

from twisted.internet.error import ConnectionLost

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.publisher_events import Announce, announce_nothing
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.media.live_run import LiveRun
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Mark


class PublishingClient(Protocol):
    """
    The publisher's request: an `IExchange`, or that of another protocol.
    """

    @property
    def answered(self) -> bool:
        """
        Whether the client has disconnected, or was refused.
        """


async def begin_run(
    hub: Hub,
    client: PublishingClient,
    channel: str,
    takeover: bool,
    timeout: float,
    grace: float,
    announce: Announce = announce_nothing,
) -> tuple[LivePublisher, LiveRun]:
    """
    Claim *channel* for *client*, and begin to publish.

    Args:
        hub: of the channel.
        client: the publisher's request.
        channel: its name.
        takeover: replace a publisher that is connected.
        timeout: seconds without bytes after which the publisher is lost.
        grace: seconds that viewers wait for its return.
        announce: called with what happens to the publisher.

    Returns:
        The right to publish, and the numbering of the run, which continues the messages
        that the channel retains.

    Raises:
        HttpError: 403, another publisher has the channel; 503, the broker cannot be reached.
        ConnectionLost: the client has disconnected meanwhile; the claim is released.
    """
    live = hub.live
    run = secrets.token_hex(8)
    try:
        publisher = await live.publishers.claim(channel, run, takeover, timeout, grace, announce)
    except Unavailable as error:
        raise HttpError(503, str(error), retry=2) from None
    try:
        retained = await live.newest_messages(channel)
    except Unavailable:
        retained = []
    if client.answered:
        publisher.close()
        raise ConnectionLost
    publisher.begin(continues=any(message.mark is not Mark.NONE for message in retained))
    return publisher, LiveRun(run, time.time(), retained)
