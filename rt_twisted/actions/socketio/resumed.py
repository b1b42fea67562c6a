"""
A client that has come back asks once more for what it was not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.poll_buffer import PollBuffer
from rt_twisted.codecs.engineio_framing import reframed
from rt_twisted.formats.socketio import ResumedSocketIOEvents, SocketIOEvents
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.message import Position, Since

if TYPE_CHECKING:
    from rt_twisted.actions.socketio.namespace_seat import ChannelSubscription


class Resumed:
    """
    Channels of a client that has come back, heard again from where it was.

    One that was cut off before it got its answer may ask for them once more, with
    what it wanted to be told first: it is told that as far as it lies before. All
    that came after, it has been told.

    Args:
        house: the daemon.
        position: where it was.

    Attributes:
        names: of the channels that it may ask for once more.
    """

    __slots__ = ("_context", "_subscribers", "names", "position")

    def __init__(self, context: ActionContext, position: Position) -> None:
        self.names: set[str] = set()
        self.position = position
        self._context = context
        self._subscribers: set[Subscriber] = set()  # what they ask for may have to be fetched

    def tell(
        self, names: Sequence[str], since: Since, ear: ChannelSubscription, format: SocketIOEvents
    ) -> None:
        """
        Tell *ear* of those of *names* that may be asked for, what *since* asks for.
        """
        asked = self.names.intersection(names)
        if not asked:
            return
        self.names -= asked
        context = self._context
        before: Any = ear.framing  # that of polls, if it changes
        mailbox = PollBuffer(context.reactor, lambda: None)
        earlier = ResumedSocketIOEvents(format, self.position)
        subscriber = Subscriber(mailbox, earlier, context.hub, context.backlog_limits)
        self._subscribers.add(subscriber)

        def told(frames: bytes) -> None:
            self._subscribers.discard(subscriber)
            subscriber.drop(DisconnectReason.ENDED)
            if ear.framing != before:  # it has changed over to a websocket
                frames = reframed(frames, before, ear.framing)
            if ear.settled:
                ear.join((), None, format, frames)  # with a cursor behind it
            else:
                ear.write(frames)

        context.hub.join(subscriber, list(asked), since)
        mailbox.ask(told)

    def close(self) -> None:
        """
        Nobody is there to be told.
        """
        for subscriber in tuple(self._subscribers):
            subscriber.drop(DisconnectReason.CLIENT)
