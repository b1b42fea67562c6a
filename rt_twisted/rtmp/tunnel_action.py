"""
The requests of RTMPT: open, send, idle and close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.access.keys import CREDENTIAL_HEADERS
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.codecs.query import media_type
from rt_twisted.http.interfaces import IExchange
from rt_twisted.media.unit import MAX_UNIT
from rt_twisted.metrics.responses import PUBLISHES
from rt_twisted.model.errors import HttpError
from rt_twisted.rtmp.connection import RtmpConnection
from rt_twisted.rtmp.publishing import RtmpRoutes
from rt_twisted.rtmp.request import RtmpClient
from rt_twisted.rtmp.tunnel import TunnelSessions
from rt_twisted.rtmp.waiting import WaitingConnections

TYPE = "application/x-fcs"
MAX_BODY = 4 * MAX_UNIT  # bytes of a request: the largest frame that can be configured, twice
MAX_FIRST_BODY = 256 * 1024  # bytes of a request before the client publishes

_POLL_SOON = b"\x01"  # how soon the client asks for more; others are up to 33


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class RtmpTunnelAction:
    """
    Serve publishers that tunnel RTMP in HTTP requests, on the fixed paths of RTMPT.

    Args:
        context: the hub and the settings.
    """

    context: ActionContext

    counts_as: ClassVar[str] = PUBLISHES
    methods: ClassVar[Sequence[str]] = ("POST",)

    def declines(self, exchange: IExchange) -> bool:
        """
        Return whether a request is not RTMPT's, which has a content type of its own.
        """
        return media_type(exchange.header("content-type") or "") != TYPE

    async def act(self, exchange: IExchange, match: Match) -> None:
        context = self.context
        word, id = match.groups[1], match.groups[2] or ""
        sessions = context.shared.get(TunnelSessions, TunnelSessions)
        if word == "open":
            await exchange.read(MAX_FIRST_BODY)
            self._open(exchange, sessions)
            return
        session = sessions.find(id)
        if session is None:
            handoff = context.handoff
            number = handoff.owner(id) if handoff is not None else None
            if handoff is None or number is None or not await handoff.hand_off(exchange, number):
                raise HttpError(404, "there is no such session")
            return
        data = await exchange.read(MAX_BODY if session.publishing else MAX_FIRST_BODY)
        if word == "close":
            session.end()
            _answer(exchange, b"\0")
            return
        # An idle request has a byte that means nothing.
        _answer(exchange, _POLL_SOON + await session.exchange(data if word == "send" else b""))

    def _open(self, exchange: IExchange, sessions: TunnelSessions) -> None:
        context = self.context
        mark = context.handoff.id_prefix if context.handoff is not None else "t"
        session = sessions.open(context.reactor, mark)
        given = {name: exchange.header(name) for name in (*CREDENTIAL_HEADERS, "cookie")}
        headers = {name: value for name, value in given.items() if value is not None}
        client = RtmpClient(exchange.address, exchange.secure, exchange.local, headers)
        waiting = context.shared.get(WaitingConnections, WaitingConnections)
        session.connect(RtmpConnection(context.reactor, RtmpRoutes(exchange.find), waiting, client))
        _answer(exchange, session.id.encode() + b"\n")


def _answer(exchange: IExchange, body: bytes) -> None:
    exchange.answer(200, body, TYPE, NO_STORE)
