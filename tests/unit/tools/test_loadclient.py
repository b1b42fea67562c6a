"""
The load client's options, subscribers, exit status and report.
"""

from __future__ import annotations

import io
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extras import loadclient
from extras.loadclient import Run, parse
from rt_twisted.tools.clients.http import path_for
from rt_twisted.tools.errors import SetupError
from rt_twisted.tools.load.limits import raise_limit
from rt_twisted.tools.load.report import MAX_CHANNELS, report

SCRIPT = Path(loadclient.__file__)


def test_options_and_defaults_of_cyclone_sse() -> None:
    """
    -n, -c and -u have cyclone-sse's meaning and defaults.
    """
    options = parse([])
    assert (options.num, options.concurrency) == (350, 50)
    assert options.url == "http://localhost:8888/"
    assert options.names == ["general", "base", "extras", "cats", "dogs"]

    options = parse("-n 7 -c 3 -u http://127.0.0.1:1/".split())
    assert (options.num, options.concurrency, options.url) == (7, 3, "http://127.0.0.1:1/")


@pytest.mark.parametrize("wrong", ["-n 0", "-c x", "--channels ,", "--publish -1", "--seconds inf"])
def test_wrong_options_are_errors(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Wrong options give an error and exit status 2.
    """
    with pytest.raises(SystemExit, match="2"):
        parse(wrong.split())
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h", "/?channels=a,b%2Cc"),
        ("http://h/x", "/x?channels=a,b%2Cc"),
        ("http://h/x?since=1m", "/x?since=1m&channels=a,b%2Cc"),
        ("http://h/x?channels=news", "/x?channels=news"),
    ],
)
def test_channels_come_from_the_url_or_are_added(url: str, path: str) -> None:
    """
    A URL that names channels is not changed.
    """
    assert path_for(url, ["a", "b,c"]) == path


def test_too_low_file_limits_are_an_error_with_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The limit of open files is raised as far as permitted; the error names the command to raise it.
    """
    limits: list[tuple[int, int]] = []

    def refuse(which: int, limit: tuple[int, int]) -> None:
        limits.append(limit)
        if limit[1] > 4096:
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_limit(1000)
    assert limits == []
    raise_limit(4000)
    assert limits == [(4000, 4096)]
    with pytest.raises(SetupError, match="ulimit -n 10064"):
        raise_limit(10_064)


class FakeReactor:
    """
    A reactor whose time stands still and whose connections never succeed.
    """

    def seconds(self) -> float:
        """
        Return the same time always.
        """
        return 0.0

    def connectTCP(self, *arguments: object) -> None:
        """
        Ignore a connection attempt.
        """


def make_run(*arguments: str) -> Any:
    return Run(parse(["-u", "http://127.0.0.1:1/", *arguments]), FakeReactor(), io.StringIO())


def test_subscribers_have_the_first_channel_and_one_of_the_others() -> None:
    """
    The other channels are used in turn.
    """
    run = make_run()
    for _ in range(5):
        run._add()

    assert [requested_path(subscriber) for subscriber in run.subscribers.connections] == [
        f"/?channels=general,{other}" for other in ("base", "extras", "cats", "dogs", "base")
    ]
    one = make_run("--channels=news")
    one._add()
    assert requested_path(one.subscribers.connections[0]) == "/?channels=news"


def test_progress_has_a_median_once_a_message_has_arrived() -> None:
    """
    A client that publishes nothing reports no latency of 0.
    """
    run = make_run()
    run._report_progress()
    assert "0 delivered" in run._screen.getvalue()
    assert "p50" not in run._screen.getvalue()

    run.subscribers.channels[0].latency.add(0.002)
    run._report_progress()

    assert "p50 2." in run._screen.getvalue()


def test_spread_random_chooses_the_other_channel_at_random() -> None:
    """
    With `--spread random` each subscriber has the first channel and any one of the others.
    """
    run = make_run("--spread=random")
    for _ in range(200):
        run._add()

    paths = [requested_path(subscriber) for subscriber in run.subscribers.connections]
    others = ("base", "extras", "cats", "dogs")
    assert set(paths) == {f"/?channels=general,{other}" for other in others}
    assert paths[4:] != paths[:-4]  # not in turn
    one = make_run("--channels=news", "--spread=random")
    one._add()
    assert requested_path(one.subscribers.connections[0]) == "/?channels=news"


def test_channels_that_are_named_twice_count_once() -> None:
    """
    A name that `--channels` or the URL repeats is one channel.
    """
    assert parse(["--channels=a,b,,a"]).names == ["a", "b"]
    options = parse(["-u", "http://127.0.0.1:1/?channels=c,d&channels=c"])
    assert Run(options, FakeReactor(), io.StringIO()).names == ["c", "d"]


def requested_path(subscriber: Any) -> str:
    path: str = subscriber._make("").begin().decode().split()[1]
    return path


def test_the_exit_status() -> None:
    """
    The status is 0 without faults, 1 if something was lost, repeated or out of order, and 2 if
    nothing was measured.
    """
    run = make_run("--publish=1")
    run.lost = run.open_at_end = 0
    assert run.status() == 2
    run.subscribers.ever_open = 3
    assert run.status() == 2
    run.sent_log.accepted = 5
    assert run.status() == 0
    run.lost = 1
    assert run.status() == 1
    run.lost = 0
    run.subscribers.wrong["repeated"] = 1
    assert run.status() == 1


def test_the_report_has_all_results() -> None:
    """
    The report has every kind of error, and a note if the client used most of a core.
    """
    run = make_run("--publish=1")
    run.lost = run.open_at_end = 0
    run.subscribers.errors["status 503"] = 1200
    run.subscribers.delivered = 7
    run.subscribers.channels[0].record(0, 0.0125)
    found = run.summary()
    text = report(found)
    assert "error      1,200 x status 503" in text
    assert "p50 12.5 ms" in text
    assert "note" not in text
    assert "note" in report({**found, "client_busy": 0.97})


def test_the_report_has_a_table_by_channel() -> None:
    """
    The table has subscribers, messages, latencies, and the time to the last subscriber per message.
    """
    run = make_run("--publish=1", "--channels=all,few")
    run.lost = run.open_at_end = 0
    everyone, few = run.subscribers.channels
    everyone.subscribers, few.subscribers = 1200, 1
    for number, times in enumerate([[0.001, 0.010, 0.100], [0.001, 0.010, 0.300]]):
        for time in times:
            everyone.record(number, time)
    run.subscribers.delivered = 6
    found = run.summary()

    assert found["channels"]["all"]["messages"] == 2
    assert found["channels"]["all"]["last_ms"] == pytest.approx(
        {"p50": 100, "p90": 300, "p99": 300, "max": 300}, rel=0.02
    )
    assert found["latency_ms"]["max"] == 300
    title, names, first, second = report(found).splitlines()[-4:]
    assert title.split() == ["each", "last"]
    assert names.split()[:3] == ["channel", "subscribers", "messages"]
    assert first.split()[:3] == ["all", "1,200", "2"]
    assert first.split()[-1] == "300.0"
    assert second.split() == ["few", "1", "0", "0.0", "0.0", "0.0", "0.0"]


def test_the_table_by_channel_is_bounded() -> None:
    """
    Long names are cut, control characters replaced, and more channels than fit are counted.
    """
    names = ["x" * 300, "bell\a", *(f"c{number}" for number in range(MAX_CHANNELS))]
    run = make_run("--publish=1", f"--channels={','.join(names)}")
    run.lost = run.open_at_end = 0
    run.subscribers.delivered = 1
    lines = report(run.summary()).splitlines()

    assert lines[-1] == "and 2 more channels: --json has all"
    assert lines[-MAX_CHANNELS - 1].startswith("x" * 23 + "…  ")
    assert lines[-MAX_CHANNELS].startswith("bell?  ")
    assert max(map(len, lines)) <= 100


def test_the_script_runs_from_anywhere(tmp_path: Path) -> None:
    """
    A copy of the script runs in any folder, and its help says what it may be used for.
    """
    copy = tmp_path / "loadclient.py"
    copy.write_bytes(SCRIPT.read_bytes())
    done = subprocess.run(
        [sys.executable, str(copy), "--help"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "your own servers only" in " ".join(done.stdout.split())
