"""
A page to try everything: subscribe, publish, cut the connection, see the replay;
pages that show live streams; and the scripts for browsers that they use.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import ClassVar
from urllib.parse import quote

from zope.interface import implementer

from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.codecs.negotiation import accepts_gzip, has_tag
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header

_POLICY = (
    "default-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; "
    "frame-ancestors 'none'"
)
_YEAR = "public, max-age=31536000, immutable"
_HTML = "text/html; charset=utf-8"
_JAVASCRIPT = "text/javascript; charset=utf-8"
CLIENT = "realtime.js"
JQUERY = "jquery.sse.js"
WALL = "wall"
LIVE = ("camera", "player", WALL)
FILES = {  # argument of the route: file name, content type
    "": ("page.html", _HTML),
    CLIENT: ("realtime.min.js", _JAVASCRIPT),
    "attributes.js": ("attributes.min.js", _JAVASCRIPT),
    JQUERY: ("jquery.sse.min.js", _JAVASCRIPT),
    "live.js": ("live.min.js", _JAVASCRIPT),
    "camera": ("camera.html", _HTML),
    "player": ("live.html", _HTML),
    WALL: ("wall.html", _HTML),
}


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """
    A file of the package, as it is sent.

    Args:
        body: of the file.
        compressed: the same by gzip.
        version: changes with the body: letters and digits.
    """

    body: bytes = field(repr=False)
    compressed: bytes = field(repr=False)
    version: str

    def send(self, exchange: IExchange, content_type: str, headers: Sequence[Header] = ()) -> None:
        """
        Answer with the file: compressed, or 304, where the client accepts that.

        With the query `v=VERSION` clients keep it for a year; otherwise they ask each time
        whether it has changed.
        """
        plain, packed = f'"{self.version}"', f'"{self.version}-gzip"'
        compress = accepts_gzip(exchange.header("accept-encoding"))
        versioned = exchange.query().get("v") == [self.version]
        headers = [
            ("Cache-Control", _YEAR if versioned else "no-cache"),
            ("ETag", packed if compress else plain),
            ("Vary", "Accept-Encoding"),
            *headers,
        ]
        if has_tag(exchange.header("if-none-match"), plain, packed):
            exchange.answer(304, headers=headers)
        elif compress:
            headers.append(("Content-Encoding", "gzip"))
            exchange.answer(200, self.compressed, content_type, headers)
        else:
            exchange.answer(200, self.body, content_type, headers)


@cache
def packaged_file(name: str) -> PackagedFile:
    """
    Return the file *name* of the folder of the actions; it is read and compressed once.
    """
    body = files("rt_twisted.actions").joinpath(name).read_bytes()
    version = hashlib.sha256(body).hexdigest()[:12]
    return PackagedFile(body, gzip.compress(body, 9, mtime=0), version)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class PageAction:
    """
    Serve the page for trying the daemon, a page of live streams, or a script for your own
    pages: `page`, `page:player`, `page:realtime.js`.

    The pages load nothing from other hosts, and expect the default routes.

    Args:
        file: `realtime.js`, `attributes.js` or `jquery.sse.js`; the page if not given. The
            page and the last one load the client from their own path with the query
            `realtime.js`. `player` is the page of the live stream with the same path, `wall`
            the page of all live streams, whose path ends with a slash, `camera` the page that
            publishes a camera to the live stream of its path without `/publish`. They load
            `live.js` beside the folder of the streams.
    """

    file: str = ""

    bare: ClassVar[str] = "file"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if self.file not in FILES:
            raise ValueError(f"page: has no file {self.file!r}; it has: {', '.join(FILES)[2:]}")
        for name in {self.file, CLIENT}:
            packaged_file(FILES[name][0])

    @property
    def is_test_page(self) -> bool:
        """
        Whether this is the page for trying the daemon, which pages about errors link to.
        """
        return self.file == ""

    def act(self, exchange: IExchange, match: Match) -> None:
        file = self.file
        if file == WALL and not exchange.path.endswith("/"):  # its scripts are relative to it
            name = exchange.path.rpartition("/")[2]
            query = f"?{exchange.query_string}" if exchange.query_string else ""
            place = f"./{quote(name, errors='surrogateescape')}/{query}"
            exchange.answer(301, headers=(("Location", place),))
            return
        if exchange.query_string == CLIENT and file in ("", JQUERY):
            file = CLIENT
        name, content_type = FILES[file]
        # MediaSource is a blob.
        policy = f"{_POLICY}; media-src blob:" if file in LIVE else _POLICY
        headers = [("Content-Security-Policy", policy)]
        packaged_file(name).send(exchange, content_type, headers)
