"""
`python -m benchmarks.access`: what tokens, asking the application, and its hand-over, cost a
connect.

Each connect is a request on a kept connection that is answered at once: a poll without a
position. The figure is the CPU of the daemon; the application has its own process.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from timeit import timeit

import jwt

from benchmarks.machine import SetupError, free_port, times

_PATIENCE = 30.0  # s
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


def cost(pid: int, port: int, count: int, header: Callable[[int], str]) -> float:
    """
    Return the CPU of process *pid* for one of *count* requests, in microseconds.

    Args:
        pid: of the daemon.
        port: of it.
        count: how many requests.
        header: returns a header of the request with this number, with its line end; or "".

    Raises:
        SetupError: a request is refused.
    """
    requests = [
        f"GET /poll?channels=news HTTP/1.1\r\nHost: localhost\r\n{header(n)}\r\n".encode()
        for n in range(count)
    ]
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before = times(pid).ran
        for request in requests:
            client.sendall(request)
            response = b""
            while not response.endswith(b"}\n"):
                piece = client.recv(65536)
                response += piece
                if not piece or not response.startswith(b"HTTP/1.1 200"):
                    raise SetupError(f"a request is refused: {response[:200]!r}")
        return (times(pid).ran - before) / count * 1e6


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

    seen = token(0)
    made = seen.split()[2]
    figures: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        app, handing, ports = free_port(), free_port(), [free_port() for _ in range(4)]
        asked = f"--authorize=http://127.0.0.1:{app}/may"
        lines = (f"--route=^/ http:127.0.0.1:{handing}", "--internal-route=^/-/poll$ poll:news")
        with (
            running((sys.executable, "-c", _APPLICATION, str(app)), app),
            running((sys.executable, "-c", _APPLICATION, str(handing), "hand over"), handing),
            running(daemon(ports[0]), ports[0]) as plain,
            running(daemon(ports[1], "--allow=token", f"--token-key={secret}"), ports[1]) as tokens,
            running(daemon(ports[2], "--allow=app", asked), ports[2]) as asking,
            running(daemon(ports[3], *lines), ports[3]) as handed,
        ):
            rows: list[tuple[str, int, int, Callable[[int], str]]] = [
                ("open", plain.pid, ports[0], lambda n: ""),
                ("token, seen before", tokens.pid, ports[1], lambda n: seen),
                ("token, first sight (HS256)", tokens.pid, ports[1], token),
                ("application asked", asking.pid, ports[2], lambda n: f"Cookie: s={n}\r\n"),
                ("handed over", handed.pid, ports[3], lambda n: f"Cookie: s={n}\r\n"),
            ]
            for name, pid, port, header in rows:
                cost(pid, port, 200, header)  # the first requests are slower
                figures.setdefault(name, []).append(cost(pid, port, given.requests, header))
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
