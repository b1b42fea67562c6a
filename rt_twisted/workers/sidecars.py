"""
Sidecars: programs of the user that run as long as the daemon does, each once (`helper`).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.workers import sidecar_guard
from rt_twisted.workers.environment import inherited_variables
from rt_twisted.workers.restarts import RestartDelays, exit_cause, signal_name
from rt_twisted.workers.sidecar_output import SidecarOutput

# A file that cannot be executed is run by the interpreter of its suffix, as by uWSGI's `mule`.
INTERPRETERS = {
    ".lua": "lua",
    ".php": "php",
    ".pl": "perl",
    ".py": sys.executable,
    ".rb": "ruby",
    ".sh": "sh",
}
# Programs that run a script: the script names the helper.
_RUNNERS = {"env", "lua", "node", "perl", "php", "python", "python3", "ruby", "sh"}
MAX_NAME = 40  # characters
LAST_OUTPUT = 1.0  # seconds; a process that left the group may hold the pipes open

_log = Logger()


@dataclass(frozen=True, slots=True)
class SidecarCommand:
    """
    A sidecar as the settings describe it.

    Args:
        name: for the log.
        words: as they are written.
        arguments: the absolute path of the program, and its arguments.
    """

    name: str
    words: tuple[str, ...]
    arguments: tuple[str, ...]

    @classmethod
    def find(cls, words: Sequence[str], folder: str) -> SidecarCommand:
        """
        Find the program of a command.

        Args:
            words: the program, by its path or by a name in PATH or *folder*, and arguments.
            folder: where relative paths begin.

        Raises:
            ValueError: there is no such program.
        """
        name = words[0]
        path = os.path.join(folder, name)
        found = shutil.which(name) if "/" not in name else None
        if found is None and not os.path.isfile(path):
            raise ValueError(f"there is no program {name!r}")
        arguments = [found or path, *words[1:]]
        if not os.access(arguments[0], os.X_OK):
            suffix = os.path.splitext(name)[1]
            interpreter = shutil.which(INTERPRETERS.get(suffix, ""))
            if interpreter is None:
                raise ValueError(f"{name!r} cannot be executed: make it executable (chmod +x)")
            arguments.insert(0, interpreter)
        return cls(_short_name(words), tuple(words), tuple(arguments))


def _short_name(words: Sequence[str]) -> str:
    names = [os.path.basename(word)[:MAX_NAME] for word in words if not word.startswith("-")]
    return next((name for name in names if name not in _RUNNERS), names[0])


class SidecarProcess:
    """
    Starts a sidecar, and again each time it ends, until `stop`.

    Args:
        reactor: the reactor.
        command: what is run.
        folder: where it is run.
        delays: between two starts.
    """

    def __init__(
        self, reactor: Any, command: SidecarCommand, folder: str, delays: RestartDelays
    ) -> None:
        self.command = command
        self._reactor = reactor
        self._folder = folder
        self._delays = delays
        self._started_at = 0.0
        self._process: Any = None
        self._restart: Any = None  # the call that starts the next one
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """
        Start the process; if that fails, try again later.
        """
        self._restart = None
        self._started_at = self._reactor.seconds()
        protocol = _SidecarProtocol(self.command.name, self._reactor, self._on_exit)
        guard = [sys.executable, "-I", "-S", sidecar_guard.__file__, *self.command.arguments]
        folder = self._folder if os.access(self._folder, os.X_OK) else "/"
        try:
            self._process = self._reactor.spawnProcess(
                protocol,
                guard[0],
                guard,
                inherited_variables(os.environ),
                folder,
                childFDs={0: "w", 1: "r", 2: "r", sidecar_guard.REASON: "r"},
            )
        except OSError as error:  # no descriptor, process or memory is left
            self._start_later(error.strerror or str(error), "")

    def stop(self) -> Deferred[None]:
        """
        End the process and what it has started, and start it no more.

        Returns:
            fires when they have ended.
        """
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._process is None:
            return succeed(None)
        if self._stopped is None:
            self._stopped = Deferred()
            self._process.closeStdin()  # the guard then ends the process group
        return self._stopped

    def _on_exit(self, cause: str, reason: str) -> None:
        self._process = None
        if self._stopped is not None:
            self._stopped.callback(None)
        else:
            self._start_later(reason, cause)

    def _start_later(self, reason: str, cause: str) -> None:
        lived = self._reactor.seconds() - self._started_at
        delay = self._delays.following(0.0 if reason else lived)
        self._restart = self._reactor.callLater(delay, self.start)
        if reason:
            _log.error(
                "helper {helper} cannot be started: {reason}; next attempt in {delay:.1f} s",
                helper=self.command.name,
                reason=reason,
                delay=delay,
            )
            return
        _log.warn(
            "helper {helper} ended by {cause} after {lived:.1f} s, starts again in {delay:.1f} s",
            helper=self.command.name,
            cause=cause,
            lived=lived,
            delay=delay,
        )


class SidecarSupervisor(Service):
    """
    Runs the sidecars of the settings, each once.

    Args:
        reactor: the reactor.
        commands: of the sidecars.
        folder: where they are run.
    """

    def __init__(self, reactor: Any, commands: Sequence[SidecarCommand], folder: str) -> None:
        self._reactor = reactor
        self._commands = tuple(commands)
        self._folder = folder
        self._processes: list[SidecarProcess] = []
        self._ending: list[Deferred[None]] = []

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        # The ports are open then, and the process has its user.
        self._reactor.callWhenRunning(self._start_missing, None)

    def stopService(self) -> Deferred[Any]:
        super().stopService()  # type: ignore[no-untyped-call]
        return DeferredList([*[one.stop() for one in self._processes], *self._ending])

    def replace(self, commands: Sequence[SidecarCommand]) -> None:
        """
        Keep sidecars that are still in *commands*, stop the others, then start the new ones.

        A new one may be another version of an old one: it starts when all old ones have ended.
        """
        self._commands = tuple(commands)
        wanted = list(commands)
        kept = []
        for process in self._processes:
            if process.command in wanted:
                wanted.remove(process.command)
                kept.append(process)
            else:
                self._end(process)
        self._processes = kept
        DeferredList(list(self._ending)).addCallback(self._start_missing)

    def _end(self, process: SidecarProcess) -> None:
        _log.info("helper {helper} is stopped: the settings changed", helper=process.command.name)
        ended = process.stop()
        if not ended.called:
            self._ending.append(ended)
            ended.addCallback(lambda _: self._ending.remove(ended))

    def _start_missing(self, _: object) -> None:
        # Another reload may have been there while sidecars ended.
        if not self.running or self._ending:
            return
        running = [process.command for process in self._processes]
        for command in self._commands:
            if command in running:
                running.remove(command)
                continue
            process = SidecarProcess(self._reactor, command, self._folder, RestartDelays())
            self._processes.append(process)
            _log.info("helper {helper} is started", helper=command.name)
            process.start()


class _SidecarProtocol(ProcessProtocol):
    """
    Logs the output of a process, and calls a function when it has ended.

    Args:
        name: of the sidecar.
        reactor: the reactor.
        on_exit: called with how it ended, and why it could not be started; "" if it was.
    """

    def __init__(self, name: str, reactor: Any, on_exit: Callable[[str, str], None]) -> None:
        self._reactor = reactor
        self._on_exit = on_exit
        self._output = SidecarOutput(name, reactor)
        self._reason = b""

    transport: Any  # a Process, which has more than IProcessTransport

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        if descriptor == sidecar_guard.REASON:
            self._reason += data
            return
        pause = self._output.feed(descriptor, data)
        if pause:
            self.transport.pauseProducing()
            self._reactor.callLater(pause, self.transport.resumeProducing)

    def processExited(self, reason: Failure) -> None:
        self._reactor.callLater(LAST_OUTPUT, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        self._output.end()
        status = getattr(reason.value, "exitCode", None) or 0
        cause = signal_name(status - 128) if status > 128 else exit_cause(reason)
        self._on_exit(cause, self._reason.decode(errors="replace"))
