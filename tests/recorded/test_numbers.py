"""
Names and types of all numbers: `/stats`, `/metrics` and what goes to Graphite.
"""

from __future__ import annotations

import pickle
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import PATIENCE, Server
from tests.recorded.conftest import Check, run_daemon
from tests.recorded.peers import HttpPeer, SilentPeers, WebSocketPeer, get, publish
from tests.recorded.transcript import Transcript

FULL = "/stats?format=full"


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Server]:
    """
    A daemon that has counted something of most kinds.
    """
    daemon = run_daemon(tmp_path, "--max-readers=4", "--stop-seconds=1")
    server = next(daemon)
    with SilentPeers() as peers:
        use(server, peers)
        yield server
    with pytest.raises(StopIteration):
        next(daemon)


def use(server: Server, peers: SilentPeers) -> None:
    """
    Read, publish, leave, and be refused for all kinds of reasons.
    """
    for path in ("/?channels=a,b", "/stream?channels=a"):
        http = peers.add(HttpPeer(server))
        http.send(f"GET {path}")
        http.receive("^")
    WebSocketPeer(peers.add(HttpPeer(server)), "/ws?channels=b").receive()
    with HttpPeer(server) as http:  # leaves again
        http.send("GET /?channels=c")
        http.receive("id: ")
        for _ in range(3):
            get(server, "/?channels=c")  # refused: no place
    while get(server, FULL).json()["readers"]["now"] > 3:
        pass
    for channel in ("a", "a", "b", "c", "d"):
        publish(server, channel, "message")
    get(server, "/?channels=a*")
    get(server, "/?channels=a&since=00000000.7&evs_buffer_size_limit=1")
    with HttpPeer(server) as http:
        http.ask("POST /publish", "X-Forwarded-For: 10.0.0.1", body="x")
    with HttpPeer(server) as http:
        http.ask("POST /publish", body="x")


def shape(value: Any, where: str = "") -> Iterator[str]:
    """
    A line for each field of a JSON value, with its type; one for all items of a list.
    """
    if isinstance(value, dict) and value:
        for name in value:
            yield from shape(value[name], f"{where}.{name}" if where else name)
        return
    if isinstance(value, list) and value:
        lines = {line: None for item in value for line in shape(item, f"{where}[]")}
        yield from lines
        return
    kind = {int: "whole number", float: "number", str: "text", bool: "truth", dict: "empty object",
            list: "empty list", type(None): "null"}[type(value)]  # fmt: skip
    yield f"{where}: {kind}"


def test_stats(busy: Server, check: Check) -> None:
    """
    Fields of `/stats` in all its forms.
    """
    record = Transcript()
    for path in ("/stats", FULL, "/stats?channel=a&channel=none", f"{FULL}&channel=a&channel=none",
                 "/stats?format=counts"):  # fmt: skip
        record.title(path)
        response = get(busy, path)
        record.add(f"{response.status} {response.get('Content-Type')}")
        if path == FULL or "full" in path:
            for line in shape(response.json()):
                record.add(line)
        else:
            record.received(response.body)
    record.title("refused")
    for path in ("/stats?format=xml", "/stats?channel=a*", "/stats?format=json"):
        record.add(f"{path}: {get(busy, path).status}")
    check("stats.txt", record)


def test_metrics(busy: Server, check: Check) -> None:
    """
    Names, types and labels of `/metrics`; values of labels where they are ours.
    """
    record = Transcript()
    with HttpPeer(busy, record) as http:
        response = http.ask("GET /metrics", hide=True)
    with HttpPeer(busy, record) as http:
        http.ask("GET /metrics", "Accept: application/openmetrics-text", hide=True)
    for line in response.body.decode().splitlines():
        if not line.startswith("# HELP"):
            sample = re.fullmatch(r"(\S+?)(\{.*\})? \S+", line)
            record.add(line if sample is None else f"{sample[1]}{sample[2] or ''}")
    check("metrics.txt", record)


@pytest.mark.parametrize("protocol", ["udp", "tcp", "pickle"])
def test_graphite(protocol: str, tmp_path: Path, check: Check) -> None:
    """
    Names that are exported, and how lines and pickles look.
    """
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with closing(socket.socket(socket.AF_INET, kind)) as carbon:
        carbon.settimeout(PATIENCE)
        carbon.bind(("127.0.0.1", 0))
        if protocol != "udp":
            carbon.listen()
        daemon = run_daemon(
            tmp_path,
            "--export=graphite",
            "--export-host=127.0.0.1",
            f"--export-port={carbon.getsockname()[1]}",
            f"--export-protocol={protocol}",
            "--export-interval=1",
            "--export-path=one.two",
            "--export-node=web.1",
            "--max-readers=4",
            "--stop-seconds=1",
        )
        server = next(daemon)
        with SilentPeers() as peers:
            use(server, peers)
            samples = receive(carbon, protocol)
            names: set[str] = set()
            seconds: set[int] = set()
            # The export that is running, the next one, which has all, and the beginning of
            # a third one.
            while len(seconds) < 3:
                name, value, second = next(samples)
                assert isinstance(value, (int, float))
                assert isinstance(second, int)
                names.add(name)
                if {"one.two.web_1.a", "one.two.web_1._daemon.fanout_seconds.p50"} <= names:
                    seconds.add(second)
        with pytest.raises(StopIteration):
            next(daemon)
    names.discard("one.two.web_1.c")  # there if an export met its subscriber
    check("graphite.txt", "".join(f"{name}\n" for name in sorted(names)))


def receive(carbon: socket.socket, protocol: str) -> Iterator[tuple[str, float, int]]:
    """
    The samples that come: name, value and second.
    """
    if protocol == "udp":
        while True:
            yield from map(parse, carbon.recv(65536).decode().splitlines())
    with carbon.accept()[0] as connection, connection.makefile("rb") as file:
        connection.settimeout(PATIENCE)
        while protocol == "tcp":
            yield parse(file.readline().decode())
        while True:
            (size,) = struct.unpack("!L", file.read(4))
            for name, (second, value) in pickle.loads(file.read(size)):
                yield name, value, second


def parse(line: str) -> tuple[str, float, int]:
    """
    The parts of a line of carbon's plaintext protocol.
    """
    name, value, second = line.split(" ")
    return name, float(value), int(second)
