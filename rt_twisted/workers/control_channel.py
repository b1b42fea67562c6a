"""
The control channel between the parent and a worker: JSON values over a socket pair.
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

MAX_MESSAGE = 64 << 20  # bytes; enough for 50,000 channels with long names


@implementer(IPushProducer)
class ControlChannel(Int32StringReceiver):
    """
    One end of the channel. It never blocks.

    Args:
        on_message: called with this channel and each message.
        on_lost: called once, when the other end has closed.
    """

    MAX_LENGTH = MAX_MESSAGE
    transport: Any

    def __init__(
        self,
        on_message: Callable[[ControlChannel, dict[str, Any]], None],
        on_lost: Callable[[ControlChannel], None],
    ) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._congested = False

    def connectionMade(self) -> None:
        # As a producer, it is notified when the other end does not keep up.
        self.transport.registerProducer(self, True)

    def send(self, what: str, **fields: Any) -> None:
        """
        Send a message that must arrive; it is queued if the other end is slow.
        """
        if self.transport is not None and self.connected:
            message = json.dumps({"what": what, **fields}, ensure_ascii=True)
            self.sendString(message.encode())  # type: ignore[no-untyped-call]  # Twisted's

    def send_unless_congested(self, what: str, **fields: Any) -> bool:
        """
        Send a message that may be dropped.

        Returns:
            False if it was dropped, as the other end does not keep up.
        """
        if self._congested:
            return False
        self.send(what, **fields)
        return True

    def stringReceived(self, string: bytes) -> None:
        self._on_message(self, json.loads(string))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._on_lost(self)

    def pauseProducing(self) -> None:
        self._congested = True

    def resumeProducing(self) -> None:
        self._congested = False

    def stopProducing(self) -> None:
        pass
