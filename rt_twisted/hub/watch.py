"""
A subscriber inside the daemon, which calls a function for each message of a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import implementer

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.no_transport import NoTransport
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay, Since

_LIMITS = BacklogLimits(0, 0.0, SlowConsumerPolicy.DISCONNECT)

OnReplay = Callable[[Sequence[Message]], object]
OnMessage = Callable[[Message], object]
OnGap = Callable[[], object]


def watch_channel(
    hub: Hub,
    channel: str,
    on_message: OnMessage,
    since: Since | None = None,
    on_replay: OnReplay | None = None,
    on_gap: OnGap | None = None,
) -> Subscriber:
    """
    Call *on_message* with each message of *channel*.

    The functions are called while the hub sends: what publishes or subscribes must wait for the
    next turn of the reactor.

    Args:
        hub: of the channel.
        channel: its name.
        on_message: called for each message behind the replay.
        since: what is replayed.
        on_replay: called once, with what was replayed.
        on_gap: called when messages may be lost.

    Returns:
        a subscriber that counts nowhere; detach it to end this.
    """
    subscriber = Subscriber(
        NoTransport(), _ChannelWatch(on_message, on_replay, on_gap), hub, _LIMITS
    )
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
        self, on_message: OnMessage, on_replay: OnReplay | None, on_gap: OnGap | None
    ) -> None:
        self._on_message = on_message
        self._on_replay = on_replay
        self._on_gap = on_gap

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        if self._on_replay is not None:
            self._on_replay(replay.messages)
        return []

    def encode(self, message: Message) -> bytes:
        self._on_message(message)
        return b""

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        if self._on_gap is not None:
            self._on_gap()
        return b""

    def end(self, retry: int) -> bytes:
        return b""
