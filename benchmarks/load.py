"""
Interface to the two C programs that send requests to a server.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO

from benchmarks.machine import SetupError, times
from benchmarks.servers import Running

_FAULTS = ("lost", "repeated", "disordered", "strayed", "closed", "refused")
_SETTLE = 0.05  # s, for the server's work after the last delivery


class DeliveryError(Exception):
    """
    A server lost, repeated, reordered, misdirected or refused something.
    """


@dataclass(frozen=True, slots=True)
class LoadResult:
    """
    Cost of a command to the load.

    `seconds`, `server_cpu`, `server_waited` (for a core that others used), `load_cpu` and `others`
    (CPU of the other watched processes) are in s; `latencies` in ms, by the names of load.c.
    """

    count: int
    deliveries: int
    seconds: float
    server_cpu: float
    server_waited: float
    load_cpu: float
    latencies: dict[str, float]
    others: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """
    Subscribers and publishers of one running server; load.c describes the commands.

    `watched` are further processes whose CPU is measured, by name.
    """

    running: Running
    process: subprocess.Popen[str]
    watched: Mapping[str, int] = field(default_factory=dict)

    def use(self, letter: str, count: int) -> None:
        """
        Set the channels of the next commands.

        Args:
            letter: not used before with this server; the channels are letter0, letter1, ...
            count: number of channels.
        """
        self._command(f"use {letter} {count}")

    def by(self, method: str) -> None:
        """
        Set how the next messages are published.

        Args:
            method: `http`, `websocket` (a connection per request in flight, to the first channel
                in use), `redis` or `amqp` (bypassing the daemon).
        """
        self._command(f"by {method}")

    def open(self, count: int) -> LoadResult:
        """
        Open subscribers on the channels in turn, and wait until all have their response heads.
        """
        return self._command(f"open {count}")

    def publish(self, count: int, inflight: int = 1, lines: int = 1, depth: int = 1) -> LoadResult:
        """
        Publish to the channels in turn; each request is sent when all subscribers have the messages
        of the one before.

        Args:
            count: messages.
            inflight: connections with requests in flight.
            lines: messages per request.
            depth: requests on each connection, sent together.
        """
        return self._command(f"publish {count} {inflight} {lines} {depth}")

    def pace(self, count: int, rate: float) -> LoadResult:
        """
        Publish at a fixed rate, without waiting for deliveries.

        Args:
            count: messages.
            rate: messages a second.

        Returns:
            the result, with latencies.
        """
        return self._command(f"pace {count} {rate}")

    def _command(self, command: str) -> LoadResult:
        """
        Run a command, and return its result.

        Raises:
            DeliveryError: a delivery was wrong, or the server ended.
            SetupError: the load ended.
        """
        try:
            before = times(self.running.pid)
            others = {name: times(pid).ran for name, pid in self.watched.items()}
            answer = json.loads(_send(self.process, command))
            time.sleep(_SETTLE)
            after = times(self.running.pid)
            others = {name: times(self.watched[name]).ran - ran for name, ran in others.items()}
        except (FileNotFoundError, ProcessLookupError) as error:
            raise DeliveryError(f"{command}: the server ended") from error
        counts = {name: answer.pop(name) for name in _FAULTS}
        faults = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        if faults:
            raise DeliveryError(f"{command}: {faults}")
        fields_of_result = {
            one.name: answer.pop(one.name) for one in fields(LoadResult) if one.name in answer
        }
        return LoadResult(
            server_cpu=after.ran - before.ran,
            server_waited=after.waited - before.waited,
            latencies=answer,
            others=others,
            **fields_of_result,
        )


@contextmanager
def loading(
    program: Path,
    running: Running,
    further: Sequence[Running] = (),
    words: Sequence[str] = (),
    watched: Mapping[str, int] | None = None,
) -> Iterator[Load]:
    """
    Start the load for a server, and stop it with all its connections at the end.

    Args:
        program: load.c, compiled.
        running: the server that is measured.
        further: servers with the same dialect; subscribers are distributed over all servers.
        words: further arguments of load.c.
        watched: processes whose CPU is measured, by name.
    """
    dialect = running.server.dialect
    words_of_dialect = [f"{one.name}={getattr(dialect, one.name)}" for one in fields(dialect)]
    ports = ",".join(str(one.port) for one in (running, *further))
    with _piped([str(program), f"port={ports}", *words_of_dialect, *words]) as process:
        yield Load(running, process, watched or {})


@contextmanager
def probing(program: Path, running: Running) -> Iterator[dict[str, float]]:
    """
    Send small requests to a server during other work; see probe.c.

    Returns:
        count, and p50, p99, max in ms; empty until the context ends.
    """
    waits: dict[str, float] = {}
    with _piped([str(program), str(running.port), running.server.stranger]) as process:
        yield waits
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        waits.update(json.loads(_line(process.stdout)))


@contextmanager
def _piped(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            if end:
                end.close()


def _send(process: subprocess.Popen[str], command: str) -> str:
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(f"{command}\n")
        process.stdin.flush()
    except BrokenPipeError as error:
        raise SetupError(f"The load ended before: {command}") from error
    return _line(process.stdout)


def _line(output: IO[str]) -> str:
    line = output.readline()
    if not line:
        raise SetupError("The load ended without a result; see above.")
    return line
