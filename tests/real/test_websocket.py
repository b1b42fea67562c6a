"""
Websockets with the `websockets` library, wsproto and Chromium, against a daemon that is
started as users start it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
import websockets
import websockets.sync.client
import wsproto
import wsproto.events
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.pems import Authority
from tests.real.conftest import PATIENCE, ROOT, Browser, Serve, Server, StartDaemon, free_port
from tests.real.test_proxies import haproxy, nginx
from tests.unit.actions.websocket.daemon import HANDSHAKE
from tests.unit.codecs.websocket_frames import masked

EXAMPLES = ROOT / "examples"
OWN = {"PYTHONPATH": str(EXAMPLES)}
ECHO = "--route=^/echo$ websocket:app=echo.Echo"
WS = "--route=^/ws$ websocket"
PUBLISH = "--route=^/publish$ publish"
STATS = "--route=^/stats$ stats"
KIB = 1024


def url(server: Server, path: str) -> str:
    """
    Return the URL of a websocket.
    """
    return f"ws://127.0.0.1:{server.port}{path}"


def connect(server: Server, path: str, **more: Any) -> Any:
    """
    Connect a client of the `websockets` library, with time limits.
    """
    more.setdefault("max_size", None)
    return websockets.sync.client.connect(url(server, path), open_timeout=PATIENCE, **more)


def code_of(client: Any) -> int:
    """
    Return the close code of the server.
    """
    code: int = client.protocol.close_rcvd.code
    return code


def receive(client: Any) -> Any:
    """
    Return the next message, parsed if it is a JSON object.
    """
    received = client.recv(PATIENCE)
    return json.loads(received) if isinstance(received, str) and received[:1] == "{" else received


def publish(server: Server, message: bytes, channel: str = "news", key: str = "") -> dict[str, Any]:
    """
    Publish any bytes by POST.
    """
    request = urllib.request.Request(f"{server.url}/publish?channel={channel}", message)
    request.add_header("Content-Type", "application/octet-stream")
    if key:
        request.add_header("Idempotency-Key", key)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def stats(server: Server) -> Any:
    """
    Return all statistics.
    """
    with urllib.request.urlopen(f"{server.url}/stats?format=full", timeout=PATIENCE) as response:
        return json.load(response)


def until(true: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """
    Wait until *true* returns a true value, and return it.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = true()
        if value:
            return value
        assert time.monotonic() < deadline, true
        time.sleep(0.02)


def raw(server: Server, path: str, extra: bytes = b"") -> socket.socket:
    """
    Open a websocket on a bare socket, with *extra* sent right behind the handshake.
    """
    plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    plain.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n".encode() + extra)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = plain.recv(1)
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101 "), head
    return plain


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websockets_client_subscribes_and_publishes(
    daemon: StartDaemon, compression: str | None
) -> None:
    """
    Subscribe, publish, receive, ping and close: text and bytes, small and large.
    """
    server = daemon()
    with connect(server, "/ws?channels=news", compression=compression) as client:
        assert receive(client)["type"] == "position"
        for data in ("ü" * 10, "x" * 5000, "é€" * 30_000):
            client.send(json.dumps({"type": "publish", "channel": "news", "message": data}))
            assert receive(client)["data"] == data
        publish(server, b"\xff\x00")
        assert receive(client)["base64"] == "/wA="
        assert client.ping().wait(PATIENCE)
        client.close(4000, "enough")
    assert code_of(client) == 4000
    until(lambda: stats(server)["readers"]["now"] == 0)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_an_echo_of_16_mib(daemon: StartDaemon, compression: str | None) -> None:
    """
    The example application echoes messages of the limit's size, whole and fragmented. A
    larger one is refused with 1009, and the daemon's memory stays bounded.
    """
    size = 16 << 20
    server = daemon(ECHO, STATS, f"--websocket-message={size}", environment=OWN)
    data = random.Random(1).randbytes(1 << 20) * 16
    with connect(server, "/echo", compression=compression) as client:
        client.send(data)
        assert client.recv(PATIENCE) == data
        client.send(data[at : at + (1 << 20)] for at in range(0, size, 1 << 20))
        assert client.recv(PATIENCE) == data
        client.send("text")
        assert client.recv(PATIENCE) == "text"
        with suppress(ConnectionClosed):  # the close frame may arrive while the library still sends
            client.send(data + b"!")
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE)
        assert code_of(client) == 1009
    assert _rss(server.pid) < 300 << 20


def test_wsproto(daemon: StartDaemon) -> None:
    """
    The library wsproto agrees on handshake, compression, fragments, pings and close.
    """
    from wsproto.extensions import PerMessageDeflate

    server = daemon(ECHO, environment=OWN)
    client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    request = wsproto.events.Request(
        "localhost", "/echo", extensions=[PerMessageDeflate()], subprotocols=["mqtt"]
    )
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
        plain.sendall(client.send(request))

        def events() -> Iterator[Any]:
            while True:
                yield from client.events()
                client.receive_data(plain.recv(65536) or None)

        received = events()
        accepted = next(received)
        assert isinstance(accepted, wsproto.events.AcceptConnection)
        assert accepted.subprotocol == "mqtt"  # a browser requires one of those it offered
        assert len(accepted.extensions) == 1
        for piece, last in (("x" * 600, False), ("y" * 600, True)):
            plain.sendall(client.send(wsproto.events.TextMessage(piece, message_finished=last)))
        assert next(received).data == "x" * 600 + "y" * 600
        plain.sendall(client.send(wsproto.events.Ping(b"?")))
        assert next(received) == wsproto.events.Pong(b"?")
        plain.sendall(client.send(wsproto.events.CloseConnection(1000, "bye")))
        assert next(received) == wsproto.events.CloseConnection(1000, "bye")
        assert plain.recv(100) == b""


def test_frame_in_the_segment_of_the_handshake(daemon: StartDaemon) -> None:
    """
    A frame in the same segment as the handshake is processed.
    """
    server = daemon(ECHO, environment=OWN)
    with raw(server, "/echo", masked(1, b"early")) as plain:
        assert plain.recv(100) == b"\x81\x05early"


def test_split_frame_belongs_to_its_client(daemon: StartDaemon) -> None:
    """
    Frames of other clients between its header and its payload do not matter, nor clients
    that disconnect there.
    """
    server = daemon(ECHO, environment=OWN)
    slow = masked(1, b"slow")
    with raw(server, "/echo") as first, raw(server, "/echo") as second:
        first.sendall(slow[:-4])
        second.sendall(masked(1, b"quick"))
        assert second.recv(100) == b"\x81\x05quick"
        for _ in range(3):
            with raw(server, "/echo") as gone:
                gone.sendall(slow[:-4])
        second.sendall(masked(1, b"again"))
        assert second.recv(100) == b"\x81\x05again"
        first.sendall(slow[-4:])
        assert first.recv(100) == b"\x81\x04slow"


def test_sending_client_receives_the_close_frame(daemon: StartDaemon) -> None:
    """
    A client that is still sending loses no close frame to a connection reset.
    """
    server = daemon(ECHO, "--websocket-message=1k", environment=OWN)
    with raw(server, "/echo") as plain:
        plain.sendall(masked(2, bytes(2000)) + bytes(1_000_000))
        received = b""
        while piece := plain.recv(65536):
            received += piece

    assert received[:4] == b"\x88" + bytes([len(received) - 2]) + (1009).to_bytes(2, "big")


def test_tls(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The same works over wss: large messages, limits, and a stop of the daemon.
    """
    authority = Authority(tmp_path)
    certificate, key = authority.pair("server", "localhost", "127.0.0.1")
    port = free_port()
    server = daemon(
        ECHO,
        WS,
        PUBLISH,
        "--use-ssl=1",
        f"--ssl-port={port}",
        f"--ssl-cert={certificate}",
        f"--ssl-key={key}",
        "--websocket-message=4m",
        environment=OWN,
    )
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    base = f"wss://127.0.0.1:{port}"
    open_ = websockets.sync.client.connect
    data = random.Random(1).randbytes(4 << 20)
    with open_(f"{base}/echo", ssl=trust, max_size=None, open_timeout=PATIENCE) as client:
        client.send(data)
        assert client.recv(PATIENCE) == data
        with suppress(ConnectionClosed):
            client.send(data + b"!")
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE)
        assert code_of(client) == 1009
    with open_(f"{base}/ws?channels=news", ssl=trust, open_timeout=PATIENCE) as client:
        receive(client)
        publish(server, b"x" * 100_000)
        assert receive(client)["data"] == "x" * 100_000
        assert server.kill(SIGTERM) == 0
        with pytest.raises(ConnectionClosed):
            client.recv(PATIENCE)
        assert code_of(client) == 1001


def test_stop_closes_with_1001(daemon: StartDaemon) -> None:
    """
    All clients get 1001 with a retry delay of their own, and the daemon exits with 0.
    """
    server = daemon(WS, "--route=^/raw$ websocket:news")
    reasons = set()
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server, path)) for path in ("/ws", "/raw") * 5]
        for client in clients[::2]:
            receive(client)
        assert server.kill(SIGTERM) == 0
        for client in clients:
            with pytest.raises(ConnectionClosed):
                client.recv(PATIENCE)
            assert code_of(client) == 1001
            reasons.add(client.protocol.close_rcvd.reason)
    assert len(reasons) == 10
    assert all(2000 <= int(reason.removeprefix("retry=")) <= 4000 for reason in reasons)


def test_silent_client_is_disconnected(daemon: StartDaemon) -> None:
    """
    In real time: a client that answers pings stays, one that does not gets 1011.
    """
    server = daemon("--heartbeat=1", "--websocket-tolerance=1")
    with connect(server, "/ws") as client, raw(server, "/ws") as silent:
        received = b""
        while b"\x88" not in received:
            piece = silent.recv(1000)
            assert piece
            received += piece
        assert b"\x89\x00" in received
        assert received.endswith((1011).to_bytes(2, "big") + b"no answer to a ping")
        assert client.ping().wait(PATIENCE)


@pytest.mark.parametrize(("proxy", "path"), [(nginx, "/sse/ws"), (haproxy, "/ws")])
def test_through_a_proxy(
    proxy: Any, path: str, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    With the example open_files: the page's Origin is compared with the requested host, messages
    pass in both directions, and proxied clients are not local.
    """
    server = daemon("--trusted-proxies=127.0.0.1")
    front = proxy(serve, server.port, tmp_path)
    plain = f"http://127.0.0.1:{front.port}{path.removesuffix('ws')}healthz"
    until(lambda: _answers(plain))  # haproxy checks the daemon first
    page = f"http://127.0.0.1:{front.port}"
    with connect(front, f"{path}?channels=news", origin=page) as client:
        assert receive(client)["type"] == "position"
        publish(server, b"hello")
        assert receive(client)["data"] == "hello"
        client.send(json.dumps({"type": "publish", "id": 1, "channel": "news", "message": "x"}))
        assert receive(client)["status"] == 403
        assert client.ping().wait(PATIENCE)
    with pytest.raises(InvalidStatus, match="403"), connect(front, path, origin="http://evil"):
        pass


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as response:
            return bool(response.status == 200)
    except OSError:
        return False


class ResumingClient:
    """
    A client that resumes by the rule of docs/websocket.md, and cuts its connection at
    random.

    Args:
        server: the daemon.
        count: how many messages it has to receive.
    """

    def __init__(self, server: Server, count: int) -> None:
        self.received: list[str] = []
        self.gaps = 0
        self.cuts = 0
        self._server = server
        self._count = count
        self._position = ""

    @property
    def joined(self) -> bool:
        """
        Whether it has a position from which to resume.
        """
        return bool(self._position)

    async def run(self) -> None:
        """
        Reconnect and receive until all messages have arrived.
        """
        chance = random.Random(7)
        while len(self.received) < self._count:
            since = f"&since={self._position}" if self._position else ""
            try:
                client = await websockets.connect(
                    url(self._server, f"/ws?channels=news{since}"), open_timeout=2
                )
            except (OSError, TimeoutError, websockets.exceptions.InvalidMessage, InvalidStatus):
                await asyncio.sleep(0.05)
                continue
            left = chance.randrange(1, 80)
            try:
                while left and len(self.received) < self._count:
                    self._take(json.loads(await asyncio.wait_for(client.recv(), PATIENCE)))
                    left -= 1
            except ConnectionClosed:
                pass
            self.cuts += 1
            client.transport.abort()

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "gap":
            self.gaps += 1
        if message["type"] == "message":
            self.received.append(message["data"])
        self._position = message.get("position", self._position)


def test_nothing_is_lost_or_repeated_over_cuts(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Connections are reset and the daemon is killed while messages are published, by
    websocket and by POST. Each subscriber receives each message once, in order.
    """
    count = 1500
    server = daemon(f"--history-file={tmp_path / 'log'}", "--history=5000", "--websocket-rate=0")
    subscribers = [ResumingClient(server, count) for _ in range(5)]

    def publish_all() -> None:
        while not all(subscriber.joined for subscriber in subscribers):
            time.sleep(0.05)
        for number in range(count):
            while not _is_published(server, number):
                time.sleep(0.05)
            if number in (count // 3, 2 * count // 3):
                server.restart(SIGKILL)

    async def listen() -> None:
        await asyncio.wait_for(
            asyncio.gather(*[subscriber.run() for subscriber in subscribers]), 100
        )

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish_all)
        try:
            asyncio.run(listen())
        except TimeoutError:
            if publishing.done():
                publishing.result()  # raise the error of the publisher
            raise
        publishing.result(PATIENCE)

    for subscriber in subscribers:
        assert subscriber.received == [str(number) for number in range(count)]
        assert subscriber.gaps == 0
        assert subscriber.cuts > 20


def _is_published(server: Server, number: int) -> bool:
    """
    Publish *number*, every tenth by websocket; return False if it has to be repeated.
    """
    try:
        if number % 10:
            return bool(publish(server, str(number).encode(), key=str(number)))
        with connect(server, "/ws") as client:
            fields = {"channel": "news", "message": str(number), "idempotency_key": str(number)}
            client.send(json.dumps({"type": "publish", "id": number, **fields}))
            while (received := receive(client)).get("id") != number:
                pass
            return bool(received["type"] == "ack")
    except (OSError, TimeoutError, ConnectionClosed, websockets.exceptions.InvalidMessage):
        return False


def test_slow_consumer_is_disconnected(daemon: StartDaemon) -> None:
    """
    As with event streams: it is disconnected over the backlog limit, and others receive
    all.
    """
    server = daemon(WS, PUBLISH, STATS, "--backlog-bytes=64k", "--websocket-message=8m")
    with raw(server, "/ws?channels=news"), connect(server, "/ws?channels=news") as client:
        receive(client)
        sent = 0
        while not stats(server)["readers"]["closed"].get("behind"):
            publish(server, b"x" * 500_000)
            assert len(receive(client)["data"]) == 500_000
            sent += 1
            assert sent < 100


@contextmanager
def open_files(count: int) -> Iterator[None]:
    """
    Raise the limit of open files to *count*.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[0] < count:
        if before[1] < count:
            pytest.skip(f"{before[1]} open files are allowed, {count} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("path", ["/ws?channels=news", "/raw"])
def test_thousands_of_idle_subscribers_receive_one_broadcast(
    daemon: StartDaemon, path: str
) -> None:
    """
    Each of 3,000 subscribers takes no more than 3 KiB, and all receive the same bytes.
    """
    count, warm = 3000, 300
    server = daemon(WS, "--route=^/raw$ websocket:news", PUBLISH)
    with open_files(count + 500):
        sockets = [raw(server, path) for _ in range(warm)]
        before = _rss(server.pid)
        sockets += [raw(server, path) for _ in range(count - warm)]
        grown = (_rss(server.pid) - before) / (count - warm)
        answer = publish(server, b"hello")
        for plain in sockets:
            received = b""
            while b"hello" not in received:
                received += plain.recv(1000)
            plain.close()

    assert answer["receivers"] == count
    assert grown <= 3 * KIB, f"{grown:.0f} bytes per subscriber"


def test_a_page_in_chromium(daemon: StartDaemon, browser: Browser) -> None:
    """
    The browser's WebSocket: text and bytes, compression, close codes, subprotocols.
    """
    server = daemon(
        ECHO,
        "--route=^/v2$ websocket:app=echo.Echo,subprotocol=v1,subprotocol=v2",
        WS,
        "--route=^/try$ page",
        environment=OWN,
    )
    browser.open(f"{server.url}/try")
    base = f"ws://127.0.0.1:{server.port}"

    assert browser.evaluate(
        f"""new Promise(done => {{
            const socket = new WebSocket('{base}/echo'), received = [];
            socket.binaryType = 'arraybuffer';
            socket.onopen = () => {{
                socket.send('ü'.repeat(1000));
                socket.send(new Uint8Array([0, 255, 128]));
            }};
            socket.onmessage = ({{data}}) => {{
                received.push(typeof data === 'string' ? data.length : [...new Uint8Array(data)]);
                if (received.length === 2) socket.close(4321, 'enough');
            }};
            socket.onclose = ({{code, reason, wasClean}}) =>
                done([...received, socket.extensions.split(';')[0], code, reason, wasClean]);
        }})"""
    ) == [1000, [0, 255, 128], "permessage-deflate", 4321, "enough", True]
    assert (
        browser.evaluate(
            f"""new Promise(done => {{
            const socket = new WebSocket('{base}/v2', ['v3', 'v2']);
            socket.onopen = () => done(socket.protocol);
            socket.onclose = () => done('closed');
        }})"""
        )
        == "v2"
    )


def test_a_page_sends_its_key_as_a_subprotocol(daemon: StartDaemon, browser: Browser) -> None:
    """
    Chromium opens the websocket, gets the other subprotocol, and may publish. Without a key
    it gets any subprotocol that it offers.
    """
    server = daemon("--http-secret=s3cret")
    browser.open(f"{server.url}/try")
    ask = """new Promise(done => {
        const socket = new WebSocket('ws://127.0.0.1:%d/ws', %s);
        socket.onopen = () => socket.send(
            JSON.stringify({type: 'publish', id: 1, channel: 'news', message: 'x'}));
        socket.onmessage = ({data}) => {
            const said = JSON.parse(data);
            if (said.id) done([socket.protocol, said.type, said.status || 0]);
        };
        socket.onclose = ({code}) => done(code);
    })"""

    key = ["realtime", "key.czNjcmV0"]
    assert browser.evaluate(ask % (server.port, key)) == ["realtime", "ack", 0]
    assert browser.evaluate(ask % (server.port, key[::-1])) == ["realtime", "ack", 0]
    assert browser.evaluate(ask % (server.port, ["chat", "x"])) == ["chat", "error", 403]
    assert browser.evaluate(ask % (server.port, key[1:])) == 1006


def test_page_of_another_host_gets_no_websocket(daemon: StartDaemon, browser: Browser) -> None:
    """
    Chromium sends the page's Origin; a page from another port of the same host is allowed.
    """
    server, other = daemon(), daemon()
    opened = """new Promise(done => {
        const socket = new WebSocket('ws://127.0.0.1:%d/ws');
        socket.onopen = () => done('open');
        socket.onclose = () => done('refused');
    })"""

    browser.open(f"http://localhost:{other.port}/try")
    assert browser.evaluate(opened % server.port) == "refused"
    browser.open(f"{other.url}/try")
    assert browser.evaluate(opened % server.port) == "open"


CHAT = "[...document.querySelectorAll('#said li')].map(line => line.textContent)"
SEND = """(() => {
    document.querySelector('#text').value = %s;
    document.querySelector('#form').requestSubmit();
    return true;
})()"""


@pytest.mark.parametrize("name", ["websocket_chat", "websocket_chat_inverse"])
def test_chat_examples(daemon: StartDaemon, browser: Browser, tmp_path: Path, name: str) -> None:
    """
    A message appears in the page of the example, which reconnects after a restart.
    """
    page = tmp_path / "websocket_chat.html"
    page.write_bytes((EXAMPLES / page.name).read_bytes())
    config = str(EXAMPLES / f"{name}.conf")
    server = daemon(f"--config={config}", "--retry=0.2", folder=tmp_path)
    inverse = name.endswith("inverse")
    words = "olleh" if inverse else "hello"
    with _inverter(server, inverse):
        browser.open(server.url)
        browser.wait_for("document.querySelector('#state').textContent === 'connected'")
        browser.evaluate(SEND % '"hello"')
        browser.wait_for(f"{CHAT}.includes('me: {words}')")
        server.restart(SIGTERM)
        browser.wait_for("document.querySelector('#state').textContent !== 'connected'")
        browser.wait_for("document.querySelector('#state').textContent === 'connected'")
        if inverse:
            until(lambda: _inverter_listens(server))
        browser.evaluate(SEND % '"again"')
        browser.wait_for(f"{CHAT}.includes('me: {'niaga' if inverse else 'again'}')")
    assert [line for line in browser.console() if "Uncaught" in line] == []


def _inverter_listens(server: Server) -> bool:
    """
    Return whether inverter.py is subscribed.
    """
    return bool(publish(server, b"x: probe", channel="said")["receivers"])


@contextmanager
def _inverter(server: Server, starts: bool) -> Iterator[None]:
    import subprocess
    import sys

    if not starts:
        yield
        return
    command = [sys.executable, str(EXAMPLES / "inverter.py"), server.url]
    with subprocess.Popen(command) as worker:
        try:
            until(lambda: _inverter_listens(server))
            yield
        finally:
            worker.kill()
