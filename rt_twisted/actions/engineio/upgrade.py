"""
The upgrade of an Engine.IO session from polling to a websocket.
"""

from __future__ import annotations

import math
from enum import Enum

from twisted.internet.interfaces import IReactorTime

from rt_twisted.actions.engineio.channel_subscription import ChannelSubscription
from rt_twisted.actions.engineio.polling import PollingTransport
from rt_twisted.actions.engineio.transport import Transport
from rt_twisted.codecs.engineio import EngineIOPacket, EngineIOPacketType, encode_text
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.model.interfaces import IFormat

DRAIN_SECONDS = 5.0  # by then all that was on its way to the old subscriber has reached it

_PROBE = "probe"


class UpgradeState(Enum):
    """
    How far an upgrade is.
    """

    POLLING = "polling"  # there is no websocket yet
    PROPOSED = "proposed"  # a websocket is open, and has not been probed
    PROBED = "probed"  # it will take over: polls are answered at once
    SWITCHED = "switched"  # it has taken over; the channels have the subscriber of polling
    DRAINING = "draining"  # the channels have the websocket's subscriber
    DONE = "done"  # the subscriber of polling is closed


class Upgrade:
    """
    The steps of one session's upgrade.

    The hub writes to the subscriber of polling until the channels can be moved to the
    websocket's, and for a little longer: messages of the current flush are still
    written to it, and are forwarded.

    Args:
        polling: the session's transport so far.
        channels: of the session.
        clock: the reactor.
        seconds: which the client has for each of its steps.

    Attributes:
        candidate: a websocket that may request to take over.
    """

    __slots__ = (
        "_channels",
        "_clock",
        "_deadline",
        "_polling",
        "_quiet",
        "_seconds",
        "_state",
        "_target",
        "candidate",
    )

    def __init__(
        self,
        polling: PollingTransport,
        channels: ChannelSubscription,
        clock: IReactorTime,
        seconds: float,
    ) -> None:
        self.candidate: Transport | None = None
        self._polling = polling
        self._channels = channels
        self._clock = clock
        self._seconds = seconds
        self._state = UpgradeState.POLLING
        self._deadline = math.inf  # of the current step
        self._target: Transport | None = None
        self._quiet: IFormat | None = None

    @property
    def available(self) -> bool:
        """
        Whether a websocket may be proposed.
        """
        return self._state is UpgradeState.POLLING

    @property
    def done(self) -> bool:
        """
        Whether nothing is left to do.
        """
        return self._state is UpgradeState.DONE

    @property
    def due(self) -> float:
        """
        When to call `check` next.
        """
        return 0.0 if self._state is UpgradeState.SWITCHED else self._deadline

    def propose(self, candidate: Transport) -> None:
        """
        Wait for *candidate* to ask for the upgrade.
        """
        self.candidate = candidate
        self._state = UpgradeState.PROPOSED
        self._deadline = self._clock.seconds() + self._seconds

    def receive(self, packet: EngineIOPacket) -> bool:
        """
        Process a packet that came by the candidate.

        Returns:
            whether the candidate takes over now: make it the session's transport,
            then call `drain_to`.
        """
        candidate = self.candidate
        assert candidate is not None
        if packet == EngineIOPacket(EngineIOPacketType.PING, _PROBE):
            self._state = UpgradeState.PROBED
            pong = encode_text(EngineIOPacketType.PONG, _PROBE.encode())
            candidate.write(candidate.framing.text(pong))
            self._polling.end_poll()
        elif packet.kind is EngineIOPacketType.UPGRADE:
            self._polling.end_poll()
            self.candidate = None
            self._state = UpgradeState.SWITCHED
            return True
        else:
            self.refuse()
        return False

    def refuse(self) -> None:
        """
        Close the candidate, if there is one; the session goes on polling.
        """
        candidate = self.candidate
        if candidate is not None:
            self.withdraw()
            candidate.close(DisconnectReason.CLIENT, code=CloseCode.PROTOCOL_ERROR)

    def withdraw(self) -> None:
        """
        Forget the candidate, which is closed; another one may be proposed.
        """
        self.candidate = None
        self._state = UpgradeState.POLLING
        self._deadline = math.inf

    def on_poll(self) -> None:
        """
        Answer a poll that comes after the probe: the client has to stop polling.
        """
        if self._state is UpgradeState.PROBED:
            self._polling.end_poll()

    def drain_to(self, target: Transport, quiet: IFormat) -> None:
        """
        Forward what is written to the subscriber of polling, and move the channels.

        Args:
            target: the session's new transport.
            quiet: its format; `start` returns nothing to send.
        """
        self._target = target
        self._quiet = quiet
        self._polling.forward(target)
        self._move_channels()

    def check(self, now: float) -> None:
        """
        Take the step that is due at the time *now*, if one is.
        """
        if self._state is UpgradeState.SWITCHED:
            self._move_channels()
        elif now < self._deadline:
            return
        elif self._state is UpgradeState.DRAINING:
            self.close(DisconnectReason.CLIENT)
        else:
            self.refuse()

    def close(self, cause: DisconnectReason) -> None:
        """
        Close the candidate, and polling if it is no longer the session's transport.
        """
        candidate, self.candidate = self.candidate, None
        self._state = UpgradeState.DONE
        self._deadline = math.inf
        if self._target is not None:
            self._polling.close(cause)
        if candidate is not None:
            candidate.close(cause)

    def _move_channels(self) -> None:
        """
        Move the channels, unless the broker still has to confirm one or to replay.
        """
        if not self._channels.complete:
            return
        assert self._target is not None and self._quiet is not None
        self._state = UpgradeState.DRAINING
        self._deadline = self._clock.seconds() + DRAIN_SECONDS
        self._channels.move(self._target.subscriber, self._quiet)
