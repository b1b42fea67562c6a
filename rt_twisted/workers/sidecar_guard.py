"""
The process between the daemon and a sidecar: ends all of the sidecar's processes with the daemon.

    python -I -S sidecar_guard.py PROGRAM ARGUMENT...

It runs PROGRAM in a process group of its own. Descriptor 0 is a pipe from the daemon. When the
pipe is closed, as the daemon stops the sidecar or was killed itself, the group is sent SIGTERM,
and after TERM_SECONDS SIGKILL. What PROGRAM leaves in its group when it ends is ended likewise.

If PROGRAM cannot be executed, the reason is written to descriptor 3. The exit status is that of
PROGRAM, or 128 and the number of the signal that ended it.

This is a script without other modules of the package: each sidecar has such a process, which
should start fast and stay small.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

TERM_SECONDS = 5.0  # between SIGTERM and SIGKILL
KILL_SECONDS = 2.0  # after SIGKILL; a process in the kernel may take longer
REASON = 3  # descriptor
NOT_EXECUTED = 127  # exit status, as in shells

_CHECK = 0.02  # seconds between two checks whether a group has ended
_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36
# A service manager sends SIGTERM to all processes of the service.
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class SidecarGuard:
    """
    Runs one program until it ends, or is to be ended.

    Args:
        words: the program and its arguments.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)
        self._libc = ctypes.CDLL(None)
        self._child = 0
        self._status: int | None = None  # of the program, once it has ended

    def run(self) -> int:
        """
        Run the program, and return the exit status.
        """
        os.setsid()  # away from the daemon's terminal
        os.set_inheritable(REASON, False)
        # Processes that the program leaves behind become our children: they can be reaped.
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *_STOPPING):
            signal.signal(number, lambda *_: None)
        self._child = os.fork()
        if self._child == 0:
            self._execute()
        with suppress(OSError):  # the program runs already, so it has its group
            os.setpgid(self._child, self._child)
        for descriptor in (1, 2, REASON):
            os.close(descriptor)  # the daemon reads until the program closes them
        self._wait(woken)
        self._end_group()
        if self._status is None:
            return 128 + signal.SIGKILL
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code

    def _execute(self) -> None:
        try:
            os.setpgid(0, 0)
            # For the case that the guard itself is killed.
            self._libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPIPE, *_STOPPING):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execv(self._words[0], self._words)
        except OSError as error:
            os.write(REASON, (error.strerror or str(error)).encode())
        finally:
            os._exit(NOT_EXECUTED)

    def _wait(self, woken: int) -> None:
        """
        Wait until the program has ended, the pipe is closed, or a signal arrives.
        """
        while self._status is None:
            ready, _, _ = select.select([0, woken], [], [])
            if 0 in ready or any(number in _STOPPING for number in os.read(woken, 100)):
                return
            self._reap()

    def _end_group(self) -> None:
        number = int(signal.SIGTERM)
        kill_at = time.monotonic() + TERM_SECONDS
        with suppress(ProcessLookupError, PermissionError):  # nothing is left of it
            while time.monotonic() < kill_at + KILL_SECONDS:
                os.killpg(self._child, number)
                self._reap()
                os.killpg(self._child, 0)
                time.sleep(_CHECK)
                number = int(signal.SIGKILL) if time.monotonic() > kill_at else 0

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._child:
                    self._status = ended[1]


if __name__ == "__main__":
    sys.exit(SidecarGuard(sys.argv[1:]).run())
