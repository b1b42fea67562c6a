"""
Log files that can be rotated, and the formats of their lines.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from twisted.application.service import MultiService
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    formatEvent,
    formatEventAsClassicLogText,
)

from rt_twisted.tap.log_filter import LogFilter, printable, printable_json

_STANDARD = ("-", "+")

Owner = tuple[int, int]  # uid, gid; -1 leaves it unchanged


class LogFile:
    """
    A file that whole lines are appended to, and that can be reopened after rotation.

    Args:
        path: `-` for standard output, `+` for standard error, as for `twist`.
        owner: of a file that root opens for a daemon that runs as another user.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, owner: Owner = (-1, -1)) -> None:
        # A daemon changes its working directory.
        self.path = path if path in _STANDARD else os.path.abspath(path)
        self._owner = owner
        self._file = self._open()

    def write(self, text: str) -> None:
        """
        Append *text*, which is whole lines, completely or not at all.

        Raises:
            OSError: the disk is full, for example.
        """
        if isinstance(self._file, io.FileIO):
            _append(self._file, text.encode(errors="backslashreplace"))
        else:
            encoding = getattr(self._file, "encoding", None) or "utf-8"
            self._file.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        """
        Flush standard output; lines in files are never buffered.
        """
        self._file.flush()

    def reopen(self) -> None:
        """
        Open the file of this name again, or create it.

        Raises:
            OSError: it cannot be opened; the previous file stays in use.
        """
        if self.path not in _STANDARD:
            file, self._file = self._file, self._open()
            file.close()

    def close(self) -> None:
        """
        Close the file, unless it is standard output or standard error.
        """
        if self.path not in _STANDARD:
            self._file.close()

    def _open(self) -> TextIO | io.FileIO:
        if self.path == "-":
            # Not sys.stdout: twistd replaces it by a file that writes to the log.
            return sys.__stdout__ or sys.stdout
        if self.path == "+":
            return sys.__stderr__ or sys.stderr
        file = io.FileIO(self.path, "a")
        if os.geteuid() == 0 and self._owner != (-1, -1):
            os.fchown(file.fileno(), *self._owner)
        return file


def _append(file: io.FileIO, lines: bytes) -> None:
    # In one call: several processes may append to the file.
    done = file.write(lines) or 0
    if done == len(lines):
        return
    try:
        while rest := lines[done:]:  # the next attempt raises the reason
            written = file.write(rest)
            if not written:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            done += written
    except OSError:
        with suppress(OSError):  # a pipe, for example
            # Remove the partial line, unless another process has appended to it.
            if os.fstat(file.fileno()).st_size == file.tell():
                file.truncate(file.tell() - done)
        raise


def as_json(event: Mapping[str, Any], worker: int = 0) -> str:
    """
    Return one line of JSON for *event*.

    Its fields are `time` (UTC), `level`, `from` and `text`, `worker` in a worker, `traceback`
    for a failure, and the event's own fields that are text or numbers.
    """
    moment = datetime.fromtimestamp(event["log_time"], UTC)
    level = event.get("log_level")
    line: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level.name if level is not None else "info",
        "from": event.get("log_namespace") or event.get("log_system") or "-",
        "text": formatEvent(dict(event)),
    }
    if worker:
        line["worker"] = worker
    for name, value in event.items():
        if not name.startswith("log_") and isinstance(value, str | int | float | bool):
            line.setdefault(name, value)
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return printable_json(json.dumps(line, ensure_ascii=False)) + "\n"


def as_text(event: Mapping[str, Any], worker: int = 0) -> str | None:
    """
    Return the lines of *event* as twistd writes them, with the number of the worker.
    """
    text = formatEventAsClassicLogText(dict(event))
    text = printable(text) if text else text
    return text.replace(" [", f" [w{worker}] [", 1) if worker and text else text


def observer(file: Any, form: str, worker: int = 0) -> FileLogObserver:
    """
    Return an observer that writes the log of the daemon to *file*.

    Args:
        file: a `LogFile`.
        form: `text` as twistd writes it, or `json`.
        worker: the number of this worker, 0 for none.
    """
    write = as_json if form == "json" else as_text
    return FileLogObserver(file, lambda event: write(event, worker))


class Logged(MultiService):
    """
    All services of the daemon; their application uses the log that they define.

    Args:
        file: the log; None leaves it to twistd, unless *syslog* is set.
        form: see `observer`.
        worker: see `observer`.
        level: see `LogFilter`.
        later: see `LogFilter`.
        syslog: the prefix of lines in the system's log, to log there.
        step: returns a context for a step of the start; its argument is whether it is
            the last one.

    Attributes:
        filter: of all events that are logged.
    """

    def __init__(
        self,
        file: LogFile | None,
        form: str,
        worker: int = 0,
        level: str = "info",
        later: Callable[[float, Callable[[], None]], None] | None = None,
        syslog: str | None = None,
        step: Callable[[bool], AbstractContextManager[None]] = lambda last: nullcontext(),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has none
        self._step = step
        self._privileged = False  # whether ports are open
        observe: Any = None
        if file is not None:
            observe = observer(file, form, worker)
        elif syslog is not None:
            from twisted.python.syslog import SyslogObserver  # opens the log

            emit: Any = SyslogObserver(syslog).emit
            observe = LegacyLogObserverWrapper(emit)
        self.filter = LogFilter(observe, level, later)
        self._observes = observe is not None

    def setServiceParent(self, parent: Any) -> None:
        # twistd takes the observer from its application after this.
        if self._observes:
            parent.setComponent(ILogObserver, self.filter)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # as above

    def privilegedStartService(self) -> None:
        self._privileged = True
        with self._step(False):
            super().privilegedStartService()  # type: ignore[no-untyped-call]  # as above

    def startService(self) -> None:
        if not self._privileged:  # `twist` only starts services
            self.privilegedStartService()
        with self._step(True):
            super().startService()  # type: ignore[no-untyped-call]  # as above
