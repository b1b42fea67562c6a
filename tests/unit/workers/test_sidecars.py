"""
Tests of sidecars: finding their programs, restarts, replacing them, and bounding their output.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.tap.setting_values import SettingError, read_file
from rt_twisted.workers.restarts import FIRST_DELAY
from rt_twisted.workers.sidecar_output import MAX_BYTES, MAX_LINE, MAX_LINES, SidecarOutput
from rt_twisted.workers.sidecars import SidecarCommand, SidecarSupervisor


class FakeProcess:
    """
    A process that ends when the test says so.
    """

    def __init__(self, protocol: Any, arguments: list[str]) -> None:
        self.protocol = protocol
        self.arguments = arguments
        self.stopping = False
        self.paused = False
        self.running = True
        protocol.makeConnection(self)

    def closeStdin(self) -> None:
        self.stopping = True

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseConnection(self) -> None:
        pass

    def end(self, status: int = 0) -> None:
        self.running = False
        cause = ProcessTerminated(status) if status else ProcessDone(0)
        self.protocol.processExited(Failure(cause))
        self.protocol.processEnded(Failure(cause))


class FakeReactor(Clock):
    """
    Starts processes that do nothing.

    Attributes:
        processes: all that were started.
        error: raised instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.error: OSError | None = None

    def callWhenRunning(self, function: Any, *arguments: Any) -> None:
        function(*arguments)

    def spawnProcess(
        self, protocol: Any, program: str, arguments: list[str], *_: Any, **__: Any
    ) -> Any:
        if self.error is not None:
            raise self.error
        self.processes.append(FakeProcess(protocol, arguments))
        return self.processes[-1]

    @property
    def running(self) -> list[str]:
        """
        The last arguments of the processes that run.
        """
        return [process.arguments[-1] for process in self.processes if process.running]


@pytest.fixture
def log() -> Any:
    """
    The texts that are logged.
    """
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def command(name: str) -> SidecarCommand:
    return SidecarCommand("clock", ("sleep", name), ("/bin/sleep", name))


def started(reactor: FakeReactor, *names: str) -> SidecarSupervisor:
    sidecars = SidecarSupervisor(reactor, [command(name) for name in names], "/")
    sidecars.startService()
    return sidecars


def test_sidecar_that_ends_starts_again_later(log: list[str]) -> None:
    """
    The delay grows while it ends soon; the log names the exit status or the signal.
    """
    reactor = FakeReactor()
    started(reactor, "a")
    reactor.processes[-1].end(3)
    assert reactor.running == []
    reactor.advance(FIRST_DELAY)
    assert reactor.running == ["a"]
    reactor.processes[-1].end(128 + 11)
    reactor.advance(2 * FIRST_DELAY)

    assert reactor.running == ["a"]
    ends = [line for line in log if "ended by" in line]
    assert "helper clock ended by status 3 after 0.0 s, starts again in" in ends[0]
    assert "helper clock ended by SIGSEGV after 0.0 s" in ends[1]


def test_command_that_cannot_be_executed_is_one_line_for_each_attempt(log: list[str]) -> None:
    """
    Whether the kernel has no process left, or the program is none.
    """
    reactor = FakeReactor()
    reactor.error = OSError(11, "Resource temporarily unavailable")
    started(reactor, "a")
    reactor.error = None
    reactor.advance(FIRST_DELAY)
    reactor.processes[-1].protocol.childDataReceived(3, b"Exec format error")
    reactor.processes[-1].end(127)

    errors = [line for line in log if line.startswith("helper clock ") and "started:" in line]
    assert len(errors) == 2
    assert "cannot be started: Resource temporarily unavailable; next attempt in" in errors[0]
    assert "cannot be started: Exec format error; next attempt in" in errors[1]


def test_unchanged_sidecars_are_kept() -> None:
    """
    Helpers that are no longer wanted are stopped; new ones start when these have ended.
    """
    reactor = FakeReactor()
    sidecars = started(reactor, "a", "b", "b")
    sidecars.replace([command("c"), command("b"), command("a")])
    [stopping] = [process for process in reactor.processes if process.stopping]
    assert reactor.running == ["a", "b", "b"]
    stopping.end()
    assert sorted(reactor.running) == ["a", "b", "c"]

    sidecars.replace([command("d")])
    sidecars.replace([command("a")])
    assert len(reactor.running) == 3
    for process in tuple(reactor.processes):
        if process.running:
            process.end()
    assert reactor.running == ["a"]


def test_sidecar_that_waits_for_its_restart_is_not_started_when_replaced() -> None:
    """
    Nothing has to end first.
    """
    reactor = FakeReactor()
    sidecars = started(reactor, "a")
    reactor.processes[-1].end(1)
    sidecars.replace([command("b")])
    reactor.advance(100)

    assert reactor.running == ["b"]


def test_stop_waits_for_all_sidecars() -> None:
    """
    Those of an earlier reload too; none starts again.
    """
    reactor = FakeReactor()
    sidecars = started(reactor, "a", "b")
    sidecars.replace([command("b"), command("c")])
    stopped = sidecars.stopService()
    assert all(process.stopping for process in reactor.processes)
    reactor.processes[0].end()
    assert not stopped.called
    reactor.processes[1].end()
    reactor.advance(100)

    assert stopped.called
    assert reactor.running == []


def test_lines_are_cut_and_counted(log: list[str]) -> None:
    """
    However the output is split, a line has MAX_LINE bytes, and a second MAX_LINES lines.
    """
    clock = Clock()
    output = SidecarOutput("clock", clock)
    for piece in (b"one\ntw", b"o\r\n\n", b"x" * 600, b"y" * 600, b"z" * 99 + b"\n"):
        output.feed(1, piece)
    output.feed(2, b"error \xff")
    output.feed(1, b"tail")
    output.end()
    assert log == [
        "helper clock: one",
        "helper clock: two",
        f"helper clock: {'x' * 600}{'y' * (MAX_LINE - 600)}...",
        "helper clock: tail",
        "helper clock: error \ufffd",
    ]

    log.clear()
    clock.advance(1)
    assert output.feed(1, b"n\n" * (MAX_LINES + 5)) == 0
    assert log == ["helper clock: n"] * MAX_LINES
    clock.advance(1)
    output.feed(1, b"m\n")
    assert log[MAX_LINES:] == [
        "helper clock printed too fast: 5 lines are left out of the log",
        "helper clock: m",
    ]


def test_sidecar_that_prints_too_much_has_to_wait() -> None:
    """
    Nothing is read from it for the rest of the second.
    """
    reactor = FakeReactor()
    started(reactor, "a")
    [process] = reactor.processes
    reactor.advance(0.25)
    process.protocol.childDataReceived(1, bytes(MAX_BYTES))
    assert not process.paused
    reactor.advance(0.25)
    process.protocol.childDataReceived(1, b"x")
    assert process.paused
    reactor.advance(0.25)
    assert process.paused
    reactor.advance(0.25)
    assert not process.paused


@pytest.mark.parametrize(
    ("words", "name", "arguments"),
    [
        (["sh", "-c", "a | b"], "a | b", ["{sh}", "-c", "a | b"]),
        (["clock.py", "x"], "clock.py", [sys.executable, "{folder}/clock.py", "x"]),
        (["./clock.py"], "clock.py", [sys.executable, "{folder}/./clock.py"]),
        (["run.sh"], "run.sh", ["{folder}/run.sh"]),
        (["env", "-i", "/opt/run.sh"], "run.sh", ["{env}", "-i", "/opt/run.sh"]),
    ],
)
def test_programs_are_found(
    words: list[str], name: str, arguments: list[str], tmp_path: Path
) -> None:
    """
    A program is in PATH or in the folder; a script that cannot be executed has the interpreter
    of its suffix.
    """
    import shutil

    (tmp_path / "clock.py").write_text("")
    (tmp_path / "run.sh").write_text("")
    (tmp_path / "run.sh").chmod(0o755)
    found = SidecarCommand.find(words, str(tmp_path))

    places = {"folder": str(tmp_path), "sh": shutil.which("sh"), "env": shutil.which("env")}
    assert found.name == name
    assert list(found.arguments) == [word.format(**places) for word in arguments]


def test_programs_that_are_not_found(tmp_path: Path) -> None:
    """
    The error names the program.
    """
    (tmp_path / "data.txt").write_text("")
    (tmp_path / "folder.pl").mkdir()
    for name in ("nosuch", "folder.pl", os.path.join(tmp_path, "nosuch.pl")):
        with pytest.raises(ValueError, match=f"there is no program '{name}'"):
            SidecarCommand.find([name], str(tmp_path))
    with pytest.raises(ValueError, match=r"'data\.txt' cannot be executed"):
        SidecarCommand.find(["data.txt"], str(tmp_path))


def test_words_of_uwsgi_are_other_names(tmp_path: Path) -> None:
    """
    `mule` and `attach-daemon` in the file mean `helper`; other unknown names are errors.
    """
    path = tmp_path / "a.conf"
    path.write_text("mule = clock.pl\nattach-daemon = /bin/true x\nhelper=y\n")
    assert [(name, given.text) for name, given in read_file(str(path))] == [
        ("helper", "clock.pl"),
        ("helper", "/bin/true x"),
        ("helper", "y"),
    ]
    path.write_text("mules = 4\n")
    with pytest.raises(SettingError):
        list(read_file(str(path)))
