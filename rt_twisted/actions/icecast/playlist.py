"""
The action `icecast-playlist`: playlists that players open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.icecast.action import IcecastAction
from rt_twisted.actions.icecast.mount_counts import base_url, mount_of
from rt_twisted.actions.icecast.status import xspf
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class IcecastPlaylistAction:
    """
    Serve playlists of mounts: `/live.mp3.m3u` and `/live.mp3.xspf` for the mount `/live.mp3`.

    Args:
        context: the hub and the settings.
    """

    context: ActionContext

    methods: ClassVar[Sequence[str]] = ("GET",)

    async def act(self, exchange: IExchange, match: Match) -> None:
        path, _, kind = exchange.path.rpartition(".")
        found = exchange.find("SOURCE", path)
        mount = None
        if found is not None and isinstance(found[0], IcecastAction):
            action, match = found
            mount = await mount_of(action.context, action.channel_of(exchange, match))
        if mount is None or kind not in ("m3u", "xspf"):
            raise HttpError(404, "the mount has no source")
        base = base_url(exchange)
        if kind == "m3u":
            body = f"{base}{mount.about['mount']}\r\n".encode()
            exchange.answer(200, body, "audio/x-mpegurl", NO_STORE)
            return
        exchange.answer(200, xspf(mount, base), "application/xspf+xml; charset=utf-8", NO_STORE)
