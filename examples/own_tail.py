"""
An action of your own with a source of its own: publish the lines appended to a file.

    PYTHONPATH=. twistd -n realtime --port=8080 \\
        --route='^/log$ own_tail.Tail:/var/log/syslog' --route='^/events$ sse:log'

An action that provides `IService` is started and stopped with the daemon. A reload
keeps it while its route line and the settings are the same, and replaces it otherwise.
With `workers = N`, each worker would publish the lines: run it with one worker.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.api import ActionContext, Draft, IAction, IExchange, Match, Unavailable

INTERVAL = 0.5  # seconds between two reads
CHUNK = 65536  # bytes of one read; longer lines are published in pieces

_log = Logger()


@implementer(IAction)
@dataclass(eq=False)
class Tail(Service):
    """
    Publish each line that is appended to *file*; answer GET with their number.

    Args:
        file: the file; what it has at the start is not published.
        channel: where the lines are published.
    """

    context: ActionContext
    file: str
    channel: str = "log"

    bare: ClassVar[str] = "file"  # the field meant by `own_tail.Tail:/var/log/syslog`
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if not os.path.isfile(self.file):
            raise ValueError(f"there is no file {self.file}")
        self.file = os.path.abspath(self.file)  # a daemon changes its folder
        self._published = 0
        self._loop = LoopingCall(lambda: ensureDeferred(self._publish_new_lines()))
        self._loop.clock = self.context.reactor

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._stream = open(self.file, "rb")  # noqa: SIM115  # closed by stopService
        self._offset = self._stream.seek(0, os.SEEK_END)
        self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]
        self._loop.stop()
        self._stream.close()

    def act(self, exchange: IExchange, match: Match) -> None:
        body = f"{self._published} lines published\n".encode()
        exchange.answer(200, body, "text/plain; charset=utf-8")

    async def _publish_new_lines(self) -> None:
        self._stream.seek(self._offset)
        data = self._stream.read(CHUNK)
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and len(data) == CHUNK:
            whole = data
        if not whole:
            return
        lines = whole.removesuffix(b"\n").split(b"\n")
        try:
            await self.context.publish([Draft(self.channel, line) for line in lines])
        except Unavailable:
            return  # the broker is away: the same lines are read again
        except Exception:
            _log.failure("cannot publish lines of {file}", file=self.file)
        self._offset += len(whole)
        self._published += len(lines)
