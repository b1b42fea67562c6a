"""
Processor time, memory and cores as Linux reports them, and the C compiler.
"""

import os
import platform
import random
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


class SetupError(Exception):
    """
    The machine or a server lacks something that a measure needs; the text says what to do.
    """


def compile_c(name: str, folder: Path) -> Path:
    """
    Compile `name`.c of this folder.

    Args:
        name: "load", "bare" or "probe".
        folder: of the program.

    Raises:
        SetupError: there is no compiler, or it failed.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise SetupError("The load is a C program and there is no `cc`: install a C compiler.")
    program = folder / name
    command = [compiler, "-O2", "-o", str(program), str(HERE / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"cc could not compile {name}.c:\n{done.stderr}")
    return program


def cores() -> tuple[int, int]:
    """
    Return the core of the server and the core of the load; the same if there is only one.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextmanager
def alone() -> Iterator[None]:
    """
    Hold a lock of this machine: two concurrent runs would disturb each other.

    Raises:
        SetupError: there is another run.
    """
    # An abstract name (unix(7)) leaves no file, and ends with the process.
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind("\0rt-twisted-benchmarks")
        except OSError as error:
            raise SetupError("There is another run; two would disturb each other.") from error
        yield


def raise_file_limit() -> int:
    """
    Raise the limit of open files to the hard limit, for this process and its children.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """
    Return a free TCP port of 127.0.0.1 below the range of client ports.

    The port is random, so that concurrent callers get different ones.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(max(first - 4000, 1024), first)
    for port in random.sample(ports, len(ports)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SetupError(f"No free port below {first}.")


def family(pid: int) -> list[int]:
    """
    Return the ids of a process and all its descendants.

    Raises:
        FileNotFoundError: there is no such process.
    """
    pids = [pid]
    for known in pids:
        try:
            children = Path(f"/proc/{known}/task/{known}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            if known == pid:
                raise
            continue  # a child that has ended, as those of RabbitMQ do
        pids.extend(map(int, children.split()))
    return pids


@dataclass(frozen=True, slots=True)
class Times:
    """
    Running time, and waiting time for a core, of a process and its descendants in s.
    """

    ran: float
    waited: float


def times(pid: int) -> Times:
    """
    Read the processor time of a process and its descendants, user and system.

    The source is schedstat, in nanoseconds, where the kernel has it; otherwise stat, in ticks
    of 10 ms and without waiting times.
    """
    each = []
    for one in family(pid):
        try:
            each.append(_times_of_one(one))
        except (FileNotFoundError, ProcessLookupError):
            if one == pid:
                raise
    return Times(sum(one.ran for one in each), sum(one.waited for one in each))


def _times_of_one(pid: int) -> Times:
    tasks = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    if tasks:
        ran, waited = (sum(int(task[field]) for task in tasks) / 1e9 for field in (0, 1))
        return Times(ran, waited)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Times((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), 0.0)


def memory_kib(pid: int) -> int:
    """
    Return the memory of a process and its descendants in KiB; shared pages count once (PSS).
    """
    total = 0
    for one in family(pid):
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def description() -> dict[str, str]:
    """
    Return facts about the machine, by name.
    """
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores",
        "kernel": f"Linux {platform.release()}",
        "compiler": _first_line(["cc", "--version"]),
    }


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0].strip()
