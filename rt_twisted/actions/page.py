"""
A page to try everything: subscribe, publish, cut the connection, see the replay;
and the client for browsers that it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header

_HEADERS: Sequence[Header] = (
    ("Cache-Control", "no-cache"),
    (
        "Content-Security-Policy",
        "default-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; "
        "frame-ancestors 'none'",
    ),
)
_JAVASCRIPT = "text/javascript; charset=utf-8"
CLIENT = "realtime.js"
FILES = {  # what is asked for: where it is, and what
    "": ("page.html", "text/html; charset=utf-8"),
    CLIENT: ("realtime.min.js", _JAVASCRIPT),
    "attributes.js": ("attributes.min.js", _JAVASCRIPT),
}


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class PageAction:
    """
    `page`: HTML without anything from elsewhere. It expects the default routes
    beside it. `page:realtime.js` is the client, for pages of your own.

    Args:
        file: `realtime.js` or `attributes.js`; the page if not given. The page
            has the client behind a question mark, wherever it is.
    """

    file: str = ""

    bare: ClassVar[str] = "file"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if self.file not in FILES:
            raise ValueError(f"page: has no file {self.file!r}; it has: {', '.join(FILES)[2:]}")

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Answer with the file.
        """
        file = self.file or (CLIENT if exchange.query_string == CLIENT else "")
        name, content_type = FILES[file]
        body = files("rt_twisted.actions").joinpath(name).read_bytes()
        exchange.answer(200, body, content_type, _HEADERS)
