"""
A subscriber inside the daemon, which calls a function for each message of a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.no_transport import NoTransport
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay, Since

_LIMITS = BacklogLimits(0, 0.0, SlowConsumerPolicy.DISCONNECT)


def watch_channel(
    hub: Hub,
    clock: IReactorTime,
    channel: str,
    since: Since | None,
    on_replay: Callable[[Sequence[bytes]], object],
    on_message: Callable[[bytes], object],
) -> Subscriber:
    """
    Call *on_message* with each message of *channel*, in a later turn of the reactor.

    Args:
        hub: of the channel.
        clock: the reactor.
        channel: its name.
        since: what is replayed.
        on_replay: called once, with what was replayed.
        on_message: called for each later one.

    Returns:
        a subscriber that counts nowhere; detach it to end this.
    """
    format = _ChannelWatch(clock, on_replay, on_message)
    subscriber = Subscriber(NoTransport(), format, hub, _LIMITS)
    hub.join(subscriber, [channel], since, counted=False)
    return subscriber


@implementer(IFormat)
class _ChannelWatch:
    """
    A format that writes nothing, and passes messages on.
    """

    content_type = ""
    heartbeat = b""

    def __init__(
        self,
        clock: IReactorTime,
        on_replay: Callable[[Sequence[bytes]], object],
        on_message: Callable[[bytes], object],
    ) -> None:
        self._clock = clock
        self._on_replay = on_replay
        self._on_message = on_message

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        # Not now: a flush may be in progress.
        self._clock.callLater(0, self._on_replay, [one.data for one in replay.messages])
        return []

    def encode(self, message: Message) -> bytes:
        self._clock.callLater(0, self._on_message, message.data)
        return b""

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""
