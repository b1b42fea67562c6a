"""
Programs that only use redis or RabbitMQ, in several languages: they publish to subscribers,
and receive what clients publish. Each is run as a user would run it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.real.conftest import ROOT, Server, StartDaemon, require
from tests.real.rabbit import Rabbit, rabbit
from tests.real.redis_server import redis, redis_commands
from tests.real.subscribers import Subscriber, disconnecting, join_all, pause, publishers, until

__all__ = ["rabbit", "redis"]  # fixtures

REDIS, AMQP = ROOT / "examples" / "redis", ROOT / "examples" / "amqp"
PAGE = ROOT / "docs" / "programs.md"
RUN = {
    "sh": ("sh", "dash"),
    "py": (sys.executable, ""),
    "pl": ("perl", "libredis-perl"),
    "lua": ("lua5.3", "lua5.3 lua-redis"),
    "php": ("php", "php-cli php-redis"),
}
LANGUAGES = {"sh": "sh", "py": "python", "pl": "perl", "lua": "lua", "php": "php"}


@pytest.fixture(params=RUN)
def language(request: pytest.FixtureRequest) -> str:
    """
    Return the ending of a program's file.
    """
    found: str = request.param
    if shutil.which("redis-cli") is None:
        require("redis-cli", "redis-tools")
    return found


@contextmanager
def running(example: Path, shown: str, port: int, folder: Path) -> Iterator[None]:
    """
    Run a program of the examples, with *port* instead of the one *shown*, until the block ends.
    """
    program, package = RUN[example.suffix[1:]]
    text = example.read_text()
    assert shown in text
    copy = folder / example.name
    copy.write_text(text.replace(shown, str(port)))
    command = [program if "/" in program else require(program, package), str(copy)]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            os.killpg(process.pid, SIGKILL)  # a shell has children


async def test_a_clock(redis: Server, daemon: StartDaemon, tmp_path: Path, language: str) -> None:
    """
    Subscribers receive what a program publishes each second.
    """
    server = daemon("--broker=redis", f"--redis-port={redis.port}", "--redis-plain-out=same")
    subscriber = Subscriber(server.port, ["clock"])
    async with disconnecting([subscriber]):
        await join_all([subscriber])
        with running(REDIS / f"clock.{language}", "6379", redis.port, tmp_path):
            await until(lambda: len(subscriber.messages) >= 2)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", text) for text in subscriber.messages)
    assert len(set(subscriber.messages)) == len(subscriber.messages)


async def test_an_inverter(
    redis: Server, daemon: StartDaemon, tmp_path: Path, language: str
) -> None:
    """
    A program receives what clients publish on one channel, and answers on another; each
    message arrives once.
    """
    server = daemon("--broker=redis", f"--redis-port={redis.port}", "--redis-plain-out=same")
    subscriber = Subscriber(server.port, ["chat", "inverted"])
    async with (
        disconnecting([subscriber]),
        redis_commands(redis.port) as ask,
        publishers(server, 1) as [publisher],
    ):
        await join_all([subscriber])
        with running(REDIS / f"inverter.{language}", "6379", redis.port, tmp_path):
            while (await ask("PUBSUB", "NUMSUB", "chat"))[1] < 2:
                await pause(0.05)
            for number, text in enumerate([b"hello", b"hello", b"again"], 1):
                await publisher.publish("chat", text)
                await until(lambda number=number: len(subscriber.messages) == 2 * number)  # type: ignore[misc]
    assert subscriber.messages == ["hello", "olleh", "hello", "olleh", "again", "niaga"]
    assert subscriber.gaps == 0


async def test_by_amqp(rabbit: Rabbit, daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The same program uses RabbitMQ instead of redis.
    """
    server = daemon("--broker=amqp", f"--amqp-port={rabbit.port}")
    subscriber = Subscriber(server.port, ["chat", "inverted"])
    async with disconnecting([subscriber]), publishers(server, 1) as [publisher]:
        await join_all([subscriber])
        with running(AMQP / "inverter.py", "5672", rabbit.port, tmp_path):
            while "olleh" not in subscriber.messages:
                await publisher.publish("chat", b"hello")
                await pause(0.2)
            await publisher.publish("chat", b"again")
            await until(lambda: "niaga" in subscriber.messages)
    assert subscriber.messages.count("again") == subscriber.messages.count("niaga") == 1


def test_the_page_shows_these_programs() -> None:
    """
    The programs of the page are the files that are tested.
    """
    page = PAGE.read_text()
    for ending, language in LANGUAGES.items():
        for name in ("clock", "inverter"):
            text = (REDIS / f"{name}.{ending}").read_text()
            assert f"```{language}\n{text}```" in page, f"{name}.{ending}"
    assert f"```python\n{(AMQP / 'inverter.py').read_text()}```" in page
