"""
A client that has come back asks once more for what it was not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rt_twisted.actions.engineio.mailbox import Mailbox
from rt_twisted.codecs.engineio_framing import reframed
from rt_twisted.codecs.socketio_events import Earlier, Events
from rt_twisted.house import House
from rt_twisted.message import Position, Since
from rt_twisted.subscriber import Cause, Subscriber

if TYPE_CHECKING:
    from rt_twisted.actions.socketio.seat import Ear


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

    __slots__ = ("_house", "_readers", "names", "position")

    def __init__(self, house: House, position: Position) -> None:
        self.names: set[str] = set()
        self.position = position
        self._house = house
        self._readers: set[Subscriber] = set()  # what they ask for may have to be fetched

    def tell(self, names: Sequence[str], since: Since, ear: Ear, format: Events) -> None:
        """
        Tell *ear* of those of *names* that may be asked for, what *since* asks for.
        """
        asked = self.names.intersection(names)
        if not asked:
            return
        self.names -= asked
        house = self._house
        before: Any = ear.framing  # that of polls, if it changes
        mailbox = Mailbox(house.reactor, lambda: None)
        earlier = Earlier(format, self.position)
        reader = Subscriber(mailbox, earlier, house.hub, house.patience)
        self._readers.add(reader)

        def told(frames: bytes) -> None:
            self._readers.discard(reader)
            reader.drop(Cause.ENDED)
            if ear.framing != before:  # it has changed over to a websocket
                frames = reframed(frames, before, ear.framing)
            if ear.settled:
                ear.join((), None, format, frames)  # with a cursor behind it
            else:
                ear.write(frames)

        house.hub.join(reader, list(asked), since)
        mailbox.ask(told)

    def close(self) -> None:
        """
        Nobody is there to be told.
        """
        for reader in tuple(self._readers):
            reader.drop(Cause.CLIENT)
