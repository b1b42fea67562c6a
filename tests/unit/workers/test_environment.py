"""
What worker processes inherit, and settings that several processes cannot have.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.tap.build import build
from rt_twisted.tap.options import Options
from rt_twisted.tap.setting_values import SettingError
from rt_twisted.workers.environment import VARIABLE, WorkerEnvironment


def test_a_worker_removes_what_it_inherits() -> None:
    """
    The worker gets all values, and its child processes do not inherit them.
    """
    fixed = {"broker": [("redis", "a.conf:3")]}
    given = {"port": [("1", "--port")]}
    sent = WorkerEnvironment(2, 4, 3, "ab", [5, 6], [(4, 2)], given, fixed, "a.conf", ["/x"])
    environment: dict[str, str] = {"HOME": "/"}
    sent.put(environment)
    taken = WorkerEnvironment.pop(environment)

    assert taken is not None
    assert (taken.number, taken.size, taken.control_socket, taken.config) == (2, 4, 3, "a.conf")
    assert [tuple(each) for each in taken.sockets] == [(4, 2)]
    assert (taken.daemon_id, taken.handoff_sockets) == ("ab", [5, 6])
    assert environment == {"HOME": "/"}
    assert WorkerEnvironment.pop(environment) is None


def test_a_replaced_worker_keeps_settings_that_need_a_restart(
    tmp_path: Any, monkeypatch: Any
) -> None:
    """
    A worker that starts later has the ports and the broker of the others, also if the
    file has changed; settings that a reload applies come from the file.
    """
    file = tmp_path / "a.conf"
    file.write_text("port = 7001\nretry = 3\nworkers = 4\n")
    parent = Options()
    parent.parseOptions([f"--config={file}", "--dead-after=30"])
    environment: dict[str, str] = {}
    parent.worker_environment(3, 5, "ab", [6], []).put(environment)
    file.write_text("port = 7002\nretry = 4\nworkers = 2\n")
    monkeypatch.setenv(VARIABLE, environment[VARIABLE])
    worker = Options()
    worker.parseOptions([])

    assert (worker["port"], worker["retry"], worker["workers"]) == (7001, 4, 4)
    assert worker["dead-after"] == 30
    assert worker.places["port"] == [f"{file}:1"]
    assert worker.inherited is not None
    assert worker.read_again()["port"] == 7001


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            "workers = 4\n",
            "a.conf:1: workers: 4 processes cannot share the channels of the embedded broker; "
            "use --broker redis or amqp, or one worker",
        ),
        (
            "history-file = log\nworkers = 2\n",
            "a.conf:2: workers: 2 processes cannot share a history-file; "
            "use --broker redis or amqp without it, or one worker",
        ),
    ],
)
def test_settings_that_workers_cannot_share_are_rejected(
    lines: str, sentence: str, tmp_path: Any, monkeypatch: Any
) -> None:
    """
    The error is one sentence with the place and what to do.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.conf").write_text(lines)
    options = Options()
    options.parseOptions(["--config=a.conf"])

    with pytest.raises(SettingError) as wrong:
        build(options, Clock())
    assert str(wrong.value) == sentence
