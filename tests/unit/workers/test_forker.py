"""
Workers are forked from a process that has imported what they need.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from rt_twisted.workers.fork_server import FORK
from rt_twisted.workers.forker import ForkedProcess, modules_to_share


class Ended(ProcessProtocol):
    """
    Stores the end of a process.
    """

    reason: Failure | None = None

    def processExited(self, reason: Failure) -> None:
        self.reason = reason


def test_modules_of_users_are_not_shared() -> None:
    """
    Neither are those that install a reactor.
    """
    loaded = [
        *("json", "shop.models", "rt_twisted.hub.hub", "rt_twisted.brokers.redis.broker"),
        "rt_twisted.brokers.redis.connections",
        *("twisted.internet.defer", "twisted.internet.reactor", "twisted.internet.epollreactor"),
        *("twistedness", "txredisapi", "rt_twisted.workers.__main__"),
    ]

    assert modules_to_share(loaded) == [
        *("rt_twisted.hub.hub", "rt_twisted.brokers.redis.broker", "twisted.internet.defer")
    ]


@pytest.mark.parametrize(
    ("status", "code", "by_signal"), [(0, 0, None), (256, 1, None), (9, None, 9), (134, None, 6)]
)
def test_the_end_of_a_forked_process_is_reported(
    status: int, code: int | None, by_signal: int | None
) -> None:
    """
    Its exit status, or the signal that ended it; afterwards it gets no signal.
    """
    child = subprocess.Popen(["sleep", "60"])
    protocol = Ended()
    process = ForkedProcess(protocol, child.pid)
    process.signalProcess(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    process.end(status)

    assert protocol.reason is not None
    reason: Any = protocol.reason.value
    assert (reason.exitCode, reason.signal) == (code, by_signal)
    with pytest.raises(ProcessExitedAlready):
        process.signalProcess(signal.SIGTERM)


def test_the_server_forks_and_reports_ends(tmp_path: Path) -> None:
    """
    The server ends with its socket. A module that cannot be imported is left out.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    command = [sys.executable, "-m", "rt_twisted.workers.fork_server", str(its.fileno())]
    with ours, its, subprocess.Popen(command, pass_fds=[its.fileno()]) as server:
        its.close()
        ours.send(json.dumps(["rt_twisted.model.message", "rt_twisted.missing"]).encode())
        assert json.loads(ours.recv(4096)) == ["ready"]
        request = {
            "arguments": ["1/2", "--version"],
            "environment": {"PATH": os.environ["PATH"]},
            "folder": str(tmp_path),
        }
        file = os.memfd_create("request")
        os.write(file, json.dumps(request).encode())
        os.lseek(file, 0, os.SEEK_SET)
        socket.send_fds(ours, [FORK], [file])
        os.close(file)
        word, pid = json.loads(ours.recv(4096))
        assert word == "forked"
        assert json.loads(ours.recv(4096)) == ["exited", pid, 0]
        ours.close()
        assert server.wait(20) == 0


def test_a_server_with_a_reactor_does_not_fork() -> None:
    """
    A fork would break the reactor of a server that has one.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(20)
    command = [sys.executable, "-m", "rt_twisted.workers.fork_server", str(its.fileno())]
    with ours, subprocess.Popen(command, pass_fds=[its.fileno()], stderr=-1) as server:
        its.close()
        ours.send(b'["twisted.internet.reactor"]')
        assert ours.recv(4096) == b""
        assert server.wait(20) == 1
