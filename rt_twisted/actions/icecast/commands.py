"""
Commands about the sources and listeners of all workers and nodes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.icecast.connected_listeners import IcecastListeners
from rt_twisted.actions.icecast.connected_sources import IcecastSources, Source
from rt_twisted.actions.icecast.mount_counts import MOUNTS, own_counts, packed
from rt_twisted.actions.icecast.status import ShownListener

_LIST = "icecast listeners"  # requests to other processes
_KILL_CLIENT = "icecast killclient"
_KILL_SOURCE = "icecast killsource"
_MOVE = "icecast moveclients"
_ID_BITS = 25  # of listeners of a process; with 27 of the process JavaScript can count them


def listeners_of_process(context: ActionContext) -> IcecastListeners:
    """
    Return the listeners of this process to channels of the hub.
    """
    return context.shared.get(IcecastListeners, partial(_make_listeners, context), context.hub)


def add_source(context: ActionContext, source: Source) -> Callable[[], object]:
    """
    Add a source to those of this process.

    Returns:
        removes it.
    """
    sources, peers = _sources_of_process(context), context.live_peers
    listeners = listeners_of_process(context)
    sources.add(source)
    listeners.on_source(source.channel, True)
    if peers is not None:
        peers.announce()  # its first title may come to another process

    def remove() -> None:
        sources.remove(source)
        if sources.find(source.channel) is None:
            listeners.on_source(source.channel, False)

    return remove


async def listeners_of(context: ActionContext, channel: str) -> Sequence[ShownListener]:
    """
    Return the listeners that are sent *channel* now.
    """
    found = _shown(context, channel)
    for item in await _request(context, _LIST, channel=channel):
        try:
            id, address, agent, connected = item
            found.append(ShownListener(int(id), str(address), str(agent), int(connected)))
        except (TypeError, ValueError, OverflowError):
            continue  # of another version of the daemon
    return found


async def kill_client(context: ActionContext, channel: str, id: str) -> bool:
    """
    Disconnect a listener of *channel*; False if it has none with this *id*.
    """
    if listeners_of_process(context).kill(channel, id):
        return True
    return any(await _request(context, _KILL_CLIENT, channel=channel, id=id))


async def kill_source(context: ActionContext, channel: str) -> bool:
    """
    End the source of *channel*; False if it has none.
    """
    source = _sources_of_process(context).find(channel)
    if source is not None:
        source.kill()
        return True
    return any(await _request(context, _KILL_SOURCE, channel=channel))


async def move_clients(context: ActionContext, channel: str, to: str, codec: str) -> None:
    """
    Let the listeners of *channel* stay with the channel *to*; see `IcecastListeners.move_all`.
    """
    listeners_of_process(context).move_all(channel, to, codec)
    await _request(context, _MOVE, channel=channel, to=to, codec=codec)


async def _request(context: ActionContext, name: str, **arguments: str) -> Sequence[Any]:
    peers = context.live_peers
    return await peers.request(name, **arguments) if peers is not None else ()


def _shown(context: ActionContext, channel: str) -> list[ShownListener]:
    now = context.reactor.seconds()
    return [
        ShownListener(one.id, one.address, one.agent, round(now - one.since))
        for one in listeners_of_process(context).of(channel)
    ]


def _sources_of_process(context: ActionContext) -> IcecastSources:
    return context.shared.get(IcecastSources, partial(_make_sources, context), context.hub)


def _make_sources(context: ActionContext) -> IcecastSources:
    sources, peers = IcecastSources(), context.live_peers
    if peers is None:
        return sources

    async def kill(given: Mapping[str, str]) -> Sequence[Any]:
        source = sources.find(given["channel"])
        if source is None:
            return []
        source.kill()
        return [True]

    peers.on_request(_KILL_SOURCE, kill, sources.all)
    listeners_of_process(context)  # answers for the mounts
    return sources


def _make_listeners(context: ActionContext) -> IcecastListeners:
    peers = context.live_peers
    if peers is None:
        return IcecastListeners(context.reactor)
    # Scripts name a listener by its number, which no other process may have.
    listeners = IcecastListeners(context.reactor, secrets.randbits(27) << _ID_BITS)

    async def mounts(_: Mapping[str, str]) -> Sequence[Any]:
        return packed(own_counts(context))

    async def shown(given: Mapping[str, str]) -> Sequence[Any]:
        found = _shown(context, given["channel"])
        return [[one.id, one.address, one.agent, one.connected] for one in found]

    async def kill(given: Mapping[str, str]) -> Sequence[Any]:
        return [True] if listeners.kill(given["channel"], given["id"]) else []

    async def move(given: Mapping[str, str]) -> Sequence[Any]:
        listeners.move_all(given["channel"], given["to"], given["codec"])
        return []

    peers.on_request(MOUNTS, mounts, listeners.channels)
    peers.on_request(_LIST, shown)
    peers.on_request(_KILL_CLIENT, kill)
    peers.on_request(_MOVE, move)
    return listeners
