"""
What a route accepts, and how it describes what was uploaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from mimetypes import guess_type

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.upload.disk_threads import DiskThreads
from rt_twisted.actions.upload.events import UploadedFile
from rt_twisted.actions.upload.folder import UploadFolder
from rt_twisted.codecs.query import media_type
from rt_twisted.codecs.tus import MAX_LENGTH
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError

UNKNOWN_TYPE = "application/octet-stream"
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")  # RFC 6838, 4.2


@dataclass(frozen=True, slots=True)
class UploadRules:
    """
    What a route accepts, and where it is stored.

    Args:
        context: the hub and the settings.
        folder: of the files.
        max: bytes of a file; 0 for no limit.
        types: media types, `image/*` for all of a kind; empty for all.
        expire: seconds for which an upload that is not complete is kept.
    """

    context: ActionContext
    folder: UploadFolder
    max: int
    types: Sequence[str]
    expire: float

    @property
    def threads(self) -> DiskThreads:
        """
        Return the threads of this process.
        """
        context = self.context
        return context.shared.get(DiskThreads, lambda: DiskThreads(context.reactor))

    @property
    def limit(self) -> int:
        """
        Return how many bytes a file may have.
        """
        return self.max or MAX_LENGTH

    def check_length(self, length: int | None) -> None:
        """
        Check the number of bytes that a client announces; None if it announces none.

        Raises:
            HttpError: 413, they are too many.
        """
        if length is not None and length > self.limit:
            raise HttpError(413, f"the upload is larger than {self.limit} bytes")

    def check_type(self, type: str) -> None:
        """
        Check a media type, from `file_type`.

        Raises:
            HttpError: 415, the route does not accept it.
        """
        if self.types and not any(_is_of(type, one) for one in self.types):
            raise HttpError(415, f"files of type {type} are not accepted")


def file_type(given: str, name: str) -> str:
    """
    Return the media type that a client has *given*, or else the usual one for a file *name*.
    """
    kind = media_type(given)
    if _TYPE.fullmatch(kind):
        return kind
    return guess_type(name)[0] or UNKNOWN_TYPE


def answer_uploaded(exchange: IExchange, files: Sequence[UploadedFile], form: bool = False) -> None:
    """
    Answer an upload in one request.

    Args:
        exchange: gets JSON if it accepts that, or else the text `OK`.
        files: that are complete.
        form: whether there may be any number of them.
    """
    if "application/json" in (exchange.header("accept") or "").lower():
        about: object = {"files": [asdict(file) for file in files]} if form else asdict(files[0])
        exchange.answer(200, json.dumps(about).encode() + b"\n", "application/json", NO_STORE)
        return
    exchange.answer(200, b"OK", "text/plain; charset=utf-8", NO_STORE)


def _is_of(type: str, pattern: str) -> bool:
    if pattern.endswith("/*"):
        return type.startswith(pattern[:-1])
    return type == pattern
