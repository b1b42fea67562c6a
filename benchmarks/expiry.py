"""
`python -m benchmarks.expiry`: how long others wait while many tokens end in the same second, or
are revoked at once.

Each client holds an event stream, with a token of its own. The probe is another process, which
sends requests on one connection.
"""

from __future__ import annotations

import argparse
import secrets
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from tempfile import TemporaryFile

import jwt

from benchmarks.access import daemon, running
from benchmarks.machine import SetupError, free_port, raise_file_limit, times

_JOINING = 0.004  # seconds for each client, so that all join before the first notice
_NOTICE = 30.0  # seconds before the end in which clients are notified
_PROBE = """
import socket, sys, time
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
until = float(sys.argv[2])
while time.time() < until:
    began = time.time()
    client.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    client.recv(65536)
    print(began, time.time() - began)
    time.sleep(0.002)
"""


def join(port: int, count: int, expires: float) -> list[socket.socket]:
    """
    Connect *count* clients, whose tokens end at *expires*, Unix time.

    Raises:
        SetupError: one is refused.
    """
    clients = []
    for number in range(count):
        claims = {"sub": "mia", "jti": str(number), "channels": ["news"], "exp": expires}
        head = f"Authorization: Bearer {jwt.encode(claims, SECRET)}\r\n"
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(f"GET / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
        response = client.recv(65536)
        if not response.startswith(b"HTTP/1.1 200"):
            raise SetupError(f"a client is refused: {response[:200]!r}")
        clients.append(client)
    return clients


def read_to_end(clients: list[socket.socket], until: float) -> list[float]:
    """
    Return when each stream has ended, Unix time; those that last until *until* have not.
    """
    ended = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map() and time.time() < until:
            for key, _ in selector.select(1.0):
                assert isinstance(key.fileobj, socket.socket)
                if not key.fileobj.recv(65536):
                    ended.append(time.time())
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    return ended


def revoke(port: int) -> None:
    """
    Revoke the tokens of all clients.
    """
    headers = {"Authorization": f"Bearer {SECRET}"}
    url = f"http://127.0.0.1:{port}/admin/revoke"
    urllib.request.urlopen(urllib.request.Request(url, b'{"sub": "mia"}', headers)).close()


SECRET = secrets.token_hex(32)


def main() -> int:
    """
    Print a table of the longest waits.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--revoke", action="store_true", help="before the tokens end")
    given = parser.parse_args()
    if raise_file_limit() < given.clients + 100:
        raise SetupError("the limit of open files is too low")
    port = free_port()
    options = ("--allow=token", f"--token-key={SECRET}", "--token-leeway=0s",
               f"--admin-key={SECRET}")  # fmt: skip
    with running(daemon(port, *options), port) as server:
        expires = time.time() + _NOTICE + 5 + _JOINING * given.clients
        clients = join(port, given.clients, expires + 3600 * given.revoke)
        quiet = time.time()
        if given.revoke:
            expires = quiet + 10
        command = (sys.executable, "-c", _PROBE, str(port), str(expires + 2))
        with (
            TemporaryFile("w+") as lines,  # a pipe would be full before the end
            subprocess.Popen(command, stdout=lines) as probe,
        ):
            before = times(server.pid).ran
            if given.revoke:
                time.sleep(5)
                revoke(port)
            ended = read_to_end(clients, expires + 2)
            used = times(server.pid).ran - before
            probe.wait()
            lines.seek(0)
            waits = [tuple(map(float, line.split())) for line in lines]
    first = min(ended)
    noticed = min(first, expires - _NOTICE - 1)
    if given.revoke:
        noticed = first
    periods = {
        "before the notices": [wait for at, wait in waits if quiet + 1 < at < noticed],
        "while clients are notified": [wait for at, wait in waits if noticed <= at < first],
        "while streams end": [wait for at, wait in waits if first <= at <= max(ended)],
    }
    print("| another client's requests | longest wait, ms | 99.9 % | requests |")
    print("| --- | --- | --- | --- |")
    for name, found in ((name, found) for name, found in periods.items() if found):
        ranked = sorted(found)
        most, high = ranked[-1] * 1e3, ranked[int(len(ranked) * 0.999)] * 1e3
        print(f"| {name} | {most:.1f} | {high:.1f} | {len(ranked)} |")
    if given.revoke:
        print(f"\n{len(ended)} of {given.clients} streams ended in {max(ended) - first:.2f} s.")
        return 0
    print(f"\n{len(ended)} of {given.clients} streams ended {expires - max(ended):.2f} s to "
          f"{expires - first:.2f} s before their tokens; "
          f"{used / given.clients * 1e6:.0f} us of CPU for each notice and end.")  # fmt: skip
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(str(error))
