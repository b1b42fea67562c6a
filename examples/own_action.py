"""
An action of your own, which is a word for route lines: a POST to /deployed/NAME publishes
a message.

    route = POST ^/deployed/([a-z]+)$ own_action.Announce:channel=deploys,text=$1 is live

Each field of the dataclass is an argument of the line. `Template` is a text in which
`$1` and `${...}` are replaced for each request. The field `context` gets the hub and the
settings from the daemon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.api import ActionContext, Draft, IAction, IExchange, Match, Template


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Announce:
    """
    Publish a text that is built from the route line and the request.
    """

    context: ActionContext
    text: Template
    channel: str = "news"

    bare: ClassVar[str] = "text"  # the field meant by `own_action.Announce:$1 is live`
    methods: ClassVar[Sequence[str]] = ("POST",)

    async def act(self, exchange: IExchange, match: Match) -> None:
        self.context.publish_keys.check(exchange, None, [self.channel])
        text = self.text.expand(exchange, match)
        await self.context.publish([Draft(self.channel, text.encode(), "deployed")])
        exchange.answer(200, f"announced: {text}\n".encode(), "text/plain; charset=utf-8")
