"""
Files from a folder.

Names are checked after they are decoded: the segments of the path that the
route's pattern was searched in are the ones that are opened.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from errno import EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO, EPERM
from mimetypes import guess_type
from stat import S_ISDIR, S_ISREG
from typing import ClassVar
from urllib.parse import quote

from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.codecs.ranges import byteranges, content_range, parse_ranges
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header, HttpError

INDEX = ("index.html", "index.htm")  # served for a folder itself

_log = Logger()

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not block
_BENEATH = _FLAGS | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
_ABSENT = frozenset((EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO))
_UNKNOWN = "application/octet-stream"
_TYPES = {  # that Python does not know everywhere, by extension
    **dict.fromkeys((".conf", ".diff", ".patch", ".java", ".md", ".log"), "text/plain"),
    ".map": "application/json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
_CODINGS = {"gzip": "gzip", "br": "br"}  # HTTP's, by Python's name
_PACKED = {"bzip2": "application/x-bzip2", "xz": "application/x-xz"}


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Static:
    """
    `static:DIR` or `static:FILE`.

    A name with a segment that begins with a dot is not served, nor one with a
    backslash, nor what is no regular file. A link is followed if what it leads
    to lies in the folder and could be asked for by its own name; every other
    link only with `links=yes`.

    Args:
        path: a folder, whose index.html is served for the folder itself and
            which is never listed; or one file for every path that matches.
        links: whether symbolic links may lead anywhere.
    """

    path: str
    links: bool = False
    root: str = field(init=False)

    bare: ClassVar[str] = "path"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):
            raise ValueError(f"there is no {self.path}")
        object.__setattr__(self, "root", os.path.abspath(self.path))  # a daemon changes its folder

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Answer with the file, or with the part of it that is asked for.

        Raises:
            Refusal: 404, there is none that may be seen; 403, the daemon may
                not read it; 503, it cannot be read now.
        """
        try:
            self._act(exchange, match)
        except ValueError:  # a name that cannot be one here
            raise HttpError(404, "nothing here") from None
        except OSError as error:
            if error.errno in _ABSENT:
                raise HttpError(404, "nothing here") from None
            if error.errno in (EACCES, EPERM):
                raise HttpError(403, "not for you") from None
            _log.warn("cannot read below {root}: {why}", root=self.root, why=error.strerror)
            raise HttpError(503, "it cannot be read now", retry=2) from None

    def _act(self, exchange: IExchange, match: Match) -> None:
        root = os.open(self.root, _FLAGS)
        try:
            if S_ISREG(os.fstat(root).st_mode):
                _send(exchange, os.dup(root), os.path.basename(self.root))
                return
            segments = exchange.path.split("/")[1 + match.depth :]
            if any(_is_hidden(segment) for segment in segments[:-1]) or "" in segments[:-1]:
                raise HttpError(404, "nothing here")
            if segments and segments[-1]:
                self._send_named(exchange, root, segments)
            else:
                self._send_index(exchange, root, segments[:-1])
        finally:
            os.close(root)

    def _send_named(self, exchange: IExchange, root: int, segments: Sequence[str]) -> None:
        if _is_hidden(segments[-1]):
            raise HttpError(404, "nothing here")
        found = self._open(root, segments)
        if S_ISDIR(os.fstat(found).st_mode):
            os.close(found)
            _redirect(exchange)
            return
        _send(exchange, found, segments[-1])

    def _send_index(self, exchange: IExchange, root: int, segments: Sequence[str]) -> None:
        for name in INDEX:
            try:
                found = self._open(root, [*segments, name])
            except FileNotFoundError:
                continue
            _send(exchange, found, name)
            return
        raise HttpError(404, "nothing here")

    def _open(self, root: int, segments: Sequence[str]) -> int:
        """
        Open what *segments* name below the folder *root*.

        Returns:
            a descriptor, of a file or of a folder.
        """
        if self.links:
            return os.open("/".join(segments), _FLAGS, dir_fd=root)
        try:
            return _open_beneath(root, segments)
        except OSError as error:
            if error.errno not in (ELOOP, ENOTDIR):
                raise
        # One of them is a link, perhaps. What it leads to is opened as if it had been
        # asked for, and again without following anything: a link that is changed
        # in between leads nowhere.
        base = os.path.realpath(self.root)
        target = os.path.realpath(os.path.join(base, *segments), strict=True)
        if target == base or os.path.commonpath((base, target)) != base:
            raise HttpError(404, "nothing here")
        segments = os.path.relpath(target, base).split("/")
        if any(map(_is_hidden, segments)):
            raise HttpError(404, "nothing here")
        return _open_beneath(root, segments)


def _open_beneath(root: int, segments: Sequence[str]) -> int:
    """
    Open a file or folder without following a link anywhere on the way.

    Raises:
        OSError: ELOOP or ENOTDIR if one of *segments* is a link.
    """
    folder = os.dup(root)
    try:
        for segment in segments[:-1]:
            below = os.open(segment, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(segments[-1], _BENEATH, dir_fd=folder)
    finally:
        os.close(folder)


def _is_hidden(segment: str) -> bool:
    # Dots are the way up, too. A backslash or slash would separate for somebody else.
    return segment.startswith(".") or "\\" in segment


def _redirect(exchange: IExchange) -> None:
    """
    To a folder's own name, so that relative links in its index are right.
    """
    path = "/" + quote(exchange.path).lstrip("/") + "/"  # two slashes would name a host
    query = quote(exchange.query_string, safe="!$&'()*+,;=:@/?-._~%", encoding="latin-1")
    location = f"{path}?{query}" if query else path
    exchange.answer(302, headers=[("Location", location)])


def _send(exchange: IExchange, descriptor: int, name: str) -> None:
    """
    Answer with an open file, which is closed in any case.

    Args:
        exchange: the request.
        descriptor: of a file, or of something else that is not served.
        name: as it was asked for; its extension says what it is.
    """
    with ExitStack() as stack:
        file = stack.enter_context(os.fdopen(descriptor, "rb", buffering=0))
        status = os.fstat(file.fileno())
        if not S_ISREG(status.st_mode):
            raise HttpError(404, "nothing here")
        modified = formatdate(int(status.st_mtime), usegmt=True)
        content_type, headers = _kind(name)
        headers += [("Last-Modified", modified), ("Accept-Ranges", "bytes")]
        if _is_unchanged(exchange, int(status.st_mtime)):
            exchange.answer(304, headers=headers)
            return
        size = status.st_size
        parts: list[bytes | range] = [range(size)] if size else []
        code = 200
        ranges = _ranges(exchange, size, modified)
        if ranges is not None and not ranges:
            raise HttpError(416, "no such range", [("Content-Range", content_range(None, size))])
        if ranges is not None and len(ranges) == 1:
            code, parts = 206, [ranges[0]]
            headers.append(("Content-Range", content_range(ranges[0], size)))
        elif ranges is not None:
            boundary = secrets.token_hex(12)
            several = byteranges(ranges, size, content_type, boundary)
            # A client that gets more than the file for its trouble is better off with the file.
            if sum(map(len, several)) <= size:
                code, parts = 206, several
                content_type = f"multipart/byteranges; boundary={boundary}"
        stack.pop_all()  # whoever sends it closes it
        exchange.answer_file(code, file, parts, content_type, headers)


def _kind(name: str) -> tuple[str, list[Header]]:
    """
    The media type of a file of this *name*, and the headers that go with it.
    """
    _, dot, extensions = name.partition(".")
    known, coding = guess_type("file." + extensions if dot else "file")
    _, extension = os.path.splitext(name)
    content_type = known or _TYPES.get(extension.lower(), _UNKNOWN)
    if coding is None:
        return content_type, []
    if coding in _CODINGS:
        return content_type, [("Content-Encoding", _CODINGS[coding])]
    return _PACKED.get(coding, _UNKNOWN), []


def _ranges(exchange: IExchange, size: int, modified: str) -> list[range] | None:
    asked = exchange.header("range")
    if asked is None or exchange.method != "GET":  # RFC 9110, 14.2
        return None
    condition = exchange.header("if-range")
    if condition is not None and condition != modified:
        return None
    return parse_ranges(asked, size)


def _is_unchanged(exchange: IExchange, modified: int) -> bool:
    since = exchange.header("if-modified-since")
    if since is None or exchange.header("if-none-match") is not None:  # RFC 9110, 13.1.3
        return False
    try:
        return modified <= parsedate_to_datetime(since.partition(";")[0]).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
