"""
Handle Unix signals in the reactor's thread.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.logger import Logger

DEBUGGER = "twisted.application.app"  # `twistd --debug` sets a handler of SIGUSR2 from there
# Operators send these to nearly every server; by default they end a process.
HELD = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_log = Logger()


class ReloadHook(Protocol):
    """
    Applies settings that have changed; see `tap/reload.py`.
    """

    def __call__(self) -> Mapping[str, Any]:
        """
        Read the settings again, and return those in force: the previous ones if they are wrong.
        """

    def reopen_logs(self) -> None:
        """
        Reopen the log files, which may have been rotated.
        """


class _Held:
    """
    A handler that remembers whether its signal has arrived.
    """

    arrived = False

    def __call__(self, number: int, frame: Any) -> None:
        self.arrived = True


def hold_signals() -> None:
    """
    Remember signals that arrive while the daemon starts: they would end it.
    """
    for number in HELD:
        signal.signal(number, _Held())


def handle_signals(
    reactor: Any,
    reload: Callable[[], None],
    reopen_logs: Callable[[], None],
    stop: Callable[[], None],
) -> None:
    """
    Call functions when signals arrive, and for those that arrived since `hold_signals`.

    Call this when the reactor runs: it sets handlers of its own when it starts.

    Args:
        reactor: the reactor.
        reload: for SIGHUP.
        reopen_logs: for SIGUSR1, by which logs of twistd are rotated.
        stop: for SIGTERM, SIGINT and SIGQUIT.
    """
    actions: Mapping[int, Callable[[], None]] = {
        signal.SIGHUP: reload,
        signal.SIGUSR1: reopen_logs,
        signal.SIGUSR2: _ignore,
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGQUIT: stop,
    }
    for number, act in actions.items():
        before = signal.getsignal(number)
        if number == signal.SIGUSR2 and getattr(before, "__module__", "") == DEBUGGER:
            continue
        signal.signal(number, lambda *_, act=act: reactor.callFromThread(act))
        if isinstance(before, _Held) and before.arrived:
            reactor.callFromThread(act)


def _ignore() -> None:
    _log.info("SIGUSR2 is ignored: SIGHUP reloads, SIGUSR1 reopens log files, SIGTERM stops")
