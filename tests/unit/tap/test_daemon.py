"""
Notifications of the daemon to its supervisor, and the effects of a reload.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from rt_twisted.net.systemd import SystemdNotifier
from rt_twisted.tap.settings import SETTINGS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """
    A socket in the abstract namespace, as systemd may use.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0rt-twisted-test-{os.getpid()}")
        sock.setblocking(False)
        yield sock


def told(listener: socket.socket) -> list[str]:
    """
    What came since the last look.
    """
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


def test_signs_of_life_come_twice_as_often_as_needed(listener: socket.socket) -> None:
    """
    From READY on, if this is the process that is watched.
    """
    clock = Clock()
    environment = {
        "NOTIFY_SOCKET": "@" + listener.getsockname()[1:].decode(),
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    supervisor = SystemdNotifier(environment, clock)
    supervisor.ready()
    assert told(listener) == ["READY=1", "WATCHDOG=1"]
    clock.pump([15] * 4)
    assert told(listener) == ["WATCHDOG=1"] * 4
    supervisor.reloading()
    supervisor.ready()
    supervisor.stopping()
    reloading, *rest = told(listener)
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
    assert rest == ["READY=1", "STOPPING=1"]

    supervisor.close()

    other = SystemdNotifier({**environment, "WATCHDOG_PID": "1"}, clock)
    other.ready()
    clock.pump([15] * 4)
    other.close()
    assert told(listener) == ["READY=1"]


@pytest.mark.parametrize("where", ["", "relative", "/nowhere/at/all"])
def test_nobody_to_tell_is_no_mistake(where: str) -> None:
    """
    Started by hand, or by a supervisor that is gone.
    """
    supervisor = SystemdNotifier({"NOTIFY_SOCKET": where}, Clock())
    supervisor.ready()
    supervisor.stopping()
    supervisor.close()


def test_the_document_names_what_a_reload_takes_on() -> None:
    """
    docs/operating.md has all of them, and they are settings.
    """
    text = (ROOT / "docs" / "operating.md").read_text()
    found = re.search(r"<!-- live -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert found is not None
    assert set(re.findall(r"`([a-z-]+)`", found[1])) == {
        name for name, setting in SETTINGS.items() if setting.reloadable
    }
