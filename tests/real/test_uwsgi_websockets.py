"""
Applications that were written for uWSGI's websocket API, with clients of websockets.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.real.conftest import (
    CLIENTS,
    PATIENCE,
    Server,
    StartDaemon,
    require_module,
    require_npm,
)
from tests.real.redis_server import redis

__all__ = ["redis"]

# As in uWSGI's documentation, where the page is bytes.
ECHO = """
import uwsgi
import time

def application(env, sr):
    if env["PATH_INFO"] == "/":
        sr("200 OK", [("Content-Type", "text/html")])
        return [b"a page"]
    elif env["PATH_INFO"] == "/foobar/":
        uwsgi.websocket_handshake(env["HTTP_SEC_WEBSOCKET_KEY"], env.get("HTTP_ORIGIN", ""))
        print("websockets...")
        while True:
            msg = uwsgi.websocket_recv()
            uwsgi.websocket_send(msg)
"""
# The chat of uWSGI's documentation, without gevent: one thread for each websocket.
CHAT = """
import os
import select
import time
import redis
import uwsgi

def application(env, sr):
    uwsgi.websocket_handshake(env["HTTP_SEC_WEBSOCKET_KEY"], env.get("HTTP_ORIGIN", ""))
    r = redis.StrictRedis(host="localhost", port=int(os.environ["REDIS_PORT"]), db=0)
    channel = r.pubsub()
    channel.subscribe("foobar")
    websocket_fd = uwsgi.connection_fd()
    redis_fd = channel.connection._sock.fileno()
    while True:
        # wait max 4 seconds to allow ping to be sent
        ready = select.select([websocket_fd, redis_fd], [], [], 4.0)
        # send ping on timeout
        if not ready[0]:
            uwsgi.websocket_recv_nb()
        for fd in ready[0]:
            if fd == websocket_fd:
                msg = uwsgi.websocket_recv_nb()
                if msg:
                    r.publish("foobar", msg)
            elif fd == redis_fd:
                msg = channel.parse_response()
                # only interested in user messages
                if msg[0] == b"message":
                    uwsgi.websocket_send(b"[%f] %s" % (time.time(), msg[-1]))
"""
KINDS = """
import os
import uwsgi

ended = []

def application(env, sr):
    if env["PATH_INFO"] == "/ended":
        sr("200 OK", [])
        return [" ".join(ended).encode()]
    uwsgi.websocket_handshake(proto="chat")
    if env["PATH_INFO"] == "/raise":
        uwsgi.websocket_recv()
        raise KeyError("the application's own")
    if env["PATH_INFO"] == "/flood":
        try:
            sent = 0
            while True:
                uwsgi.websocket_send_binary(os.urandom(65536))
                sent += 1
        except OSError:
            ended.append(f"flood:{sent}")
            raise
    if env["PATH_INFO"] == "/slow":
        uwsgi.websocket_recv()
        while uwsgi.websocket_recv() != b"last":
            pass
        uwsgi.websocket_send("all")
        return []
    if env["PATH_INFO"] == "/hold":
        try:
            uwsgi.websocket_recv()
        except OSError:
            ended.append("held")
        return []
    for _ in range(3):
        message = uwsgi.websocket_recv()
        uwsgi.websocket_send_binary(message)
    return []
"""
# The library needs two names that Flask 2.2 and Python 3.11 have removed.
HANDSHAKE = (
    b"GET /hold HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FLASK = """
import asyncio
import flask.app
from flask.sansio.scaffold import setupmethod

flask.app.setupmethod = setupmethod
asyncio.coroutine = lambda function: function

from flask import Flask
from flask_uwsgi_websocket import WebSocket

application = Flask(__name__)
sockets = WebSocket(application)

@application.route("/")
def index():
    return "a page"

@sockets.route("/echo", websocket=True)
def echo(ws):
    while True:
        message = ws.receive()
        if message is None:
            return
        ws.send(message)
"""


def start(daemon: StartDaemon, folder: Path, text: str, *options: str, **more: str) -> Server:
    (folder / "sockets.py").write_text(text)
    lines = ("--route=^/stats$ stats", "--route=^/ wsgi:sockets:application")
    return daemon(*lines, *options, environment={"PYTHONPATH": str(folder), **more})


def websocket(server: Server, path: str, **options: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}{path}"
    return connect(url, open_timeout=PATIENCE, close_timeout=PATIENCE, legacy=True, **options)


def page(server: Server, path: str) -> bytes:
    import urllib.request

    url = f"http://127.0.0.1:{server.port}{path}"
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        body: bytes = response.read()
        return body


def until(server: Server, path: str, text: bytes) -> bytes:
    """
    Return the page when it contains *text*.
    """
    end = time.monotonic() + PATIENCE
    while text not in (body := page(server, path)):
        assert time.monotonic() < end, body
        time.sleep(0.05)
    return body


def open_websockets(server: Server) -> int:
    """
    Return how many threads run a websocket.
    """
    return int(json.loads(page(server, "/stats?format=full"))["wsgi"]["websockets"])


def until_open(server: Server, count: int) -> None:
    """
    Wait until so many threads run a websocket.
    """
    end = time.monotonic() + PATIENCE
    while open_websockets(server) != count:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_echo_server_of_uwsgis_documentation(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The echo server of uWSGI's documentation runs, and its page too; clients that leave are not
    errors.
    """
    server = start(daemon, tmp_path, ECHO)
    with websocket(server, "/foobar/") as first, websocket(server, "/foobar/") as second:
        for number in range(100):
            first.send(f"message {number}")
        second.send("\u00fc" * 70_000)
        assert second.recv(PATIENCE) == "\u00fc" * 70_000
        assert [first.recv(PATIENCE) for _ in range(100)] == [f"message {n}" for n in range(100)]

        assert page(server, "/") == b"a page"
        assert open_websockets(server) == 2
    until_open(server, 0)


NODE = """
const { WebSocket } = require("ws");
const socket = new WebSocket(`ws://127.0.0.1:${process.argv[1]}/foobar/`);
const seen = [];
socket.on("open", () => {
  socket.send("one ", { fin: false });
  socket.send("message");
  socket.ping();
  socket.send("y".repeat(200000));
});
socket.on("pong", () => seen.push("pong"));
socket.on("message", (data) => {
  seen.push(data.length);
  if (data.length === 200000) socket.close(1000);
});
socket.on("close", (code) => console.log(JSON.stringify([...seen, code])));
"""


def test_the_client_ws_of_node(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The library ws of node opens a websocket, sends fragments, pings and a large message.
    """
    require_npm("ws")
    server = start(daemon, tmp_path, ECHO)
    command = ["node", "-e", NODE, str(server.port)]
    node = subprocess.run(command, cwd=CLIENTS, check=True, capture_output=True, timeout=PATIENCE)

    seen = json.loads(node.stdout)
    assert seen.pop() == 1000
    assert sorted(map(str, seen)) == ["11", "200000", "pong"]


def test_the_chat_of_uwsgis_documentation(
    daemon: StartDaemon, tmp_path: Path, redis: Server
) -> None:
    """
    The chat of uWSGI's documentation waits for its client and for redis by select.
    """
    server = start(daemon, tmp_path, CHAT, REDIS_PORT=str(redis.port))
    with websocket(server, "/") as ann, websocket(server, "/") as bob:
        end = time.monotonic() + PATIENCE
        received = ""
        while not received:  # until both are subscribed
            assert time.monotonic() < end
            ann.send("hello")
            with suppress(TimeoutError):
                received = str(bob.recv(0.5)).partition("] ")[2]
        assert received == "hello"
        bob.send("hi ann")
        while not str(ann.recv(PATIENCE)).endswith("] hi ann"):
            pass


def test_messages_of_both_kinds(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Binary messages arrive as such, fragments are joined, and the websocket is closed with 1000
    when the application returns.
    """
    server = start(daemon, tmp_path, KINDS)
    with websocket(server, "/", subprotocols=["other", "chat"]) as client:
        assert client.subprotocol == "chat"
        client.send(b"\xff\x00")
        client.send(["a", "b", "c"])
        client.send(b"")
        assert [client.recv(PATIENCE) for _ in range(3)] == [b"\xff\x00", b"abc", b""]
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1000


def test_an_application_that_does_not_receive(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A client that sends more than the application receives is slowed down, and loses nothing.
    """
    server = start(daemon, tmp_path, KINDS, "--websocket-rate=0")
    with websocket(server, "/slow") as client:
        for _ in range(500):
            client.send(b"x" * 4000)
        client.send("last")
        assert client.recv(PATIENCE) == "all"


def test_a_client_that_does_not_receive(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A client that receives nothing blocks its own thread, and is disconnected after
    backlog-seconds; the memory is not filled, and others go on.
    """
    server = start(daemon, tmp_path, KINDS, "--backlog-seconds=1", "--heartbeat=1")
    slow = websocket(server, "/flood", max_size=None, max_queue=1)
    try:
        with websocket(server, "/") as other:
            other.send("x")
            assert other.recv(PATIENCE) == b"x"
        body = until(server, "/ended", b"flood:")
        assert int(body.partition(b":")[2]) < 500  # 64 KiB each: what the kernels hold
    finally:
        slow.socket.close()


def test_clients_that_leave_or_answer_no_ping(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    An application that waits gets an OSError when its client disconnects, closes the websocket,
    or does not answer pings.
    """
    server = start(daemon, tmp_path, KINDS, "--heartbeat=1", "--websocket-tolerance=1")
    left = websocket(server, "/hold")
    silent = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    silent.sendall(HANDSHAKE)
    with websocket(server, "/hold"):
        pass  # closed by the closing handshake
    left.socket.close()
    until(server, "/ended", b"held held held")
    silent.close()


def test_an_exception_closes_with_1011(serve: Any, tmp_path: Path) -> None:
    """
    An exception of the application closes the websocket with 1011; the log has the traceback.
    """
    from tests.real.conftest import TWISTD, free_port

    (tmp_path / "sockets.py").write_text(KINDS)
    port = free_port()
    options = [f"--port={port}", "--route=^/ wsgi:sockets:application"]
    server = serve([*TWISTD, "realtime", *options], port, None, {"PYTHONPATH": str(tmp_path)})
    with websocket(server, "/raise") as client:
        client.send("x")
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(PATIENCE)
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1011
    assert "KeyError" in server.log


def test_more_websockets_than_threads(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A websocket beyond `wsgi-websockets` is refused with 503; pages are served, and the place is
    free again when a client leaves. Pages of other origins are refused with 403.
    """
    server = start(daemon, tmp_path, ECHO, "--wsgi-websockets=2", "--stop-seconds=1")
    first, second = websocket(server, "/foobar/"), websocket(server, "/foobar/")
    with pytest.raises(InvalidStatus) as caught:
        websocket(server, "/foobar/")
    assert caught.value.response.status_code == 503
    assert page(server, "/") == b"a page"
    first.close()
    until_open(server, 1)
    with pytest.raises(InvalidStatus) as caught:
        websocket(server, "/foobar/", origin="http://other.example")
    assert caught.value.response.status_code == 403
    closed: list[int] = []

    def wait() -> None:
        try:
            second.recv(PATIENCE)
        except ConnectionClosed as error:
            closed.append(error.rcvd.code if error.rcvd else 0)

    thread = threading.Thread(target=wait)
    thread.start()
    began = time.monotonic()
    server.stop()
    thread.join(PATIENCE)
    assert closed == [1001]
    assert time.monotonic() - began < 5


def test_flask_uwsgi_websocket(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Flask-uWSGI-WebSocket runs unchanged.
    """
    command = "pip install --no-deps Flask-uWSGI-WebSocket==0.6.1"
    require_module("flask_uwsgi_websocket", command)
    server = start(daemon, tmp_path, FLASK)
    with websocket(server, "/echo") as client:
        client.send("text")
        assert client.recv(PATIENCE) == "text"
        assert page(server, "/") == b"a page"
