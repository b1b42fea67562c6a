"""
All subscribers connect at once: `join-rate` of them a second are admitted, the rest waits or gets
Retry-After, and publishing goes on.
"""

from __future__ import annotations

import socket
import time

from benchmarks.storm import Publishing, Storm
from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.test_daemon import publish
from tests.real.test_reload import wait_until

READERS = 600


def test_subscribers_are_admitted_at_join_rate(daemon: StartDaemon) -> None:
    """
    600 subscribers connect with a rate of 200 a second and a queue of 200: refused ones retry
    after the given delay, and all are admitted in little more than the time that the rate needs.
    """
    server = daemon("--join-rate=200", "--join-queue=200")
    storm = Storm(server.port, READERS)
    publishing = Publishing(server.port)
    try:
        seconds = storm.run(PATIENCE)
        took = publishing.stop()
    finally:
        publishing.stop()
        storm.close()
    delays = [delay for client in storm.clients for delay in client.retry_after]

    assert 2 < seconds < 9
    assert len(delays) >= 300
    assert len(set(delays)) >= 2
    assert took[len(took) // 2] < 0.1
    joined = sorted(client.joined for client in storm.clients)
    for index in range(0, READERS - 220, 20):  # no second admits more than the rate
        assert joined[index + 219] - joined[index] > 0.7
    wait_until(lambda: "join queue empty after" in server.log)


def test_a_browser_gets_its_reconnect_time_by_a_stream(daemon: StartDaemon) -> None:
    """
    EventSource never reconnects after a 503: it gets a stream that has a `retry` and ends.
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


def test_a_waiting_client_that_disconnects_frees_its_place(daemon: StartDaemon) -> None:
    """
    The place of a disconnected client in the queue is free again, and others are admitted.
    """
    server = daemon("--join-rate=1", "--join-queue=5")
    request = b"GET /?channels=news HTTP/1.1\r\nHost: a\r\n\r\n"

    def connect() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connection.sendall(request)
        return connection

    first = connect()
    first.recv(65536)
    for _ in range(10):
        closed = [connect() for _ in range(4)]
        time.sleep(0.05)
        for connection in closed:
            connection.close()
    time.sleep(0.2)  # the queue is searched for them at most every 50 ms
    patient = connect()
    assert b" 200 " in patient.recv(65536)
    assert publish(server.port, channel="news", message="hello") == 200
    patient.close()
    first.close()


def test_a_stop_refuses_waiting_subscribers(daemon: StartDaemon) -> None:
    """
    Waiting subscribers get Retry-After, and the daemon does not wait for them.
    """
    server = daemon("--join-rate=1", "--join-queue=50", "--stop-seconds=20")
    connections = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connection.sendall(b"GET /?channels=news HTTP/1.1\r\nHost: a\r\n\r\n")
        connections.append(connection)
    publish(server.port, channel="news", message="hello")
    start = time.monotonic()
    assert server.kill() == 0
    assert time.monotonic() - start < 3
    answers = [connection.recv(65536) for connection in connections]
    assert sum(answer.startswith(b"HTTP/1.1 503 ") for answer in answers) >= 15
    for connection in connections:
        connection.close()
