"""
Many clients of an application behind the daemon: it hangs, is killed and comes back, and some
clients are slow. Others are served meanwhile.

EVENT_SOURCES sets how many clients reconnect (5000 for the full figure), SUBSCRIBERS how
many have their messages meanwhile (1000). The figures are logged: `pytest --log-cli-level=INFO`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import Serve, StartDaemon, free_port
from tests.real.event_sources import all_live, clients, close, subscribers
from tests.real.test_reverse_proxy import ask, gunicorn

_log = logging.getLogger(__name__)

EVENT_SOURCES = int(os.environ.get("EVENT_SOURCES", "500"))
SUBSCRIBERS = int(os.environ.get("SUBSCRIBERS", "100"))
PLACES = 32
HELD = "realtime_reactor_longest_hold_seconds"

APPLICATION = """
import asyncio, sys
from contextlib import suppress

async def serve(reader, writer):
    with suppress(EOFError):
        await serve_all(reader, writer)
    writer.close()

async def serve_all(reader, writer):
    while await reader.readuntil(b"\\r\\n\\r\\n"):
        await asyncio.sleep(0.005)
        writer.write(b"HTTP/1.1 200 OK\\r\\nX-Accel-Redirect: /-/sse/room\\r\\n"
                     b"Content-Length: 0\\r\\n\\r\\n")

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=1000)
    await server.serve_forever()

asyncio.run(main())
"""


def connections_to(port: int) -> int:
    """
    Return how many connections the daemon has to the application at *port*.
    """
    wanted, established = f":{port:04X}", "01"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(each[2].endswith(wanted) and each[3] == established for each in lines)


def allow_files(count: int) -> None:
    """
    Raise the limit of open files of this process and its children, or skip the test.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"needs {count} open files: ulimit -n")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


@pytest.mark.limit(240)
def test_application_is_hung_dead_and_back(
    serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    The application is asked at most 32 questions at once, all clients come back when it does, and
    each gets the next message once. Others get all of theirs meanwhile.
    """
    allow_files(2 * EVENT_SOURCES + SUBSCRIBERS + 1000)
    port = free_port()
    (tmp_path / "application.py").write_text(APPLICATION)
    command = [sys.executable, str(tmp_path / "application.py"), str(port)]
    application = serve(command, port)
    front = daemon(
        "--internal-route=^/-/sse/(.+)$ sse:$1",
        "--route=^/direct$ sse:news",
        "--route=^/publish$ publish",
        "--route=^/metrics$ metrics",
        f"--route=^/ http:127.0.0.1:{port}",
        f"--upstream-connections={PLACES}",
        "--upstream-timeout=2s",
        f"--max-readers={EVENT_SOURCES + SUBSCRIBERS + 100}",
    )

    connections: list[int] = []

    async def watch() -> None:
        while True:
            connections.append(connections_to(port))
            await asyncio.sleep(0.05)

    async def test() -> None:
        async with subscribers(front.port, "/direct", SUBSCRIBERS) as others:
            await others.publish()
            await asyncio.sleep(5)
            _log.info("without: %s", await others.figures())
            await others.publish()
            application.send(signal.SIGSTOP)
            async with clients(front.port, "/events", EVENT_SOURCES) as sources:
                watching = asyncio.create_task(watch())
                await asyncio.sleep(5)
                application.kill(signal.SIGKILL)
                await asyncio.sleep(5)
                assert not any(source.live.is_set() for source in sources)
                await asyncio.to_thread(application.start)
                since = time.monotonic()
                await all_live(sources)
                took = time.monotonic() - since
                attempts = sum(source.attempts for source in sources)
                watching.cancel()
                _log.info("beside clients that reconnect: %s", await others.figures())
                held = (await asyncio.to_thread(ask, front, "/metrics"))[1].decode()
                _log.info(next(line for line in held.split("\n") if line.startswith(HELD)))
                await asyncio.to_thread(ask, front, "/publish?channel=room&message=x", "POST", b"")
                for source in sources:
                    while not source.messages:
                        await asyncio.sleep(0.01)
                figures = "%d clients were back after %.1f s, by %d requests; at most %d at once"
                _log.info(figures, len(sources), took, attempts, max(connections))
                assert [source.messages for source in sources] == [[b"x"]] * len(sources)
                assert max(connections) <= PLACES

    run(test())


@pytest.mark.limit(120)
def test_slow_clients_beside_subscribers(serve: Serve, daemon: StartDaemon) -> None:
    """
    A slow upload and a slow download go through the daemon while subscribers get all of their
    messages, and both are complete in the end.
    """
    allow_files(2 * SUBSCRIBERS + 1000)
    application = gunicorn(serve)
    front = daemon(
        "--route=^/direct$ sse:news",
        "--route=^/publish$ publish",
        f"--route=^/ http:127.0.0.1:{application.port}",
        f"--max-readers={SUBSCRIBERS + 100}",
    )
    transferring = asyncio.Event()

    async def upload() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        head = (
            b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        )
        writer.write(head + b"\r\n")
        while transferring.is_set():
            writer.write(b"100\r\n" + b"x" * 256 + b"\r\n")
            await asyncio.sleep(0.02)
        writer.write(b"0\r\n\r\n")
        received = await reader.read()
        await close(writer)
        return received

    async def download() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port, limit=2048)
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        got = 0
        while piece := await reader.read(4096):
            got += len(piece)
            if transferring.is_set():
                await asyncio.sleep(0.02)
        await close(writer)
        return length - got

    async def test() -> None:
        async with subscribers(front.port, "/direct", SUBSCRIBERS) as others:
            transferring.set()
            uploading = asyncio.create_task(upload())
            downloading = asyncio.create_task(download())
            await others.publish()
            await asyncio.sleep(8)
            _log.info("beside a slow upload and a slow download: %s", await others.figures())
            assert not uploading.done() and not downloading.done()
            transferring.clear()
            echoed, missing = await uploading, await downloading
            assert echoed.startswith(b"HTTP/1.1 200 ") and echoed.count(b"x" * 256) > 10
            assert missing == 0

    run(test())
