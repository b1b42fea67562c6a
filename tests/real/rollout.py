"""
Pods of a Kubernetes manifest as processes, and the Service before them.

Kubelet and Deployment do here what the fields of the manifest say: probes, `preStop`, the time to
terminate, and a rolling update.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from tests.real.conftest import TWISTD, Serve, Server, free_port

# Seconds until proxies send no more new connections to a pod that is being deleted.
PROXIES_NOTICE = 3.0


def read_manifest(file: Path) -> dict[str, Any]:
    """
    Return the objects of a manifest by kind.
    """
    return {each["kind"]: each for each in yaml.safe_load_all(file.read_text())}


class Balancer:
    """
    Forwards each TCP connection to the next ready pod, as a Service does.

    Connections stay with their pod when it is no longer ready.
    """

    def __init__(self) -> None:
        self.port = 0
        self.ready: list[int] = []
        self._turn = count()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Balancer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            port = self.ready[next(self._turn) % len(self.ready)]
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))
        except OSError:
            writer.transport.abort()
        finally:
            self._open.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


class Pod:
    """
    One daemon, with the settings and times of the manifest.

    Args:
        spec: of the pod, from the manifest.
        variables: that are different here, as addresses and paths.
        balancer: that the pod is added to while it is ready.
        serve: starts the process.
        folder: where it runs.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        variables: dict[str, str],
        balancer: Balancer,
        serve: Serve,
        folder: Path,
    ) -> None:
        self._spec = spec
        [self._container] = spec["containers"]
        self._balancer = balancer
        self._serve = serve
        self._folder = folder
        self._port = free_port()
        own = {one["name"]: one["value"] for one in self._container["env"]}
        self._variables = {**own, **variables, "RT_PORT": str(self._port)}
        self._server: Server | None = None
        self._probes: list[asyncio.Task[None]] = []
        self.killed_by_probe = False

    async def start(self) -> None:
        """
        Start the pod, and wait until it is ready.
        """
        command = [*TWISTD, "realtime"]
        starting = (command, self._port, self._folder, self._variables)
        self._server = await asyncio.to_thread(self._serve, *starting)
        startup = self._container["startupProbe"]
        for _ in range(startup["failureThreshold"]):
            if await self._probe(startup):
                break
            await asyncio.sleep(startup["periodSeconds"])
        else:
            raise AssertionError("the startup probe failed")
        ready = asyncio.Event()
        watch = [self._watch_ready(ready), self._watch_life()]
        self._probes = [asyncio.create_task(each) for each in watch]
        await ready.wait()

    async def delete(self) -> None:
        """
        Stop the pod as kubelet does; it is still sent connections for some seconds.

        Raises:
            AssertionError: it had to be killed, or reported an error.
        """
        assert self._server is not None
        end = time.monotonic() + self._spec["terminationGracePeriodSeconds"]
        self._probes[0].cancel()
        removing = asyncio.create_task(self._remove())
        hook = self._container["lifecycle"]["preStop"]["exec"]["command"]
        await asyncio.to_thread(subprocess.run, hook, check=True)
        self._probes[1].cancel()
        stopping = asyncio.to_thread(self._server.kill)
        status = await asyncio.wait_for(stopping, end - time.monotonic())
        await removing
        assert status == 0
        assert not self.killed_by_probe
        assert "Traceback" not in self._server.log

    async def end(self) -> None:
        """
        End the probes.
        """
        for each in self._probes:
            each.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)

    async def _remove(self) -> None:
        await asyncio.sleep(PROXIES_NOTICE)
        with suppress(ValueError):
            self._balancer.ready.remove(self._port)

    async def _watch_ready(self, ready: asyncio.Event) -> None:
        def on_change(good: bool) -> None:
            if good and self._port not in self._balancer.ready:
                self._balancer.ready.append(self._port)
                ready.set()
            if not good and self._port in self._balancer.ready:
                self._balancer.ready.remove(self._port)

        await self._watch(self._container["readinessProbe"], on_change)

    async def _watch_life(self) -> None:
        def on_change(good: bool) -> None:
            self.killed_by_probe |= not good

        await self._watch(self._container["livenessProbe"], on_change)

    async def _watch(self, spec: dict[str, Any], on_change: Callable[[bool], None]) -> None:
        failures = 0
        while True:
            if await self._probe(spec):
                failures = 0
                on_change(True)
            else:
                failures += 1
                if failures == spec["failureThreshold"]:
                    on_change(False)
            await asyncio.sleep(spec["periodSeconds"])

    async def _probe(self, spec: dict[str, Any]) -> bool:
        url = f"http://127.0.0.1:{self._port}{spec['httpGet']['path']}"
        return await asyncio.to_thread(_answers, url, spec.get("timeoutSeconds", 1))


def _answers(url: str, seconds: float) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=seconds) as response:
            return bool(response.status < 400)
    except OSError:
        return False


async def roll(deployment: dict[str, Any], old: list[Pod], make: Callable[[], Pod]) -> list[Pod]:
    """
    Replace all pods, one after the other: a new one is ready for `minReadySeconds` before the
    next old one is deleted.

    Returns:
        the new pods.
    """
    spec = deployment["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    new = []
    deleting: list[Awaitable[None]] = []
    for pod in old:
        new.append(make())
        await new[-1].start()
        await asyncio.sleep(spec["minReadySeconds"])
        deleting.append(asyncio.create_task(pod.delete()))
    await asyncio.gather(*deleting)
    return new
