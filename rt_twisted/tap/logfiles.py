"""
Where log lines go, and what they look like.
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

Owner = tuple[int, int]  # uid, gid; -1 for whoever it is now


class LogFile:
    """
    A file to which whole lines are appended, until it is opened anew: whoever
    rotates logs moves the file away and says so.

    Args:
        path: `-` for standard output.
        owner: whom the file shall belong to, if root opens it for a daemon that
            will not be root.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, owner: Owner = (-1, -1)) -> None:
        # Whoever becomes a daemon changes its folder.
        self.path = path if path == "-" else os.path.abspath(path)
        self._owner = owner
        self._file = self._open()

    def write(self, text: str) -> None:
        """
        Append *text*, whole lines; or nothing.

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
        Twisted asks for it; lines never wait here.
        """
        self._file.flush()

    def reopen(self) -> None:
        """
        Go on in the file that has the name now, a new one if there is none.

        Raises:
            OSError: it cannot be opened; the one before stays in use.
        """
        if self.path != "-":
            file, self._file = self._file, self._open()
            file.close()

    def close(self) -> None:
        """
        No more will be written.
        """
        if self.path != "-":
            self._file.close()

    def _open(self) -> TextIO | io.FileIO:
        if self.path == "-":
            # Not sys.stdout: twistd puts a file there that writes to the log.
            return sys.__stdout__ or sys.stdout
        file = io.FileIO(self.path, "a")
        if os.geteuid() == 0 and self._owner != (-1, -1):
            os.fchown(file.fileno(), *self._owner)
        return file


def _append(file: io.FileIO, lines: bytes) -> None:
    # At once: several processes may append to it.
    done = file.write(lines) or 0
    if done == len(lines):
        return
    try:
        while rest := lines[done:]:  # whoever tries to write it learns why
            written = file.write(rest)
            if not written:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            done += written
    except OSError:
        with suppress(OSError):  # a pipe, for example
            # Half a line would spoil the next one too, unless that is there already.
            if os.fstat(file.fileno()).st_size == file.tell():
                file.truncate(file.tell() - done)
        raise


def as_json(event: Mapping[str, Any], worker: int = 0) -> str:
    """
    One line of JSON: `time` (UTC), `level`, `from`, `text`, the event's own fields
    that are text or numbers, and `traceback` if it is about a failure; `worker` if it
    is one's.
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
    Lines as twistd writes them; those of a worker say which, behind the time.
    """
    text = formatEventAsClassicLogText(dict(event))
    text = printable(text) if text else text
    return text.replace(" [", f" [w{worker}] [", 1) if worker and text else text


def observer(file: Any, form: str, worker: int = 0) -> FileLogObserver:
    """
    What writes the daemon's log to *file*.

    Args:
        file: a `LogFile`.
        form: `text` as twistd writes it, or `json`.
        worker: the number of the worker this is, 0 for none.
    """
    write = as_json if form == "json" else as_text
    return FileLogObserver(file, lambda event: write(event, worker))


class Logged(MultiService):
    """
    Services whose application logs where they say.

    Args:
        file: None leaves the log to twistd, but for *syslog*.
        form: see `observer`.
        worker: the same.
        level: see `LogFilter`; as the next.
        later: the same.
        syslog: the prefix for the system's log, if that is where to log.
        step: a context for each step of the start; its argument is whether it is the last.
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
        """
        Twistd asks its application for an observer, after this.
        """
        if self._observes:
            parent.setComponent(ILogObserver, self.filter)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # as above

    def privilegedStartService(self) -> None:
        """
        Start what needs root.
        """
        with self._step(False):
            super().privilegedStartService()  # type: ignore[no-untyped-call]  # as above

    def startService(self) -> None:
        """
        Start the rest.
        """
        with self._step(True):
            super().startService()  # type: ignore[no-untyped-call]  # as above
