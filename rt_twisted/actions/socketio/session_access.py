"""
The grant of a Socket.IO session: it comes with the handshake, or when a client connects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import DeferredLock

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.access.questions import PUBLISH, SUBSCRIBE
from rt_twisted.actions.connection_grant import ConnectionGrant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import grant_of
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError

TOKEN = "token"  # the event, and the field of `auth`, by which clients send tokens


class SessionAccess:
    """
    The grant of one session, of which all namespaces are one client.

    Args:
        context: settings and hub; its gate is not open.
        exchange: the first request of the session; released when a client has connected.
        claims: names of claims that are part of the channels of the route.
        asked_channels: returns those of the route about which the application is asked.
    """

    __slots__ = (
        "_asked_channels",
        "_claims",
        "_connecting",
        "_context",
        "_current",
        "_exchange",
        "_gate",
    )

    def __init__(
        self,
        context: ActionContext,
        exchange: IExchange,
        claims: Sequence[str] = (),
        asked_channels: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._context = context
        self._gate = context.gate
        self._asked_channels = asked_channels
        self._exchange: IExchange | None = exchange
        self._claims = claims
        self._current: ConnectionGrant | None = None
        self._connecting = DeferredLock()  # the first client that is granted decides for all

    @property
    def grant(self) -> Grant:
        """
        The grant, once a client has connected.
        """
        return self._current.grant if self._current is not None else ANYONE

    @property
    def seconds_left(self) -> float:
        """
        Seconds until the session ends; infinity for no end.
        """
        if self._current is None or self._current.grant is ANYONE:
            return float("inf")
        return self._current.seconds_left

    async def connect(self, auth: dict[str, Any]) -> Grant:
        """
        Return the grant of a client that connects to a namespace.

        Args:
            auth: what it sent; `token` counts before a token of the handshake.

        Raises:
            HttpError: 401, it has no valid token; 403, it is another client's; or how the
                application refuses it.
        """
        token = auth.get(TOKEN)
        if not isinstance(token, str):
            token = ""
        async with self._connecting:
            return await self._connect(token)

    async def _connect(self, token: str) -> Grant:
        if self._current is not None:
            if token and self._current.grant is not ANYONE:
                self._current.renew(token)
            return self._current.grant
        exchange, gate = self._exchange, self._gate
        assert exchange is not None
        grant, question = gate.identify(exchange, token), None
        if grant is None:
            channels = self._asked_channels()
            question = gate.question(exchange, SUBSCRIBE, "socket.io", channels)
            grant = grant_of(self._context, await gate.app.ask(question))
        self._current = ConnectionGrant(gate, grant, claims=self._claims, question=question)
        self._exchange = None
        return grant

    async def check_subscribe(self, names: Sequence[str]) -> Grant:
        """
        Check that the client may subscribe to all of *names*, and return its grant.

        Raises:
            HttpError: 403, or how the application refuses them.
        """
        current = self._current
        if current is None or current.grant is ANYONE:
            return ANYONE
        missing = [name for name in names if not current.covers(name)]
        if missing and current.asks:
            await current.ask(self._context, SUBSCRIBE, missing)
        else:
            current.check_subscribe(missing)
        return current.grant

    async def permits(self, channel: str) -> bool:
        """
        Return whether the client may publish to *channel* without a key.

        Raises:
            HttpError: how the application refuses it.
        """
        current = self._current
        if current is None or current.grant is ANYONE:
            return False
        if not current.permits(channel) and current.asks:
            await current.ask(self._context, PUBLISH, [channel])
        return current.permits(channel)

    def renew(self, token: object) -> None:
        """
        Replace the grant by that of *token*, as it was sent.

        Raises:
            HttpError: 400, it is no text; 401 and 403, see `ConnectionGrant.renew`.
        """
        if not isinstance(token, str):
            raise HttpError(400, "token needs a token")
        if self._current is None or self._current.grant is ANYONE:
            raise HttpError(401, "tokens are not accepted here")
        self._current.renew(token)
