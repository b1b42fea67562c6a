"""
Waits for the message with which a viewer will begin, before the viewer is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.no_transport import NoTransport
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IFormat, ISyncFormat
from rt_twisted.model.message import Message, Position, Replay, Sync

_LIMITS = BacklogLimits(0, 0.0, SlowConsumerPolicy.DISCONNECT)


def first_message(
    hub: Hub, clock: IReactorTime, channel: str, format: ISyncFormat, wait: float
) -> Deferred[Message | None]:
    """
    Return the message of *channel* at which a viewer with *format* begins.

    Args:
        hub: all channels.
        clock: the reactor.
        channel: its name.
        format: finds the resync point.
        wait: seconds to wait for one.

    Returns:
        fires with None if there is none in time, or the daemon stops. May be cancelled: the
        viewer has left.
    """
    probe = _Probe(clock, format)
    subscriber = Subscriber(NoTransport(), probe, hub, _LIMITS)
    done: Deferred[Message | None] = Deferred()

    def finish(message: Message | None) -> Message | None:
        if timeout.active():
            timeout.cancel()
        hub.live.searches.discard(done)
        subscriber.detach(DisconnectReason.ENDED)
        return message

    def answer(message: Message | None) -> None:
        if not done.called:
            done.callback(message)

    def cancelled(failure: Any) -> Any:
        finish(None)
        return failure

    timeout = clock.callLater(wait, answer, None)
    done.addCallbacks(finish, cancelled)
    probe.found.addCallback(answer)
    hub.live.searches.add(done)
    hub.join(subscriber, [channel], Sync(), counted=False)
    return done


@implementer(ISyncFormat)
class _Probe:
    """
    A format that writes nothing, and notes with which message it begins.
    """

    content_type = ""
    heartbeat = b""

    def __init__(self, clock: IReactorTime, inner: ISyncFormat) -> None:
        self.found: Deferred[Message] = Deferred()
        self._clock = clock
        self._inner = inner

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        # Not now: a flush is in progress.
        self._clock.callLater(0, self.found.callback, replay.messages[0])
        return []

    def encode(self, message: Message) -> bytes:
        return b""

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""

    def is_resync_point(self, message: Message) -> bool:
        return self._inner.is_resync_point(message)

    def must_restart(self, message: Message) -> bool:
        return False

    def resumed(self, last: Message | None, first: Message) -> IFormat:
        return self
