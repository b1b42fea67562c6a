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
JQUERY = "jquery.sse.js"
FILES = {  # argument of the route: file name, content type
    "": ("page.html", "text/html; charset=utf-8"),
    CLIENT: ("realtime.min.js", _JAVASCRIPT),
    "attributes.js": ("attributes.min.js", _JAVASCRIPT),
    JQUERY: ("jquery.sse.min.js", _JAVASCRIPT),
}


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class PageAction:
    """
    Serve the page for trying the daemon, or a script for your own pages: `page`,
    `page:realtime.js`.

    The page loads nothing from other hosts, and expects the default routes.

    Args:
        file: `realtime.js`, `attributes.js` or `jquery.sse.js`; the page if not given. The
            page and the last one load the client from their own path with the query
            `realtime.js`.
    """

    file: str = ""

    bare: ClassVar[str] = "file"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if self.file not in FILES:
            raise ValueError(f"page: has no file {self.file!r}; it has: {', '.join(FILES)[2:]}")

    def act(self, exchange: IExchange, match: Match) -> None:
        file = self.file
        if exchange.query_string == CLIENT and file in ("", JQUERY):
            file = CLIENT
        name, content_type = FILES[file]
        body = files("rt_twisted.actions").joinpath(name).read_bytes()
        exchange.answer(200, body, content_type, _HEADERS)
