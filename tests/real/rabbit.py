"""
A real rabbitmq-server: one for a module's tests, as it takes seconds to start.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pems import Authority
from tests.real.conftest import PATIENCE, PAUSE, free_port, require

BIN = Path("/usr/lib/rabbitmq/bin")  # the wrappers in sbin need root or rabbitmq
# One scheduler that sleeps when idle, on the loopback alone, and no 9 % of the
# memory for a first alarm.
ERLANG = "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"


class Rabbit:
    """
    A RabbitMQ node on ports of its own.

    Args:
        folder: for its data, log and cookie; short, as it names sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()  # and `tls_port`, for `localhost`, by `authority`
        self._epmd = free_port()
        (folder / "plugins").write_text("[].\n")
        self.tls_port = free_port()
        authority = Authority(folder)
        self.authority = authority.file
        certificate, key = authority.pair("rabbit", "localhost")
        (folder / "rabbitmq.conf").write_text(
            "loopback_users = none\n"
            "log.console = true\n"
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.certfile = {certificate}\n"
            f"ssl_options.keyfile = {key}\n"
        )
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"t{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """
        Start the node and wait until it accepts connections.
        """
        log = self.folder / "console.txt"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [BIN / "rabbitmq-server"],
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._accepts():
            assert self._process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(PAUSE)

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), PAUSE).close()
        except OSError:
            return False
        return True

    def control(self, *words: str) -> str:
        """
        Run `rabbitmqctl` and return its output.
        """
        done = subprocess.run(
            [BIN / "rabbitmqctl", "-q", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def evaluate(self, expression: str) -> str:
        """
        Return the value of an Erlang expression: faster than most other commands, and the only
        way to some data.
        """
        return self.control("eval", expression).strip()

    def send(self, number: signal.Signals) -> None:
        """
        Send a signal to the whole node, such as SIGSTOP and SIGCONT.
        """
        assert self._process is not None
        os.killpg(self._process.pid, number)
        if number is signal.SIGSTOP:
            machine = int((self.folder / "pid").read_text())
            while not _stands_still(machine):
                time.sleep(PAUSE)

    def kill(self) -> None:
        """
        Kill the node, as a crash would.
        """
        assert self._process is not None
        self.send(signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process = None
        while self._accepts():  # the script is gone before the machine it runs
            time.sleep(PAUSE)
        (self.folder / "pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """
        Stop the node, and the epmd that it started.
        """
        if self._process is not None:
            self.kill()
        environment = {**os.environ, "ERL_EPMD_PORT": str(self._epmd)}
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            done = subprocess.run(
                ["epmd", "-kill"], env=environment, capture_output=True, text=True, timeout=PATIENCE
            )
            if "not allowed" not in done.stdout + done.stderr:
                return
            time.sleep(PAUSE)  # it has not noticed yet that the node is gone


def _stands_still(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((each / "stat").read_text().rpartition(")")[2].split()[0] == "T" for each in threads)


@pytest.fixture(scope="module")
def rabbit() -> Iterator[Rabbit]:
    """
    A server that the tests of a module share; a test that stops it starts it again.
    """
    require("rabbitmq-server", "rabbitmq-server")
    folder = Path(tempfile.mkdtemp(prefix="rabbit"))
    server = Rabbit(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
