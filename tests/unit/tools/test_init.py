"""
The folder that `python -m rt_twisted.tools.init` writes.
"""

from __future__ import annotations

import stat
import sys
import sysconfig
from pathlib import Path

import pytest

from rt_twisted.tap.settings import SETTINGS
from rt_twisted.tools import init
from tests.unit.tap.test_settings import parse

FILES = {
    "realtime.conf", "realtime.env", "realtime.service", "realtime@.service", "nginx.conf",
    "realtime-socket.service", "realtime-socket.socket", "logrotate.conf", "haproxy.cfg",
    "dashboards/grafana-prometheus.json", "dashboards/grafana-graphite.json",
    "dashboards/graphite.json",
}  # fmt: skip


@pytest.fixture
def twistd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Return the `twistd` of an installation in a folder of its own.
    """
    program = tmp_path / "env" / "bin" / "twistd"
    program.parent.mkdir(parents=True)
    program.touch()
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    return program


def test_everything_is_written(
    tmp_path: Path, twistd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The folder has settings, keys, units, and files for proxies and dashboards, with the paths of
    this installation. What is printed names each file.
    """
    folder = tmp_path / "etc" / "realtime"

    assert init.main([str(folder)]) == 0
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == FILES
    out = capsys.readouterr().out
    assert all(f"wrote {folder}/{name}\n" in out for name in FILES)
    for name in ("realtime.service", "realtime@.service", "realtime-socket.service"):
        unit = (folder / name).read_text()
        assert f"ExecStart={twistd} -n --pidfile= realtime --config {folder}/realtime.conf" in unit
        assert f"EnvironmentFile=-{folder}/realtime.env\n" in unit
        assert "/opt/realtime" not in unit


def test_the_settings_are_right(
    tmp_path: Path, twistd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The settings have the fresh keys, which only their owner can read, and all others as comments.
    """
    keys = []
    for name in ("a", "b"):
        assert init.main([str(tmp_path / name)]) == 0
        path = tmp_path / name / "realtime.env"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        keys += [line.split("=") for line in path.read_text().splitlines()]
    assert [name for name, _ in keys] == ["PUBLISH_KEY", "STATS_KEY"] * 2
    assert len({key for _, key in keys}) == 4
    assert min(len(key) for _, key in keys) == 48

    for name, key in keys[:2]:
        monkeypatch.setenv(name, key)
    options = parse(f"--config={tmp_path}/a/realtime.conf")
    assert (options["port"], options["http-secret"], options["stats-key"]) == (
        8888, keys[0][1], keys[1][1],
    )  # fmt: skip
    text = (tmp_path / "a" / "realtime.conf").read_text()
    assert all(f"\n# {name} =" in text for name in SETTINGS)
    assert f"##     twistd -n realtime --config {tmp_path}/a/realtime.conf --check\n" in text


def test_nothing_is_overwritten(
    tmp_path: Path, twistd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Files that exist are kept, also links that lead nowhere; missing ones are added.
    """
    (tmp_path / "realtime.env").write_text("PUBLISH_KEY=battery\n")
    (tmp_path / "nginx.conf").symlink_to("nowhere")

    assert init.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert (tmp_path / "realtime.env").read_text() == "PUBLISH_KEY=battery\n"
    assert not (tmp_path / "nowhere").exists()
    assert f"kept  {tmp_path}/realtime.env\n" in out
    assert f"kept  {tmp_path}/nginx.conf\n" in out
    assert init.main([str(tmp_path)]) == 0
    assert "wrote" not in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, twistd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The error names the file and the reason, or what systemd does not accept.
    """
    (tmp_path / "file").touch()
    for name, reason in (
        ("file", f"{tmp_path}/file: File exists\n"),
        ("file/x", f"{tmp_path}/file/x: Not a directory\n"),
        ("a b", f"{tmp_path}/a b: units of systemd need paths without blanks and %\n"),
    ):
        assert init.main([str(tmp_path / name)]) == 1
        assert capsys.readouterr() == ("", reason)


def test_a_missing_twistd_is_one_sentence(
    tmp_path: Path,
    twistd: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    Units need the path of twistd.
    """
    twistd.unlink()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert init.main([str(tmp_path / "a")]) == 1
    assert capsys.readouterr().err.startswith("twistd is not beside ")
    assert not (tmp_path / "a").exists()


def test_folders_that_the_service_cannot_read_are_noted(
    twistd: Path,
) -> None:
    """
    The unit protects home folders and has a user of its own.
    """
    home = init.Installation(Path("/home/a/realtime"), Path("/opt/realtime/bin/twistd"))
    right = init.Installation(Path("/etc/realtime"), Path("/opt/realtime/bin/twistd"))

    assert "/home/a/realtime: install into" in next(init.notes(home))
    assert list(init.notes(right)) == []
