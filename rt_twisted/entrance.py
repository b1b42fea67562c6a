"""
The way into channels: what a reader that joins is told first, and what it has to
wait for until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.channels import Channel, Channels
from rt_twisted.counts import Counts
from rt_twisted.interfaces import IBroker, IHistory, Unavailable
from rt_twisted.message import After, Message, Newest, Position, Replay, Since
from rt_twisted.replay_frames import ReplayFrames, shared_frames
from rt_twisted.subscriber import Cause, Subscriber
from rt_twisted.turns import Turns

_log = Logger()
_heard = attrgetter("heard")


class Joining:
    """
    A reader on its way into channels, for which something has to be waited.

    Args:
        reader: which.
        channels: that it does not hear yet.
        since: what it shall be told of them first.
        head: bytes to be written in front of that.
    """

    __slots__ = ("asked", "channels", "head", "reader", "since")

    def __init__(
        self,
        reader: Subscriber,
        channels: tuple[Channel, ...],
        since: Since | None,
        head: bytes,
    ) -> None:
        self.reader = reader
        self.channels = channels
        self.since = since
        self.head = head
        self.asked: Deferred[Replay] | None = None  # what the archive was, if it was


class Entrance:
    """
    Lets readers into channels: when the broker hears them, when what they ask
    for is found, here or in the broker's archive, and when they have been told
    what comes before it.

    Args:
        broker: is asked for channels, and for its history if it has one.
        clock: the reactor.
        channels: of this node.
        turns: what is still to be told.
        counts: of replays and gaps.
        head: everything up to there is received.
        replay_bytes: replayed to one reader.
    """

    def __init__(
        self,
        broker: IBroker,
        clock: IReactorTime,
        channels: Channels,
        turns: Turns,
        counts: Counts,
        head: Callable[[], Position],
        replay_bytes: int,
    ) -> None:
        self.replay_bytes = replay_bytes
        self.waiting: dict[Subscriber, list[Joining]] = {}
        self._broker = broker
        self._archive: Any = IHistory(broker, None)
        self._clock = clock
        self._channels = channels
        self._turns = turns
        self._counts = counts
        self._head = head
        self._frames = shared_frames()
        # What the archive was asked for, while it is sent: many may ask for the same.
        self._fetched: WeakValueDictionary[Position, Message] = WeakValueDictionary()

    def enter(
        self, reader: Subscriber, names: Sequence[str], since: Since | None, head: bytes
    ) -> None:
        """
        Let *reader* hear the channels *names*, as soon as that can be, and tell
        it first what *since* asks for, with *head* in front. Channels that it
        hears, or is about to, are left out.
        """
        if reader.channels or reader in self.waiting:
            here = {channel.name for channel in reader.channels}
            for joining in self.waiting.get(reader, ()):
                here.update([channel.name for channel in joining.channels])
            names = [name for name in names if name not in here]
        try:
            channels = self._wanted(names)
        except Exception:
            reader.drop(Cause.LOST)  # the broker's fault; it may come back
            raise
        if all(map(_heard, channels)):
            replay = self._recall(channels, since)
            if self._suffices(replay, channels, since) and not self._is_between(reader):
                self._start(reader, channels, replay, head)
                return
        if not reader.channels:
            reader.write(head)
            head = b""
        if reader.gone:
            return
        self._wait(Joining(reader, channels, since, head))

    def remove(self, reader: Subscriber, names: Iterable[str]) -> None:
        """
        Let *reader* hear the channels *names* no more, nor be about to.
        """
        names = frozenset(names)
        self._seat(reader, tuple([c for c in reader.channels if c.name not in names]))
        for joining in tuple(self.waiting.get(reader, ())):
            left = tuple([c for c in joining.channels if c.name not in names])
            if left != joining.channels:
                # Anew: an answer that is on its way is about the others, too.
                self._let_go(joining)
                self._wait(Joining(reader, left, joining.since, joining.head))

    def leave(self, reader: Subscriber) -> None:
        """
        *reader* is gone.
        """
        for joining in tuple(self.waiting.get(reader, ())):
            self._let_go(joining)
        self._seat(reader, ())

    def forgotten(self, channel: Channel) -> None:
        """
        *channel* is: the broker need not send it any more.
        """
        if channel.wanted:
            self._broker.unsubscribe(channel.name)

    def _wait(self, joining: Joining) -> None:
        self.waiting.setdefault(joining.reader, []).append(joining)
        for channel in joining.channels:
            if not channel.waiting:
                channel.waiting = set()
            channel.waiting.add(joining)
        self._go_on(joining)

    def _let_go(self, joining: Joining) -> None:
        for channel in joining.channels:
            channel.waiting.discard(joining)
        waiting = self.waiting[joining.reader]
        waiting.remove(joining)
        if not waiting:
            del self.waiting[joining.reader]
        if joining.asked is not None:
            # While the broker is away, who comes and goes shall not be kept there.
            joining.asked.cancel()

    def _waits(self, joining: Joining) -> bool:
        return joining in self.waiting.get(joining.reader, ())

    def _go_on(self, joining: Joining) -> None:
        """
        Take *joining* as far as it comes now.
        """
        if not self._waits(joining) or not all(map(_heard, joining.channels)):
            return
        replay = self._recall(joining.channels, joining.since)
        if self._suffices(replay, joining.channels, joining.since):
            if self._is_between(joining.reader):
                self._turns.afterwards(partial(self._go_on, joining))
            else:
                self._finish(joining, replay)
            return
        # Not in our memory, perhaps in the broker's. What is received
        # meanwhile goes to our own history; the two meet when it answers.
        names = [channel.name for channel in joining.channels]
        asked: Deferred[Replay] = self._archive.after(names, joining.since)
        joining.asked = asked
        asked.addCallbacks(
            self._recalled, self._not_recalled, (joining,), errbackArgs=(joining,)
        ).addErrback(self._unexpected, joining)

    def _suffices(self, replay: Replay, channels: Sequence[Channel], since: Since | None) -> bool:
        """
        Whether nobody can remember more than *replay* has.
        """
        if self._archive is None or since is None or not channels:
            return True
        if isinstance(since, Newest):
            found = replay.messages
            if len(found) < since.count:
                return False
            # Of a channel that is heard only now others may know newer ones.
            return not found or all(c.history.covers(found[0].position) for c in channels)
        return isinstance(since, After) and replay.complete

    def _recalled(self, replay: Replay, joining: Joining) -> None:
        if not self._waits(joining):
            return
        ours = self._recall(joining.channels, After(replay.position))
        if self._is_between(joining.reader):
            self._turns.afterwards(partial(self._recalled, replay, joining))
            return
        complete = replay.complete and ours.complete
        fetched = tuple([self._fetched.setdefault(m.position, m) for m in replay.messages])
        self._finish(joining, Replay(fetched + ours.messages, complete, ours.position))

    def _not_recalled(self, failure: Failure, joining: Joining) -> None:
        if not failure.check(Unavailable, CancelledError):
            _log.failure("while asking the broker for its history", failure)
        if not self._waits(joining):
            return
        # Of what we did not hear ourselves nobody could tell; that may reach beyond where
        # the turn to come begins.
        self._turns.close()
        ours = self._recall(joining.channels, joining.since)
        self._recalled(Replay(ours.messages, False, ours.position), joining)

    def _unexpected(self, failure: Failure, joining: Joining) -> None:
        _log.failure("while a reader joined", failure)
        joining.reader.drop(Cause.LOST)

    def _is_between(self, reader: Subscriber) -> bool:
        """
        Whether *reader* is still to be told of its channels what comes before
        a replay of others.
        """
        return self._turns.running and bool(reader.channels)

    def _finish(self, joining: Joining, replay: Replay) -> None:
        self._let_go(joining)
        self._start(joining.reader, joining.channels, replay, joining.head)

    def _start(
        self, reader: Subscriber, channels: tuple[Channel, ...], replay: Replay, head: bytes
    ) -> None:
        replay = _fitted(replay, self.replay_bytes)
        format = reader.format
        self._seat(reader, reader.channels + channels)
        if not replay.complete:
            self._counts.gaps += 1
        self._counts.delivered += len(replay.messages)
        items = (head, *format.start(replay))
        reader.write_replay(ReplayFrames(format, items, self._frames))

    def _seat(self, reader: Subscriber, channels: tuple[Channel, ...]) -> None:
        """
        Have *reader* hear *channels* and nothing else.
        """
        before = reader.channels
        was_mixed, mixed = len(before) > 1, len(channels) > 1
        left: Iterable[Channel] = before
        new: Iterable[Channel] = channels
        if before and channels and was_mixed is mixed:  # it may stay where it is
            here, wanted = set(before), set(channels)
            left = [channel for channel in before if channel not in wanted]
            new = [channel for channel in channels if channel not in here]
        now = self._clock.seconds() if before else 0.0
        for channel in left:
            channel.remove(reader, was_mixed, now)
        for channel in new:
            channel.add(reader, mixed)
        reader.channels = channels
        for channel in left:
            if not channel.readers:
                self._channels.left(channel)

    def _recall(self, channels: Sequence[Channel], since: Since | None) -> Replay:
        """
        What our own memory holds, up to the messages that are told to everybody
        in the turn to come: the reader hears those with the others.
        """
        turns = self._turns
        turns.close_gap()
        first = turns.pending_from()
        if first is not None and isinstance(since, After) and _is_since(since.position, first):
            # From the answer to its own publish, say: it must not be told all of the turn.
            turns.close()
            first = None
        upto = self._head() if first is None else Position(first.epoch, first.offset - 1)
        if since is None:
            return Replay((), True, upto)
        found, complete = self._channels.recall(channels, since, self._clock.seconds())
        if isinstance(since, After) and since.position.offset > self._head().offset:
            complete = False  # from a future that a restart took back
        told = [message for message in found if message.position.offset <= upto.offset]
        return Replay(tuple(told), complete, upto)

    def _wanted(self, names: Sequence[str]) -> tuple[Channel, ...]:
        """
        The channels *names*, and the broker is asked for them.
        """
        now = self._clock.seconds()
        channels = tuple([self._channels.open(name, now) for name in names])
        for channel in channels:
            if not channel.wanted:
                channel.wanted = True
                heard = self._broker.subscribe(channel.name)
                heard.addCallbacks(self._hears, self._not_heard, (channel,))
        return channels

    def _hears(self, position: Position, channel: Channel) -> None:
        channel.heard = True
        self._channels.begin(channel, position)
        for joining in tuple(channel.waiting):
            self._go_on(joining)

    def _not_heard(self, failure: Failure) -> None:
        _log.failure("while subscribing", failure)


def _fitted(replay: Replay, most: int) -> Replay:
    """
    The newest of *replay* in *most* bytes, the very newest in any case. What is
    left out is a gap.
    """
    left = most
    for index in range(len(replay.messages) - 1, -1, -1):
        left -= len(replay.messages[index].data)
        if left < 0 and index < len(replay.messages) - 1:
            return Replay(replay.messages[index + 1 :], False, replay.position)
    return replay


def _is_since(position: Position, first: Position) -> bool:
    return position.epoch == first.epoch and position.offset >= first.offset
