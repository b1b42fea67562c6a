"""
Notifications of systemd, and the document of settings that a reload applies.
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
    Return a socket in the abstract namespace, as systemd may use.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0rt-twisted-test-{os.getpid()}")
        sock.setblocking(False)
        yield sock


def received(listener: socket.socket) -> list[str]:
    """
    Return the notifications that have arrived since the last call.
    """
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


def test_keepalives_are_sent_twice_per_watchdog_interval(listener: socket.socket) -> None:
    """
    Keepalives begin with READY, if systemd watches this process.
    """
    clock = Clock()
    environment = {
        "NOTIFY_SOCKET": "@" + listener.getsockname()[1:].decode(),
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    notifier = SystemdNotifier(environment, clock)
    notifier.ready()
    assert received(listener) == ["READY=1", "WATCHDOG=1"]
    clock.pump([15] * 4)
    assert received(listener) == ["WATCHDOG=1"] * 4
    notifier.reloading()
    notifier.ready()
    notifier.stopping()
    reloading, *rest = received(listener)
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
    assert rest == ["READY=1", "STOPPING=1"]

    notifier.close()

    other = SystemdNotifier({**environment, "WATCHDOG_PID": "1"}, clock)
    other.ready()
    clock.pump([15] * 4)
    other.close()
    assert received(listener) == ["READY=1"]


@pytest.mark.parametrize("where", ["", "relative", "/nowhere/at/all"])
def test_without_systemd_nothing_is_sent(where: str) -> None:
    """
    The daemon works when it is started by hand, or when systemd's socket is gone.
    """
    notifier = SystemdNotifier({"NOTIFY_SOCKET": where}, Clock())
    notifier.ready()
    notifier.stopping()
    notifier.close()


def test_the_document_lists_reloadable_settings() -> None:
    """
    docs/operating.md lists exactly the settings that a reload applies.
    """
    text = (ROOT / "docs" / "operating.md").read_text()
    found = re.search(r"<!-- live -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert found is not None
    assert set(re.findall(r"`([a-z-]+)`", found[1])) == {
        name for name, setting in SETTINGS.items() if setting.reloadable
    }
