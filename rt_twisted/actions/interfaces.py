"""
What a route's action is, and what applications behind websockets provide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    pass
from rt_twisted.http.interfaces import IExchange


class ISocketIOApp(Interface):
    """
    What `app=` on a `socket.io` route names: called with the house, once.

    A client is a `rt_twisted.actions.socketio.socket.Socket`. All three are
    called on the reactor's thread, may be `async def` or return a
    Deferred. What else they raise is logged, and is an internal error to the
    client.
    """

    def on_connect(client: Any, auth: dict[str, Any]) -> object:
        """
        *client* wants to join its namespace: let it by returning.

        Args:
            client: what it is told and joins now reaches it behind the answer.
            auth: what it says of itself; of revision 4 (Engine.IO 3) the
                query's fields.

        Raises:
            Refusal: it may not, or there is no such namespace; reason and
                status go to the client.
        """

    def on_event(client: Any, event: str, *arguments: Any) -> object:
        """
        *client* emits *event*. Events come in order; the next does not wait for
        what this one waits for.

        Args:
            client: it has joined.
            event: any name.
            arguments: what JSON can say, and bytes.

        Returns:
            the acknowledgement, if the client wants one: a tuple for several
            values, None for one without any.

        Raises:
            Refusal: acknowledged as {"status": "error", "error": reason}.
        """

    def on_disconnect(client: Any, why: str) -> object:
        """
        *client*, which had joined, is gone. Nothing reaches it any more.

        Args:
            client: whose `data` is kept for a while, for when it comes back.
            why: `client namespace disconnect`, `transport close`, `ping
                timeout`...
        """


class IWebSocketApp(Interface):
    """
    What an application is told of a websocket, on the reactor's thread.
    """

    def opened(websocket: Any) -> None:
        """
        It may be written to from now on. Called once, before anything else.

        Args:
            websocket: a `rt_twisted.actions.websocket.connection.WebSocket`.
        """

    def message(data: bytes, binary: bool) -> None:
        """
        A whole message, fragments joined and inflated; text is valid UTF-8.

        What this raises is logged, and closes the websocket with 1011.
        """

    def closed(code: int, reason: str) -> None:
        """
        It is over. Called once, after everything else.

        Args:
            code: the client's, or the one it was closed with; 1005 if the
                client gave none, 1006 if the connection was lost.
            reason: that came with it; may be empty.
        """


class IAction(Interface):
    """
    What a route does with a matched request. Built once per route line from
    its arguments; wrong arguments raise ValueError with one sentence.
    """

    methods = Attribute("Collection[str]: the request methods it serves; others get 405.")
    # spare_methods (optional), Collection[str]: further ones, served where no other route
    # serves them on the same path.
    # counts_as (optional), str: what its refused requests count as in the metrics:
    # `metrics.responses.SUBSCRIBERS` or PUBLISHES; not counted without it.

    def act(exchange: IExchange, match: Match) -> object:
        """
        Answer *exchange*, now or later; may be `async def`, or return a Deferred.
        What it raises: `Refusal` becomes its status, anything else is logged and
        answered with 500.
        """


@dataclass(frozen=True, slots=True)
class Match:
    """
    What a route's pattern found in a path.

    Args:
        groups: `$0`, the matched part, then `$1` and so on; None for a group
            that took no part.
        rest: the path behind the matched part.
    """

    groups: Sequence[str | None]
    rest: str

    @property
    def depth(self) -> int:
        """
        How many segments of the path the pattern took: `/static/` took one.
        """
        return max(0, (self.groups[0] or "").rstrip("/").count("/"))
