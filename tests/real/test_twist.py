"""
The daemon by `twist` and `twistd`, as a user starts it: in the foreground and in the background,
with a fresh HOME.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rt_twisted import __version__
from tests.real.conftest import PATIENCE, TWISTD, Serve, free_port
from tests.real.redis_server import start_redis
from tests.real.test_daemon import publish, subscribed
from tests.real.test_reload import reload, wait_until
from tests.real.test_settings import status

TWIST = str(Path(sys.executable).with_name("twist"))
TEXT = ("--log-format=text",)


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """
    Run *command* in an empty folder, which is HOME too.
    """
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("options", [(), TEXT])
def test_twist_starts_the_daemon(options: tuple[str, ...], serve: Serve, tmp_path: Path) -> None:
    """
    `twist realtime` listens, serves, reloads and stops as `twistd -n realtime` does. Its log has
    the format of twist's options.
    """
    port = free_port()
    (tmp_path / "a.conf").write_text(f"port = {port}\nhttp-secret = old\n")
    command = [TWIST, *options, "realtime", "--config=a.conf"]
    server = serve(command, port, tmp_path, {"HOME": str(tmp_path / "home")})

    with subscribed(port, "/?channels=news") as stream:
        assert publish(port, channel="news", message="hello", key="old") == 200
        stream.until("data: hello")
        (tmp_path / "a.conf").write_text(f"port = {port}\nhttp-secret = new\n")
        reload(server, "reloaded, changed: http-secret")
        assert publish(port, channel="news", message="again", key="new") == 200
        stream.until("data: again")
        server.send(signal.SIGUSR2)
        assert server.kill() == 0
        assert "retry:" in stream.rest()
    lines = server.log.splitlines()
    first = (
        f"rt_twisted {__version__}: listening on http://127.0.0.1:{port}/; "
        f"a page to try it: http://127.0.0.1:{port}/try"
    )
    if options:
        assert any(line.endswith(f"#info] {first}") for line in lines)
    else:
        assert first in [json.loads(line)["text"] for line in lines]


def test_twist_logs_to_a_file_that_is_rotated(serve: Serve, tmp_path: Path) -> None:
    """
    `--log-file`, `--log-level` and `--log-format` of `twist` are those of the daemon's log. SIGUSR1
    opens the file again.
    """
    port = free_port()
    command = [TWIST, "--log-file=a.log", "--log-level=debug", *TEXT, "realtime", f"--port={port}"]
    server = serve(command, port, tmp_path)
    log = tmp_path / "a.log"
    wait_until(lambda: "listening on" in log.read_text())

    log.rename(tmp_path / "b.log")
    server.send(signal.SIGUSR1)
    wait_until(log.exists)
    server.kill()

    assert "stopping: asking 0 subscribers" in log.read_text()
    assert server.log == ""


def test_twist_starts_workers(serve: Serve, tmp_path: Path) -> None:
    """
    With workers, `twist` is their parent.
    """
    redis, port = start_redis(serve), free_port()
    settings = (f"--port={port}", "--workers=2", "--broker=redis", f"--redis-port={redis.port}")
    server = serve([TWIST, "--log-level=debug", *TEXT, "realtime", *settings], port, tmp_path)

    wait_until(lambda: len(re.findall(r"worker \d is up", server.log)) == 2)
    assert status(f"{server.url}/readyz") == 200
    lines = [line for line in server.log.splitlines() if "listening on" in line]
    assert len(lines) == 1
    assert f"rt_twisted {__version__} with 2 workers: listening on {server.url}/; " in lines[0]
    assert server.kill() == 0


def test_twist_reports_why_it_cannot_start(tmp_path: Path) -> None:
    """
    The reason is one sentence on standard error, and the exit status is 1.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option, reason in (
            (f"--port={port}", f"realtime: cannot listen on tcp:{port}:interface=127.0.0.1:"),
            ("--port=x", "realtime: --port must be a number from 0 to 65535, not 'x'\n"),
            ("--log-file=x", "realtime: --log-file is an option of twist: put it before the "),
        ):
            done = run([TWIST, *TEXT, "realtime", option], tmp_path)
            assert (done.returncode, done.stderr.startswith(reason)) == (1, True), done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [(TWIST,), TWISTD[:2]], ids=["twist", "twistd"])
def test_questions_are_answered_without_a_start(command: Sequence[str], tmp_path: Path) -> None:
    """
    `--version`, `-h` and `--check` print and exit; no file is left behind.
    """
    versions = run([*command, "realtime", "--version"], tmp_path)
    text = run([*command, "realtime", "-h"], tmp_path)
    checked = run([*command, "realtime", "--check"], tmp_path)

    assert versions.stdout.startswith(f"rt_twisted {__version__}, Twisted ")
    assert re.search(r"(?m)^Listening:\n\n  -p, --port=$", text.stdout)
    assert checked.stdout == "realtime: the settings are right\n"
    assert [each.returncode for each in (versions, text, checked)] == [0, 0, 0]
    assert [each.stderr for each in (versions, text, checked)] == ["", "", ""]
    assert list(tmp_path.iterdir()) == []


def test_twistd_in_the_background_logs_where_it_listens(tmp_path: Path) -> None:
    """
    Without `-n`, twistd returns when the ports are open; its log begins with their addresses.
    """
    port = free_port()
    done = run([TWISTD[0], "realtime", f"--port={port}"], tmp_path)
    pid = int((tmp_path / "twistd.pid").read_text())
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert status(f"http://127.0.0.1:{port}/healthz") == 200
        log = (tmp_path / "twistd.log").read_text()
        assert f"rt_twisted {__version__}: listening on http://127.0.0.1:{port}/; " in log
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not (tmp_path / "twistd.pid").exists())
