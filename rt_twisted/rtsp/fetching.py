"""
Cameras that are servers: their streams are fetched, always or on demand.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.logger import Logger

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.begin_run import begin_run
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.media.live_run import LiveRun
from rt_twisted.model.errors import HttpError
from rt_twisted.rtsp.camera import CameraConnection, CameraLost
from rt_twisted.rtsp.camera_url import CameraUrl
from rt_twisted.rtsp.recording import LivePackets, Recording

_log = Logger()

CONNECT_SECONDS = 10
DEMAND_SECONDS = 10.0  # after the last viewer, for which a camera is still fetched
DEMAND_CHECK = 0.25  # seconds between two looks at the viewers
TAKEN_SECONDS = 2.0  # until the channel is claimed again, which another node has
MIN_BACKOFF = 1.0
MAX_BACKOFF = 30.0

Connect = Callable[[CameraUrl, CameraConnection], Deferred[Any]]


class Fetcher:
    """
    Publishes the stream of one camera to one channel, and reconnects with backoff.

    Of several nodes the one with the claim of the channel fetches.

    Args:
        context: the hub and the settings.
        channel: its name.
        url: of the camera.
        demand: fetch only while the channel has viewers on this node.
        timeout: seconds without bytes after which the camera is lost; None for the daemon's.
        grace: seconds that viewers wait for its return; None for the daemon's.
        connect: connects to the camera.

    Attributes:
        answered: whether the fetcher has stopped, as `begin_run` asks.
    """

    def __init__(
        self,
        context: ActionContext,
        channel: str,
        url: CameraUrl,
        demand: bool,
        timeout: float | None,
        grace: float | None,
        connect: Connect | None = None,
    ) -> None:
        self.answered = False
        self._context = context
        self._channel = channel
        self._url = url
        self._demand = demand
        self._timeout = timeout
        self._grace = grace
        self._connect = connect or self._connect_tcp
        self._connection: CameraConnection | None = None
        self._wanted_at = 0.0
        self._sleep: Deferred[None] | None = None
        self._reported = ""  # the reason that was logged last
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """
        Begin to fetch.
        """
        self._running = ensureDeferred(self._run())
        self._running.addErrback(lambda failure: _log.failure("while fetching a camera", failure))

    def stop(self) -> Deferred[None] | None:
        """
        End the stream; fires when the connection is closed.
        """
        self.answered = True
        if self._sleep is not None:
            self._sleep.cancel()
        if self._connection is not None:
            self._connection.abort("the server is stopping")
        return self._running

    async def _run(self) -> None:
        backoff = MIN_BACKOFF
        while not self.answered:
            if not self._is_wanted():
                await self._wait(DEMAND_CHECK)
                continue
            began = self._context.reactor.seconds()
            try:
                pause = await self._fetch()
            except (CameraLost, RemoteProtocolError, HttpError) as error:
                self._report(str(error))
                pause = backoff
            except Exception as error:  # whatever connecting raises
                self._report(f"{type(error).__name__}: {error}")
                pause = backoff
            lasted = self._context.reactor.seconds() - began
            backoff = MIN_BACKOFF if lasted > MAX_BACKOFF else min(2 * backoff, MAX_BACKOFF)
            await self._wait(pause)

    async def _fetch(self) -> float:
        """
        Fetch until the connection ends. Return how many seconds to wait.
        """
        context = self._context
        limits = context.hub.live.limits()
        try:
            publisher, run = await begin_run(
                context.hub,
                self,
                self._channel,
                False,
                limits.live_timeout if self._timeout is None else self._timeout,
                limits.live_grace if self._grace is None else self._grace,
            )
        except HttpError as error:
            if error.status != 403:
                raise
            return TAKEN_SECONDS  # another node fetches it
        try:
            reason = await self._receive(publisher, run)
        finally:
            publisher.close("the camera is not connected")
        if not self._is_wanted() or self.answered:
            return 0.0
        self._report(reason)
        return MIN_BACKOFF

    async def _receive(self, publisher: LivePublisher, run: LiveRun) -> str:
        context = self._context
        connection = CameraConnection(self._url, context.reactor, context.max_unit)
        await self._connect(self._url, connection)
        self._connection = connection
        if self.answered:
            connection.abort("the server is stopping")
        try:
            tracks = await connection.play()
            publisher.touch(context.hub.seconds())
            connection.recording = Recording(
                context, publisher, run, LivePackets(tracks.reader()), connection, connection.abort
            )
            self._reported = ""
            _log.info(
                "the camera at {place} is fetched for {channel}",
                place=self._url.place,
                channel=self._channel,
            )
            if self._demand:
                self._watch_demand(connection)
            return await connection.lost
        finally:
            self._connection = None
            connection.abort("the dialogue with the camera has failed")

    def _watch_demand(self, connection: CameraConnection) -> None:
        if connection.lost.called:
            return
        if self._is_wanted():
            self._context.reactor.callLater(DEMAND_CHECK, self._watch_demand, connection)
        else:
            connection.end("no viewer is left")

    def _is_wanted(self) -> bool:
        if not self._demand:
            return True
        now = self._context.reactor.seconds()
        if self._context.hub.statistics.counts_of(self._channel).subscribers:
            self._wanted_at = now + DEMAND_SECONDS
        return bool(now < self._wanted_at)

    def _connect_tcp(self, url: CameraUrl, connection: CameraConnection) -> Deferred[Any]:
        endpoint: Any = HostnameEndpoint(
            self._context.reactor, url.host, url.port, timeout=CONNECT_SECONDS
        )
        if url.secure:
            endpoint = wrapClientTLS(optionsForClientTLS(url.host), endpoint)
        connected: Deferred[Any] = connectProtocol(endpoint, connection)
        return connected

    async def _wait(self, seconds: float) -> None:
        if self.answered:
            return
        self._sleep = deferLater(self._context.reactor, seconds)
        with suppress(CancelledError):  # the fetcher is stopped
            await self._sleep
        self._sleep = None

    def _report(self, reason: str) -> None:
        if reason != self._reported:
            self._reported = reason
            _log.warn(
                "the camera at {place} is not fetched for {channel}: {reason}",
                place=self._url.place,
                channel=self._channel,
                reason=reason,
            )
