"""
A DNS server that does not answer.
"""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, PAUSE, StartDaemon

# Python imports it before anything else: looking this name up takes as long as it takes.
DNS = """
import os, socket, time

def hangs(host, *rest, real=socket.getaddrinfo, **more):
    if host == "hangs.example":
        open(os.environ["ASKED"], "w").close()
        time.sleep(1000)
    return real(host, *rest, **more)

socket.getaddrinfo = hangs
"""


@pytest.mark.parametrize(
    "option",
    ["--broker=redis --redis-host=hangs.example", "--export=graphite --export-host=hangs.example"],
)
def test_a_name_that_is_looked_up_holds_up_no_stop(
    daemon: StartDaemon, tmp_path: Path, option: str
) -> None:
    """
    Otherwise systemd would kill it and report a failure.
    """
    (tmp_path / "sitecustomize.py").write_text(DNS)
    flag = tmp_path / "asked"
    environment = {"PYTHONPATH": str(tmp_path), "ASKED": str(flag)}
    server = daemon(*option.split(), "--export-port=2003", environment=environment)
    deadline = time.monotonic() + PATIENCE
    while not flag.exists():
        assert time.monotonic() < deadline
        time.sleep(PAUSE)
    # Until the reactor runs, signals have the handlers of Python.
    urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=PATIENCE).close()

    assert server.kill() == 0
