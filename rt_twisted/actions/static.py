"""
The action `static`: files from a folder.

Names are checked after decoding: the segments of the decoded path, in which the
route's pattern was searched, are the names that are opened.
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
_TYPES = {  # by extension; Python does not know these on every system
    **dict.fromkeys((".conf", ".diff", ".patch", ".java", ".md", ".log"), "text/plain"),
    ".map": "application/json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
_CODINGS = {"gzip": "gzip", "br": "br"}  # content codings of HTTP, by Python's name
_PACKED = {"bzip2": "application/x-bzip2", "xz": "application/x-xz"}


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class StaticAction:
    """
    Serve files: `static:DIR` or `static:FILE`.

    Names with a segment that begins with a dot, names with a backslash, and files that
    are not regular are not served. A symbolic link is followed if its target is in the
    folder and could be requested by its own name; all others only with `links=yes`.

    Args:
        path: a folder, whose index.html is served for the folder itself and
            which is never listed; or one file for every path that matches.
        links: whether symbolic links may have any target.
    """

    path: str
    links: bool = False
    root: str = field(init=False)

    bare: ClassVar[str] = "path"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):
            raise ValueError(f"there is no {self.path}")
        # A daemon changes its working directory.
        object.__setattr__(self, "root", os.path.abspath(self.path))

    @property
    def catches_all(self) -> bool:
        """
        Return whether one file is served for every path that matches.
        """
        return os.path.isfile(self.root)

    def has(self, path: str, match: Match) -> bool:
        """
        Return whether there is a file or folder for *path*; the one file is for its own path.
        """
        if self.catches_all:
            return match.rest in ("", "/")
        segments = path.split("/")[1 + match.depth :]
        if any(_is_hidden(segment) for segment in segments) or "" in segments[:-1]:
            return False
        name = "/".join(segments)
        found = os.path.join(self.root, name)
        try:
            if segments and segments[-1]:
                return os.path.exists(found)
            return any(os.path.exists(os.path.join(found, index)) for index in INDEX)
        except ValueError:  # no file can have this name
            return False

    def act(self, exchange: IExchange, match: Match) -> None:
        try:
            self._act(exchange, match)
        except ValueError:  # no file can have this name
            raise HttpError(404, "not found") from None
        except OSError as error:
            if error.errno in _ABSENT:
                raise HttpError(404, "not found") from None
            if error.errno in (EACCES, EPERM):
                raise HttpError(403, "the daemon may not read this file") from None
            _log.warn(
                "cannot read a file in {root}: {reason}", root=self.root, reason=error.strerror
            )
            raise HttpError(503, "the file cannot be read now", retry=2) from None

    def _act(self, exchange: IExchange, match: Match) -> None:
        root = os.open(self.root, _FLAGS)
        try:
            if S_ISREG(os.fstat(root).st_mode):
                _send(exchange, os.dup(root), os.path.basename(self.root))
                return
            segments = exchange.path.split("/")[1 + match.depth :]
            if any(_is_hidden(segment) for segment in segments[:-1]) or "" in segments[:-1]:
                raise HttpError(404, "not found")
            if segments and segments[-1]:
                self._send_named(exchange, root, segments)
            else:
                self._send_index(exchange, root, segments[:-1])
        finally:
            os.close(root)

    def _send_named(self, exchange: IExchange, root: int, segments: Sequence[str]) -> None:
        if _is_hidden(segments[-1]):
            raise HttpError(404, "not found")
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
        raise HttpError(404, "not found")

    def _open(self, root: int, segments: Sequence[str]) -> int:
        """
        Open the file or folder *segments* below the folder *root*.

        Returns:
            The descriptor of a file or of a folder.
        """
        if self.links:
            return os.open("/".join(segments), _FLAGS, dir_fd=root)
        try:
            return _open_beneath(root, segments)
        except OSError as error:
            if error.errno not in (ELOOP, ENOTDIR):
                raise
        # A segment may be a link. Its target is opened as if it had been requested, and
        # again without following links: a link that is changed in between is not followed.
        base = os.path.realpath(self.root)
        target = os.path.realpath(os.path.join(base, *segments), strict=True)
        if target == base or os.path.commonpath((base, target)) != base:
            raise HttpError(404, "not found")
        segments = os.path.relpath(target, base).split("/")
        if any(map(_is_hidden, segments)):
            raise HttpError(404, "not found")
        return _open_beneath(root, segments)


def _open_beneath(root: int, segments: Sequence[str]) -> int:
    """
    Open a file or folder without following a link in any segment.

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
    # A leading dot covers '..' too. Other programs take a backslash for a separator.
    return segment.startswith(".") or "\\" in segment


def _redirect(exchange: IExchange) -> None:
    """
    Redirect to the folder's path with a slash, so that relative links in its index work.
    """
    path = "/" + quote(exchange.path).lstrip("/") + "/"  # two slashes would start a host name
    query = quote(exchange.query_string, safe="!$&'()*+,;=:@/?-._~%", encoding="latin-1")
    location = f"{path}?{query}" if query else path
    exchange.answer(302, headers=[("Location", location)])


def _send(exchange: IExchange, descriptor: int, name: str) -> None:
    """
    Answer with an open file, which is closed in any case.

    Args:
        exchange: the request.
        descriptor: of a file; HttpError 404 is raised for anything but a regular file.
        name: as requested; its extension decides the content type.
    """
    with ExitStack() as stack:
        file = stack.enter_context(os.fdopen(descriptor, "rb", buffering=0))
        status = os.fstat(file.fileno())
        if not S_ISREG(status.st_mode):
            raise HttpError(404, "not found")
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
            # If the parts are larger than the file, the whole file is sent.
            if sum(map(len, several)) <= size:
                code, parts = 206, several
                content_type = f"multipart/byteranges; boundary={boundary}"
        stack.pop_all()  # answer_file closes it
        exchange.answer_file(code, file, parts, content_type, headers)


def _kind(name: str) -> tuple[str, list[Header]]:
    """
    Return the media type of a file with this *name*, and the headers for its encoding.
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
    requested = exchange.header("range")
    if requested is None or exchange.method != "GET":  # RFC 9110, 14.2
        return None
    condition = exchange.header("if-range")
    if condition is not None and condition != modified:
        return None
    return parse_ranges(requested, size)


def _is_unchanged(exchange: IExchange, modified: int) -> bool:
    since = exchange.header("if-modified-since")
    if since is None or exchange.header("if-none-match") is not None:  # RFC 9110, 13.1.3
        return False
    try:
        return modified <= parsedate_to_datetime(since.partition(";")[0]).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
