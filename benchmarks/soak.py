"""
A day in a quarter of an hour: connections, messages, reconnects and refusals over all
transports, while the memory of the daemon is watched.

    python -m benchmarks.soak                      15 minutes; the RSS must be level at the end
    python -m benchmarks.soak --minutes 3          a look
    python -m benchmarks.soak -- --broker=redis    more options for the daemon

It starts a daemon of its own on 127.0.0.1 and stops by itself. Exit status: 0 the RSS
stayed within 2 % over the last ten minutes (or the last two thirds of a shorter run),
all connections were given back and nothing unexpected was logged; 1 otherwise;
2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from urllib.parse import quote

from benchmarks.machine import SetupError, free_port, memory_kib, raise_file_limit

DAY = 15.0  # minutes in which a day passes
SESSIONS = 50_000  # of a day; with their reconnects about 90,000 connections
MESSAGES = 270_000  # of a day
CHANNELS = 100
MOST = 0.02  # by how much the RSS may differ over the window
WINDOW = 10.0  # minutes
LOOK = 5.0  # seconds between two looks at the memory
PATIENCE = 10.0  # seconds that a client waits for a response
SPARE_FILES = 200
KEY = "soak"
TROUBLE = ("Traceback", "Unhandled", "#critical", "#failure")  # in the daemon's log

# What is remembered is bounded and short-lived, so that the memory is level early on.
OPTIONS = (
    *(f"--http-secret={KEY}", "--max-readers=1500", "--max-readers-per-address=1200"),
    *("--history=64", "--history-age=60", "--history-memory=8m", "--linger=5"),
    *("--backlog-bytes=64k", "--backlog-seconds=3", "--heartbeat=2", "--head-seconds=2"),
    *("--body-seconds=3", "--idle-seconds=10", "--dead-after=20", "--max-body=256k"),
    *("--socketio-recovery=20", "--socketio-ping-interval=5", "--socketio-ping-timeout=5"),
)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Soak:
    """
    The clients of one run.

    Args:
        port: of the daemon.
        seconds: how long it takes.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        # Kinds of sessions, and how often each is begun.
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.sse: 30,
            self.poll: 15,
            self.stream: 8,
            self.websocket: 20,
            self.socketio_polling: 8,
            self.socketio_websocket: 8,
            self.slow: 2,
            self.refused: 9,
        }

    async def run(self) -> None:
        """
        Begin sessions at an even rate, and publish, until the time is up.
        """
        share = self._seconds / (DAY * 60)
        sessions = max(1, round(SESSIONS * share))
        pause = self._seconds / sessions
        kinds, weights = list(self._kinds), list(self._kinds.values())
        running: set[asyncio.Task[None]] = set()
        publishing = asyncio.create_task(self._publish(MESSAGES * share))
        begun = time.monotonic()
        for number in range(sessions):
            await asyncio.sleep(max(0.0, begun + number * pause - time.monotonic()))
            task = asyncio.create_task(self._session(random.choices(kinds, weights)[0]))
            running.add(task)
            task.add_done_callback(running.discard)
        await publishing
        await asyncio.gather(*running)

    async def _session(self, kind: Callable[[], Awaitable[None]]) -> None:
        self.counts["sessions"] += 1
        try:
            await kind()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            self.counts["connections cut"] += 1

    # Requests.

    async def _open(self, buffer: int = 0) -> Stream:
        self.counts["connections"] += 1
        connection = socket.socket()
        connection.setblocking(False)
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        return await asyncio.open_connection(sock=connection, limit=1 << 20)

    async def _request(
        self, stream: Stream, method: str, path: str, body: bytes = b"", *headers: str
    ) -> tuple[int, dict[str, str]]:
        """
        Send a request and read the head of its response.
        """
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", *headers]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        stream[1].write("\r\n".join([*lines, "", ""]).encode() + body)
        return await self._head(stream)

    async def _head(self, stream: Stream) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(PATIENCE):
            head = (await stream[0].readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        self.statuses[str(status)] += 1
        if status >= 400:
            self.counts["refusals"] += 1
        pairs = [line.partition(":") for line in head[1:] if line]
        return status, {name.lower(): value.strip() for name, _, value in pairs}

    async def _body(self, stream: Stream, headers: dict[str, str]) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await stream[0].readexactly(int(headers.get("content-length", "0")))

    async def _take(self, stream: Stream, seconds: float) -> bytes:
        """
        Read for some seconds.

        Returns:
            the last received bytes.
        """
        last = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while data := await stream[0].read(65536):
                    self.counts["bytes received"] += len(data)
                    last = (last + data)[-4096:]
        return last

    async def _part(self, stream: Stream) -> None:
        """
        End a connection in one of the ways in which clients do.
        """
        ending = random.choice(("close", "reset", "half"))
        writer = stream[1]
        if ending == "half" and writer.can_write_eof():
            writer.write_eof()
            await self._take(stream, 0.5)
        if ending == "reset":
            connection = writer.get_extra_info("socket")
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def _channels(self, most: int = 3) -> str:
        return ",".join(f"c{random.randrange(CHANNELS)}" for _ in range(random.randint(1, most)))

    # Kinds of sessions.

    async def sse(self) -> None:
        """
        Subscribe, get disconnected, and reconnect with the last id.
        """
        channels, position = self._channels(), ""
        for attempt in range(random.randint(1, 4)):
            stream = await self._open()
            since = (f"Last-Event-ID: {position}",) if position else ()
            path = f"/?channels={channels}"
            status, _ = await self._request(stream, "GET", path, b"", *since)
            if attempt:
                self.counts["reconnects"] += 1
            if status == 200:
                self.counts["subscribers"] += 1
                last = await self._take(stream, random.expovariate(1 / 3))
                found = last.rpartition(b"\nid: ")[2].partition(b"\n")
                position = found[0].decode("latin-1").strip() if found[1] else position
            await self._part(stream)

    async def poll(self) -> None:
        """
        Poll several times on one connection, with the entity tag of the last response.
        """
        stream, tag, channels = await self._open(), "", self._channels()
        self.counts["subscribers"] += 1
        for _ in range(random.randint(1, 6)):
            header = (f"If-None-Match: {tag}",) if tag else ()
            path = f"/poll?channels={channels}&wait={random.randint(0, 2)}"
            status, headers = await self._request(stream, "GET", path, b"", *header)
            self.counts["bytes received"] += len(await self._body(stream, headers))
            tag = headers.get("etag", tag)
            if status >= 400 or headers.get("connection") == "close":
                break
        await self._part(stream)

    async def stream(self) -> None:
        """
        Read the plain stream.
        """
        stream = await self._open()
        status, _ = await self._request(stream, "GET", f"/stream?channels={self._channels()}")
        if status == 200:
            self.counts["subscribers"] += 1
            await self._take(stream, random.expovariate(1 / 3))
        await self._part(stream)

    async def _upgrade(self, path: str, *headers: str) -> Stream | None:
        stream = await self._open()
        status, _ = await self._request(
            stream,
            "GET",
            path,
            b"",
            *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            *headers,
        )
        if status == 101:
            return stream
        await self._part(stream)
        return None

    async def websocket(self) -> None:
        """
        Subscribe, publish, send invalid input, and disconnect with or without a close frame.
        """
        deflate = ("Sec-WebSocket-Extensions: permessage-deflate",) * random.randint(0, 1)
        for attempt in range(random.randint(1, 3)):
            stream = await self._upgrade(f"/ws?channels={self._channels()}", *deflate)
            if stream is None:
                return
            self.counts["reconnects"] += attempt > 0
            self.counts["subscribers"] += 1
            for words in (
                {"type": "subscribe", "id": 1, "channels": [f"c{random.randrange(CHANNELS)}"]},
                {"type": "key", "id": 2, "key": KEY},
                {"type": "publish", "id": 3, "channel": "c1", "message": "x" * 100},
                {"type": random.choice(("ping", "nonsense"))},
            ):
                stream[1].write(frame(json.dumps(words).encode()))
            await self._take(stream, random.expovariate(1 / 3))
            ending = random.random()
            if ending < 0.4:
                stream[1].write(frame(b"\x03\xe8", 8))
                await self._take(stream, 0.5)
            elif ending < 0.6:
                stream[1].write(os.urandom(random.randint(1, 300)))  # no frame at all
                await self._take(stream, 0.5)
            elif ending < 0.7:
                stream[1].write(frame(b"x" * 1000)[:500])  # half a message
            await self._part(stream)

    async def socketio_polling(self) -> None:
        """
        A Socket.IO client that polls: subscribe, receive, and disconnect or stop polling.
        """
        stream = await self._open()
        path = "/socket.io/?EIO=4&transport=polling"
        status, headers = await self._request(stream, "GET", path)
        body = await self._body(stream, headers)
        if status != 200:
            await self._part(stream)
            return
        path += f"&sid={quote(json.loads(body[1:])['sid'])}"
        self.counts["subscribers"] += 1
        subscribe_event = json.dumps(["subscribe", self._channels().split(",")])
        for packets in (
            b"40",
            f"42{subscribe_event}".encode(),
            b"4nonsense" * random.randint(0, 1),
        ):
            if packets:
                status, headers = await self._request(stream, "POST", path, packets)
                await self._body(stream, headers)
        for _ in range(random.randint(0, 4)):
            status, headers = await self._request(stream, "GET", path)
            body = await self._body(stream, headers)
            self.counts["bytes received"] += len(body)
            if status != 200 or headers.get("connection") == "close":
                break
            if body.startswith(b"2"):
                _, headers = await self._request(stream, "POST", path, b"3")
                await self._body(stream, headers)
        await self._part(stream)

    async def socketio_websocket(self) -> None:
        """
        A Socket.IO client on a websocket, which recovers its session.
        """
        auth = ""
        for attempt in range(random.randint(1, 3)):
            stream = await self._upgrade("/socket.io/?EIO=4&transport=websocket")
            if stream is None:
                return
            self.counts["reconnects"] += attempt > 0
            self.counts["subscribers"] += 1
            stream[1].write(frame(f"40{auth}".encode()))
            subscribe_event = json.dumps(["subscribe", self._channels().split(",")])
            stream[1].write(frame(f"42{subscribe_event}".encode()))
            last = await self._take(stream, random.expovariate(1 / 3))
            pid = last.partition(b'"pid":"')[2].partition(b'"')[0].decode("latin-1")
            place = last.rpartition(b',"')[2].partition(b'"')[0].decode("latin-1")
            auth = json.dumps({"pid": pid, "offset": place}) if pid else ""
            if random.random() < 0.3:
                stream[1].write(frame(b"41"))
            await self._part(stream)

    async def slow(self) -> None:
        """
        Subscribe to many channels and do not read, until the daemon disconnects.
        """
        stream = await self._open(buffer=4096)
        names = ",".join(f"c{number}" for number in range(50))
        stream[1].write(f"GET /?channels={names}&history=50 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        transport = stream[1].transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        self.counts["slow subscribers"] += 1
        await asyncio.sleep(random.uniform(5, 12))
        stream[1].transport.abort()

    async def refused(self) -> None:
        """
        Send a request that is refused, or never completed.
        """
        stream = await self._open()
        raw: tuple[bytes, ...] = (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",  # no channel
            b"GET /?channels=%00 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /nobody-home HTTP/1.1\r\nHost: a\r\n\r\n",
            b"DELETE /publish HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01",  # TLS
            b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n",
            b"POST /publish?key=wrong&channel=a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
            b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nhalf",
            b"GET /?channels=a HTTP/1.1\r\nHo",
            b"GET /ws HTTP/1.1\r\nHost: a\r\nOrigin: http://elsewhere.example\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            b"GET /socket.io/?EIO=4&transport=polling&sid=none HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /stats HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        )
        stream[1].write(random.choice(raw))
        with suppress(TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(4):
                await self._head(stream)
        await self._part(stream)

    async def _publish(self, messages: float) -> None:
        """
        Publish so many messages evenly: batches and single ones, small and large.
        """
        stream: Stream | None = None
        sent, begun = 0, time.monotonic()
        while time.monotonic() < self._ends:
            due = messages * (time.monotonic() - begun) / self._seconds - sent
            if due < 1:
                await asyncio.sleep(0.02)
                continue
            count = min(int(due), random.choice((1, 5, 50)))
            lines = [
                json.dumps(
                    {
                        "channel": f"c{random.randrange(CHANNELS)}",
                        "message": "x" * random.choice((20, 100, 100, 100, 1000, 4000)),
                        "event": random.choice(("", "note")),
                        "idempotency_key": os.urandom(8).hex() if random.random() < 0.3 else "",
                    }
                )
                for _ in range(count)
            ]
            try:
                stream = stream or await self._open()
                status, headers = await self._request(
                    stream,
                    "POST",
                    "/publish",
                    "\n".join(lines).encode(),
                    f"Authorization: Bearer {KEY}",
                    "Content-Type: application/x-ndjson",
                )
                await self._body(stream, headers)
                self.counts["messages"] += count if status == 200 else 0
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                self.counts["connections cut"] += 1
                stream = None
            if stream is not None and random.random() < 0.01:
                await self._part(stream)
                stream = None
            sent += count
        if stream is not None:
            await self._part(stream)


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """
    A masked websocket frame (RFC 6455, 5.2).
    """
    mask = os.urandom(4)
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | min(size, 126))) + (
        struct.pack("!H", size) if size > 125 else b""
    )
    stretched = mask * (size // 4 + 1)
    return head + mask + bytes(one ^ other for one, other in zip(payload, stretched, strict=False))


async def watch(pid: int, soak: Soak, seconds: float) -> list[int]:
    """
    Look at the memory, and print a line each minute.

    Returns:
        for each minute the median of its RSS in KiB.
    """
    minutes: list[int] = []
    looks: list[int] = []
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        await asyncio.sleep(LOOK)
        looks.append(memory_kib(pid))
        if time.monotonic() - begun >= 60 * (len(minutes) + 1):
            minutes.append(int(median(looks)))
            looks = []
            names = ("connections", "messages", "reconnects", "refusals")
            figures = ", ".join(f"{soak.counts[name]:,} {name}" for name in names)
            files = open_files(pid)
            print(
                f"minute {len(minutes):3}: RSS {minutes[-1]:,} KiB, {files} files, {figures}",
                flush=True,
            )
    return minutes


def open_files(pid: int) -> int:
    """
    Return the number of open file descriptors of a process.
    """
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_range(minutes: Sequence[int]) -> tuple[float, int]:
    """
    Return how much the RSS grew in the window, its highest minute over its lowest.

    Returns:
        the share, and the minutes of the window.
    """
    count = int(min(WINDOW, max(1, len(minutes) * 2 / 3)))
    window = minutes[-count:]
    return max(window) / min(window) - 1, len(window)


def start(port: int, options: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """
    Start the daemon of this checkout and wait until it accepts connections.

    Raises:
        SetupError: it does not start.
    """
    twistd = Path(sys.executable).with_name("twistd")
    if not twistd.exists():
        raise SetupError(f"There is no {twistd}: run this with the Python that has Twisted.")
    words = (str(twistd), "-n", "--pidfile=", "realtime", f"--port={port}", *OPTIONS, *options)
    with log.open("wb") as output:
        daemon = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 30
    while daemon.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return daemon
        time.sleep(0.1)
    daemon.kill()
    raise SetupError(f"The daemon did not start: {log.read_text(errors='replace')[-2000:]}")


async def _soak(pid: int, port: int, seconds: float) -> tuple[list[int], Soak]:
    soak = Soak(port, seconds)
    watching = asyncio.create_task(watch(pid, soak, seconds))
    await soak.run()
    return await watching, soak


def main(words: Sequence[str]) -> int:
    """
    Run the soak test with the options in *words*.

    Returns:
        the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=DAY, help="(default: %(default)g)")
    parser.add_argument("options", nargs="*", help="more options for the daemon, after --")
    chosen = parser.parse_args(words)
    if not 1 <= chosen.minutes <= 1440:
        parser.error("--minutes is from 1 to 1440")
    raise_file_limit()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        try:
            daemon = start(port, chosen.options, log)
        except SetupError as error:
            print(error, file=sys.stderr)
            return 2
        try:
            before = open_files(daemon.pid)
            minutes, soak = asyncio.run(_soak(daemon.pid, port, chosen.minutes * 60))
            time.sleep(12)  # deadlines of the last connections: head-seconds, idle-seconds
            left = open_files(daemon.pid) - before
            is_running = daemon.poll() is None
        finally:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        lines = log.read_text(errors="replace").splitlines()
    return _report(minutes, soak, left, is_running, lines)


def _report(
    minutes: Sequence[int], soak: Soak, left: int, is_running: bool, lines: Sequence[str]
) -> int:
    for name, count in sorted(soak.counts.items()):
        print(f"{name}: {count:,}")
    print("responses:", ", ".join(f"{one} x {n:,}" for one, n in sorted(soak.statuses.items())))
    faults = []
    share, window = rss_range(minutes)
    print(f"RSS differs by {share:.1%} over the last {window} minutes; {MOST:.0%} are allowed")
    if share > MOST:
        faults.append("the RSS is not level")
    print(f"files that are open when all clients have gone, more than before: {left}")
    if left > 5:
        faults.append("connections were not given back")
    if not is_running:
        faults.append("the daemon ended")
    trouble = [line for line in lines if any(word in line for word in TROUBLE)]
    if trouble:
        faults.append(f"{len(trouble)} unexpected lines in the log, such as: {trouble[0][:300]}")
    if not (soak.counts["messages"] and soak.counts["reconnects"] and soak.counts["refusals"]):
        faults.append("some kind of load did not come about")
    print("failed: " + "; ".join(faults) if faults else "passed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
