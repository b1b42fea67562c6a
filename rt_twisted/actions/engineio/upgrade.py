"""
A session that began by polls changes over to a websocket.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.polling import PollingTransport
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.codecs.engineio import EngineIOPacket, EngineIOPacketType, text_of
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber

if TYPE_CHECKING:
    from rt_twisted.actions.engineio.session import Session

STRAGGLE = 5.0  # seconds in which what is on the way to a reader has reached it

_PROBE = "probe"


class UpgradeState(Enum):
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

    __slots__ = ("_by", "_candidate", "_context", "_session", "_step", "polls")

    def __init__(self, session: Session, polls: PollingTransport, context: ActionContext) -> None:
        self.polls = polls
        self._session = session
        self._context = context
        self._step = UpgradeState.POLLS
        self._candidate: WebSocket | None = None
        self._by = math.inf  # when the next step has to be taken

    @property
    def polling(self) -> bool:
        """
        Whether the session still polls.
        """
        return self._step in (UpgradeState.POLLS, UpgradeState.PROPOSED, UpgradeState.PROBED)

    @property
    def free(self) -> bool:
        """
        Whether a websocket may propose to take over.
        """
        return self._step is UpgradeState.POLLS

    @property
    def done(self) -> bool:
        """
        Whether there is nothing left to do.
        """
        return self._step is UpgradeState.DONE

    @property
    def due(self) -> float:
        """
        When to `look`.
        """
        return 0.0 if self._step is UpgradeState.TAKEN else self._by

    @property
    def hearing(self) -> Subscriber:
        """
        The reader that is in the channels.
        """
        moved = self._step in (UpgradeState.MOVED, UpgradeState.DONE)
        return self._session.subscriber if moved else self.polls.subscriber

    def propose(self, websocket: WebSocket) -> None:
        """
        *websocket* may take over, if it says so.
        """
        self._candidate = websocket
        self._step = UpgradeState.PROPOSED
        self._by = self._now() + self._context.socketio.upgrade_seconds

    def is_by(self, websocket: WebSocket) -> bool:
        """
        Whether *websocket* is the one that may.
        """
        return websocket is self._candidate

    def hear(self, packet: EngineIOPacket) -> None:
        """
        What it says.
        """
        candidate = self._candidate
        assert candidate is not None
        if packet == EngineIOPacket(EngineIOPacketType.PING, _PROBE):
            self._step = UpgradeState.PROBED
            candidate.send(text_of(EngineIOPacketType.PONG, _PROBE.encode()))
            self.polls.end_poll()
        elif packet.kind is EngineIOPacketType.UPGRADE:
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
            candidate.close(CloseCode.PROTOCOL_ERROR)

    def lost(self) -> None:
        """
        It is gone.
        """
        self._candidate = None
        self._step = UpgradeState.POLLS
        self._by = math.inf

    def polled(self) -> None:
        """
        The client polls once more, which it will not do for long.
        """
        if self._step is UpgradeState.PROBED:
            self.polls.end_poll()

    def look(self, now: float) -> None:
        """
        Take the next step, if it is time.
        """
        if self._step is UpgradeState.TAKEN:
            self._move_channels()
        elif now < self._by:
            return
        elif self._step is UpgradeState.MOVED:
            self.close(DisconnectReason.CLIENT)
        else:
            self.refuse()

    def close(self, cause: DisconnectReason) -> None:
        """
        The reader under polling leaves.
        """
        candidate, self._candidate = self._candidate, None
        self._step = UpgradeState.DONE
        self._by = math.inf
        self.polls.close(cause)
        if candidate is not None:
            candidate.close()

    def _take_over(self, websocket: WebSocket) -> None:
        session = self._session
        self.polls.end_poll()
        self._candidate = None
        self._step = UpgradeState.TAKEN
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
        self._context.hub.remove_channels(self.polls.subscriber, names)
        self._step = UpgradeState.MOVED
        self._by = self._now() + STRAGGLE
        session.enter(names, None, session.silent())

    def _now(self) -> float:
        now: float = self._context.reactor.seconds()
        return now
