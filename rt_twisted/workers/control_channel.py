"""
The line between the parent and a worker: JSON values over a socket pair.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

LONGEST = 64 << 20  # bytes; 50,000 channels with long names


@implementer(IPushProducer)
class ControlChannel(Int32StringReceiver):
    """
    One end. Never waits: what the other end is too slow for is not said.

    Args:
        hears: is told each value, and which line it came by.
        lost: is told once that the other end is gone.
    """

    MAX_LENGTH = LONGEST
    transport: Any

    def __init__(
        self, hears: Callable[[Any, dict[str, Any]], None], lost: Callable[[Any], None]
    ) -> None:
        self._hears = hears
        self._lost = lost
        self._clogged = False

    def connectionMade(self) -> None:
        """
        Learn from now on whether the other end reads.
        """
        self.transport.registerProducer(self, True)

    def say(self, what: str, **fields: Any) -> None:
        """
        Send a word that has to arrive; there are few of them.
        """
        if self.transport is not None and self.connected:
            said = json.dumps({"what": what, **fields}, ensure_ascii=True)
            self.sendString(said.encode())  # type: ignore[no-untyped-call]  # Twisted's

    def offer(self, what: str, **fields: Any) -> bool:
        """
        Send something that another time will do for as well.

        Returns:
            False if it was not sent.
        """
        if self._clogged:
            return False
        self.say(what, **fields)
        return True

    def stringReceived(self, string: bytes) -> None:
        """
        See `Int32StringReceiver`.
        """
        self._hears(self, json.loads(string))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        See `Protocol`.
        """
        self._lost(self)

    def pauseProducing(self) -> None:
        """
        The other end does not keep up.
        """
        self._clogged = True

    def resumeProducing(self) -> None:
        """
        It does again.
        """
        self._clogged = False

    def stopProducing(self) -> None:
        """
        It is gone; `connectionLost` follows.
        """
