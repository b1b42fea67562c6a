"""
The mounts that have a source, with their listeners, on all workers and nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.icecast.connected_listeners import IcecastListeners
from rt_twisted.actions.icecast.connected_sources import IcecastSources
from rt_twisted.actions.icecast.status import MountStatus
from rt_twisted.http.interfaces import IExchange
from rt_twisted.media.unit import Head

MOUNTS = "icecast mounts"  # the request for these to other processes


@dataclass(frozen=True, slots=True)
class MountCounts:
    """
    What processes have of a mount.

    Args:
        listeners: how many.
        has_source: whether it has one; it need not have sent audio.
        status: what the source says; None before it has sent audio.
        peak: of the listeners; the sum of the peaks of several processes.
    """

    listeners: int
    has_source: bool
    status: MountStatus | None
    peak: int = 0

    @property
    def mount(self) -> MountStatus | None:
        """
        Return the status with the numbers of listeners.
        """
        if self.status is None:
            return None
        return replace(self.status, listeners=self.listeners, peak=max(self.peak, self.listeners))

    def plus(self, other: MountCounts) -> MountCounts:
        """
        Return the sum with what other processes have.
        """
        return MountCounts(
            self.listeners + other.listeners,
            self.has_source or other.has_source,
            self.status or other.status,
            self.peak + other.peak,
        )


NOTHING = MountCounts(0, False, None)


async def live_mounts(context: ActionContext) -> list[MountStatus]:
    """
    Return the mounts that have a source, in the order of their channels.
    """
    found = await _all_counts(context)
    return [counts.mount for _, counts in sorted(found.items()) if counts.mount is not None]


async def counts_of(context: ActionContext, channel: str, now: bool = False) -> MountCounts:
    """
    Return what all processes have of the mount that publishes to *channel*.

    Args:
        context: the hub and the settings.
        channel: of the mount.
        now: what others had a second ago does not do.
    """
    return (await _all_counts(context, now)).get(channel, NOTHING)


async def mount_of(context: ActionContext, channel: str) -> MountStatus | None:
    """
    Return the mount that publishes to *channel*; None if it has no source.
    """
    return (await counts_of(context, channel)).mount


def own_counts(context: ActionContext) -> dict[str, MountCounts]:
    """
    Return what this process has, by channel.
    """
    found = {}
    sources = context.shared.find(IcecastSources, context.hub)
    for source in sources.all() if sources is not None else ():
        found[source.channel] = MountCounts(0, True, _status_of(source.head()))
    listeners = context.shared.find(IcecastListeners, context.hub)
    if listeners is None:
        return found
    for channel in {*found, *listeners.channels()}:
        counts = MountCounts(listeners.count(channel), False, None, listeners.peak(channel))
        found[channel] = found.get(channel, NOTHING).plus(counts)
    return found


def packed(found: Mapping[str, MountCounts]) -> Sequence[Any]:
    """
    Return *found* as JSON, for another process.
    """
    return [
        [
            channel,
            one.listeners,
            one.has_source,
            asdict(one.status) if one.status else None,
            one.peak,
        ]
        for channel, one in found.items()
    ]


async def _all_counts(context: ActionContext, now: bool = False) -> dict[str, MountCounts]:
    peers = context.live_peers
    request = None if peers is None else peers.request if now else peers.request_shared
    others = await request(MOUNTS) if request is not None else ()
    found = own_counts(context)
    for channel, counts in _unpacked(others):
        found[channel] = found.get(channel, NOTHING).plus(counts)
    return found


def _unpacked(found: Sequence[Any]) -> Iterable[tuple[str, MountCounts]]:
    for item in found:
        try:
            channel, listeners, has_source, status, peak = item
            shown = MountStatus(**status) if status is not None else None
            yield str(channel), MountCounts(int(listeners), bool(has_source), shown, int(peak))
        except (TypeError, ValueError, OverflowError):
            continue  # of another version of the daemon


def _status_of(head: Head | None) -> MountStatus | None:
    if head is None:
        return None
    track = head.tracks[0]
    return MountStatus(dict(head.about), 0, head.wall, track.channels, track.rate, track.codec)


def base_url(exchange: IExchange) -> str:
    """
    Return the URL under which the client reaches the server, without a slash at the end.
    """
    return f"{exchange.scheme}://{exchange.header('host') or 'localhost'}"
