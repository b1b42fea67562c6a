"""
Graceful stop, and restart without a refused connection.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from tests.real.conftest import (
    PATIENCE,
    ROOT,
    TWISTD,
    Serve,
    Server,
    StartDaemon,
    free_port,
    require,
)
from tests.real.test_daemon import FORM, publish, subscribed
from tests.real.test_reload import wait_until


class PublishLoad:
    """
    Threads that publish, each message on a new connection.

    Args:
        port: of the daemon.
        count: number of threads.
    """

    def __init__(self, port: int, count: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._port = port
        self._stopping = False
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Counter[str]:
        """
        Stop, and return the number of requests by status or error.
        """
        self._stopping = True
        for thread in self._threads:
            thread.join(PATIENCE)
        return self.outcomes

    def _run(self) -> None:
        while not self._stopping:
            self.outcomes[self._publish()] += 1

    def _publish(self) -> str:
        body = b"channel=news&message=hello"
        request = b"POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        request += b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (FORM.encode(), len(body))
        try:
            with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as connection:
                connection.sendall(request + body)
                answer = connection.recv(65536)
        except OSError as error:
            return type(error).__name__
        return answer[9:12].decode() or "empty"


def test_a_new_daemon_replaces_the_old_one_without_refusals(
    daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    With `--reuse-port` a new daemon starts on the same port and the old one gets SIGTERM, three
    times, while eight threads publish without pause: no connection is refused.
    """
    port = free_port()
    old = daemon("--reuse-port=1", port=port)
    load = PublishLoad(port, 8)
    try:
        with subscribed(port, "/?channels=quiet") as stream:
            for round in range(3):
                # Each daemon has its own folder, and so its own log.
                new = daemon("--reuse-port=1", port=port, folder=tmp_path / f"{round}")
                wait_until(lambda new=new: "no stats key" in new.log)  # type: ignore[misc]
                time.sleep(0.3)
                assert old.kill() == 0
                old = new
                if not round:
                    assert "\nretry: " in stream.rest()
    finally:
        outcomes = load.stop()

    assert set(outcomes) == {"200"}, outcomes
    assert outcomes["200"] > 100


def test_new_connections_reach_the_new_daemon_only(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    While two daemons listen, new connections reach the new one, and the subscribers of the old
    one stay connected.
    """
    port = free_port()
    old = daemon("--reuse-port=1", port=port)
    with subscribed(port, "/?channels=news") as first:
        new = daemon("--reuse-port=1", port=port, folder=tmp_path / "new")
        wait_until(lambda: "no stats key" in new.log)
        for number in range(20):
            assert publish(port, channel="news", message=f"m{number}") == 200
        with subscribed(port, "/?channels=news") as second:
            publish(port, channel="news", message="last")
            second.until("data: last\n")
        assert old.kill() == 0
        assert "data: " not in first.rest()
        assert publish(port, channel="news", message="after") == 200


def test_a_second_signal_does_not_wait(daemon: StartDaemon) -> None:
    """
    After the first SIGTERM the daemon waits for an incomplete request. After a second one it
    exits at once, with status 0.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        server = daemon("--stop-seconds=30")
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
            publish(server.port, channel="news", message="first")
            server.send(number)
            wait_until(lambda server=server: "subscribers to reconnect" in server.log)  # type: ignore[misc]
            time.sleep(0.5)
            start_time = time.monotonic()
            assert server.kill(number) == 0
            assert time.monotonic() - start_time < 2


def test_requests_during_a_stop_get_a_reconnect_time(daemon: StartDaemon) -> None:
    """
    A browser, which does not reconnect after a 503, gets a stream that ends, on an open
    connection; other clients get the 503. Both responses have a reconnect time.
    """
    server = daemon("--stop-seconds=5")
    body = b"channel=news&message=hello"
    head = b"POST /publish HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (FORM.encode(), len(body))
    streams = []
    for _ in range(2):
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connection.sendall(head + body[:5])
        streams.append(connection)
    publish(server.port, channel="news", message="first")
    server.send(signal.SIGTERM)
    wait_until(lambda: "subscribers to reconnect" in server.log)
    for connection, accept in zip(streams, (b"text/event-stream", b"*/*"), strict=True):
        connection.sendall(
            body[5:] + b"GET /?channels=news HTTP/1.1\r\nHost: a\r\nAccept: %s\r\n\r\n" % accept
        )
    texts = []
    for connection in streams:
        text = b""
        while data := connection.recv(65536):
            text += data
        texts.append(text.decode())
        connection.close()
    if all(text.count("HTTP/1.1") == 2 for text in texts):  # the requests arrived in time
        assert "\r\n\r\n: 503 the server is stopping\nretry: " in texts[0]
        assert "HTTP/1.1 503 " in texts[1]
        assert "Retry-After: " in texts[1]
    assert server.kill(signal.SIGCONT) == 0


# systemd.


class Systemd:
    """
    Receiver of the notifications of a service of Type=notify.

    Args:
        folder: for its socket.
    """

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(str(folder / "notify"))
        self.environment = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "400000",
        }

    def wait_for(self, text: str) -> None:
        """
        Wait for a notification with *text*; skip watchdog notifications.
        """
        while True:
            notification = self._socket.recv(4096).decode()
            if text in notification:
                return
            assert notification == "WATCHDOG=1", notification

    def close(self) -> None:
        """
        Close the socket.
        """
        self._socket.close()


def test_systemd_is_notified(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The daemon sends READY, WATCHDOG, RELOADING and READY at each reload, also a failed one,
    and STOPPING.
    """
    systemd = Systemd(tmp_path)
    file = tmp_path / "a.conf"
    file.write_text("")
    server = daemon(f"--config={file}", environment=systemd.environment)
    systemd.wait_for("READY=1")
    start_time = time.monotonic()
    for _ in range(5):
        systemd.wait_for("WATCHDOG=1")
    assert 0.5 < time.monotonic() - start_time < 5
    for text in ("retry = 3\n", "retry = soon\n"):
        file.write_text(text)
        server.send(signal.SIGHUP)
        systemd.wait_for("RELOADING=1\nMONOTONIC_USEC=")
        systemd.wait_for("READY=1")
    assert server.kill() == 0
    systemd.wait_for("STOPPING=1")
    systemd.close()


def test_a_restart_with_socket_activation_refuses_no_connection(
    serve: Serve, tmp_path: Path
) -> None:
    """
    Socket activation: a client that connects between the end of one daemon and the start of the
    next waits in the socket, and is served.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]

        def start() -> Server:
            launcher = (
                "import os, sys\nos.set_inheritable(os.dup2(int(sys.argv[1]), 3), True)\n"
                "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='web')\n"
                "os.environ['LISTEN_PID'] = str(os.getpid())\n"
                "os.execv(sys.argv[2], sys.argv[2:])\n"
            )
            listener.set_inheritable(True)
            command = [*TWISTD, "realtime", "--endpoint=systemd:domain=INET:index=0"]
            python = str(Path(TWISTD[0]).with_name("python"))
            server = InheritingServer(
                [python, "-c", launcher, str(listener.fileno()), *command], port, tmp_path, {}
            )
            server.start()
            wait_until(lambda: "no stats key" in server.log)
            return server

        server = start()
        load = PublishLoad(port, 4)
        try:
            for _ in range(2):
                time.sleep(0.3)
                assert server.kill() == 0
                (tmp_path / "log.txt").unlink()
                server = start()
            time.sleep(0.3)
        finally:
            outcomes = load.stop()
            server.kill()

    assert set(outcomes) == {"200"}, outcomes


class InheritingServer(Server):
    """
    A server that inherits open sockets.
    """

    def start(self) -> None:
        """
        Start the process, without waiting: the inherited socket accepts connections before.
        """
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=output, stderr=output, close_fds=False,
                start_new_session=True,
            )  # fmt: skip


def test_systemd_accepts_the_unit_files() -> None:
    """
    systemd-analyze reports nothing about examples/systemd, except that the daemon is not
    installed on this machine.
    """
    analyze = require("systemd-analyze", "systemd")
    units = sorted((ROOT / "examples" / "systemd").glob("*.s*"))
    assert len(units) >= 2
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, units)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    warnings = [
        line for line in done.stderr.splitlines() if "/twistd is not executable" not in line
    ]
    assert warnings == []
