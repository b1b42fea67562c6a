"""
The daemon as it is installed: from the wheel and the source distribution, without the checkout.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, Serve, free_port, require
from tests.real.test_daemon import publish
from tests.real.test_settings import status
from tests.unit.tap.test_packaging import _pip, python, source, wheel

__all__ = ["python", "source", "wheel"]  # fixtures


def install(package: Path, python: Path) -> None:
    """
    Install *package* with pip, and the commands of Twisted beside it.
    """
    _pip("--python", str(python), "install", "--no-build-isolation", str(package))
    script = python.with_name("twistd")
    text = "#!{python}\nfrom twisted.scripts.twistd import run\nrun()\n"
    script.write_text(text.format(python=python))
    script.chmod(0o755)


def run(python: Path, folder: Path, *arguments: str) -> str:
    """
    Return the output of `python` with *arguments*, started in *folder* with a fresh HOME.
    """
    environment = {**os.environ, "HOME": str(folder)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.limit(120)
@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_an_installed_daemon_can_be_kept(
    kind: str, request: pytest.FixtureRequest, python: Path, serve: Serve, tmp_path: Path
) -> None:
    """
    After `pip install`, `python -m rt_twisted.tools.init` writes a folder whose settings and keys
    start the daemon, and whose units systemd accepts.
    """
    install(request.getfixturevalue(kind), python)
    folder = tmp_path / "start"
    output = run(python, tmp_path, "-m", "rt_twisted.tools.init", str(folder))
    keys = dict(line.split("=") for line in (folder / "realtime.env").read_text().splitlines())

    assert f"wrote {folder}/realtime.service\n" in output
    assert list(python.parents[1].glob("lib/*/site-packages/twisted/plugins/dropin.cache"))
    place = run(python, tmp_path, "-c", "import rt_twisted; print(rt_twisted.__file__)")
    assert place.startswith(str(python.parents[1]))
    port = free_port()
    command = [str(python.with_name("twistd")), "-n", "--pidfile=", "realtime"]
    config = f"--config={folder}/realtime.conf"
    server = serve([*command, config, f"--port={port}"], port, tmp_path, keys)
    for key, expected in ((keys["PUBLISH_KEY"], 200), (keys["STATS_KEY"], 401)):
        assert publish(port, channel="news", message="hello", key=key) == expected
    assert status(f"{server.url}/stats?key={keys['STATS_KEY']}") == 200
    verify(folder)


def verify(folder: Path) -> None:
    """
    Let systemd check the units in *folder*.
    """
    analyze = require("systemd-analyze", "systemd")
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, sorted(folder.glob("*.s*")))],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert (done.returncode, done.stderr) == (0, "")
