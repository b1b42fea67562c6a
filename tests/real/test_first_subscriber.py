"""
The first subscriber of a channel, with a broker outside the daemon: once a client has read the
first byte of its response, it receives all that is published.
"""

from __future__ import annotations

import http.client
import socket
from signal import SIGCONT, SIGSTOP
from urllib.parse import urlencode

from tests.real.conftest import PATIENCE, Serve, Server, StartDaemon
from tests.real.rabbit import Rabbit, rabbit
from tests.real.redis_server import start_redis
from tests.real.test_amqp_daemon import is_ready, options
from tests.unit.actions.websocket.daemon import HANDSHAKE
from tests.unit.codecs.websocket_frames import masked

__all__ = ["rabbit"]  # a fixture

CHANNELS = 8  # each new to the daemon
ROUTES = (
    "--route=^/events$ sse",
    "--route=^/stream$ stream",
    "--route=^/ws$ websocket:protocol=json",
    "--route=^/io/([a-z0-9-]+)/ socket.io:subscribe=$1",
    "--route=^/publish$ publish",
    "--route=^/readyz$ ready",
)


def read_until(client: socket.socket, wanted: bytes) -> bytes:
    """
    Read from *client* until *wanted* is received, and return all of it.
    """
    data = b""
    while wanted not in data:
        piece = client.recv(65536)
        assert piece, f"closed after {data!r}"
        data += piece
    return data


def get(client: socket.socket, target: str, headers: str = "") -> None:
    """
    Send a GET request, and read the head of the response.
    """
    client.sendall(f"GET {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n".encode())
    read_until(client, b"\r\n\r\n")


def open_events(client: socket.socket, channel: str) -> None:
    """
    Open an event stream of *channel*: the client is an EventSource that is OPEN.
    """
    get(client, f"/events?channels={channel}")


def open_stream(client: socket.socket, channel: str) -> None:
    """
    Open a stream of lines of *channel*.
    """
    get(client, f"/stream?channels={channel}")


def open_websocket(client: socket.socket, channel: str) -> None:
    """
    Open a websocket that is subscribed to *channel*.
    """
    get(client, f"/ws?channels={channel}", HANDSHAKE)


def open_socketio(client: socket.socket, channel: str) -> None:
    """
    Connect a Socket.IO client that is subscribed to *channel*.
    """
    get(client, f"/io/{channel}/?EIO=4&transport=websocket", HANDSHAKE)
    client.sendall(masked(1, b"40"))
    read_until(client, b"40{")


def publish(server: Server, channel: str) -> None:
    """
    Publish one message to *channel*.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("POST", f"/publish?{urlencode({'channel': channel})}", body=b"published")
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()


OPENERS = [open_events, open_stream, open_websocket, open_socketio]


def receive_all(server: Server) -> None:
    """
    Open streams of channels that are new; each receives a message that follows at once.
    """
    while not is_ready(server):
        pass
    for opener in OPENERS:
        for number in range(CHANNELS):
            channel = f"{opener.__name__.replace('_', '-')}-{number}"
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
                opener(client, channel)
                publish(server, channel)
                read_until(client, b"published")


def test_with_redis(serve: Serve, daemon: StartDaemon) -> None:
    """
    No message is lost between the head of the response and redis' confirmation.
    """
    redis = start_redis(serve)
    receive_all(daemon("--broker=redis", f"--redis-port={redis.port}", *ROUTES))


def test_with_rabbitmq(rabbit: Rabbit, daemon: StartDaemon) -> None:
    """
    RabbitMQ delivers channels by bindings.
    """
    receive_all(daemon(*options(rabbit, "first-subscriber"), *ROUTES))


def test_a_redis_that_does_not_answer(serve: Serve, daemon: StartDaemon) -> None:
    """
    A client waits for the broker for a second, not for ever: it is connected when redis answers
    again. A client that disconnects meanwhile leaves nothing.
    """
    redis = start_redis(serve)
    server = daemon("--broker=redis", f"--redis-port={redis.port}", *ROUTES)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
        open_events(client, "known")
        redis.send(SIGSTOP)
        socket.create_connection(("127.0.0.1", server.port), PATIENCE).close()
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as leaving:
            leaving.sendall(b"GET /events?channels=left HTTP/1.1\r\nHost: test\r\n\r\n")
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as other:
            open_events(other, "fresh")
            redis.send(SIGCONT)
            read_until(other, b"id: ")
            publish(server, "fresh")
            read_until(other, b"published")
    assert "Traceback" not in server.log
