"""
The two C programs that ask a server for work, as Python sees them.
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
_SETTLE = 0.05  # s, for what a server does after its last reader is served


class DeliveryError(Exception):
    """
    A server lost, repeated, reordered, misdirected or refused something.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a command to the load took.

    `seconds`, `server_cpu`, `server_waited` (for its core, others had it), `load_cpu` and `others`
    (the CPU of who else was watched) are in s; `latencies` in ms, by the names load.c gives them.
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
    Readers and publishers of one running server; load.c explains the commands.

    `watched` are processes whose CPU counts beside the server's, by name.
    """

    running: Running
    process: subprocess.Popen[str]
    watched: Mapping[str, int] = field(default_factory=dict)

    def use(self, letter: str, count: int) -> None:
        """
        The channels of what follows.

        Args:
            letter: not used before with this server; the channels are letter0, letter1, ...
            count: how many.
        """
        self._tell(f"use {letter} {count}")

    def by(self, way: str) -> None:
        """
        How messages are handed in from here on.

        Args:
            way: `http`, `websocket` (a connection a request in flight, to the first channel in
                use), `redis` or `amqp` (past the daemon).
        """
        self._tell(f"by {way}")

    def open(self, count: int) -> Answer:
        """
        Open readers on the channels in turn, and wait until all have their response heads.
        """
        return self._tell(f"open {count}")

    def publish(self, count: int, inflight: int = 1, lines: int = 1) -> Answer:
        """
        Publish to the channels in turn; a request is followed by the next when all readers
        have its messages.

        Args:
            count: messages.
            inflight: requests under way at a time, each on a connection of its own.
            lines: messages a request.
        """
        return self._tell(f"publish {count} {inflight} {lines}")

    def pace(self, count: int, rate: float) -> Answer:
        """
        Publish at a fixed rate, whatever arrives.

        Args:
            count: messages.
            rate: messages a second.

        Returns:
            With latencies.
        """
        return self._tell(f"pace {count} {rate}")

    def _tell(self, command: str) -> Answer:
        """
        Raises:
            DeliveryError: something happened that must not, or the server ended.
            SetupError: the load ended.
        """
        try:
            before = times(self.running.pid)
            others = {name: times(pid).ran for name, pid in self.watched.items()}
            answer = json.loads(_ask(self.process, command))
            time.sleep(_SETTLE)
            after = times(self.running.pid)
            others = {name: times(self.watched[name]).ran - ran for name, ran in others.items()}
        except (FileNotFoundError, ProcessLookupError) as error:
            raise DeliveryError(f"{command}: the server ended") from error
        counts = {name: answer.pop(name) for name in _FAULTS}
        faults = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        if faults:
            raise DeliveryError(f"{command}: {faults}")
        known = {one.name: answer.pop(one.name) for one in fields(Answer) if one.name in answer}
        return Answer(
            server_cpu=after.ran - before.ran,
            server_waited=after.waited - before.waited,
            latencies=answer,
            others=others,
            **known,
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
    Start the load for a server; end it, and so all its connections, at the end.

    Args:
        program: load.c, compiled.
        running: the server that is measured.
        further: servers that speak the same; readers are shared out among all.
        words: more of what load.c takes.
        watched: processes whose CPU counts, by name.
    """
    dialect = running.server.dialect
    said = [f"{one.name}={getattr(dialect, one.name)}" for one in fields(dialect)]
    ports = ",".join(str(one.port) for one in (running, *further))
    with _piped([str(program), f"port={ports}", *said, *words]) as process:
        yield Load(running, process, watched or {})


@contextmanager
def probing(program: Path, running: Running) -> Iterator[dict[str, float]]:
    """
    Ask a server for small things while something else is going on; probe.c says how.

    Returns:
        Filled when the context ends: count, and p50, p99, max in ms.
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


def _ask(process: subprocess.Popen[str], command: str) -> str:
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
        raise SetupError("The load ended without an answer; see above.")
    return line
