"""
All readers connect at once: `join-rate` of them a second are admitted, the rest waits or gets
Retry-After, and publishing goes on.
"""

from __future__ import annotations

import socket
import time

from benchmarks.storm import Publishing, Storm
from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.test_daemon import publish
from tests.real.test_reload import settled

READERS = 600


def test_everybody_is_served_in_turn(daemon: StartDaemon) -> None:
    """
    600 readers at 200 a second, 200 may wait: who is sent away comes back when told,
    and is served within a little more than the time it takes.
    """
    server = daemon("--join-rate=200", "--join-queue=200")
    storm = Storm(server.port, READERS)
    publishing = Publishing(server.port)
    try:
        seconds = storm.rage(PATIENCE)
        took = publishing.end()
    finally:
        publishing.end()
        storm.end()
    told = [moment for comer in storm.comers for moment in comer.told]

    assert 2 < seconds < 9
    assert len(told) >= 300
    assert len(set(told)) >= 2
    assert took[len(took) // 2] < 0.1
    joined = sorted(comer.joined for comer in storm.comers)
    for index in range(0, READERS - 220, 20):  # no second lets more in than its share
        assert joined[index + 219] - joined[index] > 0.7
    settled(lambda: "join queue empty after" in server.log)


def test_a_browser_is_told_by_a_stream(daemon: StartDaemon) -> None:
    """
    EventSource gives up for ever after a 503: it gets a stream that says `retry` and ends.
    """
    server = daemon("--join-rate=1", "--join-queue=0")
    texts = []
    for _ in range(4):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(
                b"GET /?channels=news HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n"
                b"Connection: close\r\n\r\n"
            )
            text = connection.recv(65536)
            while b"\nid: " not in text and (data := connection.recv(65536)):
                text += data
            texts.append(text.decode())

    assert "\nid: " in texts[0]
    retries = [int(text.rpartition("\nretry: ")[2]) for text in texts[1:]]
    assert all(text.startswith("HTTP/1.1 200 OK") for text in texts)
    assert 1000 <= retries[0] < retries[1] < retries[2] <= 4000


def test_who_waits_and_hangs_up_is_forgotten(daemon: StartDaemon) -> None:
    """
    Its place in the line is free again; the others come in.
    """
    server = daemon("--join-rate=1", "--join-queue=5")
    request = b"GET /?channels=news HTTP/1.1\r\nHost: a\r\n\r\n"

    def ask() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connection.sendall(request)
        return connection

    first = ask()
    first.recv(65536)
    for _ in range(10):
        gone = [ask() for _ in range(4)]
        time.sleep(0.05)
        for connection in gone:
            connection.close()
    time.sleep(0.2)  # the queue is searched for them at most every 50 ms
    patient = ask()
    assert b" 200 " in patient.recv(65536)
    assert publish(server.port, channel="news", message="hello") == 200
    patient.close()
    first.close()


def test_a_stop_reaches_those_who_wait(daemon: StartDaemon) -> None:
    """
    Waiting readers get Retry-After, and the daemon does not wait for them.
    """
    server = daemon("--join-rate=1", "--join-queue=50", "--stop-seconds=20")
    connections = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connection.sendall(b"GET /?channels=news HTTP/1.1\r\nHost: a\r\n\r\n")
        connections.append(connection)
    publish(server.port, channel="news", message="hello")
    begun = time.monotonic()
    assert server.kill() == 0
    assert time.monotonic() - begun < 3
    answers = [connection.recv(65536) for connection in connections]
    assert sum(answer.startswith(b"HTTP/1.1 503 ") for answer in answers) >= 15
    for connection in connections:
        connection.close()
