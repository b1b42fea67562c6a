"""
An action with a source of its own, in a daemon that is reloaded (SIGHUP).
"""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

from tests.real.conftest import PATIENCE, PAUSE, ROOT, Server, StartDaemon
from tests.real.test_reload import reload


def published(server: Server) -> list[str]:
    """
    Return the lines that were published so far.
    """
    with urllib.request.urlopen(f"{server.url}/poll?channels=log&since=all") as answer:
        return [one["data"] for one in json.load(answer)["messages"]]


def appended(server: Server, file: Path, line: str) -> list[str]:
    """
    Append *line*, wait until it is published, and return all lines.
    """
    published(server)  # services of routes are started before the first response
    with file.open("a") as opened:
        opened.write(f"{line}\n")
    deadline = time.monotonic() + PATIENCE
    while line not in published(server):
        assert time.monotonic() < deadline
        time.sleep(PAUSE)
    time.sleep(1)  # twice as long as between two reads: a second copy would be there
    return published(server)


def test_a_reload_leaves_one_source(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Each line is published once: after a reload without changes, after one that fails,
    after one that changes a setting, and after one that changes the route line.
    """
    log, config = tmp_path / "log", tmp_path / "a.conf"
    log.write_text("earlier\n")
    lines = f"route = ^/poll$ poll\nroute = ^/tail$ own_tail.Tail:{log}\n"
    config.write_text(lines)
    environment = {"PYTHONPATH": str(ROOT / "examples")}
    server = daemon(f"--config={config}", folder=tmp_path, environment=environment)
    assert appended(server, log, "one") == ["one"]

    reload(server, "reloaded, changed: nothing")
    assert appended(server, log, "two") == ["one", "two"]

    config.write_text(lines + "route = ^/x$ no.such.Action\n")
    reload(server, "reload failed, nothing has changed")
    assert appended(server, log, "three") == ["one", "two", "three"]

    config.write_text(lines + "max-message = 1000\n")
    reload(server, "reloaded, changed: max-message")
    assert appended(server, log, "four")[3:] == ["four"]

    config.write_text(f"route = ^/poll$ poll\nroute = ^/t$ own_tail.Tail:{log}\n")
    reload(server, "reloaded, changed: ")
    assert appended(server, log, "five")[4:] == ["five"]

    config.write_text("route = ^/poll$ poll\n")
    reload(server, "reloaded, changed: route\n")
    log.write_text("six\n")
    time.sleep(1)
    assert published(server)[5:] == []
