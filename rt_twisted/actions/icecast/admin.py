"""
The action `icecast-admin`: titles, statistics and commands at the paths that icecast2 has.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import ClassVar
from urllib.parse import unquote_to_bytes

from zope.interface import implementer

from rt_twisted.access.keys import Credentials, Keys
from rt_twisted.access.secrets import secret
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.icecast.action import IcecastAction, has_password
from rt_twisted.actions.icecast.commands import (
    kill_client,
    kill_source,
    listeners_of,
    move_clients,
)
from rt_twisted.actions.icecast.mount_counts import base_url, counts_of, live_mounts, mount_of
from rt_twisted.actions.icecast.status import (
    MountStatus,
    listeners_xml,
    mounts_xml,
    response_xml,
    stats_xml,
    status_json,
)
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.codecs.basic_auth import CHALLENGE
from rt_twisted.http.interfaces import IExchange
from rt_twisted.media.icy import clean_title
from rt_twisted.media.unit import Title, write
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft

_XML = "text/xml; charset=utf-8"
_COMMANDS = ("metadata", "killsource", "listclients", "moveclients", "killclient")


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class IcecastAdminAction:
    """
    Serve the pages for scripts: `icecast-admin:password=env:ADMIN_PASSWORD`.

    The last part of the path says which one: `status-json.xsl` and `status.xsl` are open to
    all; `metadata` needs the password or the one of the mount, the others need the password.
    Without a password, only this machine may use them.

    Args:
        context: the hub and the settings.
        password: for Basic, with any user name; also `file:PATH` or `env:NAME`.
    """

    context: ActionContext
    password: str = field(default="", repr=False)

    methods: ClassVar[Sequence[str]] = ("GET", "POST")

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "password", secret(self.password))
        except ValueError as error:
            raise ValueError(f"password= must be {error}") from None

    async def act(self, exchange: IExchange, match: Match) -> None:
        page = exchange.path.rpartition("/")[2].partition(".")[0]
        if exchange.path.endswith("/status-json.xsl"):
            body = status_json(await self._shown(exchange), base_url(exchange), self._started)
            exchange.answer(200, body, "application/json", NO_STORE)
        elif exchange.path.endswith("/status.xsl"):
            body = _page(await self._shown(exchange))
            exchange.answer(200, body, "text/html; charset=utf-8", NO_STORE)
        elif page in _COMMANDS:
            await self._command(exchange, page)
        elif page == "stats":
            self._authorize(exchange)
            mounts = await self._shown(exchange)
            if not mounts and _has_parameter(exchange, "mount"):
                raise HttpError(400, "Source does not exist")
            body = stats_xml(mounts, base_url(exchange), self._started)
            exchange.answer(200, body, _XML, NO_STORE)
        elif page == "listmounts":
            self._authorize(exchange)
            exchange.answer(200, mounts_xml(await live_mounts(self.context)), _XML, NO_STORE)
        else:
            raise HttpError(400, "there is no such command here")

    async def _shown(self, exchange: IExchange) -> list[MountStatus]:
        """
        Return the mounts that have a source; with `mount=` in the query, that one alone.
        """
        mounts = await live_mounts(self.context)
        if not _has_parameter(exchange, "mount"):
            return mounts
        name = _parameter(exchange, "mount").decode(errors="replace")
        return [mount for mount in mounts if mount.about.get("mount") == name]

    @property
    def _started(self) -> float:
        return time.time() - self.context.hub.current_metrics().uptime

    def _authorize(self, exchange: IExchange) -> None:
        """
        Raises:
            HttpError: 401, the password is wrong; 403, there is none, and the request comes
                from another machine.
        """
        if not self.password:
            Keys().authorize(Credentials(None, exchange))
        elif not has_password(exchange, self.password):
            raise HttpError(401, "the password of the administrator is needed", [CHALLENGE])

    async def _command(self, exchange: IExchange, page: str) -> None:
        mount = _parameter(exchange, "mount").decode(errors="replace")
        found = exchange.find("SOURCE", mount) if mount.startswith("/") else None
        context, channel = self.context, ""
        if found is not None and isinstance(found[0], IcecastAction):
            action, match = found
            context, channel = action.context, action.channel_of(exchange, match)
        if page == "metadata" and channel and not has_password(exchange, self.password):
            await action.authorize(exchange, match)
        else:
            self._authorize(exchange)
        counts = await counts_of(context, channel, now=True)
        on_source = page in ("metadata", "killsource")
        if not counts.has_source and (on_source or not counts.listeners):
            raise HttpError(400, "Source does not exist")  # the words of icecast2
        if page == "killsource":
            if not await kill_source(context, channel):
                raise HttpError(400, "Source does not exist")
            exchange.answer(200, response_xml("Source Removed", True), _XML, NO_STORE)
            return
        if page != "metadata":
            body = await _on_listeners(context, exchange, page, mount, channel)
            exchange.answer(200, body, _XML, NO_STORE)
            return
        if _parameter(exchange, "mode") not in (b"updinfo", b""):
            raise HttpError(400, "mode is updinfo")
        charset = _parameter(exchange, "charset").decode("latin-1")
        parts = [_parameter(exchange, name) for name in ("artist", "title")]
        song = _parameter(exchange, "song") or b" - ".join(filter(None, parts))
        event, data = write(Title(clean_title(song, charset)))
        try:
            await context.publish_stream([Draft(channel, data, event, transient=True)])
        except Unavailable as error:
            raise HttpError(503, str(error), retry=2) from None
        exchange.answer(200, response_xml("Metadata update successful", True), _XML, NO_STORE)


async def _on_listeners(
    context: ActionContext, exchange: IExchange, page: str, mount: str, channel: str
) -> bytes:
    """
    Return the response to a command about the listeners of *mount*.

    Raises:
        HttpError: 400, a parameter is missing or wrong.
    """
    if page == "listclients":
        return listeners_xml(mount, await listeners_of(context, channel))
    if page == "killclient":
        id = _parameter(exchange, "id").decode(errors="replace")
        if not id:
            raise HttpError(400, "Missing parameter")
        if await kill_client(context, channel, id):
            return response_xml(f"Client {id} removed", True)
        return response_xml(f"Client {id} not found", False)
    destination = _parameter(exchange, "destination").decode(errors="replace")
    if not destination:
        raise HttpError(400, "Missing parameter")
    to = _channel_of(context, exchange, destination)
    if to == channel:
        raise HttpError(400, "supplied mountpoints are identical")
    destined = await mount_of(context, to)
    if destined is None:
        raise HttpError(400, "No such destination")
    await move_clients(context, channel, to, destined.codec)
    return response_xml(f"Clients moved from {mount} to {destination}", True)


def _channel_of(context: ActionContext, exchange: IExchange, mount: str) -> str:
    """
    Return the channel of a mount; "" if no route has it, or one with another `server=`.
    """
    found = exchange.find("SOURCE", mount) if mount.startswith("/") else None
    if found is None or not isinstance(found[0], IcecastAction):
        return ""
    if found[0].context.hub is not context.hub:
        return ""
    channel: str = found[0].channel_of(exchange, found[1])
    return channel


def _parameter(exchange: IExchange, name: str) -> bytes:
    """
    Return the bytes of a parameter of the query: they need not be UTF-8.
    """
    for part in exchange.query_string.split("&"):
        key, _, value = part.partition("=")
        if key == name:
            return unquote_to_bytes(value.replace("+", " ").encode("latin-1"))
    return b""


def _has_parameter(exchange: IExchange, name: str) -> bool:
    parts = exchange.query_string.split("&")
    return any(part.partition("=")[0] == name for part in parts)


def _page(mounts: list[MountStatus]) -> bytes:
    rows = []
    for mount in mounts:
        about = mount.about
        cells = (about.get("mount"), about.get("name"), about.get("title"), mount.listeners)
        rows.append("".join([f"<td>{escape(str(cell or ''))}</td>" for cell in cells]))
    names = "<tr><th>Mount</th><th>Name</th><th>Playing</th><th>Listeners</th></tr>"
    table = "".join([f"<tr>{row}</tr>" for row in rows])
    return (
        "<!DOCTYPE html><meta charset=utf-8><title>Streams</title><h1>Streams</h1>"
        f"<table>{names}{table}</table>\n"
    ).encode()
