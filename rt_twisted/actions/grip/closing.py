"""
Held streams that end because the application says so.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from rt_twisted.codecs.grip import HoldMode
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.grip import GripEvents, GripStream
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.hub.watch import watch_channel
from rt_twisted.model.internal_channels import CLOSED, held_channel
from rt_twisted.model.message import Message


class HeldStreams:
    """
    Ends the streams of this process whose channels are closed by an item of GRIP.

    Args:
        hub: all channels.
        clock: the reactor.
    """

    def __init__(self, hub: Hub, clock: Any) -> None:
        self._hub = hub
        self._clock = clock
        watch_channel(hub, CLOSED, self._on_message)

    def _on_message(self, message: Message) -> None:
        # Not now: a flush is in progress.
        self._clock.callLater(0, self._close, message.data.decode(errors="replace"))

    def _close(self, name: str) -> None:
        self._hub.call_after_flush(partial(self._end, held_channel(HoldMode.STREAM.value, name)))

    def _end(self, channel: str) -> None:
        for subscriber in tuple(self._hub.all_subscribers()):
            # The names last: others may have many channels.
            if _is_held(subscriber) and channel in [str(one.name) for one in subscriber.channels]:
                subscriber.end_after_backlog()


def _is_held(subscriber: Subscriber) -> bool:
    format = subscriber.format
    return isinstance(
        format.inner if isinstance(format, Chunked) else format, GripEvents | GripStream
    )
