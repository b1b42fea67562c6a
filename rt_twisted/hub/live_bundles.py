"""
What one flush sends to the subscribers of a live channel: those that go on, those that
begin at a resync point, and those whose stream ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rt_twisted.hub.channel import Channel
from rt_twisted.hub.live_channel import LiveState, LiveStep, Wait
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IEndingFormat, IFormat, ISyncFormat
from rt_twisted.model.message import Mark, Message

LiveBundle = tuple[IFormat, Sequence[Message], tuple[Subscriber, ...], LiveStep]


def live_bundles(
    channel: Channel, live: LiveState, messages: Sequence[Message]
) -> list[LiveBundle]:
    """
    Return what a flush of *messages* of *channel* sends to its subscribers that have no other
    channel.

    Subscribers that wait become ordinary ones, if there is a resync point for them.
    """
    previous, live.last = live.last, messages[-1]
    before, live.unit = live.unit, _last_unit(messages, live.unit)
    bundles = [
        _continuing(live, format, messages, tuple(subscribers), previous, before)
        for format, subscribers in channel.single_channel.items()
    ]
    # Last: those that begin now have joined the groups that are in the bundles already.
    if live.awaiting:
        bundles += _beginning(channel, live, messages)
    return bundles


def park_all(channel: Channel, live: LiveState) -> int:
    """
    Let all subscribers of *channel* whose format has resync points wait for the next one:
    messages are missing. Return how many there are.
    """
    count = 0
    for format, subscribers in tuple(channel.single_channel.items()):
        if ISyncFormat(format, None) is not None:
            count += len(subscribers)
            for subscriber in tuple(subscribers):
                channel.park(subscriber, live.last)
    return count


def end_all(channel: Channel, live: LiveState) -> None:
    """
    End the streams of all subscribers of *channel* that have begun and whose format ends with
    the live stream. Nothing of the channel is undelivered.
    """
    for format, subscribers in tuple(channel.single_channel.items()):
        if _is_ending(format):
            for subscriber in tuple(subscribers):
                subscriber.observer.stream_ended(subscriber, live.unit)
    for waiting in tuple(live.awaiting.values()):
        for subscriber, wait in tuple(waiting.items()):
            if wait.started:
                subscriber.observer.stream_ended(subscriber, wait.last)


def _continuing(
    live: LiveState,
    format: IFormat,
    messages: Sequence[Message],
    subscribers: tuple[Subscriber, ...],
    previous: Message | None,
    unit: Message | None,
) -> LiveBundle:
    sync = ISyncFormat(format, None)
    end = _end(messages, sync) if sync is not None or _is_ending(format) else None
    if end is None:
        return format, messages, subscribers, LiveStep(live, previous)
    unit = _last_unit(messages[:end], unit)
    return format, messages[:end], subscribers, LiveStep(live, previous, ends=True, unit=unit)


def _beginning(
    channel: Channel, live: LiveState, messages: Sequence[Message]
) -> Iterator[LiveBundle]:
    over = any(message.mark is Mark.END for message in messages)
    for format, waiting in tuple(live.awaiting.items()):
        sync = ISyncFormat(format)
        index = next((i for i, m in enumerate(messages) if sync.is_resync_point(m)), None)
        ended = [each for each, wait in waiting.items() if wait.started] if over else []
        if ended:
            yield format, (), tuple(ended), LiveStep(live, None, ends=True)
        if index is not None:
            ready = {each: wait for each, wait in waiting.items() if each.may_resume}
            for each in ended:
                ready.pop(each, None)
            yield from _from_resync_point(channel, live, sync, messages[index:], ready)


def _from_resync_point(
    channel: Channel,
    live: LiveState,
    format: ISyncFormat,
    messages: Sequence[Message],
    waiting: dict[Subscriber, Wait],
) -> Iterator[LiveBundle]:
    """
    Yield what *waiting* subscribers of *format* are sent of *messages*, the first of which is
    a resync point.
    """
    groups: dict[Wait, list[Subscriber]] = {}
    for subscriber, wait in waiting.items():
        groups.setdefault(wait, []).append(subscriber)
    for wait, subscribers in groups.items():
        begun: IFormat = format
        if wait.started:
            begun = format.resumed(wait.last, messages[0])
            end = _end(messages, ISyncFormat(begun))
        else:
            end = _end(messages[1:], format)
            end = None if end is None else end + 1
        for subscriber in subscribers:
            channel.end_waiting(subscriber, begun)
        unit = None if end is None else _last_unit(messages[:end], wait.last)
        step = LiveStep(live, wait.last, not wait.started, wait.started, end is not None, unit)
        yield begun, messages[:end], tuple(subscribers), step


def _last_unit(messages: Sequence[Message], before: Message | None) -> Message | None:
    """
    Return the last unit among *messages*, or else *before*.
    """
    return next((m for m in reversed(messages) if m.mark is Mark.UNIT), before)


def _is_ending(format: IFormat) -> bool:
    return ISyncFormat(format, None) is not None or IEndingFormat(format, None) is not None


def _end(messages: Iterable[Message], format: ISyncFormat | None) -> int | None:
    """
    Return how many of *messages* a stream that has begun is sent before it ends; None if it
    goes on.

    Args:
        messages: undelivered.
        format: None if it can go on at each message.
    """
    for index, message in enumerate(messages):
        if message.mark is Mark.END:
            return index + 1
        if format is not None and format.must_restart(message):
            return index
    return None
