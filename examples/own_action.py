"""
A word of your own for route lines: who posts to /deployed/NAME tells all readers.

    route = POST ^/deployed/([a-z]+)$ own_action.Announce:channel=deploys,text=$1 is live

A field of the dataclass is an argument of the line. `Template` is a text in which
`$1` and `${...}` are filled in for each request; `house` is lent by the daemon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.message import Draft


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Announce:
    """
    Publish a text that the route line makes of the request.
    """

    context: ActionContext
    text: Template
    channel: str = "news"

    bare: ClassVar[str] = "text"  # the field meant by `own_action.Announce:$1 is live`
    methods: ClassVar[Sequence[str]] = ("POST",)

    async def act(self, exchange: IExchange, match: Match) -> None:
        """
        Ask for a key where one is set, publish, answer.
        """
        self.context.publishers.check(exchange, None, [self.channel])
        text = self.text.expand(exchange, match)
        await self.context.hub.publish([Draft(self.channel, text.encode(), "deployed")])
        exchange.answer(200, f"announced: {text}\n".encode(), "text/plain; charset=utf-8")
