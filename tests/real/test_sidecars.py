"""
Programs that run with the daemon: once, as long as it does, whatever ends it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, TWISTD, Serve, Server, StartDaemon, free_port
from tests.real.redis_server import start_redis
from tests.real.test_workers import children, has_ended, wait_until

# Prints a line with its pid, its arguments, and the pid of a child, then waits.
PROGRAM = """\
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"])
print("runs", os.getpid(), child.pid, os.getuid(), *sys.argv[1:], flush=True)
time.sleep(1000)
"""
# The same, which does not end by SIGTERM.
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PROGRAM
RUNS = re.compile(r"helper (\S+): runs (\d+) (\d+) (\d+)(.*)")


class Run:
    """
    One start of PROGRAM, as the log shows it.
    """

    def __init__(self, found: re.Match[str]) -> None:
        self.name, pid, child, uid, arguments = found.groups()
        self.pids = int(pid), int(child)
        self.uid = int(uid)
        self.arguments = arguments.split()

    @property
    def ended(self) -> bool:
        """
        Whether the process and its child have ended.
        """
        return all(map(has_ended, self.pids))


def runs(server: Server, count: int) -> list[Run]:
    """
    Wait until PROGRAM was started *count* times, and return all starts.
    """
    wait_until(lambda: len(RUNS.findall(server.log)) >= count)
    return [Run(found) for found in RUNS.finditer(server.log)]


def _reloaded(server: Server, times: int) -> bool:
    return server.log.count("reloaded, changed") > times


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """
    PROGRAM in a file that cannot be executed: the interpreter is that of its suffix.
    """
    path = tmp_path / "clock.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.parametrize("word", ["helper", "mule", "attach-daemon"])
def test_sidecar_ends_with_the_daemon(word: str, program: Path, daemon: StartDaemon) -> None:
    """
    The helper runs, its output is in the log, and SIGTERM ends all its processes first.
    """
    server = daemon(f"--{word}={program} one 'two three'")
    [run] = runs(server, 1)
    assert run.name == "clock.py"
    assert run.arguments == ["one", "two", "three"]
    assert not run.ended

    server.kill()
    assert run.ended


def test_sigkill_of_the_daemon_ends_its_sidecars(program: Path, daemon: StartDaemon) -> None:
    """
    No process of a helper is left after `kill -9`, also if one ignores SIGTERM.
    """
    program.write_text(STUBBORN)
    server = daemon(f"--helper={program}")
    [run] = runs(server, 1)
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: run.ended)
    server.kill(signal.SIGKILL)


def test_stubborn_sidecar_is_killed(program: Path, daemon: StartDaemon) -> None:
    """
    A helper that ignores SIGTERM is killed after a time, and the daemon ends with status 0.
    """
    program.write_text(STUBBORN)
    server = daemon(f"--helper={program}")
    [run] = runs(server, 1)

    assert server.kill() == 0
    assert run.ended


def test_sidecar_is_started_again(program: Path, daemon: StartDaemon) -> None:
    """
    One that ends by itself starts again; what it left behind is ended first.
    """
    server = daemon(f"--helper={program}")
    [first] = runs(server, 1)
    os.kill(first.pids[0], signal.SIGSEGV)
    second = runs(server, 2)[1]
    assert first.ended
    assert not second.ended
    assert "helper clock.py ended by SIGSEGV" in server.log


def test_guard_that_is_killed_leaves_no_sidecar(program: Path, daemon: StartDaemon) -> None:
    """
    Even if the process between the daemon and the helper is killed, there are never two.
    """
    program.write_text(
        PROGRAM.replace('subprocess.Popen(["sleep", "1000"])', "subprocess.Popen(['true'])")
    )
    server = daemon(f"--helper={program}")
    [first] = runs(server, 1)
    [guard, *_] = children(server.pid)
    os.kill(guard, signal.SIGKILL)
    runs(server, 2)
    assert has_ended(first.pids[0])


def test_reload_keeps_what_has_not_changed(
    tmp_path: Path, program: Path, daemon: StartDaemon
) -> None:
    """
    A helper whose line is unchanged is kept over SIGHUP; a changed one is stopped, and its
    replacement starts when it has ended; an invalid line changes nothing.
    """
    program.write_text(
        PROGRAM.replace(
            "time.sleep(1000)\n",
            """\
import signal
def end(*_):
    time.sleep(0.5)
    print("ends", *sys.argv[1:], flush=True)
    child.kill()
    sys.exit()
signal.signal(signal.SIGTERM, end)
while True:
    time.sleep(0.01)
""",
        )
    )
    config = tmp_path / "realtime.conf"
    config.write_text(f"helper = {program} a\nmule = {program} b\n")
    server = daemon(f"--config={config}")
    kept, replaced = sorted(runs(server, 2), key=lambda run: run.arguments)

    config.write_text(f"mule = {program} c\nattach-daemon = {program} a\n")
    server.send(signal.SIGHUP)
    fresh = runs(server, 3)[2]
    assert replaced.ended
    assert fresh.arguments == ["c"]
    log = server.log
    assert log.index("ends b") < log.index(f"runs {fresh.pids[0]}")

    config.write_text(f"helper = {program} a\nhelper = nosuch\nhelper = {program} c\n")
    server.send(signal.SIGHUP)
    wait_until(lambda: "reload failed, nothing has changed" in server.log)
    assert "realtime.conf:2: helper: there is no program 'nosuch'" in server.log
    assert not kept.ended
    assert not fresh.ended

    config.write_text("")
    server.send(signal.SIGHUP)
    wait_until(lambda: kept.ended and fresh.ended)
    assert len(runs(server, 3)) == 3


def test_several_reloads_at_once_start_no_second_sidecar(
    tmp_path: Path, program: Path, daemon: StartDaemon
) -> None:
    """
    While an old helper ends, further reloads only change which one follows.
    """
    program.write_text(
        PROGRAM.replace(
            "time.sleep(1000)\n",
            """\
import signal
folder = os.path.dirname(os.path.abspath(__file__))
lock = os.open(os.path.join(folder, "lock"), os.O_CREAT | os.O_EXCL)
def end(*_):
    time.sleep(0.2)
    os.unlink(os.path.join(folder, "lock"))
    child.kill()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
while True:
    time.sleep(0.01)
""",
        )
    )
    config = tmp_path / "realtime.conf"
    config.write_text(f"helper = {program} 0\n")
    server = daemon(f"--config={config}")
    runs(server, 1)
    for number in range(1, 6):
        config.write_text(f"helper = {program} {number}\n")
        before = server.log.count("reloaded, changed")
        server.send(signal.SIGHUP)
        wait_until(partial(_reloaded, server, before))
    wait_until(
        lambda: len(RUNS.findall(server.log)) > 1 and RUNS.findall(server.log)[-1][4] == " 5"
    )
    assert "FileExistsError" not in server.log


def test_sidecar_runs_once_beside_workers(
    program: Path, daemon: StartDaemon, serve: Serve, tmp_path: Path
) -> None:
    """
    Three workers have one helper; a worker that is replaced changes nothing; SIGHUP keeps it, and
    SIGKILL of the parent ends it.
    """
    redis = start_redis(serve)
    server = daemon(
        "--workers=3", f"--redis-port={redis.port}", "--broker=redis", f"--helper={program}"
    )
    [run] = runs(server, 1)
    wait_until(lambda: len(re.findall(r"worker \d+ is up", server.log)) >= 3)
    worker = int(re.findall(r"worker \d+ is up \(pid (\d+)\)", server.log)[0])
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len(re.findall(r"worker \d+ is up", server.log)) >= 4)
    server.send(signal.SIGHUP)
    wait_until(lambda: server.log.count("reloaded, changed") >= 3)
    assert len(runs(server, 1)) == 1
    assert not run.ended

    all_pids = children(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: run.ended and all(map(has_ended, all_pids)))
    server.kill(signal.SIGKILL)


def test_output_is_bounded(tmp_path: Path, daemon: StartDaemon) -> None:
    """
    Long lines are cut, and lines above a rate are counted, not logged; the daemon serves on.
    """
    program = tmp_path / "noise.py"
    program.write_text(
        "import os, time\n"
        "os.write(2, b'x' * 5000 + b' end\\n' + b'\\x1b[31mred\\xff\\n')\n"
        "os.write(1, b'y\\n' * 200000)\n"
        "os.write(1, b'last')\n"
        "time.sleep(1000)\n"
    )
    server = daemon(f"--helper={program}")
    wait_until(lambda: "lines are left out of the log" in server.log)
    log = server.log

    assert f"helper noise.py: {'x' * 1000}...\n" in log
    assert "x" * 1001 not in log
    assert "\x1b" not in log
    assert log.count("helper noise.py: y") <= 1000
    assert len(log) < 200_000


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nosuch -x", "there is no program 'nosuch'"),
        ("./nosuch.pl", "there is no program './nosuch.pl'"),
        ("'half", "must be a command"),
        ("{folder}/data.txt", "cannot be executed: make it executable"),
    ],
)
def test_command_that_cannot_start_is_one_sentence(line: str, error: str, tmp_path: Path) -> None:
    """
    The daemon does not start, and says why in a line with file and line number.
    """
    (tmp_path / "data.txt").write_text("data")
    config = tmp_path / "realtime.conf"
    config.write_text(f"port = {free_port()}\nhelper = {line.format(folder=tmp_path)}\n")
    done = subprocess.run(
        [TWISTD[0], "-n", "--pidfile=", "realtime", f"--config={config}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 1
    assert "realtime.conf:2: helper" in done.stderr
    assert error in done.stderr
    assert done.stderr.count("\n") == 1


def test_command_that_cannot_be_executed_later(tmp_path: Path, daemon: StartDaemon) -> None:
    """
    One that is not a program for this machine is one line in the log for each attempt.
    """
    program = tmp_path / "broken"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    server = daemon(f"--helper={program}")
    wait_until(lambda: server.log.count("cannot be started") >= 3)

    assert "helper broken cannot be started: No such file or directory; next attempt" in server.log
    assert "helper broken ended" not in server.log


# The user to which twistd switches must be able to read Python.
PYTHON = [Path(sys.executable).resolve(), *Path(sys.executable).resolve().parents]
READABLE = os.geteuid() == 0 and all(path.stat().st_mode & 0o005 for path in PYTHON)


@pytest.mark.skipif(not READABLE, reason="only root can change the user, to one that has Python")
def test_sidecar_has_the_user_of_the_daemon(program: Path, serve: Serve, tmp_path: Path) -> None:
    """
    With --uid the helper runs as that user.
    """
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # pytest's own are for root alone
    port = free_port()
    command = [TWISTD[0], "-n", "--pidfile=", "--uid=65534", "--gid=65534", "realtime"]
    server = serve([*command, f"--port={port}", f"--helper={program}"], port)

    assert [run.uid for run in runs(server, 1)] == [65534]
