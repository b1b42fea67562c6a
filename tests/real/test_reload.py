"""
Reload of settings (SIGHUP): subscribers stay connected, errors are logged, and log files can be
rotated.
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
from tests.real.subscribers import Subscriber, disconnecting, join_all, pause, publishers, until
from tests.real.test_daemon import publish

SUBSCRIBERS = 500


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """
    Wait until *condition* is true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(PAUSE)


def reload(server: Server, text: str) -> str:
    """
    Send SIGHUP, and wait until the log has a line with *text*.

    Returns:
        what was logged since the signal.
    """
    before = len(server.log)
    server.send(signal.SIGHUP)
    wait_until(lambda: text in server.log[before:])
    return server.log[before:]


def get(server: Server, path: str, **headers: str) -> tuple[int, str]:
    """
    Return the status and the Access-Control-Allow-Origin header of *path*.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("HEAD", path, headers=headers)
    response = connection.getresponse()
    connection.close()
    return response.status, response.headers.get("Access-Control-Allow-Origin", "")


def test_a_reload_applies_what_can_change(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A reload applies keys, routes, limits and CORS of the current file. The log names changed
    settings, and those that need a restart. The command line still has precedence.
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
    logged = reload(server, "need a restart")

    assert publish(server.port, channel="news", message="m", key="old") == 401
    assert publish(server.port, channel="news", message="m", key="new") == 200
    assert get(server, "/feed", Origin="https://a.example") == (200, "https://a.example")
    assert get(server, f"/{'x' * 50}")[0] == 414
    assert "reloaded, changed: route, origins, http-secret, linger, max-line\n" in logged, (
        "the command line sets max-batch"
    )
    # The command line sets the port, too.
    assert "these settings need a restart to change: broker\n" in logged


def test_an_invalid_file_changes_nothing_and_is_logged(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The log has one line with file and line number, and without secrets. All old settings
    stay in force.
    """
    file = tmp_path / "a.conf"
    file.write_text("http-secret = old\n")
    server = daemon(f"--config={file}", folder=tmp_path)
    for content, text in (
        ("http-secret = hush\nretry = soon\n", "a.conf:2: retry must be a time"),
        ("http-secret hush\n", "a.conf:1: 'http-secret' is not 'name = value'"),
        ("http-secret = file:hush\n", "a.conf:1: http-secret must be readable: file hush"),
        ("http-secret = hush\nroute = ^/( sse:a\n", "a.conf:2: route '^/( sse:a'"),
        ("http-secret = hush\nroute = ^/ no.such.Action\n", "a.conf:2: route"),
        ("http-secret = hush\naccess-log = /no/folder/log\n", "a.conf:2: access-log"),
        ("http-secret = hush\ncredentials = 1\n", "a.conf:2: credentials"),
    ):
        file.write_text(content)
        logged = reload(server, "reload failed, nothing has changed: ")

        assert text in logged
        assert len(logged.splitlines()) == 1
        assert publish(server.port, channel="news", message="m", key="hush") == 401
        assert publish(server.port, channel="news", message="m", key="old") == 200
    file.unlink()
    assert "a.conf: No such file or directory" in reload(server, "reload failed")
    assert ": hush" not in server.log


async def test_a_reload_disconnects_no_subscriber(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    500 subscribers receive every message that is published during ten reloads.
    """
    file = tmp_path / "a.conf"
    file.write_text("")
    server = daemon(f"--config={file}", "--history=0", folder=tmp_path)
    subscribers = [Subscriber(server.port, [f"c{number % 5}"]) for number in range(SUBSCRIBERS)]
    async with disconnecting(subscribers), publishers(server, 1) as (publisher,):
        await join_all(subscribers)
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
        await until(lambda: all(len(subscriber.messages) >= 20 for subscriber in subscribers))

        assert all(subscriber.joined == 1 and subscriber.connection for subscriber in subscribers)
        for number, subscriber in enumerate(subscribers):
            expected = [
                f"{round}.{n}" for round in range(10) for n in range(10) if n % 5 == number % 5
            ]
            assert subscriber.messages == expected
    await until(lambda: len(re.findall("reloaded,|reload failed", server.log)) == 10)
    assert server.log.count("reload failed, nothing has changed") == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_files_are_reopened_after_a_rotation(form: str, serve: Serve, tmp_path: Path) -> None:
    """
    After SIGHUP, as logrotate sends it, both logs continue in new files, without a lost line.
    They contain no secret and no message body.
    """
    log, access = tmp_path / "daemon.log", tmp_path / "access.log"
    port = free_port()
    command = [*TWISTD, f"--logfile={log}", "realtime", f"--port={port}", "--http-secret=hush"]
    server = serve([*command, f"--access-log={access}", f"--log-format={form}"], port, tmp_path)
    assert publish(port, channel="news", message="whisper", key="hush") == 200
    for file in (log, access):
        file.rename(f"{file}.1")
    server.send(signal.SIGHUP)
    wait_until(lambda: log.exists() and "reloaded" in log.read_text())
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may switch to another user")
def test_twistd_drops_root_privileges(serve: Serve, tmp_path: Path) -> None:
    """
    With `--uid`, `--gid`, `--pidfile` and `--logfile` the process and its logs belong to the
    given user, and logs are reopened without root.
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
    wait_until(lambda: log.exists() and "only this machine" in log.read_text())
    status = Path(f"/proc/{server.pid}/status").read_text()
    assert "Uid:\t65534\t65534" in status
    assert "Gid:\t65534\t65534" in status
    assert int(pidfile.read_text()) == server.pid
    for file in (log, access):
        assert file.stat().st_uid == 65534
        file.rename(f"{file}.1")
    server.send(signal.SIGHUP)
    wait_until(lambda: log.exists() and access.exists() and "reloaded" in log.read_text())
    assert publish(port, channel="news", message="m") == 200
    assert server.kill() == 0
    assert "POST /publish" in access.read_text()
    assert "Traceback" not in log.read_text()


def test_paths_are_relative_to_the_start_folder(tmp_path: Path) -> None:
    """
    A reload finds the configuration file if `twistd` runs in the background in another folder.
    """
    (tmp_path / "a.conf").write_text("linger = 5\n")
    rundir = tmp_path / "run"
    rundir.mkdir()
    port, pidfile, log = free_port(), tmp_path / "pid", tmp_path / "log"
    command = [TWISTD[0], f"--pidfile={pidfile}", "--logfile=log", f"--rundir={rundir}"]
    command += ["realtime", "--config=a.conf", f"--port={port}", "--access-log=access"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=PATIENCE)
    wait_until(lambda: log.exists() and "only this machine" in log.read_text())
    pid = int(pidfile.read_text())
    try:
        (tmp_path / "a.conf").write_text("linger = 6\n")
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "reloaded, changed: linger" in log.read_text())
        assert publish(port, channel="news", message="m") == 200
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() and not pidfile.exists())
    assert "POST" in (tmp_path / "access").read_text()
