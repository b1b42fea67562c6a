"""
The channels to which a client subscribes, while its subscriber may change.
"""

from __future__ import annotations

from collections.abc import Sequence

from rt_twisted.codecs.wildcards import Selector
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Since


class ChannelSubscription:
    """
    Channels in the hub for one client, which an upgrade moves to another subscriber.

    Args:
        hub: of the channels.
        subscriber: has joined the hub without channels.

    Attributes:
        names: of channels that are subscribed, or requested from the broker.
    """

    __slots__ = ("_hub", "_subscriber", "names")

    def __init__(self, hub: Hub, subscriber: Subscriber) -> None:
        self.names: tuple[Selector, ...] = ()
        self._hub = hub
        self._subscriber = subscriber

    @property
    def complete(self) -> bool:
        """
        Whether all channels are subscribed; the broker may not have confirmed some yet.
        """
        subscribed = {channel.name for channel in self._subscriber.channels}
        return subscribed.issuperset(self.names)

    def join(
        self, names: Sequence[Selector], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        """
        Subscribe to further channels.

        Args:
            names: distinct, and not subscribed yet; may be empty.
            since: what is replayed of them first.
            format: of a replay that is sent at once; equal to the subscriber's.
            head: whole frames, sent before the replay.
        """
        self.names += tuple(names)
        self._hub.add_channels(self._subscriber, names, since, head, format)

    def leave(self, names: Sequence[Selector]) -> None:
        """
        Unsubscribe from the channels *names*.
        """
        self.names = tuple([name for name in self.names if name not in names])
        self._hub.remove_channels(self._subscriber, names)

    def move(self, subscriber: Subscriber, format: IFormat) -> None:
        """
        Subscribe *subscriber* to the channels in place of the one so far.

        Messages of the current flush are still written to the old subscriber.

        Args:
            subscriber: has joined the hub, and has no channels.
            format: its `start` returns nothing to send.
        """
        self._hub.remove_channels(self._subscriber, self.names)
        self._subscriber = subscriber
        self._hub.add_channels(subscriber, self.names, None, b"", format)
