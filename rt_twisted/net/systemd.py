"""
Notify systemd of the state of the daemon (sd_notify(3)), and of its watchdog.
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
    Sends notifications to systemd, if it has started the daemon; otherwise does nothing.

    Args:
        environment: NOTIFY_SOCKET is the address, WATCHDOG_USEC the interval in which
            the process WATCHDOG_PID has to send a keepalive.
        clock: the reactor; while it is blocked, no keepalive is sent.
    """

    def __init__(self, environment: Mapping[str, str], clock: Any) -> None:
        self._socket: socket.socket | None = None
        address = environment.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with suppress(OSError):
            # Now: the process may drop root and change its root folder later.
            abstract = address[0] == "@"
            self._socket.connect(address.replace("@", "\0", 1) if abstract else address)
        self._keepalive = LoopingCall(self._notify, "WATCHDOG=1")
        self._keepalive.clock = clock
        micros = environment.get("WATCHDOG_USEC", "")
        here = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Half of the interval, as sd_watchdog_enabled(3) advises.
        self._interval = int(micros) / 2e6 if micros.isdigit() and here else 0.0

    def ready(self) -> None:
        """
        Report that the daemon has started, or has ended a reload.
        """
        self._notify("READY=1")
        if self._socket is not None and self._interval and not self._keepalive.running:
            self._keepalive.start(self._interval)

    def reloading(self) -> None:
        """
        Report that settings are read again; call `ready` next, also if they are wrong.
        """
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """
        Report that the daemon is stopping.
        """
        self._notify("STOPPING=1")

    def close(self) -> None:
        """
        Send nothing more.
        """
        if self._socket is not None:
            if self._keepalive.running:
                self._keepalive.stop()
            self._socket.close()

    def _notify(self, state: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # a lost notification is no reason to fail
                self._socket.send(state.encode())
