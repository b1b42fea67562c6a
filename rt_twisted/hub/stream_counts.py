"""
Counts what subscribers are sent whose streams have a line in the access log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rt_twisted.http.stream_handle import StreamEntry
from rt_twisted.hub.channel import Channel
from rt_twisted.hub.sinks import SentBytes
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber


@dataclass(slots=True)
class CountedStream:
    """
    A stream that is logged when it ends.

    Args:
        entry: its line in the access log.
        sent: the bytes that were sent.
        began: when it joined the hub (seconds).
        messages: of the replay, and of channels that it has left, less those that its present
            channels had received before.
    """

    entry: StreamEntry
    sent: SentBytes
    began: float
    messages: int = 0


class StreamCounts:
    """
    The streams that are logged at their end: none without an access log.

    Messages are counted by channel, and not as they are sent: that would cost the fan-out
    something for each subscriber.
    """

    def __init__(self) -> None:
        self._streams: dict[Subscriber, CountedStream] = {}

    def begin(self, subscriber: Subscriber, entry: StreamEntry, now: float) -> None:
        """
        Count what *subscriber*, which joins at *now* (seconds), is sent.
        """
        self._streams[subscriber] = CountedStream(entry, subscriber.count_sent(), now)

    def replayed(self, subscriber: Subscriber, count: int) -> None:
        """
        Count *count* messages that were replayed.
        """
        stream = self._streams.get(subscriber)
        if stream is not None:
            stream.messages += count

    def moved(
        self, subscriber: Subscriber, left: Iterable[Channel], joined: Iterable[Channel]
    ) -> None:
        """
        Note that *subscriber* has *joined* channels, and *left* others.
        """
        stream = self._streams.get(subscriber)
        if stream is not None:
            stream.messages += sum(map(_delivered, left)) - sum(map(_delivered, joined))

    def end(self, subscriber: Subscriber, now: float, reason: DisconnectReason) -> None:
        """
        Write the line of *subscriber*, which has left all its channels at *now* (seconds).
        """
        stream = self._streams.pop(subscriber, None)
        if stream is not None:
            seconds, messages = now - stream.began, max(0, stream.messages)
            stream.entry.end(seconds, stream.sent.bytes, messages, reason.value)


def _delivered(channel: Channel) -> int:
    """
    Return how many messages *channel* has given to the fan-out.
    """
    return channel.received_count - len(channel.undelivered or ())
