"""
What systemd is told (sd_notify(3)): up, reading settings again, going, alive.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.task import LoopingCall


class SystemdNotifier:
    """
    Whoever started the daemon, if it wants to know; otherwise nothing happens.

    Args:
        environment: NOTIFY_SOCKET says where to tell it, WATCHDOG_USEC how often
            it wants a sign of life from the process WATCHDOG_PID.
        clock: the reactor; while it does not turn, there is no sign of life.
    """

    def __init__(self, environment: Mapping[str, str], clock: Any) -> None:
        self._socket: socket.socket | None = None
        where = environment.get("NOTIFY_SOCKET", "")
        if where[:1] not in ("/", "@"):
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with suppress(OSError):
            # Now, as root may be given up and the root folder changed.
            self._socket.connect(where.replace("@", "\0", 1) if where[0] == "@" else where)
        self._alive = LoopingCall(self._say, "WATCHDOG=1")
        self._alive.clock = clock
        micros = environment.get("WATCHDOG_USEC", "")
        here = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Half of what it wants, as sd_watchdog_enabled(3) advises.
        self._interval = int(micros) / 2e6 if micros.isdigit() and here else 0.0

    def ready(self) -> None:
        """
        Everything is as it shall be, from the start or after `reloading`.
        """
        self._say("READY=1")
        if self._socket is not None and self._interval and not self._alive.running:
            self._alive.start(self._interval)

    def reloading(self) -> None:
        """
        Settings are read again; `ready` follows, whatever comes of it.
        """
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """
        It is going, on its own account or because it was told to.
        """
        self._say("STOPPING=1")

    def close(self) -> None:
        """
        No more is said.
        """
        if self._socket is not None:
            if self._alive.running:
                self._alive.stop()
            self._socket.close()

    def _say(self, words: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # nobody to tell is no reason to fail
                self._socket.send(words.encode())
