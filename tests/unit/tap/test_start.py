"""
Failed starts are reported, stale pid files removed, and signals during the start remembered.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from rt_twisted.net.signals import handle_signals, hold_signals
from rt_twisted.tap.start import StartReport, settle_pid_file

Terminal = pytest.CaptureFixture[str]


@pytest.fixture
def exits() -> list[Callable[[], None]]:
    """
    Return the functions to call when the process ends.
    """
    return []


def forked(tmp_path: Path) -> tuple[dict[str, Any], int]:
    """
    Return the options of a twistd after its fork, and the end of the pipe that its parent
    reads.
    """
    read, write = os.pipe()
    pid_file = tmp_path / "pid"
    pid_file.write_text(str(os.getpid()))
    return {"nodaemon": 0, "pidfile": str(pid_file), "statusPipe": write}, read


def test_the_reason_reaches_the_terminal_and_the_waiting_process(
    tmp_path: Path, capfd: Terminal, exits: list[Callable[[], None]]
) -> None:
    """
    After SystemExit in a step the sentence is printed once, the process that forked exits with
    an error, and the pid file is removed.
    """
    twistd, status = forked(tmp_path)
    report = StartReport(twistd, exits.append)

    with pytest.raises(SystemExit), report.step(False):
        raise SystemExit("realtime: cannot listen on tcp:80: Address already in use")
    for call in exits:
        call()

    assert capfd.readouterr().err == "realtime: cannot listen on tcp:80: Address already in use\n"
    assert os.read(status, 100).startswith(b"1 ")
    assert os.read(status, 100) == b""
    assert not (tmp_path / "pid").exists()
    os.close(status)


def test_an_exit_of_twistd_between_the_steps_is_reported(
    tmp_path: Path, capfd: Terminal, exits: list[Callable[[], None]]
) -> None:
    """
    twistd may raise SystemExit itself, for example when it cannot change its user.
    """
    twistd, status = forked(tmp_path)
    report = StartReport(twistd, exits.append)
    with report.step(False):
        pass
    for call in exits:
        call()

    assert capfd.readouterr().err == "realtime: the start failed; the log has the reason\n"
    assert os.read(status, 100).startswith(b"1 ")
    assert not (tmp_path / "pid").exists()
    os.close(status)


def test_the_pid_file_is_gone_when_the_waiting_process_learns_of_the_failure(
    tmp_path: Path, exits: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Otherwise a script that starts the daemon again finds the file of the first attempt.
    """
    twistd, status = forked(tmp_path)
    write, found = os.write, []

    def observe(descriptor: int, data: bytes) -> int:
        if descriptor == twistd["statusPipe"]:
            found.append((tmp_path / "pid").exists())
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", observe)
    report = StartReport(twistd, exits.append)
    with pytest.raises(SystemExit), report.step(False):
        raise SystemExit("realtime: cannot listen")
    assert found == [False]
    os.close(status)


@pytest.mark.parametrize("error", [None, RuntimeError("twistd reports it")])
def test_nothing_is_reported_otherwise(
    tmp_path: Path, capfd: Terminal, exits: list[Callable[[], None]], error: Exception | None
) -> None:
    """
    Success, and exceptions that twistd reports, are not reported again.
    """
    twistd, status = forked(tmp_path)
    report = StartReport(twistd, exits.append)
    try:
        with report.step(True):
            if error is not None:
                raise error
    except RuntimeError:
        pass
    for call in exits:
        call()

    assert capfd.readouterr().err == ""
    assert (tmp_path / "pid").exists()
    os.close(twistd["statusPipe"])
    assert os.read(status, 100) == b""
    os.close(status)


def test_the_pid_file_of_another_process_stays(
    tmp_path: Path, capfd: Terminal, exits: list[Callable[[], None]]
) -> None:
    """
    Another daemon may have written the file since.
    """
    twistd, status = forked(tmp_path)
    (tmp_path / "pid").write_text("1")
    report = StartReport(twistd, exits.append)
    with pytest.raises(SystemExit), report.step(True):
        raise SystemExit("realtime: no")

    assert (tmp_path / "pid").exists()
    os.close(status)


@pytest.mark.parametrize(
    ("command", "stays"),
    [
        (b"/bin/sh\0entrypoint.sh\0twistd\0-n\0realtime\0", False),
        (b"nginx: master process\0", False),
        (b"/opt/realtime/bin/python3.11\0manage.py\0runserver\0", False),
        (b"", False),
        (b"/opt/realtime/bin/python3.11\0/opt/realtime/bin/twistd\0realtime\0", True),
        (b"python3\0-m\0twisted\0realtime\0", True),
        (b"twistd\0realtime\0", True),
    ],
)
def test_a_pid_file_counts_only_if_it_names_a_twistd(
    tmp_path: Path, command: bytes, stays: bool
) -> None:
    """
    In a container the number is that of another process after each start.
    """
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "cmdline").write_bytes(command)
    pid_file = tmp_path / "daemon.pid"
    pid_file.write_text("42")
    twistd = {"nodaemon": 0, "pidfile": str(pid_file)}
    settle_pid_file(twistd, str(tmp_path))

    assert pid_file.exists() is stays
    assert twistd["pidfile"] == str(pid_file)


def test_a_pid_file_with_our_own_number_is_stale(tmp_path: Path) -> None:
    """
    The first process of a container has the same number at each start.
    """
    pid_file = tmp_path / "daemon.pid"
    pid_file.write_text(str(os.getpid()))
    settle_pid_file({"nodaemon": 1, "pidfile": str(pid_file)})

    assert not pid_file.exists()


@pytest.mark.parametrize("text", ["", "nonsense", "-1", "999999999"])
def test_twistd_decides_about_other_pid_files(tmp_path: Path, text: str) -> None:
    """
    A file without a number, or with that of no process, is left to twistd, which reports it.
    """
    pid_file = tmp_path / "daemon.pid"
    pid_file.write_text(text)
    settle_pid_file({"nodaemon": 0, "pidfile": str(pid_file)}, str(tmp_path))

    assert pid_file.exists()


def test_in_the_foreground_there_is_no_default_pid_file() -> None:
    """
    `twistd -n` writes one only if `--pidfile` names it.
    """
    foreground = {"nodaemon": 1, "pidfile": "twistd.pid"}
    settle_pid_file(foreground)
    background = {"nodaemon": 0, "pidfile": "twistd.pid"}
    settle_pid_file(background, "/nowhere")

    assert foreground["pidfile"] == ""
    assert background["pidfile"] == "twistd.pid"


@pytest.fixture
def signals_as_before() -> Iterator[None]:
    """
    Restore the handlers of signals after the test.
    """
    numbers = (
        signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
        signal.SIGTERM, signal.SIGINT, signal.SIGQUIT,
    )  # fmt: skip
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_during_the_start_are_handled_after_it(signals_as_before: None) -> None:
    """
    A log that is rotated during the start is opened again, and the process goes on.
    """
    called: list[str] = []
    reactor: Any = MemoryReactorClock()
    reactor.callFromThread = lambda call: call()
    hold_signals()
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR2)
    assert called == []

    actions = (lambda name=name: called.append(name) for name in ("reload", "reopen", "stop"))
    handle_signals(reactor, *actions)
    assert called == ["reopen"]
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGTERM):
        signal.raise_signal(number)
    assert called == ["reopen", "reload", "reopen", "stop", "stop"]
