"""
A source's titles: requested by a message on its channel, wherever the request arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from rt_twisted.formats.live import read_live
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.no_transport import NoTransport
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.media.unit import Title
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay

_LIMITS = BacklogLimits(0, 0.0, SlowConsumerPolicy.DISCONNECT)


def watch_titles(hub: Hub, channel: str, on_title: Callable[[str], object]) -> Subscriber:
    """
    Call *on_title* for each title that is requested on *channel*.

    Returns:
        a subscriber; detach it to end this.
    """
    subscriber = Subscriber(NoTransport(), _TitleWatch(on_title), hub, _LIMITS)
    hub.join(subscriber, [channel], None, counted=False)
    return subscriber


@implementer(IFormat)
class _TitleWatch:
    """
    A format that writes nothing, and passes titles on.
    """

    content_type = ""
    heartbeat = b""

    def __init__(self, on_title: Callable[[str], object]) -> None:
        self._on_title = on_title

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return []

    def encode(self, message: Message) -> bytes:
        if message.event == "unit/title":
            thing = read_live(message)
            if isinstance(thing, Title):
                self._on_title(thing.text)
        return b""

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""
