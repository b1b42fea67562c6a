"""
Interfaces of actions, and of applications behind websockets and Socket.IO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from zope.interface import Attribute, Interface

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.actions.effects import NO_EFFECTS, ChainEffects
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.message import NOWHERE, After, Position


class ISocketIOApp(Interface):
    """
    Application of a `socket.io` route, named by `app=`.

    The name is called once with the `ActionContext` and returns an `ISocketIOApp`. A client
    is a `rt_twisted.api.Socket`. The methods are called on the reactor's thread, and
    may be `async def` or return a Deferred. Exceptions other than those listed are logged; the
    client gets an internal error.
    """

    def on_connect(client: Any, auth: dict[str, Any]) -> object:
        """
        Accept *client* in its namespace by returning, or reject it.

        Args:
            client: what is sent to it and the channels it joins now follow the response.
            auth: what the client sent to identify itself; the fields of the query for
                revision 4 of the protocol (Engine.IO 3).

        Raises:
            HttpError: the client is rejected, or there is no such namespace; reason and
                status are sent to it.
        """

    def on_event(client: Any, event: str, *arguments: Any) -> object:
        """
        Process an event of *client*.

        Called in the order of events; the next call does not wait for the result of
        this one.

        Args:
            client: a client that has been accepted.
            event: any name.
            arguments: JSON values, and bytes.

        Returns:
            The acknowledgement, if the client requested one: a tuple for several
            values, None for one without values.

        Raises:
            HttpError: acknowledged as {"status": "error", "error": reason}.
        """

    def on_disconnect(client: Any, reason: str) -> object:
        """
        Process the end of *client*, which had been accepted.

        Args:
            client: nothing can be sent to it; its `data` is stored for a while, until it
                reconnects.
            reason: `client namespace disconnect`, `transport close`, `ping timeout`...
        """


class IWebSocketApp(Interface):
    """
    Application protocol of one websocket, named by `app=` on a `websocket` route.

    The methods are called on the reactor's thread.
    """

    def opened(websocket: Any) -> None:
        """
        Start to use *websocket*. Called once, before everything else.

        Args:
            websocket: a `rt_twisted.api.WebSocket`.
        """

    def message(data: bytes, binary: bool) -> None:
        """
        Process a whole message, fragments joined and inflated.

        An exception is logged, and closes the websocket with 1011.

        Args:
            data: valid UTF-8 if not *binary*.
            binary: whether it is a binary message.
        """

    def closed(code: int, reason: str) -> None:
        """
        Process the end of the websocket. Called once, after everything else.

        Args:
            code: the client's, or the one that the websocket was closed with; 1005 if
                the client sent none, 1006 if the connection was lost.
            reason: sent with the code; may be empty.
        """


class IAction(Interface):
    """
    Action of a route: responds to the requests whose path matches.

    An action is a dataclass. It is built from the arguments of its route line (see
    `rt_twisted.actions`); for wrong arguments its constructor raises ValueError with one
    sentence. The constructor acquires nothing: each reload builds actions that it may not use.

    An action may also provide `twisted.application.service.IService`, most easily as a
    subclass of `Service` with `@dataclass(eq=False)`. It is then started after the hub and
    stopped with the daemon. A reload keeps the instance if its route line is unchanged and its
    context is equal. It stops all others, and when they have stopped, starts the new ones. A
    reload that fails starts and stops nothing. With several workers, each has an instance.

    An action may also provide `IPortProtocol`.
    """

    methods = Attribute("Collection[str]: the request methods it serves; others get 405.")
    # spare_methods (optional), Collection[str]: further ones, served if no other route
    # serves them on the same path.
    # counts_as (optional), str: what its refused requests count as in the metrics:
    # `metrics.responses.SUBSCRIBERS` or PUBLISHES; not counted without it.
    # publishes (optional), bool: it publishes by `ActionContext.publish`, so its routes may
    # have `out=`.
    # answers_whole (optional), bool: it opens no streams and sends no bodies in pieces, so its
    # responses to pipelined requests may leave together.
    # checks_grants (optional), bool: it gets the client's grant from `ActionContext.gate`, and
    # checks each channel that the client names, so its routes may have `allow=`.

    # declines (optional): a method that returns whether a request, an IExchange, is handled as
    # if no route had its path.
    # proxies (optional), bool: it passes requests on, also those with OPTIONS, unless another
    # route has the path.
    # methods_at (optional): a method that returns the methods of the path of a Match, for
    # `Allow`, if some paths have fewer than `methods`.
    # port_methods (optional), Collection[str]: methods by which an `IPortProtocol` finds the
    # action for a path. They are not named to HTTP clients.

    # ingest (optional), bool: the action is for live publishers. By HTTP/1 a PUT, POST or
    # SOURCE without length then has a body that runs until the client closes its sending
    # side. A client that goes on sending behind its response is disconnected within a second.

    # request_headers (optional), Sequence[str]: headers that pages of other origins may send to
    # it, beside those of all routes.
    # options_headers (optional), Sequence[Header]: further headers of its responses to OPTIONS.

    def act(exchange: IExchange, match: Match) -> object:
        """
        Answer *exchange*, now or later; may be `async def`, or return a Deferred.

        Raises:
            HttpError: answered with its status and reason. Any other exception is logged
                and answered with 500.
        """


@dataclass(slots=True, unsafe_hash=True)
class Match:
    """
    Result of searching a route's pattern in a path.

    Args:
        groups: `$0`, the matched part, then `$1` and so on; None for a group that did not
            participate. They are those of a test that has a pattern of its own.
        rest: the path after the matched part.
        grant: of the client, for `${grant[NAME]}`.
        variables: what route lines and the application have set, by name.
        granted: the names of those variables into which the client has inserted nothing:
            their values are the route's own, or the application's.
        effects: what the lines before that of the action have done.
        mount: the matched part of the path; None if that is `$0`.
        by_application: the path is one that the application has named, and so are the groups.
        decided: *grant* is what the client may do: nothing else is asked.
        position: after which messages are for a client that requests none, as an application
            was asked about it then; NOWHERE for those of the live stream alone.
    """

    groups: Final[Sequence[str | None]]
    rest: Final[str]
    grant: Final[Grant] = ANYONE
    variables: Final[Mapping[str, str]] = field(default_factory=dict)
    granted: Final[frozenset[str]] = frozenset()
    effects: Final[ChainEffects] = NO_EFFECTS
    mount: Final[str | None] = None
    by_application: Final[bool] = False
    decided: Final[bool] = False
    position: Final[Position] = NOWHERE

    def with_grant(self, grant: Grant) -> Match:
        """
        Return a copy with *grant*; `dataclasses.replace` takes three times as long.
        """
        return Match(
            self.groups,
            self.rest,
            grant,
            self.variables,
            self.granted,
            self.effects,
            self.mount,
            self.by_application,
            self.decided,
            self.position,
        )

    @property
    def start(self) -> After | None:
        """
        Return what is replayed to a client that requests nothing.
        """
        return After(self.position) if self.position.epoch else None

    @property
    def depth(self) -> int:
        """
        Return how many segments of the path the pattern matched: `/static/` has one.
        """
        mount = self.groups[0] if self.mount is None else self.mount
        return max(0, (mount or "").rstrip("/").count("/"))
