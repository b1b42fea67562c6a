"""
A source's titles: requested by a message on its channel, wherever the request arrived.
"""

from __future__ import annotations

from collections.abc import Callable

from rt_twisted.formats.live import read_live
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.hub.watch import watch_channel
from rt_twisted.media.unit import Title
from rt_twisted.model.message import Message


def watch_titles(hub: Hub, channel: str, on_title: Callable[[str], object]) -> Subscriber:
    """
    Call *on_title* for each title that is requested on *channel*.

    Returns:
        a subscriber; detach it to end this.
    """

    def on_message(message: Message) -> None:
        if message.event == "unit/title":
            thing = read_live(message)
            if isinstance(thing, Title):
                on_title(thing.text)

    return watch_channel(hub, channel, on_message)
