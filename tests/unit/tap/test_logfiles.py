"""
Log files that are rotated, formats of lines, and suppressed repetitions.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger, LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from rt_twisted.tap.log_filter import MAX_OTHER, MAX_TWISTED, WINDOW, LogFilter
from rt_twisted.tap.logfiles import LogFile, Logged, observer


def lines(log: Any) -> list[dict[str, Any]]:
    """
    Return the JSON lines that *log* writes.
    """
    file = io.StringIO()
    log(Logger("shop", observer=observer(file, "json")))
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_a_line_of_json_has_text_and_fields() -> None:
    """
    Fields that are text or numbers have their names; others are only in the text.
    """
    (line,) = lines(lambda log: log.warn("{n} of\n{what}", n=3, what="tea", thing=object()))

    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warn", "from": "shop", "text": "3 of\ntea", "n": 3, "what": "tea",
    }  # fmt: skip


def test_a_failure_is_one_line_of_json() -> None:
    """
    The traceback has a field of its own.
    """

    def fail(log: Logger) -> None:
        try:
            raise ValueError("no tea")
        except ValueError:
            log.failure("while brewing", Failure())

    (line,) = lines(fail)

    assert line["level"] == "critical"
    assert line["text"] == "while brewing"
    assert line["traceback"].splitlines()[0].startswith("Traceback")
    assert "no tea" in line["traceback"]


def test_an_event_cannot_replace_fields_of_the_log() -> None:
    """
    Fields named `time` and `text` of an event do not replace those of the log.
    """
    (line,) = lines(lambda log: log.info("said", text="forged", time=1))

    assert line["text"] == "said"
    assert line["time"] != 1


def test_a_rotated_file_is_opened_again(tmp_path: Path) -> None:
    """
    No line is lost when a file is moved and opened again; an existing file is appended to.
    """
    path = tmp_path / "log"
    path.write_text("before\n")
    file = LogFile(str(path))
    file.write("one\n")
    path.rename(tmp_path / "old")
    file.write("two\n")
    file.reopen()
    file.write("three \udcff\n")
    file.close()

    assert (tmp_path / "old").read_text() == "before\none\ntwo\n"
    assert path.read_text() == "three \\udcff\n"


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """
    A line that does not fit is not written at all, so that the next line is complete.
    """
    path = tmp_path / "log"
    file = LogFile(str(path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        file.write("first\n")
        for _ in range(3):
            with pytest.raises(OSError, match="File too large"):
                file.write("second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.write("third\n")
    file.close()

    assert path.read_text() == "first\nthird\n"


def test_a_file_that_cannot_be_opened_again_stays_in_use(tmp_path: Path) -> None:
    """
    The previous file is used until the new one can be opened.
    """
    folder = tmp_path / "logs"
    folder.mkdir()
    file = LogFile(str(folder / "log"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        file.reopen()
    file.write("still here\n")
    file.close()

    assert (tmp_path / "moved" / "log").read_text() == "still here\n"


def test_standard_output_is_never_closed(capfd: pytest.CaptureFixture[str]) -> None:
    """
    `-` may be opened again and closed any number of times.
    """
    file = LogFile("-")
    file.reopen()
    file.close()
    file.write("here\n")
    file.flush()

    assert capfd.readouterr().out == "here\n"


def test_the_application_has_the_observer_of_the_log(tmp_path: Path) -> None:
    """
    twistd uses the observer of the application; without a log of ours it makes its own.
    """
    file = LogFile(str(tmp_path / "log"))
    for mine, expected in ((file, True), (None, False)):
        application: Any = Application("realtime")
        Logged(mine, "text").setServiceParent(application)

        assert (application.getComponent(ILogObserver, None) is not None) is expected
    file.close()


def test_the_log_does_not_write_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    twistd replaces `sys.stdout` by a file that writes to the log: a log that is opened again
    must not write to it.
    """
    written: list[str] = []
    monkeypatch.setattr(sys, "__stdout__", type("Out", (), {"write": written.append})())
    file = LogFile("-")
    monkeypatch.setattr(sys, "stdout", type("Loop", (), {"write": file.write})())

    file.reopen()
    file.write("line\n")
    LogFile("-").write("another\n")
    file.close()

    assert written == ["line\n", "another\n"]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "bad", ["\x1b[31m", "\x9b31m", "\x7f", "\r", "\x85", "\u202e", "\u2028", "\0"]
)
def test_control_characters_are_escaped(bad: str, form: str) -> None:
    """
    Control characters are escaped in fields, names and exceptions.
    """
    file = io.StringIO()
    log = Logger("shop", observer=observer(file, form))
    log.info("path {path}", path=f"/a{bad}b")
    try:
        raise ValueError(f"no{bad}tea")
    except ValueError:
        log.failure(f"while{bad}brewing", Failure())

    text = file.getvalue()
    assert bad not in text
    assert all(each.isprintable() or each in "\n\t" for each in text)
    if form == "json":
        first, second = map(json.loads, text.splitlines())
        assert first["path"] == f"/a{bad}b"
        assert f"no{bad}tea" in second["traceback"]


def test_a_line_of_a_client_begins_with_a_tab() -> None:
    """
    A line feed in a value of a client cannot forge a log line.
    """
    file = io.StringIO()
    Logger("shop", observer=observer(file, "text")).info("{path}", path="/\n2026-11-29 forged")

    assert "\n\t2026-11-29 forged\n" in file.getvalue()


class Filtered:
    """
    A filter, and the events that pass it.
    """

    def __init__(self, level: str = "info") -> None:
        self.events: list[Any] = []
        self.calls: list[Any] = []
        later: Any = lambda seconds, call: self.calls.append((seconds, call))  # noqa: E731
        self.filter = LogFilter(self.events.append, level, later)

    def log(self, text: str, level: LogLevel = LogLevel.info, name: str = "shop") -> None:
        self.filter({"log_format": text, "log_level": level, "log_namespace": name})


def test_events_below_the_level_are_dropped() -> None:
    """
    The level may be changed; events without a level always pass.
    """
    filtered = Filtered()
    filtered.log("one", LogLevel.debug)
    filtered.log("two", LogLevel.info)
    filtered.filter.set_level("error")
    filtered.log("three", LogLevel.warn)
    filtered.log("four", LogLevel.critical)
    filtered.filter.set_level("debug")
    filtered.log("five", LogLevel.debug)
    filtered.filter({"message": ("six",)})

    logged = [event.get("log_format", "six") for event in filtered.events]
    assert logged == ["two", "four", "five", "six"]


@pytest.mark.parametrize(
    ("name", "most"), [("twisted.internet.tcp.Port", MAX_TWISTED), ("shop", MAX_OTHER)]
)
def test_repeated_lines_are_suppressed(name: str, most: int) -> None:
    """
    Further lines of the same text are counted, and the count is logged when the window ends.
    """
    filtered = Filtered()
    logged: list[str] = []
    with capturedLogs() as captured:
        for _ in range(2):
            for _ in range(most + 7):
                filtered.log("EMFILE {n}", name=name)
            assert len(filtered.events) == most
            [(seconds, call)] = filtered.calls
            assert seconds == WINDOW
            filtered.events.clear()
            filtered.calls.clear()
            call()
        logged = [formatEvent(event) for event in captured if "suppressed" in event["log_format"]]

    assert logged == ["suppressed 7 more lines of this kind in 60 s: EMFILE {n}"] * 2
