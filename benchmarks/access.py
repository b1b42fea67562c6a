"""
`python -m benchmarks.access`: what tokens, asking the application, and its hand-over, cost a
connect, beside nginx' `auth_request` in front of nchan and of the daemon.

Each connect is a request on a kept connection that is answered at once: a poll without a
position. The figure is the CPU of the daemon and of nginx; the application has its own process.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from timeit import timeit

import jwt

from benchmarks.machine import SetupError, free_port, times
from benchmarks.servers import find_nginx

_PATIENCE = 30.0  # s
_FIRST = 200  # requests that do not count: they are slower
_POLL = "/poll?channels=news"
_APPLICATION = """
import asyncio, sys
class Yes(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(HEAD * data.count(b"\\r\\n\\r\\n"))
HEAD = b"HTTP/1.1 204 No Content\\r\\n\\r\\n"
if sys.argv[2:]:
    HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nX-Accel-Redirect: /-/poll\\r\\n\\r\\n"
async def main():
    server = await asyncio.get_running_loop().create_server(Yes, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""
_NGINX = """
load_module @module@;
daemon off;
master_process off;
pid nginx.pid;
error_log stderr error;
events {
    worker_connections 1000;
}
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    nchan_shared_memory_size 64M;
    upstream app {
        server 127.0.0.1:@app@;
        keepalive 32;
    }
    upstream daemon {
        server 127.0.0.1:@daemon@;
        keepalive 32;
    }
    server {
        listen 127.0.0.1:@port@;
        location = /poll {
            auth_request /auth;
            proxy_pass http://daemon;
        }
        location = /nchan {
            auth_request /auth;
            nchan_subscriber intervalpoll;
            nchan_subscriber_first_message oldest;
            nchan_channel_id news;
        }
        location = /publish {
            nchan_publisher;
            nchan_channel_id news;
        }
        location = /auth {
            internal;
            proxy_pass http://app/may;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Connection "";
            proxy_set_header X-Original-URI $request_uri;
        }
    }
}
"""


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a server until it is no longer needed.

    Raises:
        SetupError: it does not listen in time.
    """
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + _PATIENCE
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if time.monotonic() > end or process.poll() is not None:
                    raise SetupError(f"{command[0]} does not listen on port {port}.")
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()


def daemon(port: int, *options: str) -> Sequence[str]:
    """
    Return the command of the daemon.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    return (twistd, "-n", "--pidfile=", "realtime", f"--port={port}", *options)


def nginx(folder: Path, app: int, plain: int) -> tuple[Sequence[str], int]:
    """
    Return the command of nginx, which asks the application on port *app* about clients of the
    daemon on port *plain* and of nchan; and its own port.

    Raises:
        SetupError: nginx or nchan is not installed.
    """
    program, module = find_nginx()
    port = free_port()
    text = _NGINX.replace("@module@", str(module)).replace("@port@", str(port))
    text = text.replace("@app@", str(app)).replace("@daemon@", str(plain))
    (folder / "nginx.conf").write_text(text)
    return (program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"), port


def cost(
    count: int, pids: Sequence[int], port: int, header: Callable[[int], str], path: str
) -> float:
    """
    Return the CPU of the processes *pids* for one of *count* requests, in microseconds.

    Args:
        count: how many requests.
        pids: of the servers.
        port: of the first one.
        header: returns a header of the request with this number, with its line end; or "".
        path: of the requests.

    Raises:
        SetupError: a request is refused.
    """
    requests = [
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{header(n)}\r\n".encode()
        for n in range(_FIRST + count)
    ]
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = 0.0
        for number, request in enumerate(requests):
            if number == _FIRST:
                before = sum(times(pid).ran for pid in pids)
            client.sendall(request)
            response = b""
            while not response.endswith((b"}\n", b"\r\n\r\nnews")):
                piece = client.recv(65536)
                response += piece
                if not piece or not response.startswith(b"HTTP/1.1 200"):
                    raise SetupError(f"a request is refused: {response[:200]!r}")
        return (sum(times(pid).ran for pid in pids) - before) / count * 1e6


def main() -> int:
    """
    Print a table of the costs.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=5000, help="of each kind and round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    secret = secrets.token_hex(32)

    def token(number: int) -> str:
        claims = {"sub": f"u{number}", "channels": ["news"], "exp": time.time() + 3600,
                  "jti": secrets.token_hex(8)}  # fmt: skip
        return f"Authorization: Bearer {jwt.encode(claims, secret)}\r\n"

    def cookie(number: int) -> str:
        return f"Cookie: s={number}\r\n"

    seen = token(0)
    made = seen.split()[2]
    figures: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        app, handing, ports = free_port(), free_port(), [free_port() for _ in range(4)]
        asked = f"--authorize=http://127.0.0.1:{app}/may"
        lines = (f"--route=^/ http:127.0.0.1:{handing}", "--internal-route=^/-/poll$ poll:news")
        with (
            TemporaryDirectory() as folder,
            running((sys.executable, "-c", _APPLICATION, str(app)), app),
            running((sys.executable, "-c", _APPLICATION, str(handing), "hand over"), handing),
            running(daemon(ports[0]), ports[0]) as plain,
            running(daemon(ports[1], "--allow=token", f"--token-key={secret}"), ports[1]) as tokens,
            running(daemon(ports[2], "--allow=app", asked), ports[2]) as asking,
            running(daemon(ports[3], *lines), ports[3]) as handed,
        ):
            command, front = nginx(Path(folder), app, ports[0])
            with running(command, front) as proxy:
                publish = f"http://127.0.0.1:{front}/publish"
                urllib.request.urlopen(publish, b"news", _PATIENCE).close()
                both = (plain.pid, proxy.pid)
                rows = (
                    ("open", (plain.pid,), ports[0], lambda n: "", _POLL),
                    ("token, seen before", (tokens.pid,), ports[1], lambda n: seen, _POLL),
                    ("token, first sight (HS256)", (tokens.pid,), ports[1], token, _POLL),
                    ("application asked", (asking.pid,), ports[2], cookie, _POLL),
                    ("nginx auth_request + daemon", both, front, cookie, _POLL),
                    ("nginx auth_request + nchan", (proxy.pid,), front, cookie, "/nchan"),
                    ("handed over", (handed.pid,), ports[3], cookie, _POLL),
                )
                for name, pids, port, header, path in rows:
                    used = cost(given.requests, pids, port, header, path)
                    figures.setdefault(name, []).append(used)
    decode = timeit(
        lambda: jwt.decode(made, secret, ["HS256"]), timer=time.process_time, number=5000
    )
    decode *= 1e6 / 5000
    least = median(figures["open"])
    print("| connect | us | more than open |\n| --- | --- | --- |")
    for name, values in figures.items():
        print(f"| {name} | {median(values):.0f} | {median(values) - least:+.0f} |")
    print(f"| PyJWT's own decode of HS256 | {decode:.0f} | |")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(str(error))
