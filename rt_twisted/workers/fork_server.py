"""
The fork server: `python -m rt_twisted.workers.fork_server SOCKET`.

It has imported what workers need, and forks one for each request of the supervisor: they share
that memory. It has no threads and no reactor, which a fork would break, and no secrets: the
settings go to a worker by a file that only this reads, after the fork.

The socket has packets. From the supervisor: the names of the modules to import, as JSON; then one
byte for each worker, with its descriptors. To the supervisor: JSON, `["ready"]`, `["forked", pid]`,
or `["exited", pid, status]`.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from rt_twisted.workers.__main__ import main as run_worker

MAX_DESCRIPTORS = 250  # in one request; the kernel passes up to 253
MAX_NAMES = 1 << 20  # bytes of the names of all modules
FORK = b"f"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # are for the workers
_FIRST = 3  # descriptors of a worker begin behind those of its output


class ForkServer:
    """
    Forks workers, and reports their ends.

    Args:
        requests: the socket to the supervisor.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._wakeup, self._on_signal = os.pipe()
        for end in (self._wakeup, self._on_signal):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._on_signal, warn_on_full_buffer=False)
        self._handlers = {each: signal.signal(each, signal.SIG_IGN) for each in SIGNALS}
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that the wakeup is written

    def run(self) -> list[int] | None:
        """
        Serve requests until the supervisor ends.

        Returns:
            In a forked worker, its descriptors; None in the fork server.
        """
        self._send("ready")
        requests = self._requests.fileno()
        while True:
            readable, _, _ = select.select([requests, self._wakeup], [], [])
            if self._wakeup in readable:
                os.read(self._wakeup, 4096)
                self._reap()
            if requests in readable:
                data, descriptors, _, _ = socket.recv_fds(
                    self._requests, len(FORK), MAX_DESCRIPTORS
                )
                if not data:
                    return None
                if self._fork(descriptors):
                    return descriptors

    def _fork(self, descriptors: Sequence[int]) -> bool:
        """
        Fork a worker; return whether this is the worker.
        """
        pid = os.fork()
        if pid:
            for each in descriptors:
                os.close(each)
            self._send("forked", pid)
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each, handler in self._handlers.items():
            signal.signal(each, handler)
        os.close(self._wakeup)
        os.close(self._on_signal)
        self._requests.close()
        return True

    def _reap(self) -> None:
        with suppress(ChildProcessError):  # there are no more children
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._send("exited", pid, status)

    def _send(self, *words: Any) -> None:
        with suppress(OSError):  # the supervisor has ended
            self._requests.send(json.dumps(words).encode())


def preload(names: Iterable[str]) -> None:
    """
    Import the modules *names*; those that fail are left out, as a worker reports it.
    """
    gc.disable()  # all that is imported stays
    for name in names:
        with suppress(Exception):
            import_module(name)
    gc.freeze()
    gc.enable()


def become_worker(descriptors: Sequence[int]) -> None:
    """
    Take over what the request has: descriptors, arguments, environment and folder.

    Args:
        descriptors: the first is of a file with the rest, as JSON; the others become those
            from 3 on.
    """
    packed, *rest = descriptors
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FIRST + len(rest)) for each in rest]
    with os.fdopen(packed, "rb") as file:
        request = json.load(file)
    for each in rest:
        os.close(each)
    for number, each in enumerate(high, _FIRST):
        os.dup2(each, number, inheritable=False)
        os.close(each)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [sys.argv[0], *request["arguments"]]
    name = f"realtime {sys.argv[1]}".encode()
    with suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(name[:15])  # for ps, as all have the command line of the fork server


def main() -> None:
    """
    Run the fork server; in a worker, run that.
    """
    requests = socket.socket(fileno=int(sys.argv[1]))
    preload(json.loads(requests.recv(MAX_NAMES)))
    if "twisted.internet.reactor" in sys.modules:
        sys.exit("a module has installed the reactor: workers are not forked")
    descriptors = ForkServer(requests).run()
    if descriptors is not None:
        become_worker(descriptors)
        run_worker()


if __name__ == "__main__":
    main()
