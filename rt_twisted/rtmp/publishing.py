"""
Where a publisher by RTMP may publish: the route of its stream name, and its key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.begin_run import PublishingClient, begin_run
from rt_twisted.http.interfaces import Find
from rt_twisted.hub.publisher_events import Announce
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.media.live_run import LiveRun
from rt_twisted.model.errors import HttpError
from rt_twisted.rtmp.request import RtmpClient, RtmpRequest
from rt_twisted.rtmp.session import PublishRequested

METHOD = "RTMP"  # by which routes are found

_PORT = re.compile(r":\d*$")


@dataclass(frozen=True, slots=True)
class PublishTarget:
    """
    A channel to which a client may publish.

    Args:
        context: the hub and the settings of the route.
        channel: its name.
        takeover: replace a publisher that is connected.
        timeout: seconds without bytes after which the publisher is lost.
        grace: seconds that viewers wait for its return.
        announce: called with what happens to the publisher.
    """

    context: ActionContext
    channel: str
    takeover: bool
    timeout: float
    grace: float
    announce: Announce

    async def begin(self, client: PublishingClient) -> tuple[LivePublisher, LiveRun]:
        """
        Claim the channel; see `begin_run`.
        """
        return await begin_run(
            self.context.hub,
            client,
            self.channel,
            self.takeover,
            self.timeout,
            self.grace,
            self.announce,
        )


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

    def find(self, event: PublishRequested, client: RtmpClient) -> PublishTarget:
        """
        Return where a client may publish.

        Args:
            event: its request.
            client: that sends it.

        Raises:
            HttpError: 404, no `rtmp:` route has the name; 400, the channel is not possible;
                401 and 403, the key is missing, wrong, or not for this channel.
        """
        request = RtmpRequest(f"/{event.name}", event.query, client)
        found = self.routes(METHOD, request.path)
        if not isinstance(found, tuple):
            raise HttpError(
                404, f"there is no stream {request.path[:200]!r}: no rtmp: route has it"
            )
        action, match = found
        try:
            target: PublishTarget = action.target(request, match)
        except HttpError as error:
            if error.status != 401:
                raise
            raise HttpError(401, f"{error.reason}: append ?key=SECRET to the stream key") from None
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
