"""
Run commands that restart servers, at random moments.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

TIMEOUT = 60.0  # seconds a command may take
MAX_OUTPUT = 500  # bytes of its output


class Nemesis:
    """
    Run shell commands at random moments, one at a time.

    Args:
        commands: one is chosen at random each time.
        every: seconds from the end of one to the next, on average.
        rng: random choices.
        reactor: runs the commands.
        log: called with a line for each command.
    """

    def __init__(
        self,
        commands: Sequence[str],
        every: float,
        rng: random.Random,
        reactor: Any,
        log: Callable[[str], object],
    ) -> None:
        self.count = 0
        self.failed = 0
        self._commands = commands
        self._every = every
        self._rng = rng
        self._reactor = reactor
        self._log = log
        self._timer: Any = None
        self._running: NemesisCommand | None = None
        self._stopping = False
        self._ended: list[Deferred[None]] = []

    def start(self) -> None:
        """
        Schedule the next command.
        """
        if self._commands and not self._stopping:
            wait = self._rng.uniform(0.5, 1.5) * self._every
            self._timer = self._reactor.callLater(wait, self._run)

    def stop(self) -> Deferred[None]:
        """
        Start no further command; one that runs may end.

        Returns:
            Fires when none runs.
        """
        self._stopping = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        ended: Deferred[None] = Deferred()
        if self._running is None:
            ended.callback(None)
        else:
            self._ended.append(ended)
        return ended

    def kill(self) -> None:
        """
        Start no further command, and kill the one that runs.
        """
        self.stop()
        if self._running is not None:
            self._running.kill()

    def _run(self) -> None:
        command = self._rng.choice(self._commands)
        self.count += 1
        self._log(f"runs {command!r}")
        self._running = running = NemesisCommand(command, self._reactor, self._on_exit)
        running.start()  # which calls `_on_exit` if the command has ended by then

    def _on_exit(self, command: str, status: str, output: str) -> None:
        self._running = None
        if status:
            self.failed += 1
            self._log(f"{command!r}: {status}{': ' if output else ''}{output}")
        self.start()
        ended, self._ended = self._ended, []
        for each in ended:
            each.callback(None)


class NemesisCommand(ProcessProtocol):
    """
    A command, with all processes that it starts.

    Args:
        command: for the shell.
        reactor: runs it, after `start`.
        on_exit: called with the command, how it failed or "", and the end of its output.
    """

    transport: Any

    def __init__(
        self, command: str, reactor: Any, on_exit: Callable[[str, str, str], object]
    ) -> None:
        self._command = command
        self._reactor = reactor
        self._on_exit = on_exit
        # A file, not a pipe: a server that it leaves running may continue to write.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it ends
        self._timer: Any = None

    def start(self) -> None:
        """
        Start the command.
        """
        self._timer = self._reactor.callLater(TIMEOUT, self.kill)
        # A session of its own, so that it can be killed with all its children.
        shell = ["setsid", "/bin/sh", "-c", self._command]
        output = self._output.fileno()
        with open(os.devnull, "rb") as nothing:
            streams = {0: nothing.fileno(), 1: output, 2: output}
            self._reactor.spawnProcess(self, "/usr/bin/setsid", shell, None, childFDs=streams)

    def kill(self) -> None:
        """
        Kill the command's process group.
        """
        pid = self.transport.pid
        if pid is not None:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                self.transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        if self._timer.active():
            self._timer.cancel()
        number = getattr(reason.value, "signal", None)
        status = getattr(reason.value, "exitCode", None)
        how = f"signal {number}" if number else f"exit status {status}" if status else ""
        with self._output as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_OUTPUT))
            last = file.read().decode(errors="replace").strip()
        self._on_exit(self._command, how, last)
