"""
The three servers: how each is started, used and stopped.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.machine import HERE, SetupError, compile_c, free_port

KEY = "bench"
_FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
_LINES = f"Authorization: Bearer {KEY}\r\nContent-Type: application/x-ndjson\r\n"
_NCHAN = "ngx_nchan_module.so"
_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules")
_PATIENCE = 20  # s, to start; a fraction of that to stop


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    Requests to subscribe and publish, for load.c, which fills in `{channel}` and `{message}`.

    `batch` is empty if a request can have only one message; `say` if websockets cannot publish.
    """

    read: str
    post: str
    headers: str = ""
    body: str = "{message}"
    batch: str = ""
    batch_headers: str = ""
    line: str = ""
    speak: str = "events"
    say: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """
    A server of the comparison.

    `command` makes the command line from a port and a folder. A server without error pages has
    no `stranger` path, and is not probed.
    """

    name: str
    title: str
    dialect: Dialect
    command: Callable[[int, Path], Sequence[str]]
    stranger: str = "/nobody-home"


@dataclass(frozen=True, slots=True)
class Running:
    """
    A server that accepts connections on 127.0.0.1.
    """

    server: Server
    pid: int
    port: int


def ours(options: Sequence[str]) -> Server:
    """
    Return the daemon of this checkout.

    Args:
        options: further arguments of its command line.

    Raises:
        SetupError: the daemon or Twisted is missing.
    """
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.exists():
        raise SetupError(f"There is no {twistd}: run this with the Python that has Twisted.")
    if not (HERE.parent / "rt_twisted" / "tap").exists():
        raise SetupError("There is no rt_twisted/tap here: run this from a checkout.")

    def command(port: int, _: Path) -> Sequence[str]:
        words = (str(twistd), "-n", "--pidfile=", "realtime", f"--port={port}")
        return (*words, f"--http-secret={KEY}", *options)

    dialect = Dialect(
        read="/?channels={channel}",
        post="/publish",
        headers=_FORM,
        body=f"key={KEY}&channel={{channel}}&message={{message}}",
        batch="/publish",
        batch_headers=_LINES,
        line='{"channel":"{channel}","message":"{message}"}\n',
    )
    versions = f"CPython {sys.version.split()[0]}, Twisted {_version('twisted')}"
    return Server("ours", f"rt_twisted on {versions}", dialect, command)


def find_nginx() -> tuple[str, Path]:
    """
    Return nginx, and its module nchan.

    Raises:
        SetupError: nginx or the module is not installed.
    """
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    modules = [Path(folder, _NCHAN) for folder in _MODULES if Path(folder, _NCHAN).exists()]
    if nginx is None or not modules:
        raise SetupError(
            "nginx with nchan is not installed: Debian has nginx and libnginx-mod-nchan."
        )
    return nginx, modules[0]


def nchan() -> Server:
    """
    Return nginx with the nchan module, one worker, configured by nchan.conf.

    Raises:
        SetupError: nginx or the module is not installed.
    """
    program, module = find_nginx()

    def command(port: int, folder: Path) -> Sequence[str]:
        text = (HERE / "nchan.conf").read_text()
        text = text.replace("@module@", str(module)).replace("@port@", str(port))
        (folder / "nginx.conf").write_text(text)
        return (program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr")

    found = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    title = f"{found.stderr.rpartition(' ')[2].strip()} with nchan{_nchan_version()}"
    return Server("nchan", title, Dialect("/read/{channel}", "/publish/{channel}"), command)


def bare(folder: Path) -> Server:
    """
    Return bare.c, which has the kernel's costs alone.

    Args:
        folder: of the compiled program.

    Raises:
        SetupError: there is no compiler.
    """
    program = compile_c("bare", folder)

    def command(port: int, _: Path) -> Sequence[str]:
        return (str(program), str(port))

    return Server(
        "bare", "a loop over send(2) in C", Dialect("/{channel}", "/{channel}"), command, ""
    )


@contextmanager
def running(server: Server, folder: Path, core: int) -> Iterator[Running]:
    """
    Start a server, and stop it at the end, also after an exception.

    Args:
        server: to start.
        folder: an empty one, for its files and its log.
        core: that it runs on.

    Raises:
        SetupError: the server did not start; the end of its log is printed.
    """
    port = free_port()
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command(port, folder),
            cwd=folder,
            # An installed daemon would not need this; twistd looks for plugins there.
            env=os.environ | {"PYTHONPATH": str(HERE.parent)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(in_the_child, core),
        )
    try:
        wait_until_it_accepts(process, port)
        yield Running(server, process.pid, port)
    except Exception:
        print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def in_the_child(core: int) -> None:
    """
    Set the core of the child process, and end it when its parent ends.
    """
    os.sched_setaffinity(0, {core})
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def wait_until_it_accepts(
    process: subprocess.Popen[bytes], port: int, patience: float = _PATIENCE
) -> None:
    """
    Wait until a server accepts connections.

    Raises:
        SetupError: the server ended, or took more than *patience* seconds.
    """
    until = time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
            continue
        return
    raise SetupError(f"{process.args!r} did not start")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "?"


def _nchan_version() -> str:
    """
    Return the version of Debian's package, or "": the module itself reports none.
    """
    dpkg = shutil.which("dpkg-query")
    if dpkg is None:
        return ""
    command = [dpkg, "-W", "-f", "${Version}", "libnginx-mod-nchan"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.match(r"(?:\d+:)?([\d.]+)", done.stdout)
    return f" {found[1]}" if found else ""
