"""
A page to try everything: subscribe, publish, cut the connection, see the replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.interfaces import Header, IAction, IExchange, Match

_HEADERS: Sequence[Header] = (
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'self' 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    ),
)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Page:
    """
    `page`: one HTML file without anything from elsewhere. It expects the
    default routes `/` and `/publish`.
    """

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Answer with the page.
        """
        body = files("rt_twisted.actions").joinpath("page.html").read_bytes()
        exchange.answer(200, body, "text/html; charset=utf-8", _HEADERS)
