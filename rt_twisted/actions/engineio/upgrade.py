"""
A session that began by polls changes over to a websocket.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

from rt_twisted.actions.engineio.polls import Polls
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.codecs.engineio import Kind, Packet, text_of
from rt_twisted.codecs.websocket import Code
from rt_twisted.house import House
from rt_twisted.subscriber import Cause, Subscriber

if TYPE_CHECKING:
    from rt_twisted.actions.engineio.session import Session

STRAGGLE = 5.0  # seconds in which what is on the way to a reader has reached it

_PROBE = "probe"


class Step(Enum):
    """
    How far it is.
    """

    POLLS = "polls"  # no websocket is in sight
    PROPOSED = "proposed"  # there is one, and has to say what it is for
    PROBED = "probed"  # it will take over: polls are answered at once
    TAKEN = "taken"  # it has; the hub still tells the reader under polling
    MOVED = "moved"  # the hub tells the websocket's reader
    DONE = "done"  # and nobody else


class Upgrade:
    """
    The way there. What the hub tells goes to the reader under polling until the
    other one can take its channels over, and a little longer: what is being told
    in that moment still comes to it, and is passed on.

    Args:
        session: which.
        polls: its transport so far.
        house: the daemon.
    """

    __slots__ = ("_by", "_candidate", "_house", "_session", "_step", "polls")

    def __init__(self, session: Session, polls: Polls, house: House) -> None:
        self.polls = polls
        self._session = session
        self._house = house
        self._step = Step.POLLS
        self._candidate: WebSocket | None = None
        self._by = math.inf  # when the next step has to be taken

    @property
    def polling(self) -> bool:
        """
        Whether the session still polls.
        """
        return self._step in (Step.POLLS, Step.PROPOSED, Step.PROBED)

    @property
    def free(self) -> bool:
        """
        Whether a websocket may propose to take over.
        """
        return self._step is Step.POLLS

    @property
    def done(self) -> bool:
        """
        Whether there is nothing left to do.
        """
        return self._step is Step.DONE

    @property
    def due(self) -> float:
        """
        When to `look`.
        """
        return 0.0 if self._step is Step.TAKEN else self._by

    @property
    def hearing(self) -> Subscriber:
        """
        The reader that is in the channels.
        """
        moved = self._step in (Step.MOVED, Step.DONE)
        return self._session.reader if moved else self.polls.reader

    def propose(self, websocket: WebSocket) -> None:
        """
        *websocket* may take over, if it says so.
        """
        self._candidate = websocket
        self._step = Step.PROPOSED
        self._by = self._now() + self._house.socketio.upgrade_seconds

    def is_by(self, websocket: WebSocket) -> bool:
        """
        Whether *websocket* is the one that may.
        """
        return websocket is self._candidate

    def hear(self, packet: Packet) -> None:
        """
        What it says.
        """
        candidate = self._candidate
        assert candidate is not None
        if packet == Packet(Kind.PING, _PROBE):
            self._step = Step.PROBED
            candidate.send(text_of(Kind.PONG, _PROBE.encode()))
            self.polls.end_poll()
        elif packet.kind is Kind.UPGRADE:
            self._take_over(candidate)
        else:
            self.refuse()

    def refuse(self) -> None:
        """
        It may not.
        """
        candidate = self._candidate
        if candidate is not None:
            self.lost()
            candidate.close(Code.PROTOCOL_ERROR)

    def lost(self) -> None:
        """
        It is gone.
        """
        self._candidate = None
        self._step = Step.POLLS
        self._by = math.inf

    def polled(self) -> None:
        """
        The client polls once more, which it will not do for long.
        """
        if self._step is Step.PROBED:
            self.polls.end_poll()

    def look(self, now: float) -> None:
        """
        Take the next step, if it is time.
        """
        if self._step is Step.TAKEN:
            self._move_channels()
        elif now < self._by:
            return
        elif self._step is Step.MOVED:
            self.close(Cause.CLIENT)
        else:
            self.refuse()

    def close(self, cause: Cause) -> None:
        """
        The reader under polling leaves.
        """
        candidate, self._candidate = self._candidate, None
        self._step = Step.DONE
        self._by = math.inf
        self.polls.close(cause)
        if candidate is not None:
            candidate.close()

    def _take_over(self, websocket: WebSocket) -> None:
        session = self._session
        self.polls.end_poll()
        self._candidate = None
        self._step = Step.TAKEN
        session.take(websocket)
        self.polls.forward(session.framing, session.write)
        self._move_channels()

    def _move_channels(self) -> None:
        """
        Have the websocket's reader hear what the other one hears, from the next
        turn on. Who waits for a broker to tell what was missed is moved when it
        has been told.
        """
        session = self._session
        if not session.settled:
            return
        names = session.channels
        self._house.hub.remove(self.polls.reader, names)
        self._step = Step.MOVED
        self._by = self._now() + STRAGGLE
        session.enter(names, None, session.silent())

    def _now(self) -> float:
        now: float = self._house.reactor.seconds()
        return now
