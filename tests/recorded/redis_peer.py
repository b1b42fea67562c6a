"""
A client of redis that uses bytes only, and one that monitors the commands of others.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import hiredis

from tests.real.conftest import PATIENCE

SCRIPT = re.compile(r'^"EVALSHA" "[0-9a-f]{40}"')
LINE = re.compile(r"^[\d.]+ \[\d+ ([^\]]+)\] (.*)$")


class RedisPeer:
    """
    A connection that sends one command after the other.

    Args:
        port: of redis, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._reader = hiredis.Reader()

    def ask(self, *words: str | bytes | int) -> Any:
        """
        The answer to a command.
        """
        pack: Callable[[Any], bytes] = hiredis.pack_command
        self._socket.sendall(pack(words))
        return self.read()

    def read(self) -> Any:
        """
        The next answer.
        """
        while (answer := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            assert data, "redis closed the connection"
            self._reader.feed(data)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """
        Close the connection.
        """
        self._socket.close()


class Monitor:
    """
    All commands that redis gets, in its order.

    Args:
        port: of redis, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._lines = RedisPeer(port)
        self._commands = RedisPeer(port)
        self._count = 0
        assert self._lines.ask("MONITOR") == b"OK"

    def close(self) -> None:
        """
        Close both connections.
        """
        self._lines.close()
        self._commands.close()

    def ask(self, *words: str | bytes | int) -> Any:
        """
        Ask something that is not among the commands.
        """
        return self._commands.ask(*words)

    def wait(self, pattern: str) -> list[str]:
        """
        The commands up to the first that *pattern* is found in, calls of scripts with
        what these ask below them.
        """
        found: list[str] = []
        while not (found and re.search(pattern, found[-1])):
            found.append(self._next())
        return found

    def so_far(self) -> list[str]:
        """
        The commands that have come until now.
        """
        self._count += 1
        mark = f"seen {self._count}"
        self._commands.ask("ECHO", mark)
        return self.wait(f'"ECHO" "{mark}"')[:-1]

    def _next(self) -> str:
        found = LINE.match(self._lines.read().decode())
        assert found is not None
        source, command = found[1], SCRIPT.sub('"EVALSHA" "SCRIPT"', found[2])
        return f"  {command}" if source == "lua" else command


def blocks(commands: list[str]) -> list[str]:
    """
    Commands as texts: that of a script has one line for each that it asks.
    """
    found: list[str] = []
    for command in commands:
        if command.startswith("  "):
            found[-1] += f"\n{command}"
        else:
            found.append(command)
    return found
