"""
Stopping in good order, and starting again without anybody finding the door shut.
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
from tests.real.test_daemon import FORM, publish, reading
from tests.real.test_reload import settled


class Callers:
    """
    Threads that connect and publish, one connection after the other.

    Args:
        port: of the daemon.
        count: how many at once.
    """

    def __init__(self, port: int, count: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._port = port
        self._over = False
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> Counter[str]:
        """
        What became of all calls.
        """
        self._over = True
        for thread in self._threads:
            thread.join(PATIENCE)
        return self.outcomes

    def _run(self) -> None:
        while not self._over:
            self.outcomes[self._call()] += 1

    def _call(self) -> str:
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


def test_one_daemon_takes_over_from_another(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    With `--reuse-port` a new daemon starts on the same port and the old one gets SIGTERM, three
    times, while eight callers connect without pause: no connection is refused.
    """
    port = free_port()
    old = daemon("--reuse-port=1", port=port)
    callers = Callers(port, 8)
    try:
        with reading(port, "/?channels=quiet") as reader:
            for round in range(3):
                # A folder of its own, so that the log is its own.
                new = daemon("--reuse-port=1", port=port, folder=tmp_path / f"{round}")
                settled(lambda new=new: "no stats key" in new.log)  # type: ignore[misc]
                time.sleep(0.3)
                assert old.kill() == 0
                old = new
                if not round:
                    assert "\nretry: " in reader.rest()
    finally:
        outcomes = callers.end()

    assert set(outcomes) == {"200"}, outcomes
    assert outcomes["200"] > 100


def test_the_new_one_gets_all_who_come(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    While two listen, nobody new reaches the old one, and its readers stay with it.
    """
    port = free_port()
    old = daemon("--reuse-port=1", port=port)
    with reading(port, "/?channels=news") as first:
        new = daemon("--reuse-port=1", port=port, folder=tmp_path / "new")
        settled(lambda: "no stats key" in new.log)
        for number in range(20):
            assert publish(port, channel="news", message=f"m{number}") == 200
        with reading(port, "/?channels=news") as second:
            publish(port, channel="news", message="last")
            second.until("data: last\n")
        assert old.kill() == 0
        assert "data: " not in first.rest()
        assert publish(port, channel="news", message="after") == 200


def test_a_second_signal_does_not_wait(daemon: StartDaemon) -> None:
    """
    The first SIGTERM waits for a request that is half here; the second does not,
    and is no error. The status is 0.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        server = daemon("--stop-seconds=30")
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
            publish(server.port, channel="news", message="first")
            server.send(number)
            settled(lambda server=server: "subscribers to reconnect" in server.log)  # type: ignore[misc]
            time.sleep(0.5)
            begun = time.monotonic()
            assert server.kill(number) == 0
            assert time.monotonic() - begun < 2


def test_who_comes_while_it_stops_is_told_when_to_come_back(daemon: StartDaemon) -> None:
    """
    On a connection that is open already: a browser, which would never come back
    after a 503, gets a stream that ends; others get the 503. Both say when.
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
    settled(lambda: "subscribers to reconnect" in server.log)
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
    if all(text.count("HTTP/1.1") == 2 for text in texts):  # it was quick enough
        assert "\r\n\r\n: 503 the server is stopping\nretry: " in texts[0]
        assert "HTTP/1.1 503 " in texts[1]
        assert "Retry-After: " in texts[1]
    assert server.kill(signal.SIGCONT) == 0


# systemd.


class Systemd:
    """
    As much of systemd as a service of Type=notify sees of it.

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

    def hears(self, words: str) -> None:
        """
        Wait for a notification with *words*; skip watchdog notifications.
        """
        while True:
            told = self._socket.recv(4096).decode()
            if words in told:
                return
            assert told == "WATCHDOG=1", told

    def close(self) -> None:
        """
        Give the socket back.
        """
        self._socket.close()


def test_systemd_is_told_what_happens(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    READY, signs of life, RELOADING and READY again, STOPPING; wrong settings too.
    """
    systemd = Systemd(tmp_path)
    file = tmp_path / "a.conf"
    file.write_text("")
    server = daemon(f"--config={file}", environment=systemd.environment)
    systemd.hears("READY=1")
    begun = time.monotonic()
    for _ in range(5):
        systemd.hears("WATCHDOG=1")
    assert 0.5 < time.monotonic() - begun < 5
    for text in ("retry = 3\n", "retry = soon\n"):
        file.write_text(text)
        server.send(signal.SIGHUP)
        systemd.hears("RELOADING=1\nMONOTONIC_USEC=")
        systemd.hears("READY=1")
    assert server.kill() == 0
    systemd.hears("STOPPING=1")
    systemd.close()


def test_a_socket_that_stays_open_refuses_nobody(serve: Serve, tmp_path: Path) -> None:
    """
    Socket activation: a client that connects between the end of one daemon and the start of the
    next waits in the socket, and is served.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=512) as held:
        port = held.getsockname()[1]

        def start() -> Server:
            launch = (
                "import os, sys\nos.set_inheritable(os.dup2(int(sys.argv[1]), 3), True)\n"
                "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='web')\n"
                "os.environ['LISTEN_PID'] = str(os.getpid())\n"
                "os.execv(sys.argv[2], sys.argv[2:])\n"
            )
            held.set_inheritable(True)
            command = [*TWISTD, "realtime", "--endpoint=systemd:domain=INET:index=0"]
            python = str(Path(TWISTD[0]).with_name("python"))
            server = Inheriting(
                [python, "-c", launch, str(held.fileno()), *command], port, tmp_path, {}
            )
            server.start()
            settled(lambda: "no stats key" in server.log)
            return server

        server = start()
        callers = Callers(port, 4)
        try:
            for _ in range(2):
                time.sleep(0.3)
                assert server.kill() == 0
                (tmp_path / "log.txt").unlink()
                server = start()
            time.sleep(0.3)
        finally:
            outcomes = callers.end()
            server.kill()

    assert set(outcomes) == {"200"}, outcomes


class Inheriting(Server):
    """
    A process that keeps the sockets it is given.
    """

    def start(self) -> None:
        """
        Start it; that somebody accepts connections says nothing here.
        """
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=output, stderr=output, close_fds=False,
                start_new_session=True,
            )  # fmt: skip


def test_unit_files_are_right() -> None:
    """
    What systemd itself says of those in examples/systemd: nothing, but that nobody
    has installed the daemon here.
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
    said = [line for line in done.stderr.splitlines() if "/twistd is not executable" not in line]
    assert said == []
