"""
`twistd cyclone-sse`: the daemon in place of the package of that name.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from rt_twisted import __version__
from tests.real.conftest import PATIENCE, TWISTD, Serve, free_port
from tests.real.redis_server import start_redis
from tests.real.test_daemon import publish, subscribed
from tests.real.test_reload import wait_until
from tests.unit.tap.test_settings import CYCLONE


def twistd(*arguments: str, **environment: str) -> str:
    """
    Return the output of `twistd` with *arguments*.
    """
    done = subprocess.run(
        [TWISTD[0], *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_command_line_of_cyclone_sse_starts_the_daemon(serve: Serve, tmp_path: Path) -> None:
    """
    All options of cyclone-sse are accepted on the command line. White space around messages and
    control characters in them are removed, as by cyclone-sse.
    """
    port = free_port()
    options = [line for line in CYCLONE.splitlines() if not line.startswith("--port")]
    server = serve([*TWISTD, "cyclone-sse", f"--port={port}", *options], port, tmp_path)

    with subscribed(port, "/?channels=news") as stream:
        assert publish(port, channel="news", message="  a\x01b \n") == 200
        stream.until("data: a b\n")
    assert f"rt_twisted {__version__}: listening on http://127.0.0.1:{port}/" in server.log


def test_defaults_are_those_of_cyclone_sse() -> None:
    """
    `twistd cyclone-sse` has cyclone-sse's defaults; `-h` shows them with all options.
    """
    shown = twistd("-n", "cyclone-sse", "--show-config").splitlines()
    described = twistd("-n", "cyclone-sse", "-h")

    for line in ("port = 8888", "listen = 127.0.0.1", "broker = http", "trim = 1"):
        assert f"{line} # default" in shown
    for line in CYCLONE.splitlines():
        assert f"{line.partition('=')[0]}=\n" in described
    assert re.search(r"(?s)--trim=\n.{1,200}\[default: 1\]", described)
    assert "trim = 0 # default" in twistd("-n", "realtime", "--show-config").splitlines()


def test_workers_have_the_defaults_too(serve: Serve, tmp_path: Path) -> None:
    """
    Worker processes trim messages as one process does.
    """
    redis, port = start_redis(serve), free_port()
    options = (f"--port={port}", "--workers=2", "--broker=redis", f"--redis-port={redis.port}")
    server = serve([*TWISTD, "cyclone-sse", *options], port, tmp_path)

    wait_until(lambda: len(re.findall(r"worker \d is up", server.log)) == 2)
    with subscribed(port, "/?channels=news") as stream:
        for number in range(4):
            assert publish(port, channel="news", message=f"  {number} ") == 200
        assert "data: 3\n" in stream.until("data: 3")
    assert server.kill() == 0


def test_the_command_is_left_out_beside_cyclone_sse(tmp_path: Path) -> None:
    """
    Where the package cyclone_sse can be imported, its own plug-in has the command.
    """
    (tmp_path / "cyclone_sse").mkdir()
    (tmp_path / "cyclone_sse" / "__init__.py").touch()
    command = "\n    cyclone-sse "

    alone = twistd("--help")
    beside = twistd("--help", PYTHONPATH=str(tmp_path))
    assert (command in alone, command in beside) == (True, False)
    assert "\n    realtime " in beside
