"""
Where a worker was when a signal ended it that nobody can catch: a traceback of each
thread (`faulthandler`), by a pipe, so that it comes to the log wherever that goes.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import MutableMapping
from contextlib import suppress

NAME = "RT_TWISTED_LAST_WORDS"  # of the environment variable; a descriptor
LONGEST = 1 << 16  # bytes; what a pipe holds


class CrashLog:
    """
    The parent's end.

    Attributes:
        descriptor: for the worker to write to, until `close_other`.
    """

    def __init__(self) -> None:
        self._ours, self.descriptor = os.pipe()
        os.set_blocking(self._ours, False)
        os.set_blocking(self.descriptor, False)  # who dies shall not wait for room

    def close_other(self) -> None:
        """
        The worker has its end, so that the parent needs it no more.
        """
        os.close(self.descriptor)

    def hear(self) -> str:
        """
        What it said; "" for most. Once, when it is gone.
        """
        said = b""
        with suppress(BlockingIOError):  # a child of its own may have the other end
            said = os.read(self._ours, LONGEST)
        os.close(self._ours)
        return said.decode(errors="replace").strip()


def leave(environment: MutableMapping[str, str]) -> None:
    """
    The worker's end, which is taken out of its *environment*: have the traceback
    written there.
    """
    text = environment.pop(NAME, None)
    if text is not None:
        os.set_inheritable(int(text), False)
        faulthandler.enable(int(text))
