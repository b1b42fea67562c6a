"""
Where a socket writes and subscribes: its session, or a further subscriber in it.
"""

from __future__ import annotations

from typing import Any, Protocol

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.channel_subscription import ChannelSubscription
from rt_twisted.actions.engineio.session import Session
from rt_twisted.actions.poll_buffer import PollBuffer
from rt_twisted.codecs.engineio_framing import Framing, reframe
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IFormat


class SocketStream(Protocol):
    """
    What a socket needs of its session; `Session` provides it for the main namespace.
    """

    @property
    def framing(self) -> Framing:
        """
        How packets become bytes on the wire at the moment.
        """

    @property
    def channels(self) -> ChannelSubscription:
        """
        The channels of the socket's namespace.
        """

    def write(self, frames: bytes) -> None:
        """
        Send whole frames, after all that was sent before.
        """


class NamespaceStream:
    """
    A further subscriber of a session, for the channels of one more namespace.

    Args:
        context: settings and hub.
        session: frames are written to it.
        format: of the namespace.
        quiet: the same, but `start` returns nothing to send.
        address: the client's, as the limits count it.
    """

    __slots__ = ("_buffer", "_hub", "_session", "_subscriber", "channels", "framing")

    def __init__(
        self,
        context: ActionContext,
        session: Session,
        format: IFormat,
        quiet: IFormat,
        address: str,
    ) -> None:
        self.framing: Framing = session.framing
        self._hub = context.hub
        self._session = session
        self._buffer = PollBuffer(context.reactor, _ignore)
        self._subscriber = Subscriber(
            self._buffer, format, context.hub, context.backlog_limits, address
        )
        self.channels = ChannelSubscription(context.hub, self._subscriber)
        context.hub.join(self._subscriber, (), None, counted=False, format=quiet)
        self._buffer.fetch(self._forward)

    def write(self, frames: bytes) -> None:
        self._subscriber.write(frames)

    def count(self) -> None:
        """
        Count the subscriber, as the client has connected to the namespace.
        """
        self._hub.count_subscriber(self._subscriber)

    def close(self) -> None:
        """
        Send what was written, and drop the subscriber.
        """
        self._buffer.flush()
        self._subscriber.drop(DisconnectReason.CLIENT)

    def _forward(self, frames: bytes) -> None:
        session = self._session
        if session.framing != self.framing:  # it was upgraded to a websocket
            polling: Any = self.framing  # no other transport is ever replaced
            frames = reframe(frames, polling, session.framing)
        session.write(frames)
        self._buffer.fetch(self._forward)


def _ignore(dropped: bool) -> None:
    """
    Do nothing when the subscriber is dropped: its session goes on.
    """
