"""
A rolling update of the Kubernetes manifests loses no message and no publish request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.real.conftest import PATIENCE, ROOT, Serve
from tests.real.redis_server import start_redis
from tests.real.rollout import Balancer, Pod, read_manifest, roll
from tests.real.subscribers import Stream, offset

MANIFESTS = ROOT / "examples" / "kubernetes"
CHANNELS = ("a", "b", "c")
KEY = "battery"
Entry = tuple[int, str, str]  # offset, channel, text


class Client:
    """
    What all subscribers have.

    Args:
        port: of the balancer.
        channels: that it subscribes to.
    """

    def __init__(self, port: int, channels: tuple[str, ...]) -> None:
        self.channels = channels
        self.first = -1  # the offset in its first position
        self.received: list[tuple[int, str]] = []
        self.gaps = 0
        self.joined = 0
        self._port = port
        self._position = ""
        self._wait = 1.0  # seconds until it reconnects

    def expected(self, log: list[Entry]) -> list[tuple[int, str]]:
        """
        Return the messages of *log* that it has to receive.
        """
        return sorted(
            (offset, text)
            for offset, channel, text in log
            if channel in self.channels and offset > self.first
        )

    def _at(self, position: str) -> None:
        self._position = position
        if self.first < 0:
            self.first = offset(position)


class EventSource(Client):
    """
    An EventSource, which reconnects with `Last-Event-ID` after the time that the server sent.
    """

    async def run(self) -> None:
        """
        Receive until the task is canceled.
        """
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._receive()
            await asyncio.sleep(self._wait)

    async def _receive(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        query = f"/?channels={','.join(self.channels)}"
        header = f"Last-Event-ID: {self._position}\r\n" if self._position else ""
        writer.write(f"GET {query} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode())
        stream = Stream(self._position)
        try:
            while data := await reader.read(65536):
                events = stream.feed(data)
                # An EventSource ends for ever with another status.
                assert not stream.head or b" 200 " in stream.head.partition(b"\r\n")[0]
                for event in events:
                    self.gaps += event.type == "gap"
                    if event.type == "message":
                        self.received.append((offset(event.id), event.data))
                if stream.last_id:
                    self._at(stream.last_id)
                self._wait = stream.retry / 1000 or self._wait
        finally:
            self.joined += bool(stream.first_id)
            writer.transport.abort()


class WebSocket(Client):
    """
    A websocket that resumes as docs/websocket.md says.
    """

    async def run(self) -> None:
        """
        Receive until the task is canceled.
        """
        while True:
            since = f"&since={self._position}" if self._position else ""
            channels = ",".join(self.channels)
            url = f"ws://127.0.0.1:{self._port}/ws?channels={channels}{since}"
            try:
                async with websockets.connect(url, open_timeout=PATIENCE) as socket:
                    self.joined += 1
                    async for frame in socket:
                        self._take(json.loads(frame))
            except ConnectionClosed:
                pass
            except (OSError, InvalidHandshake):
                await asyncio.sleep(self._wait)
                continue
            if socket.close_code == 1001:
                self._wait = int((socket.close_reason or "").removeprefix("retry=")) / 1000
            await asyncio.sleep(self._wait)

    def _take(self, frame: dict[str, str]) -> None:
        self.gaps += frame["type"] == "gap"
        if frame["type"] == "message":
            self.received.append((offset(frame["position"]), frame["data"]))
        if frame["type"] in {"message", "position"}:
            self._at(frame["position"])


class Publisher:
    """
    Publishes one message after the other, and repeats what was not accepted with its key.

    Args:
        port: of the balancer.
        name: begins its messages and their idempotency keys.
        keep: whether it keeps its connection for the next message.
    """

    def __init__(self, port: int, name: str, keep: bool) -> None:
        self.log: list[Entry] = []
        self.repeated = 0
        self.stopping = False
        self._port = port
        self._name = name
        self.keeps = keep
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """
        Publish until `stopping`.
        """
        while not self.stopping:
            number = len(self.log)
            channel = CHANNELS[number % len(CHANNELS)]
            text = f"{self._name}{number}"
            while (position := await self._publish(channel, text)) is None:
                self.repeated += 1
            self.log.append((offset(position), channel, text))
            await asyncio.sleep(0.02)
        self._close()

    async def _publish(self, channel: str, text: str) -> str | None:
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(self._request(channel, text))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self._close()
            await asyncio.sleep(0.2)
            return None
        if not self.keeps or "connection: close" in head:
            self._close()
        if " 200 " in head.partition("\r\n")[0]:
            position: str = json.loads(body)["position"]
            return position
        assert " 503 " in head, head
        await asyncio.sleep(int(head.partition("retry-after: ")[2].partition("\r\n")[0]))
        return None

    def _request(self, channel: str, text: str) -> bytes:
        lines = [
            f"POST /publish?channel={channel} HTTP/1.1",
            "Host: push.example",
            "Content-Type: text/plain",
            f"Content-Length: {len(text)}",
            f"Idempotency-Key: {text}",
            f"Authorization: Bearer {KEY}",
            f"Connection: {'keep-alive' if self.keeps else 'close'}",
        ]
        return "\r\n".join([*lines, "", text]).encode()

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def until_all(subscribers: Sequence[Client], log: list[Entry]) -> None:
    """
    Wait until each subscriber has as many messages as it has to receive.
    """
    async with asyncio.timeout(PATIENCE):
        for each in subscribers:
            while len(each.received) < len(each.expected(log)):
                await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)  # for messages that must not arrive


async def update_twice(
    balancer: Balancer, make: Callable[[], Pod], deployment: dict[str, Any]
) -> tuple[Sequence[Client], list[Publisher]]:
    """
    Replace all pods while clients subscribe and publish.
    """
    pods = [make() for _ in range(deployment["spec"]["replicas"])]
    port = balancer.port
    groups = [*[(one,) for one in CHANNELS], CHANNELS]
    subscribers = [kind(port, group) for kind in (EventSource, WebSocket) for group in groups * 2]
    publishers = [Publisher(port, f"p{each}.", keep=bool(each % 2)) for each in range(4)]
    running: list[asyncio.Task[None]] = []
    try:
        await asyncio.gather(*[pod.start() for pod in pods])
        running += [asyncio.create_task(each.run()) for each in subscribers]
        while any(each.first < 0 for each in subscribers):
            await asyncio.sleep(0.05)
        publishing = [asyncio.create_task(each.run()) for each in publishers]
        running += publishing
        pods += await roll(deployment, pods, make)
        for each in publishers:
            each.stopping = True
        await asyncio.gather(*publishing)
        await until_all(subscribers, [one for each in publishers for one in each.log])
        assert not any(task.done() for task in running if task not in publishing)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *[pod.end() for pod in pods], return_exceptions=True)
    return subscribers, publishers


@pytest.mark.limit(300)
def test_every_subscriber_receives_every_message(serve: Serve, tmp_path: Path) -> None:
    """
    Both pods are replaced while clients subscribe and publish through the Service: every
    subscriber receives every message once, in order, and every publish request succeeds, some after
    a repetition with the same idempotency key. Publishers with a connection for each request need
    no repetition.
    """
    deployment = read_manifest(MANIFESTS / "realtime.yaml")["Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    [store] = read_manifest(MANIFESTS / "redis.yaml")["StatefulSet"]["spec"]["template"]["spec"][
        "containers"
    ]
    redis = start_redis(serve, *store["args"][1:])
    (tmp_path / "publish-key").write_text(KEY)
    variables = {
        "RT_LISTEN": "127.0.0.1",
        "RT_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "RT_PUBLISH_KEY": f"file:{tmp_path}/publish-key",
    }
    numbers = count()

    async def run() -> tuple[Sequence[Client], list[Publisher]]:
        async with Balancer() as balancer:

            def make() -> Pod:
                folder = tmp_path / f"pod{next(numbers)}"
                return Pod(spec, variables, balancer, serve, folder)

            return await update_twice(balancer, make, deployment)

    subscribers, publishers = asyncio.run(run())
    log = [one for each in publishers for one in each.log]

    assert len({offset for offset, _, _ in log}) == len(log) > 500
    for subscriber in subscribers:
        assert subscriber.received == subscriber.expected(log)
        assert subscriber.gaps == 0
        assert subscriber.joined > 1
    assert [each.repeated for each in publishers if not each.keeps] == [0, 0]
