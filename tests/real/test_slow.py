"""
Clients that send and read as little as they can, while others are served.
"""

from __future__ import annotations

import socket
import subprocess
import time

from benchmarks.storm import Storm
from tests.real.conftest import PATIENCE, StartDaemon, require
from tests.real.test_daemon import publish

READERS = 1000
MESSAGES = 40
ATTACK = 14  # seconds; longer than head-seconds


def test_slow_clients_do_not_harm_others(daemon: StartDaemon) -> None:
    """
    200 slow headers, 200 slow bodies and 200 slow reads of much history: 1,000 subscribers get each
    message nevertheless, and the slow clients are disconnected.
    """
    slow = require("slowhttptest", "slowhttptest")
    server = daemon("--history=1000", "--history-bytes=8m", "--backlog-seconds=5")
    for _ in range(40):
        assert publish(server.port, channel="much", message="x" * 100_000) == 200
    storm = Storm(server.port, READERS)
    storm.run(PATIENCE)
    attackers = [
        subprocess.Popen(
            [slow, *"-c 200 -r 200 -p 5 -i 2".split(), "-l", str(ATTACK), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for options in (
            ("-H", "-u", f"{server.url}/"),
            ("-B", "-s", "8192", "-u", f"{server.url}/publish"),
            ("-X", *"-w 512 -y 1024 -n 2 -z 32 -k 1".split(),
             "-u", f"{server.url}/?channels=much&history=40"),
        )
    ]  # fmt: skip
    first, last = storm.clients[0].connection, storm.clients[-1].connection
    assert first is not None
    assert last is not None
    try:
        for number in range(MESSAGES):
            assert publish(server.port, channel="news", message=f"m{number}.") == 200
            for connection in (first, last):
                connection.settimeout(PATIENCE)
                text = b""
                while b"m%d." % number not in text:
                    text += connection.recv(65536)
            time.sleep(ATTACK / MESSAGES)
        for attacker in attackers:
            attacker.wait(PATIENCE)
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.wait()
    for client in storm.clients[1:-1]:
        assert client.connection is not None
        assert received(client.connection) == [f"m{number}." for number in range(MESSAGES)]
    storm.close()
    assert publish(server.port, channel="news", message="after") == 200


def received(connection: socket.socket) -> list[str]:
    """
    Return the data of all events received.
    """
    connection.setblocking(False)
    text = b""
    while True:
        try:
            data = connection.recv(1 << 20)
        except BlockingIOError:
            break
        assert data, "the connection was closed"
        text += data
    lines = text.decode().split("\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
