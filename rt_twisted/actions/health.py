"""
The actions `alive` and `ready`: liveness and readiness probes.

They differ on purpose. A daemon that is not alive is restarted, and loses all its
subscribers; one that is not ready gets no traffic until it is. So liveness only
needs a running reactor, whatever else is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.http.interfaces import IExchange

_TEXT = "text/plain; charset=utf-8"


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class LivenessAction:
    """
    Answer 200 to every client, without a key: `alive`.
    """

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        exchange.answer(200, b"alive\n", _TEXT, NO_STORE)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class ReadinessAction:
    """
    Answer 200 while the daemon accepts subscribers and publishers: `ready`.

    Otherwise the response is 503 and one word: `stopping`, or `broker` while the broker is
    not available. No key is needed.
    """

    context: ActionContext

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        why_not = self.context.hub.why_not_ready()
        if why_not:
            exchange.answer(503, f"{why_not}\n".encode(), _TEXT, NO_STORE)
        else:
            exchange.answer(200, b"ready\n", _TEXT, NO_STORE)
