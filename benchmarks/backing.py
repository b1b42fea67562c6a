"""
Servers for brokers: redis and RabbitMQ.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks.machine import SetupError, free_port
from benchmarks.servers import (
    Dialect,
    Running,
    Server,
    in_the_child,
    running,
    wait_until_it_accepts,
)

_RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # that in sbin needs root
_PATIENCE = 60  # s, for RabbitMQ to start
_NOTHING = Dialect("", "")


@contextmanager
def redis(folder: Path, core: int) -> Iterator[Running]:
    """
    Run a redis-server without persistence.

    Args:
        folder: an empty one.
        core: that it runs on.

    Raises:
        SetupError: redis is not installed, or did not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise SetupError("redis-server is not installed: Debian has redis-server.")

    def command(port: int, _: Path) -> tuple[str, ...]:
        where = ("--bind", "127.0.0.1", "--port", str(port), "--tcp-backlog", "511")
        return (program, *where, "--save", "", "--loglevel", "warning", "--maxclients", "20000")

    with running(Server("redis", _title(program), _NOTHING, command), folder, core) as server:
        yield server


@contextmanager
def rabbit(folder: Path, core: int) -> Iterator[Running]:
    """
    Run a RabbitMQ node without plug-ins, with one scheduler.

    Args:
        folder: an empty one.
        core: that it runs on.

    Raises:
        SetupError: RabbitMQ is not installed, or did not start.
    """
    if not _RABBIT.exists():
        raise SetupError("RabbitMQ is not installed: Debian has rabbitmq-server.")
    port, ports = free_port(), {"dist": free_port(), "epmd": free_port()}
    (folder / "plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text("loopback_users = none\nlog.console = true\n")
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(ports["dist"]),
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        # It has one core; busy waiting must not count as work.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
    }
    log = folder / "console"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(_RABBIT)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(in_the_child, core),
        )
    try:
        try:
            wait_until_it_accepts(process, port, _PATIENCE)
        except SetupError:
            output_end = log.read_text(errors="replace")[-2000:]
            raise SetupError(f"RabbitMQ did not start:\n{output_end}") from None
        server = Server("amqp", f"RabbitMQ {_rabbit_version()}", _NOTHING, lambda *_: ())
        yield Running(server, process.pid, port)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the script does not pass on a SIGTERM
        process.wait()
        with suppress(FileNotFoundError):
            # RabbitMQ has started epmd.
            subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, timeout=20)


def _rabbit_version() -> str:
    """
    Return the version in the name of the library folder, or "".
    """
    found = sorted(_RABBIT.parent.parent.glob("lib/rabbitmq_server-*"))
    return found[-1].name.rpartition("-")[2] if found else ""


def _title(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[:3])
