"""
Who listens here, and the loop that tells them.

What the broker receives within one turn of the reactor is told together: one
write per reader, however many messages. A turn over many readers is cut into
slices, between which the reactor does other work; the next turn waits for it,
so that no reader ever hears things out of order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain
from operator import attrgetter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.admission import Admission
from rt_twisted.channels import Channel, Channels, by_offset
from rt_twisted.counts import ChannelCounts, Counts
from rt_twisted.history import Keep
from rt_twisted.interfaces import IBroker, IFormat, IHistory, IReady, Refusal
from rt_twisted.message import After, Draft, Message, Newest, Position, Replay, Since
from rt_twisted.subscriber import Cause, Subscriber, write_all

_log = Logger()
_telling = _log.failureHandler("while telling readers")
_sweeping = _log.failureHandler("while sweeping")

SLICE = 0.008  # seconds a turn may hold the reactor; others shall not wait 20 ms
BUNCH = 64  # readers between two looks at the clock: about half a millisecond of send(2)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the hub allows; 0 means no limit of ours.

    Args:
        readers: connected at once.
        readers_per_address: of those, from one address.
        history_bytes: kept for replay in all channels; what was published to
            longest ago is forgotten first.
        replay_bytes: replayed to one reader; its own memory, not shared.
        linger: seconds the broker is still asked for a channel after its last
            reader left.
        heartbeat: seconds between two heartbeats of a reader; 0 for none.
        join_rate: new readers per second.
        join_queue: new readers that may wait for that; 0 for none.
    """

    readers: int = 0
    readers_per_address: int = 0
    history_bytes: int = 256 << 20
    replay_bytes: int = 8 << 20
    linger: float = 60.0
    heartbeat: float = 30.0
    join_rate: int = 0
    join_queue: int = 0


Bundle = tuple[IFormat, Sequence[Message], tuple[Subscriber, ...]]


class Hub:
    """
    All channels of this node.

    Args:
        broker: gives messages their positions and carries them.
        clock: the reactor.
        keep: what each channel remembers.
        limits: what is allowed.
    """

    def __init__(
        self, broker: IBroker, clock: IReactorTime, keep: Keep = Keep(), limits: Limits = Limits()
    ) -> None:
        self._broker = broker
        self._archive: Any = IHistory(broker, None)
        self._there: Any = IReady(broker, None)
        self._clock = clock
        self._limits = limits
        head = broker.position()
        self._channels = Channels(keep, limits.history_bytes, head, self._unwanted)
        self._marked: list[Channel] = []  # with pending messages, in order of the first
        self._turn: Iterator[None] | None = None  # the turn being told
        self._due = False  # a slice is on its way
        self._first = 0.0  # when the first of what is pending was received
        self._started = clock.seconds()
        self._head = head  # the last position received
        self._readers = 0
        self._addresses: Counter[str] = Counter()
        self._behind: set[Subscriber] = set()
        self._buckets: list[set[Subscriber]] = []
        self._share_out(())
        self.admission = Admission(clock, limits.join_rate, limits.join_queue)
        self._stopping = False
        self._sweep = LoopingCall(self._swept)
        self._sweep.clock = clock
        self.counts = Counts()
        broker.attach(self.receive)

    # Publishing.

    def publish(self, drafts: Sequence[Draft]) -> Deferred[list[Position]]:
        """
        Hand *drafts* to the broker; see `IBroker.publish`.
        """
        return self._broker.publish(drafts)

    def receive(self, message: Message) -> None:
        """
        What the broker calls for each message, in order.
        """
        position = message.position
        if position.epoch != self._head.epoch:
            self._tell_all()
            # What the new log held before, nobody here has seen.
            self._channels.restart(Position(position.epoch, position.offset - 1))
        now = self._clock.seconds()
        channel = self._channels.append(message, now)
        self._head = position
        self.counts.published += 1
        # Once something is pending, all that follows is: who joins now is told
        # of it in the turn to come, not by replay, and hears all in order.
        if channel.readers or self._marked:
            if not channel.pending:
                if not self._marked:
                    self._first = now
                self._marked.append(channel)
            channel.pending.append(message)
            self._schedule()

    def readers_of(self, channel: str) -> int:
        """
        How many readers of *channel* are connected to this node.
        """
        found = self._channels.get(channel)
        return found.readers if found is not None else 0

    def why_not_ready(self) -> str:
        """
        One word for why nobody should be sent here now; "" if all is well.
        """
        if self._stopping:
            return "stopping"
        return "broker" if self._there is not None and not self._there.ready() else ""

    # Joining and leaving.

    def admit(self, address: str) -> None:
        """
        Check that one more reader from *address* is allowed.

        Raises:
            Refusal: 503 when the daemon is full or stopping, 429 when the
                address has its share.
        """
        limits = self._limits
        if self._stopping:
            raise Refusal(503, "the server is stopping", retry=self.admission.later(2))
        if limits.readers and self._readers >= limits.readers:
            raise Refusal(503, "too many readers", retry=self.admission.later(10))
        if limits.readers_per_address and self._addresses[address] >= limits.readers_per_address:
            raise Refusal(429, "too many readers from your address", retry=10)

    def join(
        self, reader: Subscriber, names: Sequence[str], since: Since | None, head: bytes = b""
    ) -> None:
        """
        Replay to *reader* what *since* asks for of the channels *names*, then
        tell it what they receive, without loss or repeat in between.

        Args:
            reader: new; it belongs to the hub until it leaves.
            names: distinct, at least one.
            since: None for the live stream alone.
            head: bytes to be written in front, such as HTTP headers.
        """
        self._readers += 1
        self._addresses[reader.address] += 1
        self.counts.joined += 1
        reader.bucket = self.counts.joined % len(self._buckets)
        self._buckets[reader.bucket].add(reader)
        try:
            channels = self._wanted(names)
        except Exception:
            reader.drop(Cause.LOST)  # the broker's fault; it may come back
            raise
        replay = self._recall(channels, since)
        if self._archive is None or since is None or _is_enough(replay, since):
            self._start(reader, channels, replay, head)
            return
        # Not in our memory, perhaps in the broker's. What is received
        # meanwhile goes to our own history; the two meet when it answers.
        reader.write(head)
        asked: Deferred[Replay] = self._archive.after(names, since)
        asked.addCallback(self._recalled, reader, names)
        asked.addErrback(self._not_recalled, reader, names, since)

    def leave(self, reader: Subscriber, cause: Cause) -> None:
        """
        *reader* is gone; called by itself.
        """
        self._readers -= 1
        self._addresses[reader.address] -= 1
        if not self._addresses[reader.address]:
            del self._addresses[reader.address]
        self._buckets[reader.bucket].discard(reader)
        self.counts.closed[cause.value] += 1
        mixed = len(reader.channels) > 1
        now = self._clock.seconds()
        for channel in reader.channels:
            channel.remove(reader, mixed, now)
            if not channel.readers:
                self._channels.left(channel)
        reader.channels = ()

    def seconds(self) -> float:
        """
        The time (`Audience.seconds`).
        """
        return self._clock.seconds()

    def position(self) -> Position:
        """
        The end of the log, as far as this node knows.
        """
        return self._head

    def fell_behind(self, reader: Subscriber) -> None:
        """
        Watch *reader* (`Audience.fell_behind`).
        """
        self._behind.add(reader)

    def caught_up(self, reader: Subscriber) -> None:
        """
        Stop watching it.
        """
        self._behind.discard(reader)

    def skipped(self, reader: Subscriber) -> None:
        """
        Count a gap.
        """
        self.counts.gaps += 1

    # Life.

    def start(self) -> None:
        """
        Begin the sweep: once a second heartbeats, patience, forgetting.
        """
        self._started = self._clock.seconds()
        self.counts.note(self._started)
        head = self._broker.position()
        if head != self._head:  # a broker may know its log only once it is started
            self._head = head
            self._channels.restart(head)
            self._share_out(())
        self._sweep.start(1.0, now=False)

    def adopt(self, keep: Keep, limits: Limits) -> None:
        """
        Go on with other limits. Readers that are here stay, also over them.
        """
        self._limits = limits
        self._channels.adopt(keep, limits.history_bytes)
        self.admission.adopt(limits.join_rate, limits.join_queue)
        if len(self._buckets) != _count_beats(limits):
            self._share_out([reader for bucket in self._buckets for reader in bucket])

    def stop(self, retry: int) -> None:
        """
        Tell every reader to come back after *retry* to twice *retry* ms, each
        at another time, and hang up. Nobody joins any more.
        """
        self._stopping = True
        if self._sweep.running:
            self._sweep.stop()
        self._tell_all()
        self.admission.stop(retry / 1000)
        share = retry / max(1, self._readers)
        for index, reader in enumerate([r for bucket in self._buckets for r in bucket]):
            reader.end(Cause.SHUTDOWN, retry + int(index * share))

    def numbers(self) -> Counts:
        """
        The counts as they stand now; the channels are those with readers.
        """
        counts = self.counts
        counts.channels = {
            channel.name: channel.readers for channel in self._channels if channel.readers
        }
        counts.readers = self._readers
        counts.readers_limit = self._limits.readers
        counts.behind = len(self._behind)
        counts.waiting_bytes = sum([reader.waiting for reader in self._behind])
        counts.history_bytes = self._channels.bytes
        now = self._clock.seconds()
        counts.uptime = now - self._started
        counts.look(now)
        return counts

    def busiest(self, most: int) -> tuple[list[ChannelCounts], ChannelCounts]:
        """
        The *most* channels with the most readers, among equals those published
        to last; and all others as one without a name.
        """
        channels = list(self._channels.newest_first())
        shown = nlargest(most, channels, key=attrgetter("readers"))
        others = ChannelCounts(
            "",
            sum([channel.readers for channel in channels]) - sum([c.readers for c in shown]),
            sum([channel.messages for channel in channels]) - sum([c.messages for c in shown]),
            channels=len(channels) - len(shown),
        )
        return [_count(channel) for channel in shown], others

    def count_channel(self, name: str) -> ChannelCounts:
        """
        The numbers of one channel; zeros if this node knows none of that name.
        """
        channel = self._channels.get(name)
        return _count(channel) if channel is not None else ChannelCounts(name, 0, 0)

    # Replay.

    def _recall(self, channels: Sequence[Channel], since: Since | None) -> Replay:
        """
        What our own memory holds, up to the messages that are told to everybody
        in the turn to come: the reader hears those with the others.
        """
        if isinstance(since, After) and self._is_pending(since.position):
            self._close_turn()
        upto = self._head
        if self._marked:
            upto = Position(upto.epoch, self._marked[0].pending[0].position.offset - 1)
        if since is None:
            return Replay((), True, upto)
        found, complete = self._channels.recall(channels, since, self._clock.seconds())
        if isinstance(since, After) and since.position.offset > self._head.offset:
            complete = False  # from a future that a restart took back
        told = [message for message in found if message.position.offset <= upto.offset]
        return Replay(tuple(told), complete, upto)

    def _is_pending(self, position: Position) -> bool:
        """
        Whether who is at *position* must not be told all that is pending. It
        may have it from the answer to its own publish.
        """
        if not self._marked:
            return False
        first = self._marked[0].pending[0].position
        return position.epoch == first.epoch and first.offset <= position.offset

    def _start(
        self, reader: Subscriber, channels: tuple[Channel, ...], replay: Replay, head: bytes
    ) -> None:
        replay = _fitted(replay, self._limits.replay_bytes)
        mixed = len(channels) > 1
        for channel in channels:
            channel.add(reader, mixed)
        reader.channels = channels
        if not replay.complete:
            self.counts.gaps += 1
        self.counts.delivered += len(replay.messages)
        reader.write(head + reader.format.start(replay))

    def _recalled(self, replay: Replay, reader: Subscriber, names: Sequence[str]) -> None:
        if reader.gone:
            return
        channels = self._wanted(names)
        ours = self._recall(channels, After(replay.position))
        complete = replay.complete and ours.complete
        both = Replay(replay.messages + ours.messages, complete, ours.position)
        self._start(reader, channels, both, b"")

    def _not_recalled(
        self, failure: Failure, reader: Subscriber, names: Sequence[str], since: Since
    ) -> None:
        _log.failure("while asking the broker for its history", failure)
        if not reader.gone:
            channels = self._wanted(names)
            self._start(reader, channels, self._recall(channels, since), b"")

    def _wanted(self, names: Sequence[str]) -> tuple[Channel, ...]:
        """
        The channels *names*, and the broker is asked for them.
        """
        now = self._clock.seconds()
        channels = tuple([self._channels.open(name, now) for name in names])
        for channel in channels:
            if not channel.wanted:
                channel.wanted = True
                self._broker.subscribe(channel.name)
        return channels

    def _unwanted(self, channel: Channel) -> None:
        if channel.wanted:
            self._broker.unsubscribe(channel.name)

    # Telling.

    def _close_turn(self) -> None:
        """
        What is pending is for those who listen by now, and for nobody else.
        """
        turn = self._tell(self._snapshot(), self._first)
        self._turn = turn if self._turn is None else chain(self._turn, turn)
        self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            self._clock.callLater(0, self._slice)

    def _slice(self) -> None:
        self._due = False
        until = self._clock.seconds() + SLICE
        if self._turn is None:
            self._turn = self._tell(self._snapshot(), self._first)
        with _telling:
            for _ in self._turn:
                if self._clock.seconds() > until:
                    self._schedule()
                    return
        self._turn = None
        if self._marked:
            self._schedule()

    def _tell_all(self) -> None:
        """
        The rest of this turn and the next one, without a pause.
        """
        with _telling:
            for _ in chain(self._turn or (), self._tell(self._snapshot(), self._first)):
                pass
        self._turn = None

    def _snapshot(self) -> list[Bundle]:
        """
        Take what is pending, and everybody who shall hear it.
        """
        marked, self._marked = self._marked, []
        bundles: list[Bundle] = []
        several: dict[Subscriber, list[Channel]] = {}
        for channel in marked:
            for format, readers in channel.single.items():
                bundles.append((format, channel.pending, tuple(readers)))
            for format, readers in channel.mixed.items():
                if len(marked) == 1:
                    bundles.append((format, channel.pending, tuple(readers)))
                    continue
                for reader in readers:
                    several.setdefault(reader, []).append(channel)
        alike: dict[tuple[Any, ...], list[Subscriber]] = {}
        for reader, channels in several.items():
            alike.setdefault((reader.format, *channels), []).append(reader)
        for (format, *channels), group in alike.items():
            messages = [message for channel in channels for message in channel.pending]
            messages.sort(key=by_offset)
            bundles.append((format, messages, tuple(group)))
        for channel in marked:
            channel.pending = []
        return bundles

    def _tell(self, bundles: Sequence[Bundle], since: float) -> Iterator[None]:
        """
        Write to everybody what came *since*; a pause after each bunch of readers.
        """
        counts = self.counts
        since_pause = 0
        for format, messages, readers in bundles:
            try:
                if len(messages) == 1:
                    frame = format.encode(messages[0])
                else:
                    frame = b"".join(map(format.encode, messages))
            except Exception:
                # Somebody's own format. Nobody may miss a message unsaid:
                # who comes back is told, or fails in the open.
                _log.failure("{codec} cannot encode a message", codec=format)
                for reader in readers:
                    reader.drop(Cause.LOST)
                continue
            counts.delivered += len(messages) * len(readers)
            for first in range(0, len(readers), BUNCH):
                bunch = readers[first : first + BUNCH]
                try:
                    write_all(bunch, frame)
                except Exception:
                    _log.failure("while telling readers")
                    for reader in bunch:  # they resume, and miss nothing
                        reader.drop(Cause.LOST)
                since_pause += len(bunch)
                if since_pause >= BUNCH:
                    since_pause = 0
                    yield
        if bundles:
            counts.fanout.observe(self._clock.seconds() - since)

    # Once a second.

    def _swept(self) -> None:
        for work in (self._beat_once, self._check_patience, self._visit, self._note):
            with _sweeping:
                work()

    def _visit(self) -> None:
        self._channels.visit(self._clock.seconds(), self._limits.linger)

    def _note(self) -> None:
        self.counts.note(self._clock.seconds())

    def _share_out(self, readers: Sequence[Subscriber]) -> None:
        """
        Each second is the turn of a bucket of readers, so that each has had its
        heartbeat when all had their turn.
        """
        count = _count_beats(self._limits)
        self._buckets = [set() for _ in range(count)]
        self._beat = 0  # the bucket whose turn it is
        self._beat_heads = [self._head] * count  # the cursor each bucket was last sent
        for index, reader in enumerate(readers):
            reader.bucket = index % count
            self._buckets[reader.bucket].add(reader)

    def _beat_once(self) -> None:
        if not self._limits.heartbeat:
            return
        self._beat = (self._beat + 1) % len(self._buckets)
        # A cursor says "everything up to here": while a turn is being told,
        # that is not true yet for everybody.
        told = self._turn is None and not self._marked
        moved = told and self._beat_heads[self._beat] != self._head
        if moved:
            self._beat_heads[self._beat] = self._head
        frames: dict[IFormat, bytes] = {}
        for reader in tuple(self._buckets[self._beat]):
            if reader in self._behind or not reader.channels:
                continue
            frame = frames.get(reader.format)
            if frame is None:
                format = reader.format
                frame = (moved and format.cursor(self._head)) or format.heartbeat
                frames[format] = frame
            reader.write(frame)

    def _check_patience(self) -> None:
        now = self._clock.seconds()
        for reader in tuple(self._behind):
            if now - reader.stuck_since > reader.patience.seconds:
                reader.too_late()


def _count_beats(limits: Limits) -> int:
    return max(1, round(limits.heartbeat))


def _fitted(replay: Replay, most: int) -> Replay:
    """
    The newest of *replay* in *most* bytes, the very newest in any case: a replay
    is a reader's own, so a thousand silent ones must not hold a thousand
    histories. What is left out is a gap.
    """
    left = most
    for index in range(len(replay.messages) - 1, -1, -1):
        left -= len(replay.messages[index].data)
        if left < 0 and index < len(replay.messages) - 1:
            return Replay(replay.messages[index + 1 :], False, replay.position)
    return replay


def _is_enough(replay: Replay, since: Since) -> bool:
    """
    Whether nobody can remember more than *replay* has.
    """
    if isinstance(since, Newest):
        return len(replay.messages) >= since.count
    return isinstance(since, After) and replay.complete


def _count(channel: Channel) -> ChannelCounts:
    position = str(channel.last) if channel.last is not None else ""
    return ChannelCounts(channel.name, channel.readers, channel.messages, position)
