"""
The patterns of this node: which channels they match, and what they replay.

A channel is matched against the patterns when it is opened, and a pattern against the
open channels when it is. A message costs nothing where no pattern matches its channel, and
one step for each pattern that does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from rt_twisted.codecs.wildcard_index import WildcardIndex
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.hub.channel import Channel, by_offset
from rt_twisted.model.internal_channels import is_unnamable
from rt_twisted.model.message import After, Message, Newest, Position, Within
from rt_twisted.model.retention import History

MAX_MATCHED = 4096  # channels that a pattern replays, the newest: about 0.5 MB for each pattern
MAX_REPLAYED = 20_000  # messages that are read for one replay of a pattern: about 10 ms


class PatternTable:
    """
    The open patterns, and the names of the open channels while there are patterns.
    """

    def __init__(self) -> None:
        self._patterns: dict[Wildcard, Channel] = {}
        self._index = WildcardIndex()
        # Sorted, so that a pattern is not matched against channels with another prefix.
        self._names: list[str] = []

    def __iter__(self) -> Iterator[Channel]:
        """
        Iterate over all patterns, with and without subscribers.
        """
        return iter(self._patterns.values())

    def __len__(self) -> int:
        """
        Return the number of open patterns.
        """
        return len(self._patterns)

    def get(self, wildcard: Wildcard) -> Channel | None:
        """
        Return the pattern *wildcard*, if it is open.
        """
        return self._patterns.get(wildcard)

    def matching(self, name: str) -> tuple[Channel, ...]:
        """
        Return the open patterns that match the channel *name*.
        """
        if not self._patterns:
            return ()
        return tuple([self._patterns[found] for found in self._index.matching(name)])

    def open(
        self, wildcard: Wildcard, history: History, channels: Mapping[str, Channel]
    ) -> Channel:
        """
        Open the pattern *wildcard*.

        Args:
            wildcard: a pattern that is not open.
            history: an empty one; it has its start position.
            channels: all that are open.

        Returns:
            The pattern, which matches of *channels* what its text does.
        """
        if not self._patterns:
            self._names = sorted(channels)
        pattern = self._patterns[wildcard] = Channel(wildcard, history)
        self._index.add(wildcard)
        matched: OrderedDict[Channel, None] = OrderedDict()
        pattern.matched = matched
        epoch = history.start_position.epoch
        found: list[tuple[int, Channel]] = []
        for channel in self._channels_of(wildcard, channels):
            channel.patterns += (pattern,)
            last = channel.last_position
            if last is not None and last.epoch == epoch:
                found.append((last.offset, channel))
        found.sort(key=_first)
        if len(found) > MAX_MATCHED:
            raise_start(pattern, Position(epoch, found[-MAX_MATCHED - 1][0]))
        matched.update((channel, None) for _, channel in found[-MAX_MATCHED:])
        return pattern

    def close(self, wildcard: Wildcard, channels: Mapping[str, Channel]) -> None:
        """
        Close the pattern *wildcard*, which is open; *channels* are all that are open.
        """
        pattern = self._patterns.pop(wildcard)
        self._index.discard(wildcard)
        for channel in self._channels_of(wildcard, channels):
            channel.patterns = tuple([one for one in channel.patterns if one is not pattern])
        if not self._patterns:
            self._names = []

    def on_channel_opened(self, channel: Channel, name: str) -> None:
        """
        Find the patterns of *channel*, which is opened with this *name*.
        """
        if self._patterns:
            insort(self._names, name)
            if not is_unnamable(name):
                channel.patterns = self.matching(name)

    def on_channel_dropped(self, channel: Channel, name: str) -> None:
        """
        Forget *channel*: its patterns have its messages no more.
        """
        if self._patterns:
            del self._names[bisect_left(self._names, name)]
        for pattern in channel.patterns:
            assert pattern.matched is not None
            if channel in pattern.matched:
                del pattern.matched[channel]
                raise_start(pattern, channel.history.start_position)

    def restart(self, floor: Position) -> None:
        """
        Forget all messages: another log begins, of which all after *floor* is received.
        """
        for pattern in self._patterns.values():
            assert pattern.matched is not None
            pattern.matched.clear()
            pattern.history.restart(floor)

    def _channels_of(
        self, wildcard: Wildcard, channels: Mapping[str, Channel]
    ) -> Iterator[Channel]:
        names, prefix = self._names, wildcard.prefix
        for index in range(bisect_left(names, prefix), len(names)):
            name = names[index]
            if not name.startswith(prefix):
                return
            if wildcard.matches(name) and not is_unnamable(name):
                yield channels[name]


def note_message(channel: Channel, position: Position) -> None:
    """
    Note for the patterns of *channel* that it has received the message at *position*.
    """
    for pattern in channel.patterns:
        matched = pattern.matched
        assert matched is not None
        matched[channel] = None
        matched.move_to_end(channel)
        if len(matched) > MAX_MATCHED:
            oldest, _ = matched.popitem(last=False)
            if oldest.last_position is not None:
                raise_start(pattern, oldest.last_position)
        pattern.received_count += 1
        pattern.last_position = position


def raise_start(pattern: Channel, position: Position) -> None:
    """
    Note that *pattern* has not all messages up to *position*, of the same log.
    """
    if position.offset > pattern.history.start_position.offset:
        pattern.history.miss(position)


def covers_pattern(pattern: Channel, position: Position) -> bool:
    """
    Return whether all messages of *pattern* after *position* are retained.
    """
    return pattern.history.covers(position) and all(
        channel.history.covers(position) for channel in _changed_since(pattern, position)
    )


def _changed_since(pattern: Channel, position: Position) -> Iterator[Channel]:
    """
    Yield the channels of *pattern* with messages after *position*, the newest first; all
    for a position of another log.
    """
    assert pattern.matched is not None
    same = position.epoch == pattern.history.start_position.epoch
    for channel in reversed(pattern.matched):
        last = channel.last_position
        if last is None or (same and last.offset <= position.offset):
            return
        yield channel


def replay_pattern(
    pattern: Channel,
    since: After | Newest | Within,
    now: float,
    expire: Callable[[Channel, float], None],
) -> tuple[list[Message], bool]:
    """
    Return the retained messages of *pattern* that *since* selects, in order.

    Channels are read from the one with the newest message on, so that the cost depends on
    what is returned, not on how many channels match.

    Args:
        pattern: an open one.
        since: what to return.
        now: seconds.
        expire: drops the messages of a channel that are too old.

    Returns:
        The messages, and whether all after *since* are retained; always so unless it is
        an `After`. If there are more than MAX_REPLAYED, the oldest are left out.
    """
    if isinstance(since, Newest):
        return _newest(pattern, since.count, now, expire), True
    found: list[Message] = []
    complete = not isinstance(since, After) or pattern.history.covers(since.position)
    position = since.position if isinstance(since, After) else Position("", 0)
    for channel in _changed_since(pattern, position):
        if len(found) > MAX_REPLAYED and channel.last_position is not None:
            # Without holes: nothing of what is left out is newer than what is returned.
            cut = channel.last_position.offset
            found = [message for message in found if message.position.offset > cut]
            complete = not isinstance(since, After)
            break
        history = channel.history
        expire(channel, now)
        if isinstance(since, After):
            complete = complete and history.covers(position)
            found += history.after(position)
            continue
        messages = history.within(now - since.seconds)
        if len(history) and not messages:
            break
        found += messages
    found.sort(key=by_offset)
    return found, complete


def _newest(
    pattern: Channel, count: int, now: float, expire: Callable[[Channel, float], None]
) -> list[Message]:
    found: list[Message] = []
    threshold = read = 0  # threshold: an older message is not among the newest
    for channel in _changed_since(pattern, Position("", 0)):
        last = channel.last_position
        if last is None or last.offset < threshold or read > MAX_REPLAYED:
            break
        expire(channel, now)
        messages = channel.history.newest(count)
        read += len(messages)
        found += messages
        if len(found) >= 2 * count:
            found.sort(key=by_offset)
            found = found[-count:] if count else []
            threshold = found[0].position.offset if found else last.offset + 1
    found.sort(key=by_offset)
    return found[-count:] if count else []


def _first(pair: tuple[int, Channel]) -> int:
    return pair[0]
