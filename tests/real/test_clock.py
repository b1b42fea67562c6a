"""
Jumps of the machine's clock: set by hand, by NTP, or as a virtual machine wakes up.
"""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.test_restart import Systemd

# Python imports it before anything else: its `time.time` is what the test wants it to be.
CLOCK = """
import os, time

def shifted(now=time.time, path=os.environ["CLOCK_SHIFT"]):
    with open(path) as file:
        return now() + float(file.read())

time.time = shifted
"""


@pytest.mark.parametrize("shift", ["-7200", "7200"])
def test_a_clock_that_is_set_hurries_and_stops_nothing(
    daemon: StartDaemon, tmp_path: Path, shift: str
) -> None:
    """
    Watchdog notifications continue, so that systemd does not kill the daemon; the uptime stays
    correct.
    """
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    file = tmp_path / "shift"
    file.write_text("0")
    systemd = Systemd(tmp_path)
    environment = {"PYTHONPATH": str(tmp_path), "CLOCK_SHIFT": str(file)}
    server = daemon(environment=systemd.environment | environment)
    systemd.wait_for("READY=1")
    file.with_name("new").write_text(shift)
    file.with_name("new").rename(file)
    for _ in range(15):  # some may have been said before
        systemd.wait_for("WATCHDOG=1")

    assert 0 <= _stats(server.port)["uptime"] < 3600
    assert server.kill() == 0
    systemd.close()


def _stats(port: int) -> Any:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("GET", "/stats?format=full")
        return json.loads(connection.getresponse().read())
