"""
An action of your own for live publishers: write their streams to files.

    mkdir recordings
    PYTHONPATH=. twistd -n realtime --port=8080 \\
        --route='^/record/([a-z]+)$ own_recorder.Recorder:folder=recordings,name=$1'

    ffmpeg -re -f lavfi -i testsrc -f webm -method PUT http://127.0.0.1:8080/record/test

The name comes from the URL: let the pattern match nothing that leaves the folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.api import ActionContext, IAction, IBodySink, IExchange, Match, Template


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Recorder:
    """
    Write the body of each request to a file.

    Args:
        folder: must exist.
        name: of the file; an existing one is replaced.
        timeout: seconds without bytes after which a publisher is disconnected.
    """

    context: ActionContext
    folder: str
    name: Template
    timeout: float = 10.0

    ingest: ClassVar[bool] = True  # accept bodies without a length, which SOURCE has
    methods: ClassVar[Sequence[str]] = ("POST", "PUT", "SOURCE")

    def __post_init__(self) -> None:
        if not Path(self.folder).is_dir():
            raise ValueError(f"there is no folder {self.folder}")

    def act(self, exchange: IExchange, match: Match) -> None:
        name = self.name.expand(exchange, match)
        self.context.publish_keys.authorize_live(exchange, [name])
        exchange.receive(Recording(exchange, Path(self.folder, name)), self.timeout)


@implementer(IBodySink)
class Recording:
    """
    Write a body to the file *path*, and answer *exchange* when it ends.
    """

    def __init__(self, exchange: IExchange, path: Path) -> None:
        self._exchange = exchange
        self._file = path.open("wb")

    def data(self, piece: bytes) -> None:
        self._file.write(piece)

    def end(self) -> None:
        size = self._file.tell()
        self._file.close()
        self._exchange.answer(200, b"%d bytes recorded\n" % size, "text/plain; charset=utf-8")

    def lost(self, reason: Exception) -> None:
        self._file.close()  # what was received is kept; the server has answered
