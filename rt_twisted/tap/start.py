"""
Reports a failed start: the reason on the terminal, no pid file, a non-zero exit status.

twistd reports an exception of a service to the process that it forked from, but not
SystemExit: that process would wait forever, and the pid file would stay.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.logger import Logger

PID_FILE = "twistd.pid"  # twistd's default, relative to where it is started
_PYTHONS = ("python", "pypy")

_log = Logger()


class StartReport:
    """
    Reports the result of the start to the process that ran twistd.

    Args:
        twistd: the options of twistd. After its fork they hold `statusPipe`, from which
            the process that forked reads the result.
        at_exit: as `atexit.register`.
    """

    def __init__(
        self,
        twistd: MutableMapping[str, Any],
        at_exit: Callable[[Callable[[], None]], Any] = atexit.register,
    ) -> None:
        self._twistd = twistd
        self._terminal = -1
        self._over = False
        to_stdout = twistd.get("logfile") in (None, "-") and not twistd.get("syslog")
        if not twistd.get("nodaemon") or not to_stdout:
            # After the fork, descriptor 2 is /dev/null. A log on standard output shows
            # the reason already.
            with suppress(OSError):
                self._terminal = os.dup(2)
        at_exit(self._ended)

    @contextmanager
    def step(self, last: bool) -> Iterator[None]:
        """
        Run a step of the start, and report it if it raises SystemExit.

        Args:
            last: the start has succeeded after this step.
        """
        try:
            yield
        except SystemExit as error:
            self._fail(str(error.code))
            raise
        except BaseException:
            self._close()  # twistd reports it
            raise
        if last:
            self._close()

    def _ended(self) -> None:
        # twistd itself may have called sys.exit between the steps. An unhandled exception
        # has been reported already.
        if not self._over and getattr(sys, "last_type", None) is None:
            self._fail("realtime: the start failed; the log has the reason")

    def _fail(self, reason: str) -> None:
        if self._over:
            return
        if self._terminal >= 0:
            with suppress(OSError):
                os.write(self._terminal, f"{reason}\n".encode(errors="backslashreplace"))
        self._remove_pid_file()  # first: the process that reads the status ends at once
        status = self._twistd.get("statusPipe")
        if status is not None:
            # The reading process shows at most 98 bytes of this, quoted.
            with suppress(OSError):
                os.write(status, b"1 realtime did not start, see above")
                os.close(status)
        self._close()

    def _close(self) -> None:
        self._over = True
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def _remove_pid_file(self) -> None:
        path = self._twistd.get("pidfile")
        if path:
            with suppress(OSError, ValueError):
                if int(Path(path).read_text()) == os.getpid():
                    os.unlink(path)


def settle_pid_file(twistd: MutableMapping[str, Any], processes: str = "/proc") -> None:
    """
    Remove a stale pid file, which would prevent the start.

    In a container, process ids begin at 1 with each start: the id in an old file is
    nearly always that of a running process, often our own, and twistd would refuse to start.
    With `-n` and no `--pidfile`, no pid file is used, as the parent process has the id.
    Otherwise a file that names this process, or one that is not a twistd, is removed.

    Args:
        twistd: the options of twistd, before it has read the file.
        processes: the folder in which the kernel shows processes.
    """
    path = twistd.get("pidfile")
    foreground = twistd.get("nodaemon") or twistd.get("debug")
    if foreground and path == PID_FILE:
        twistd["pidfile"] = ""
    elif path:
        with suppress(OSError, ValueError):
            pid = int(Path(path).read_text())
            if pid == os.getpid() or not _is_twistd(Path(processes, str(pid), "cmdline")):
                os.unlink(path)
                _log.info("removed the stale pid file {path} of process {pid}", path=path, pid=pid)


def _is_twistd(command_line: Path) -> bool:
    """
    Return whether the process with this *command_line* may be a twistd.

    Raises:
        OSError: there is no such process, or it is not visible; twistd decides then.
    """
    words = [os.path.basename(word) for word in command_line.read_bytes().split(b"\0")[:4]]
    if not words[0].startswith(tuple(name.encode() for name in _PYTHONS)):
        return words[0] == b"twistd"
    return any(word in (b"twistd", b"twisted") or b"twistd" in word for word in words[1:])
