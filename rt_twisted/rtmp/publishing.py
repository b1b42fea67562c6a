"""
Where a publisher by RTMP may publish: the route of its stream name, and its key or grant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.begin_run import PublishingClient
from rt_twisted.actions.ingest.publishing import Publishing, PublishPermit
from rt_twisted.http.stream_handle import Find
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.media.live_run import LiveRun
from rt_twisted.metrics.responses import PUBLISHES, count_refusal
from rt_twisted.model.errors import HttpError
from rt_twisted.rtmp.request import RtmpRequest

METHOD = RtmpRequest.method  # by which routes are found

_PORT = re.compile(r":\d*$")


@dataclass(frozen=True, slots=True)
class PublishTarget:
    """
    A channel to which a client may publish.

    Args:
        publishing: the arguments of the route.
        permit: of the client.
    """

    publishing: Publishing
    permit: PublishPermit

    @property
    def context(self) -> ActionContext:
        """
        The hub and the settings of the route.
        """
        return self.publishing.context

    async def begin(self, client: PublishingClient) -> tuple[LivePublisher, LiveRun]:
        """
        Claim the channel; see `Publishing.claim`. A refusal is counted.
        """
        try:
            return await self.publishing.claim(client, self.permit)
        except HttpError as error:
            count_refusal(self.context.metrics, PUBLISHES, error.status)
            raise


@dataclass(frozen=True, slots=True)
class RtmpRoutes:
    """
    The routes of the daemon, for one connection.

    Args:
        routes: returns the action for a method and a path.
        http_port: of the daemon, if the connection came on a port for RTMP alone; None if its
            port is that of HTTP, too.
    """

    routes: Find
    http_port: int | None = None

    async def find(self, request: RtmpRequest) -> PublishTarget:
        """
        Return where the client of *request* may publish. A refusal by a route is counted.

        Raises:
            HttpError: 404, no `rtmp:` route has the name; or see `Publishing.authorize`.
            ConnectionLost: the client has disconnected meanwhile.
        """
        found = self.routes(METHOD, request.path)
        if not isinstance(found, tuple):
            raise HttpError(
                404, f"there is no stream {request.path[:200]!r}: no rtmp: route has it"
            )
        action, match = found
        try:
            target: PublishTarget = await action.target(request, match)
        except HttpError as error:
            count_refusal(action.context.metrics, PUBLISHES, error.status)
            if error.status != 401:
                raise
            raise HttpError(
                401, f"{error.reason}: append ?key=SECRET or ?token=TOKEN to the stream key"
            ) from None
        return target

    def url_of(self, name: str, host: str, secure: bool) -> str:
        """
        Return the URL at which a stream can be viewed; a text without one if there is none.

        Args:
            name: application and stream name.
            host: with its port, to which the client has connected.
            secure: the client uses TLS.
        """
        port = self.http_port
        if port is not None:
            host = f"{_PORT.sub('', host)}:{port}"
        for path in (f"/{name}", f"/{name}.mp4"):
            found: Any = self.routes("GET", path)
            if isinstance(found, tuple):
                scheme = "https" if secure and port is None else "http"
                return f"{scheme}://{host}{path}"
        return "it by HTTP"
