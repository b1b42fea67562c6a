"""
The supervisor's end of the fork server: starts it, and has it fork workers.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.workers.fork_server import FORK, MAX_DESCRIPTORS

SOCKET = 3  # its descriptor in the fork server
READY_SECONDS = 30.0  # for the imports
FORK_SECONDS = 5.0
MAX_PACKET = 4096  # bytes
SECRETS = "RT_"  # how environment variables begin that have settings
# Modules that install a reactor, and the packages of which modules are imported before the fork.
_NOT_BEFORE = (
    "rt_twisted.brokers.redis.connections",
    "twisted.internet.reactor",
    "twisted.plugins",
)
_BEFORE = (
    *("rt_twisted", "twisted", "zope", "OpenSSL", "cryptography", "h2", "hpack", "hyperframe"),
    *("httptools", "websockets", "multipart", "jwt", "prometheus_client", "txamqp"),
    "hiredis",
)

_log = Logger()


class ForkedProcess:
    """
    A worker that the fork server has forked; signals reach no other process.

    Args:
        protocol: its `processExited` is called with the end.
        pid: of the process.
    """

    def __init__(self, protocol: ProcessProtocol, pid: int) -> None:
        self.pid = pid
        self._protocol = protocol
        self._handle = -1
        with suppress(OSError):  # before Linux 5.3
            self._handle = os.pidfd_open(pid)
        self._exited = False

    def signalProcess(self, number: int) -> None:
        """
        Send a signal.

        Raises:
            ProcessExitedAlready: it has ended.
        """
        if self._exited:
            raise ProcessExitedAlready
        try:
            if self._handle >= 0:
                signal.pidfd_send_signal(self._handle, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            raise ProcessExitedAlready from None

    def end(self, status: int) -> None:
        """
        Take note of its end, with a *status* as of `os.waitpid`.
        """
        self._exited = True
        if self._handle >= 0:
            os.close(self._handle)
        by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        self._protocol.processExited(Failure(ProcessTerminated(code, by_signal, status)))


@implementer(IReadDescriptor)
class Forker:
    """
    Runs the fork server. If it ends, its workers are killed, and another one is started.

    Args:
        reactor: the reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._socket: socket.socket | None = None
        self._started: Deferred[bool] | None = None
        self._timeout: Any = None
        self._ready = False
        self._stopped = False
        self._environment: Mapping[str, str] = {}
        self._forked: dict[int, ForkedProcess] = {}

    @property
    def ready(self) -> bool:
        """
        Whether workers can be forked now.
        """
        return self._ready

    def start(self, environment: Mapping[str, str]) -> Deferred[bool]:
        """
        Start the fork server.

        Args:
            environment: of the server; without settings, which may be secret.

        Returns:
            whether it is ready; without it workers are started one by one.
        """
        self._environment = environment
        plain = {n: value for n, value in environment.items() if not n.startswith(SECRETS)}
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = own
        started: Deferred[bool] = Deferred()
        self._started = started
        self._timeout = self._reactor.callLater(READY_SECONDS, self._end)
        with other:
            own.send(json.dumps(modules_to_share(sys.modules)).encode())
            own.setblocking(False)
            self._reactor.spawnProcess(
                ProcessProtocol(),
                sys.executable,
                [sys.executable, "-m", "rt_twisted.workers.fork_server", str(SOCKET)],
                plain,
                childFDs={0: 0, 1: 1, 2: 2, SOCKET: other.fileno()},
            )
        self._reactor.addReader(self)
        return started

    def fork(
        self,
        protocol: ProcessProtocol,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        descriptors: Sequence[int],
    ) -> ForkedProcess:
        """
        Fork a worker.

        Args:
            protocol: is notified of its end.
            arguments: its `sys.argv`.
            environment: its variables.
            folder: that it starts in.
            descriptors: those that it has from 3 on.

        Raises:
            OSError: the fork server does not answer, or there are too many descriptors.
        """
        if self._socket is None or len(descriptors) >= MAX_DESCRIPTORS:
            raise OSError(0, "the fork server is not available")
        request = {"arguments": arguments, "environment": environment, "folder": folder}
        packed = os.memfd_create("request")
        try:
            with os.fdopen(os.dup(packed), "wb") as file:
                file.write(json.dumps(request).encode())
            os.lseek(packed, 0, os.SEEK_SET)
            socket.send_fds(self._socket, [FORK], [packed, *descriptors])
        finally:
            os.close(packed)
        process = ForkedProcess(protocol, self._forked_pid(self._socket))
        self._forked[process.pid] = process
        return process

    def stop(self) -> None:
        """
        End the fork server. Its workers go on, and their ends are not reported any more.
        """
        self._stopped = True
        self._end()

    # IReadDescriptor.

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def logPrefix(self) -> str:
        return "fork server"

    def doRead(self) -> Failure | None:
        assert self._socket is not None
        with suppress(BlockingIOError):
            packet = self._socket.recv(MAX_PACKET)
            if not packet:
                return Failure(ConnectionDone())  # `connectionLost` follows
            self._on_packet(*json.loads(packet))
        return None

    def connectionLost(self, reason: Failure) -> None:
        if self._socket is not None:
            self._end()

    def _on_packet(self, word: str, pid: int = 0, status: int = 0) -> None:
        if word == "ready":
            self._report_start(True)
        elif word == "exited" and pid in self._forked:
            self._forked.pop(pid).end(status)

    def _report_start(self, ready: bool) -> None:
        started, self._started = self._started, None
        self._ready = ready
        if started is not None:
            self._timeout.cancel() if self._timeout.active() else None
            started.callback(ready)

    def _forked_pid(self, requests: socket.socket) -> int:
        """
        Wait for the answer to a request; it takes a few milliseconds.
        """
        while True:
            if not select.select([requests], [], [], FORK_SECONDS)[0]:
                raise OSError(0, "the fork server does not answer")
            packet = requests.recv(MAX_PACKET)
            if not packet:
                raise OSError(0, "the fork server has ended")
            word, *rest = json.loads(packet)
            if word == "forked":
                return int(rest[0])
            self._reactor.callLater(0, self._on_packet, word, *rest)

    def _end(self) -> None:
        """
        Close the socket, which ends the fork server, and start another one if it was ready.
        """
        if self._socket is None:
            return
        was_ready = self._ready
        self._reactor.removeReader(self)
        self._socket.close()
        self._socket = None
        if self._stopped:
            return
        self._report_start(False)
        _log.error("the fork server has ended")
        forked, self._forked = self._forked, {}
        for process in forked.values():
            with suppress(ProcessExitedAlready):
                process.signalProcess(signal.SIGKILL)
            process.end(signal.SIGKILL)
        if was_ready:
            self.start(self._environment)


def modules_to_share(loaded: Iterable[str]) -> list[str]:
    """
    Return the names of those modules that workers may share, of those that are *loaded* here.

    Those of users are not among them: they may start threads, or read secrets.
    """
    return [
        name
        for name in loaded
        if name.partition(".")[0] in _BEFORE
        and not name.startswith(_NOT_BEFORE)
        and not name.endswith((".__main__", "reactor", "reactors"))
    ]
