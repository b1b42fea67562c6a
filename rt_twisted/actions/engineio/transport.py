"""
The transport of an Engine.IO session: how its packets travel at the moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.message import Draft, PublishResult

# The names of transports in requests.
POLLING = "polling"
WEBSOCKET = "websocket"


class Transport(Protocol):
    """
    Long-polling or a websocket; an upgrade replaces the first by the second.
    """

    @property
    def name(self) -> str:
        """
        POLLING or WEBSOCKET.
        """

    @property
    def framing(self) -> Framing:
        """
        How packets become bytes on this transport.
        """

    @property
    def subscriber(self) -> Subscriber:
        """
        The hub's end of the transport: messages of channels are written to it.
        """

    def write(self, frames: bytes) -> None:
        """
        Send whole frames of the transport's framing, after all that was sent before.
        """

    def publish(self, drafts: Sequence[Draft]) -> PublishResult | Deferred[PublishResult]:
        """
        Publish messages of the client, as `Hub.publish`.

        While the broker has not confirmed them, the client can send only a bounded amount.

        Returns:
            The result itself if the broker has it at once.
        """

    def close(
        self,
        cause: DisconnectReason,
        last: bytes = b"",
        code: CloseCode = CloseCode.NORMAL,
        reason: str = "",
    ) -> None:
        """
        Close the transport. A second call changes nothing.

        Args:
            cause: for the metrics, if polling ends.
            last: a packet that answers a waiting poll; without it the poll fails, so
                that the client connects again.
            code: of the websocket's close frame.
            reason: in that frame.
        """
