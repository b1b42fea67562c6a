"""
Settings that change while the daemon runs (SIGHUP): readers stay, whatever is wrong
is said, and log files may be moved away.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, PAUSE, TWISTD, Serve, Server, StartDaemon, free_port
from tests.real.readers import Reader, join_all, leaving, pause, publishers, until
from tests.real.test_daemon import publish

READERS = 500


def settled(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """
    Wait until *condition* is true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(PAUSE)


def reload(server: Server, words: str) -> str:
    """
    Send SIGHUP, and wait for the line of the log that has *words* in it.

    Returns:
        what the log got.
    """
    before = len(server.log)
    server.send(signal.SIGHUP)
    settled(lambda: words in server.log[before:])
    return server.log[before:]


def get(server: Server, path: str, **headers: str) -> tuple[int, str]:
    """
    The status, and the Access-Control-Allow-Origin of *path*.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("HEAD", path, headers=headers)
    response = connection.getresponse()
    connection.close()
    return response.status, response.headers.get("Access-Control-Allow-Origin", "")


def test_what_can_change_changes(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Keys, routes, limits and CORS are those of the file as it is now; what cannot
    change is named, and so is what has; the command line still overrides.
    """
    file, secret = tmp_path / "a.conf", tmp_path / "key"
    secret.write_text("old\n")
    file.write_text("http-secret = file:key\nmax-line = 100\nlinger = 5\n")
    server = daemon("--config=a.conf", "--max-batch=7", folder=tmp_path)
    assert publish(server.port, channel="news", message="m", key="old") == 200
    assert get(server, "/feed")[0] == 404

    secret.write_text("new\n")
    file.write_text(
        "http-secret = file:key\nmax-line = 40\nmax-batch = 9\nport = 1\nbroker = own.Broker\n"
        "origins = https://a.example\nroute = ^/feed$ sse:news\nroute = ^/publish$ publish\n"
    )
    said = reload(server, "need a restart")

    assert publish(server.port, channel="news", message="m", key="old") == 401
    assert publish(server.port, channel="news", message="m", key="new") == 200
    assert get(server, "/feed", Origin="https://a.example") == (200, "https://a.example")
    assert get(server, f"/{'x' * 50}")[0] == 414
    assert "reloaded, changed: route, origins, http-secret, linger, max-line\n" in said, (
        "the batch is the command line's"
    )
    # The port is the command line's too.
    assert "these settings need a restart to change: broker\n" in said


def test_a_wrong_file_changes_nothing_and_says_why(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    One line in the log, with file and line and without a secret; the old settings
    stay in force, all of them.
    """
    file = tmp_path / "a.conf"
    file.write_text("http-secret = old\n")
    server = daemon(f"--config={file}", folder=tmp_path)
    for wrong, words in (
        ("http-secret = hush\nretry = soon\n", "a.conf:2: retry must be a time"),
        ("http-secret hush\n", "a.conf:1: 'http-secret' is not 'name = value'"),
        ("http-secret = file:hush\n", "a.conf:1: http-secret must be readable: file hush"),
        ("http-secret = hush\nroute = ^/( sse:a\n", "a.conf:2: route '^/( sse:a'"),
        ("http-secret = hush\nroute = ^/ no.such.Action\n", "a.conf:2: route"),
        ("http-secret = hush\naccess-log = /no/folder/log\n", "a.conf:2: access-log"),
        ("http-secret = hush\ncredentials = 1\n", "a.conf:2: credentials"),
    ):
        file.write_text(wrong)
        said = reload(server, "reload failed, nothing has changed: ")

        assert words in said
        assert len(said.splitlines()) == 1
        assert publish(server.port, channel="news", message="m", key="hush") == 401
        assert publish(server.port, channel="news", message="m", key="old") == 200
    file.unlink()
    assert "a.conf: No such file or directory" in reload(server, "reload failed")
    assert ": hush" not in server.log


async def test_not_one_reader_is_dropped(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    500 readers hear everything that is published while settings change ten times.
    """
    file = tmp_path / "a.conf"
    file.write_text("")
    server = daemon(f"--config={file}", "--history=0", folder=tmp_path)
    readers = [Reader(server.port, [f"c{number % 5}"]) for number in range(READERS)]
    async with leaving(readers), publishers(server, 1) as (publisher,):
        await join_all(readers)
        for round in range(10):
            for number in range(10):
                await publisher.publish(f"c{number % 5}", b"%d.%d" % (round, number))
            file.write_text(
                f"heartbeat = {round % 3 * 7}\nmax-readers = {10 + round}\nretry = {1 + round}\n"
                f"backlog-bytes = {round + 1}k\nroute = ^/$ sse\nroute = ^/publish$ publish\n"
                + "join-rate = 5\n" * (round % 2)
                + "retry = wrong\n" * (round % 4 == 3)
            )
            server.send(signal.SIGHUP)
            await pause(0.05)
        await until(lambda: all(len(reader.messages) >= 20 for reader in readers))

        assert all(reader.joined == 1 and reader.connection for reader in readers)
        for number, reader in enumerate(readers):
            mine = [f"{round}.{n}" for round in range(10) for n in range(10) if n % 5 == number % 5]
            assert reader.messages == mine
    await until(lambda: len(re.findall("reloaded,|reload failed", server.log)) == 10)
    assert server.log.count("reload failed, nothing has changed") == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_logs_may_be_moved_away(form: str, serve: Serve, tmp_path: Path) -> None:
    """
    After SIGHUP, as logrotate sends it, both logs go on in new files, without a
    line lost; no secret and no body is in any of them.
    """
    log, access = tmp_path / "daemon.log", tmp_path / "access.log"
    port = free_port()
    command = [*TWISTD, f"--logfile={log}", "realtime", f"--port={port}", "--http-secret=hush"]
    server = serve([*command, f"--access-log={access}", f"--log-format={form}"], port, tmp_path)
    assert publish(port, channel="news", message="whisper", key="hush") == 200
    for file in (log, access):
        file.rename(f"{file}.1")
    server.send(signal.SIGHUP)
    settled(lambda: log.exists() and "reloaded" in log.read_text())
    assert publish(port, channel="news", message="whisper", key="guess") == 401
    server.kill()

    old, new = Path(f"{log}.1").read_text(), log.read_text()
    assert "starting up" in old
    assert "reloaded, changed: nothing" in new
    assert "Server Shut Down." in new
    assert [file.read_text().count("POST") for file in (Path(f"{access}.1"), access)] == [1, 1]
    everything = old + new + access.read_text() + server.log
    assert not any(word in everything for word in ("hush", "whisper", "guess"))
    if form == "json":
        lines = [json.loads(line) for line in (old + new).splitlines()]
        assert all({"time", "level", "from", "text"} <= line.keys() for line in lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_twistd_gives_up_root(serve: Serve, tmp_path: Path) -> None:
    """
    `--uid`, `--gid`, `--pidfile` and `--logfile`: the process and its logs are
    nobody's, and logs are opened anew without root.
    """
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o755)
    folder = tmp_path / "logs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    port = free_port()
    pidfile, log, access = tmp_path / "pid", folder / "daemon.log", folder / "access.log"
    command = [TWISTD[0], "-n", f"--pidfile={pidfile}", f"--logfile={log}", "--uid=65534"]
    command += ["--gid=65534", "realtime", f"--port={port}", f"--access-log={access}"]
    server = serve(command, port, tmp_path)
    settled(lambda: log.exists() and "only this machine" in log.read_text())
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert "Uid:\t65534\t65534" in status
    assert "Gid:\t65534\t65534" in status
    assert int(pidfile.read_text()) == server.pid
    for file in (log, access):
        assert file.stat().st_uid == 65534
        file.rename(f"{file}.1")
    server.send(signal.SIGHUP)
    settled(lambda: log.exists() and access.exists() and "reloaded" in log.read_text())
    assert publish(port, channel="news", message="m") == 200
    assert server.kill() == 0
    assert "POST /publish" in access.read_text()
    assert "Traceback" not in log.read_text()


def test_in_the_background_paths_stay_what_they_were(tmp_path: Path) -> None:
    """
    `twistd` without -n, with another folder to run in: the file is found again.
    """
    (tmp_path / "a.conf").write_text("linger = 5\n")
    rundir = tmp_path / "run"
    rundir.mkdir()
    port, pidfile, log = free_port(), tmp_path / "pid", tmp_path / "log"
    command = [TWISTD[0], f"--pidfile={pidfile}", "--logfile=log", f"--rundir={rundir}"]
    command += ["realtime", "--config=a.conf", f"--port={port}", "--access-log=access"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=PATIENCE)
    settled(lambda: log.exists() and "only this machine" in log.read_text())
    pid = int(pidfile.read_text())
    try:
        (tmp_path / "a.conf").write_text("linger = 6\n")
        os.kill(pid, signal.SIGHUP)
        settled(lambda: "reloaded, changed: linger" in log.read_text())
        assert publish(port, channel="news", message="m") == 200
    finally:
        os.kill(pid, signal.SIGTERM)
    settled(lambda: not Path(f"/proc/{pid}").exists() and not pidfile.exists())
    assert "POST" in (tmp_path / "access").read_text()
