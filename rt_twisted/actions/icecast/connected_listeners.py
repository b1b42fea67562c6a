"""
The listeners of this process: who they are, and which mount they listen to now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.actions.icecast.heads import newest_head
from rt_twisted.formats.icecast import CODECS, IcecastAudio
from rt_twisted.hub.first_message import first_message
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.message import Message, Position
from rt_twisted.model.shared_text import share_text

FOREVER = 1e9  # seconds: a mount may be without a source for years

_log = Logger()


class Listener:
    """
    A listener of a mount; the observer of its subscriber.

    Args:
        registry: has all listeners.
        hub: of its channels.
        id: number of the listener on this process.
        mount: path that it has requested.
        channel: of the mount.
        fallback: channel that it listens to while the mount has no source; "" for none.
        address: of the client.
        agent: header `User-Agent`.
        since: when it has joined (seconds of the reactor).

    Attributes:
        current: the channel that it is sent.
        codec: of its stream.
        subscriber: its end of the connection; set when it joins.
    """

    __slots__ = (
        "_hub",
        "_registry",
        "address",
        "agent",
        "channel",
        "codec",
        "current",
        "fallback",
        "id",
        "mount",
        "since",
        "subscriber",
    )

    def __init__(
        self,
        registry: IcecastListeners,
        hub: Hub,
        id: int,
        mount: str,
        channel: str,
        fallback: str,
        address: str,
        agent: str,
        since: float,
    ) -> None:
        self._registry = registry
        self._hub = hub
        self.id = id
        self.mount = mount
        self.channel = self.current = channel
        self.fallback = fallback
        self.address = address
        self.agent = agent
        self.since = since
        self.codec = ""
        self.subscriber: Subscriber

    @property
    def hub(self) -> Hub:
        """
        Return the hub of its channels.
        """
        return self._hub

    def move(self, channel: str) -> None:
        """
        Let it go on with the stream of *channel*, which has the same codec.
        """
        hub, subscriber = self._hub, self.subscriber
        format = subscriber.format
        titles = isinstance(format, IcecastAudio) and format.titles
        # Titles stand at certain bytes of a stream: it goes on counting. Other streams begin anew.
        last = hub.last_unit(subscriber) if titles else None
        self._registry.on_move(self, channel)
        hub.move_live(subscriber, channel, last)

    def settle(self, channel: str) -> None:
        """
        Let it listen to *channel* from now on, also when its mount has a source again.
        """
        self._registry.remove(self)
        self.channel = channel
        self.move(channel)

    def end(self) -> None:
        """
        Send what is queued, and disconnect it.
        """
        self.subscriber.end_after_backlog()

    def kill(self) -> None:
        """
        Disconnect it now.
        """
        self.subscriber.drop(DisconnectReason.ENDED)

    # What the subscriber calls.

    def seconds(self) -> float:
        return self._hub.seconds()

    def position(self) -> Position:
        return self._hub.position()

    def fell_behind(self, subscriber: Subscriber) -> None:
        self._hub.fell_behind(subscriber)

    def caught_up(self, subscriber: Subscriber) -> None:
        self._hub.caught_up(subscriber)

    def skipped(self, subscriber: Subscriber) -> None:
        self._hub.skipped(subscriber)

    def parked(self, subscriber: Subscriber) -> None:
        self._hub.parked(subscriber)

    def stream_ended(self, subscriber: Subscriber, last: Message | None) -> None:
        has_fallback = self.fallback and self.current == self.channel != self.fallback
        if not has_fallback or self.codec not in CODECS:
            self.end()
            return
        self._hub.park_live(subscriber, last)
        self._registry.fall_back(self)

    def leave(self, subscriber: Subscriber, reason: DisconnectReason) -> None:
        self._registry.remove(self)
        self._hub.leave(subscriber, reason)


class IcecastListeners:
    """
    The listeners of this process; shared by all routes of a hub.

    Args:
        clock: the reactor.
        before: the number before that of the first one.
    """

    def __init__(self, clock: IReactorTime, before: int = 0) -> None:
        self._clock = clock
        self._next = before + 1
        self._by_channel: dict[str, dict[int, Listener]] = {}  # the channel that they are sent
        self._peaks: dict[str, int] = {}  # of channels with listeners, or in `_sources`
        self._sources: set[str] = set()  # channels
        self._wanted: dict[str, Callable[[], object]] = {}
        self._falling: list[Listener] = []  # their mounts have lost their sources
        self._displaced: Counter[str] = Counter()  # listeners of these channels are elsewhere
        self._awaited: dict[str, Deferred[Message | None]] = {}  # sources of those channels

    def new(
        self, hub: Hub, mount: str, channel: str, fallback: str, address: str, agent: str
    ) -> Listener:
        """
        Return a listener that has not joined yet; see `Listener`.
        """
        id, self._next = self._next, self._next + 1
        now = self._clock.seconds()
        # Each request has its own copies, of 60 to 200 bytes; most listeners have equal ones.
        mount, channel, fallback, agent = map(share_text, (mount, channel, fallback, agent))
        return Listener(self, hub, id, mount, channel, fallback, address, agent, now)

    def add(self, listener: Listener) -> None:
        """
        Add a listener that joins its current channel now.
        """
        channel = listener.current
        self._by_channel.setdefault(channel, {})[listener.id] = listener
        self._peaks[channel] = max(self._peaks.get(channel, 0), self.count(channel))
        if listener.current != listener.channel:
            self._displaced[listener.channel] += 1
            self._await_source(listener.hub, listener.channel)

    def remove(self, listener: Listener) -> None:
        """
        Remove a listener that is disconnected, if it was added.
        """
        found = self._by_channel.get(listener.current)
        if found is None or found.pop(listener.id, None) is None:
            return
        if not found:
            del self._by_channel[listener.current]
            self._drop_peak(listener.current)
        if listener.current != listener.channel:
            self._displaced[listener.channel] -= 1
            self._stop_awaiting(listener.channel)

    def on_wanted(self, channel: str, call: Callable[[], object] | None) -> None:
        """
        Have *call* called when a listener of *channel* comes; None for nothing.
        """
        if call is None:
            self._wanted.pop(channel, None)
        else:
            self._wanted[channel] = call

    def want(self, channel: str) -> None:
        """
        Note that a listener of *channel* has come, and may wait for a source.
        """
        if channel in self._wanted:
            self._wanted[channel]()

    def of(self, channel: str) -> Sequence[Listener]:
        """
        Return the listeners that are sent *channel* now, in the order in which they came.
        """
        return tuple(self._by_channel.get(channel, {}).values())

    def channels(self) -> Sequence[str]:
        """
        Return the channels that listeners are sent now.
        """
        return tuple(self._by_channel)

    def kill(self, channel: str, id: str) -> bool:
        """
        Disconnect the listener of *channel* with this *id*; False if there is none.
        """
        for listener in self.of(channel):
            if str(listener.id) == id:
                listener.kill()
                return True
        return False

    def count(self, channel: str) -> int:
        """
        Return how many listeners are sent *channel* now.
        """
        return len(self._by_channel.get(channel, ()))

    def on_move(self, listener: Listener, channel: str) -> None:
        """
        Note that *listener* is sent *channel* from now on.
        """
        self.remove(listener)
        listener.current = channel
        self.add(listener)

    def peak(self, channel: str) -> int:
        """
        Return how many listeners were sent *channel* at once: since its source has connected, if
        that is connected here; otherwise since there was none.
        """
        return self._peaks.get(channel, 0)

    def on_source(self, channel: str, connected: bool) -> None:
        """
        Note that *channel* has a source here from now on, or has none any more.
        """
        if connected:
            self._sources.add(channel)
            self._peaks[channel] = self.count(channel)
        else:
            self._sources.discard(channel)
            self._drop_peak(channel)

    def _drop_peak(self, channel: str) -> None:
        if channel not in self._sources and channel not in self._by_channel:
            self._peaks.pop(channel, None)

    def move_all(self, channel: str, to: str, codec: str) -> None:
        """
        Let the listeners that are sent *channel* stay with the channel *to* from now on.

        Args:
            channel: of a mount.
            to: of another mount.
            codec: of that one. A listener with another codec stays where it is.
        """
        listeners = [one for one in self.of(channel) if one.codec == codec in CODECS]
        for hub in {one.hub for one in listeners}:
            moved = [one for one in listeners if one.hub is hub]
            hub.call_after_flush(partial(_settle_all, to, moved))

    # Fallback.

    def fall_back(self, listener: Listener) -> None:
        """
        Move *listener*, which is parked, to its fallback, or disconnect it.
        """
        if not self._falling:
            self._clock.callLater(0, self._move_falling)  # not now: a flush is in progress
        self._falling.append(listener)

    def _move_falling(self) -> None:
        falling, self._falling = self._falling, []
        groups: dict[tuple[Hub, str], list[Listener]] = {}
        for listener in falling:
            groups.setdefault((listener.hub, listener.fallback), []).append(listener)
        for (hub, channel), listeners in groups.items():
            moved = ensureDeferred(self._move_to_fallback(hub, channel, listeners))
            moved.addErrback(partial(_log.failure, "while moving listeners to {to}", to=channel))

    async def _move_to_fallback(self, hub: Hub, channel: str, listeners: list[Listener]) -> None:
        head = await newest_head(hub, channel)
        codec = head.tracks[0].codec if head is not None else ""
        hub.call_after_flush(partial(_move_all, channel, listeners, codec))

    def _await_source(self, hub: Hub, channel: str) -> None:
        if channel not in self._awaited:
            found = first_message(hub, self._clock, channel, IcecastAudio(), FOREVER)
            self._awaited[channel] = found
            found.addCallbacks(partial(self._on_source, hub, channel), _ignore_cancelled)

    def _stop_awaiting(self, channel: str) -> None:
        if self._displaced[channel]:
            return
        del self._displaced[channel]
        awaited = self._awaited.pop(channel, None)
        if awaited is not None:
            awaited.cancel()

    def _on_source(self, hub: Hub, channel: str, first: object) -> None:
        del self._awaited[channel]
        if first is None:
            return  # the daemon is stopping
        hub.call_after_flush(partial(self._return_to, hub, channel))

    def _return_to(self, hub: Hub, channel: str) -> None:
        others = [each for found in self._by_channel.values() for each in found.values()]
        for listener in others:
            if listener.channel == channel != listener.current and listener.hub is hub:
                listener.move(channel)


def _settle_all(channel: str, listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        if not listener.subscriber.closed:
            listener.settle(channel)


def _move_all(channel: str, listeners: Sequence[Listener], codec: str) -> None:
    for listener in listeners:
        if listener.subscriber.closed or listener.current != listener.channel:
            continue
        if codec == listener.codec:
            listener.move(channel)
        else:  # a player cannot go on with another codec
            listener.end()


def _ignore_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
