"""
EventSources that reconnect as those of a browser do, and how late their messages come.

`python -m tests.real.event_sources PORT PATH COUNT` runs them in a process of its own, so that
other clients do not delay them: see `Subscribers`.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.real.conftest import PATIENCE

PAUSE = 0.1  # seconds between two messages
LENGTH = re.compile(rb"(?i)\ncontent-length: ([0-9]+)")
RETRY = re.compile(rb"retry: ([0-9]+)")


class EventSource:
    """
    A client that reconnects as a browser does, when its stream ends and after `retry`.

    Args:
        port: of the daemon.
        path: of the stream.
    """

    def __init__(self, port: int, path: str) -> None:
        self.times: list[float] = []  # of its messages
        self.messages: list[bytes] = []
        self.live = asyncio.Event()  # it has got a position
        self.attempts = 0
        self._port = port
        self._path = path

    async def run(self) -> None:
        """
        Be connected until cancelled.
        """
        while True:
            self.attempts += 1
            retry = 2.0
            with suppress(OSError, EOFError):
                retry = await self._once() or retry
            self.live.clear()
            await asyncio.sleep(retry)

    async def _once(self) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(
                b"GET %s HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
                % self._path.encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head  # another status ends it for ever
            length = LENGTH.search(head)
            if length is not None:  # of a stream that ends at once
                retry = RETRY.search(await reader.readexactly(int(length[1])))
                return int(retry[1]) / 1000 if retry else 0.0
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    self.messages.append(line[6:].strip())
                    self.times.append(time.time())
                elif line.startswith(b"id: "):
                    self.live.set()
        finally:
            await close(writer)
        return 0.0


async def close(writer: asyncio.StreamWriter) -> None:
    """
    Close a connection.
    """
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def clients(port: int, path: str, count: int) -> AsyncIterator[list[EventSource]]:
    """
    Connect that many clients, and disconnect them in the end.
    """
    sources = [EventSource(port, path) for _ in range(count)]
    tasks = [asyncio.create_task(source.run()) for source in sources]
    try:
        yield sources
        failed = [task for task in tasks if task.done()]
        assert not failed, failed[0].exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_live(sources: list[EventSource]) -> None:
    """
    Wait until all *sources* have their streams.
    """
    for source in sources:
        await source.live.wait()


class Publisher:
    """
    Publishes numbers on the channel `news`, one at a time, on a connection that is kept.

    Args:
        port: of the daemon.
    """

    def __init__(self, port: int) -> None:
        self.sent: list[float] = []  # when
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._ending = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._ending:
            now, number = time.time(), len(self.sent)
            assert await asyncio.to_thread(publish, self._connection, "news", str(number)) == 200
            self.sent.append(now)
            await asyncio.sleep(PAUSE)

    async def end(self, subscribers: list[EventSource]) -> str:
        """
        Stop; check that all *subscribers* have all messages once, and return how late.
        """
        self._ending = True  # a POST that is on its way cannot be cancelled
        await self._task
        self._connection.close()
        wanted = [b"%d" % number for number in range(len(self.sent))]
        for subscriber in subscribers:
            while len(subscriber.messages) < len(wanted):
                await asyncio.sleep(0.01)
            assert subscriber.messages[: len(wanted)] == wanted
            assert subscriber.attempts == 1
        late = sorted(
            when - sent
            for subscriber in subscribers
            for when, sent in zip(subscriber.times, self.sent, strict=False)
        )
        middle, most, last = (late[int(len(late) * share / 100)] * 1e3 for share in (50, 99, 99.9))
        return (
            f"{len(late)} messages, ms after the POST began: "
            f"median {middle:.1f}, p99 {most:.1f}, p99.9 {last:.1f}"
        )


def publish(connection: http.client.HTTPConnection, channel: str, message: str) -> int:
    """
    Publish a message, and return the status.
    """
    connection.request("POST", f"/publish?channel={channel}&message={message}", b"")
    response = connection.getresponse()
    response.read()
    return response.status


class Subscribers:
    """
    Subscribers of `news` in a process of their own, to which messages are published by turns.

    Args:
        process: of them.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    async def publish(self) -> None:
        """
        Publish until `figures` is called.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    async def figures(self) -> str:
        """
        Return how late the messages came; all subscribers have got all of them once.
        """
        await self.publish()
        return await self.read()

    async def read(self) -> str:
        """
        Return the next line of the process.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "a subscriber has not got its messages: see the output"
        return str(json.loads(line))


@asynccontextmanager
async def subscribers(port: int, path: str, count: int) -> AsyncIterator[Subscribers]:
    """
    Connect *count* subscribers of another process, and disconnect them in the end.
    """
    command = (sys.executable, "-m", "tests.real.event_sources", str(port), path, str(count))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        found = Subscribers(process)
        await found.read()
        yield found
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def main(port: int, path: str, count: int) -> None:
    """
    Be *count* subscribers; publish between the first line of the input and the second, and so on.
    """

    def show(line: str) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    async with clients(port, path, count) as sources:
        await all_live(sources)
        show("live")
        while await asyncio.to_thread(sys.stdin.readline):
            publisher = Publisher(port)
            await asyncio.to_thread(sys.stdin.readline)
            show(await publisher.end(sources))
            for source in sources:
                source.messages.clear()
                source.times.clear()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
