"""
`python -m benchmarks.plain_out`: what a plain copy of each message costs redis (`redis-plain-out`).

publish.lua is called as a node calls it, and redis reports its own CPU time. Nodes are
connections that are subscribed to both names of the channel.
"""

from __future__ import annotations

import argparse
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import hiredis

from benchmarks import backing
from benchmarks.machine import cores
from rt_twisted.brokers.redis.copies import CopyNames
from rt_twisted.brokers.redis.scripts import HELLO, PUBLISH, Script
from rt_twisted.model.message import Draft

MESSAGES = 10_000  # in one measurement
DATA = b"x" * 100
KEYS = ("realtime:", "realtime:0:")
BOUNDS = (256, 3_600_000, 1 << 20)
NAMES = {"no": b"", "same": b"news", "out.": b"out.news"}


class Connection:
    """
    A connection to redis that waits for each answer.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def ask(self, *words: Any) -> Any:
        """
        Send a command and return its answer.
        """
        pack: Any = hiredis.pack_command
        self.socket.sendall(pack(words))
        while (answer := self._reader.gets()) is False:
            self._reader.feed(self.socket.recv(1 << 16))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def info(self, section: str) -> dict[str, str]:
        """
        Return what redis reports of *section*.
        """
        lines = self.ask("INFO", section).decode().splitlines()
        return {name: value for name, _, value in (line.partition(":") for line in lines)}

    def run(self, script: Script, *arguments: Any) -> Any:
        """
        Run a script of the broker.
        """
        return self.ask("EVALSHA", script.digest, 2, *KEYS, *arguments)


@contextmanager
def subscribers(port: int, count: int) -> Iterator[None]:
    """
    Subscribe *count* connections to both names of the channel, and discard what they receive.
    """
    connections = [Connection(port) for _ in range(count)]
    for connection in connections:
        connection.ask("SUBSCRIBE", f"{KEYS[1]}m:news", "news")
        Thread(target=_discard, args=(connection.socket,), daemon=True).start()
    try:
        yield
    finally:
        for connection in connections:
            connection.socket.shutdown(socket.SHUT_RDWR)
            connection.socket.close()


def _discard(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        pass


def measure(connection: Connection, out: str, batch: int) -> float:
    """
    Return the microseconds of redis' CPU for one message, published in batches.
    """
    run = connection.info("server")["run_id"]
    copies = CopyNames(KEYS[0], True, "", out)
    draft = Draft("news", DATA)
    arguments = (run, *BOUNDS, copies.announcement)
    one = ("news", DATA, b"", b"", copies.of_draft(draft))
    before = _cpu(connection)
    for _ in range(MESSAGES // batch):
        connection.run(PUBLISH, *arguments, *one * batch)
    return (_cpu(connection) - before) / MESSAGES * 1e6


def _cpu(connection: Connection) -> float:
    found = connection.info("cpu")
    return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])


def main() -> None:
    """
    Measure, in rounds that alternate, and print the least of each: other work only adds to it.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
        server = stack.enter_context(backing.redis(folder, cores()[1]))
        connection = Connection(server.port)
        run = connection.info("server")["run_id"]
        for script in (HELLO, PUBLISH):
            connection.ask("SCRIPT", "LOAD", script.text)
        connection.run(HELLO, run, secrets.token_hex(4), "", 0, 0)
        print("| messages in one script | nodes | " + " | ".join(NAMES) + " |")
        print("| --- | --- |" + " --- |" * len(NAMES))
        for batch in (100, 1):
            for nodes in (0, 1, 3):
                with subscribers(server.port, nodes):
                    found: dict[str, list[float]] = {out: [] for out in NAMES}
                    for _ in range(rounds):
                        for out, costs in found.items():
                            costs.append(measure(connection, out, batch))
                shown = " | ".join(f"{min(costs):.1f} us" for costs in found.values())
                print(f"| {batch} | {nodes} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
