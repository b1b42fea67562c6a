"""
Replays of what this node retains itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime

from rt_twisted.hub.channel import Channel
from rt_twisted.hub.channel_table import ChannelTable
from rt_twisted.hub.fanout import Fanout
from rt_twisted.hub.resync import from_resync_point
from rt_twisted.model.interfaces import IFormat, ISyncFormat
from rt_twisted.model.message import After, Message, Position, Replay, Since, Sync


class LocalReplay:
    """
    Selects messages of the channels' own histories for subscribers that join.

    Args:
        channels: of this node.
        fanout: delivers what is received after a replay.
        end_of_log: return the position up to which everything is received.
        clock: the reactor.
        max_bytes: of data in one replay.

    Attributes:
        max_bytes: of data in one replay.
    """

    def __init__(
        self,
        channels: ChannelTable,
        fanout: Fanout,
        end_of_log: Callable[[], Position],
        clock: IReactorTime,
        max_bytes: int,
    ) -> None:
        self.max_bytes = max_bytes
        self._channels = channels
        self._fanout = fanout
        self._end_of_log = end_of_log
        self._clock = clock

    def replay(self, channels: Sequence[Channel], since: Since | None, format: IFormat) -> Replay:
        """
        Return what the histories of *channels* have, up to the first undelivered message: the
        next flush delivers the rest to this subscriber as to all others.
        """
        fanout = self._fanout
        fanout.start_gap_flush()
        first = fanout.first_undelivered()
        if first is not None and isinstance(since, After) and _is_since(since.position, first):
            # Such as the position of its own publication: it must not receive what precedes.
            fanout.start_flush()
            first = None
        end = self._end_of_log() if first is None else Position(first.epoch, first.offset - 1)
        if since is None:
            return Replay((), True, end)
        if isinstance(since, Sync):
            return Replay(self._resync(channels, since, format, end), True, end)
        found, complete = self._channels.replay(channels, since, self._clock.seconds())
        if isinstance(since, After) and since.position.offset > self._end_of_log().offset:
            complete = False  # the log was cut by a restart
        messages = [message for message in found if message.position.offset <= end.offset]
        return Replay(tuple(messages), complete, end)

    def _resync(
        self, channels: Sequence[Channel], since: Sync, format: IFormat, end: Position
    ) -> tuple[Message, ...]:
        """
        Return the retained messages up to *end* that *since* selects of one channel.
        """
        [channel] = channels
        now = self._clock.seconds()
        self._channels.expire(channel, now)
        entries = (
            (when, message)
            for when, message in channel.history.newest_first()
            if message.position.offset <= end.offset
        )
        moment = now - since.seconds
        return tuple(from_resync_point(entries, ISyncFormat(format), moment, self.max_bytes))


def newest_of(replay: Replay, max_bytes: int) -> Replay:
    """
    Return the newest messages of *replay* within *max_bytes*, and always the last one.
    What is left out makes the replay incomplete.
    """
    left = max_bytes
    for index in range(len(replay.messages) - 1, -1, -1):
        left -= len(replay.messages[index].data)
        if left < 0 and index < len(replay.messages) - 1:
            return Replay(replay.messages[index + 1 :], False, replay.position)
    return replay


def _is_since(position: Position, first: Position) -> bool:
    return position.epoch == first.epoch and position.offset >= first.offset
