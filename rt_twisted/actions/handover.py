"""
Responses of applications that hand their connection over to the daemon.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from rt_twisted.actions.interfaces import Match
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.message import Position


@dataclass(frozen=True, slots=True)
class HandedBody:
    """
    The body of a response that is handed over, as far as it was received.

    Args:
        data: its beginning.
        complete: it is the whole body. False if the body breaks off, is longer, or takes longer.
    """

    data: bytes
    complete: bool


class HandedResponse(Protocol):
    """
    The response of an application whose head is there, and nothing of it has gone to the client.

    Attributes:
        exchange: the client's request; not answered yet.
        match: of its route.
        position: the end of the log when the application was asked; see `HandOver.position`.
    """

    exchange: IExchange
    match: Match
    position: Position

    @property
    def status(self) -> int:
        """
        The status of the response.
        """

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """
        Names in lower case, in the order of the response.
        """

    def read(self, limit: int, seconds: float) -> Deferred[HandedBody]:
        """
        Take the body: return its beginning, and end the request to the application.

        Args:
            limit: bytes; the rest is discarded.
            seconds: what was received by then is returned, whether or not it is all.
        """


class HandOver(Protocol):
    """
    Decides about responses of applications: `ActionContext.handover`.

    Attributes:
        hidden: names in lower case of response headers that are for the daemon, and are never
            sent to a client, beside those of `codecs.forwarding.is_for_daemon`.
    """

    hidden: Collection[bytes]

    def use(self, routes: Any, context: Any) -> None:
        """
        Use the lines and the settings that are in force from now on.

        Args:
            routes: has the lines for responses.
            context: of the daemon's actions.
        """

    def position(self) -> Position:
        """
        Return the end of the log, to be called when an application is asked.

        What is published from then on is for the client, if it is handed over and does not
        request another position: the response may not have it. NOWHERE if it is not known.
        """

    def offer(self, response: HandedResponse) -> Any:
        """
        Take *response* over, or decline.

        Called once for each response, before anything of it is passed on.

        Returns:
            False to have the response passed on without the headers that are hidden. Else
            the exchange is answered by the callee. The body is discarded, and the request to the
            application ended, unless `HandedResponse.read` was called before.
        """
