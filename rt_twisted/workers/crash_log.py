"""
The tracebacks of a worker that a fatal signal ended, for the parent's log.

The worker writes them (`faulthandler`) to a pipe, so that they reach the log wherever
it is.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import MutableMapping
from contextlib import suppress

VARIABLE = "RT_TWISTED_CRASH_LOG"  # of the environment; a descriptor
MAX_BYTES = 1 << 16  # the capacity of a pipe


class CrashLog:
    """
    The parent's end of the pipe.

    Attributes:
        descriptor: for the worker to write to; open until `close_other_end`.
    """

    def __init__(self) -> None:
        self._own, self.descriptor = os.pipe()
        os.set_blocking(self._own, False)
        os.set_blocking(self.descriptor, False)  # a dying process must not wait for room

    def close_other_end(self) -> None:
        """
        Close the worker's end in this process, after the worker has inherited it.
        """
        os.close(self.descriptor)

    def read(self) -> str:
        """
        Return what the worker wrote, "" for nothing, and close the pipe.

        To be called once, when the worker has ended.
        """
        written = b""
        with suppress(BlockingIOError):  # a child of the worker may hold the other end open
            written = os.read(self._own, MAX_BYTES)
        os.close(self._own)
        return written.decode(errors="replace").strip()


def enable_crash_log(environment: MutableMapping[str, str]) -> None:
    """
    Write tracebacks of fatal signals to the descriptor that *environment* names, if any.

    The variable is removed, so that child processes do not inherit it.
    """
    text = environment.pop(VARIABLE, None)
    if text is not None:
        os.set_inheritable(int(text), False)
        faulthandler.enable(int(text))
