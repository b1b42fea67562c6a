"""
A replay that a recovered client requests again, as it may have missed the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.poll_buffer import PollBuffer
from rt_twisted.actions.socketio.stream import SocketStream
from rt_twisted.codecs.engineio_framing import reframe
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.socketio import ResumedSocketIOEvents, SocketIOEvents
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.message import Position, Since


class MissedReplay:
    """
    Replays to a recovered client what its channels had before it was disconnected.

    A client may have been disconnected before it received the replay of a channel that it
    had joined. Once per channel it may join again with the same start: what lies before
    its position is replayed, as it has received all that came after.

    Args:
        context: settings and hub.
        position: which the client received last.

    Attributes:
        names: of the channels that may be replayed.
    """

    __slots__ = ("_context", "_subscribers", "names", "position")

    def __init__(self, context: ActionContext, position: Position) -> None:
        self.names: set[Selector] = set()
        self.position = position
        self._context = context
        self._subscribers: set[Subscriber] = set()  # of replays that wait for the broker

    def replay(
        self, names: Sequence[Selector], since: Since, stream: SocketStream, format: SocketIOEvents
    ) -> None:
        """
        Write to *stream* what *since* selects before the position.

        Args:
            names: channels; those that may not be replayed are left out.
            since: the start.
            stream: of the client.
            format: of the client's namespace.
        """
        requested = self.names.intersection(names)
        if not requested:
            return
        self.names -= requested
        context = self._context
        before: Any = stream.framing  # of polling, if it changes
        buffer = PollBuffer(context.reactor, lambda dropped: None)
        earlier = ResumedSocketIOEvents(format, self.position)
        subscriber = Subscriber(buffer, earlier, context.hub, context.backlog_limits)
        self._subscribers.add(subscriber)

        def deliver(frames: bytes) -> None:
            self._subscribers.discard(subscriber)
            subscriber.drop(DisconnectReason.ENDED)
            if stream.framing != before:  # it was upgraded to a websocket
                frames = reframe(frames, before, stream.framing)
            if stream.channels.complete:
                stream.channels.join((), None, format, frames)  # with a cursor behind it
            else:
                stream.write(frames)

        context.hub.join(subscriber, list(requested), since)
        buffer.fetch(deliver)

    def close(self) -> None:
        """
        Drop the replays that wait, as the client has disconnected.
        """
        for subscriber in tuple(self._subscribers):
            subscriber.drop(DisconnectReason.CLIENT)
