"""
The response of a WSGI application, as it is offered to what may take its connection over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from rt_twisted.actions.handover import HandedBody
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.wsgi.head import ApplicationHead
from rt_twisted.actions.wsgi.output import ThreadOutput
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.message import Position


class ApplicationResponse:
    """
    A `HandedResponse`: its head is there, and nothing of it has gone to the client.

    Args:
        exchange: the request.
        match: of its route.
        head: of the response; None if the application has sent none, which counts as 200.
        variables: that the application has set, by name.
        position: see `HandedResponse`.
        reactor: the reactor.
        output: where the body comes from; paused until `read`.
        ended: called when no more of the body is needed.

    Attributes:
        exchange: as given.
        match: has the variables of the application, too.
        status: of the response.
        headers: names in lower case.
        position: as given.
        was_read: `read` was called.
    """

    def __init__(
        self,
        exchange: IExchange,
        match: Match,
        head: ApplicationHead | None,
        variables: Mapping[str, str],
        position: Position,
        reactor: Any,
        output: ThreadOutput,
        ended: Callable[[], object],
    ) -> None:
        self.exchange = exchange
        self.match = replace(
            match,
            variables={**match.variables, **variables},
            granted=match.granted | variables.keys(),
        )
        self.status = 200 if head is None else head.status
        fields = () if head is None else head.fields
        self.headers: Sequence[tuple[str, str]] = [(name.lower(), text) for name, text in fields]
        if head is not None and head.length is not None:
            self.headers = [*self.headers, ("content-length", str(head.length))]
        self.position = position
        self.was_read = False
        self._reactor = reactor
        self._output = output
        self._ended = ended
        self._body = bytearray()
        self._limit = 0
        self._length = None if head is None or exchange.method == "HEAD" else head.length
        self._over = False  # no more of the body follows
        self._failed = False
        self._done: Deferred[HandedBody] | None = None
        self._timer: IDelayedCall | None = None

    def add(self, piece: bytes | None) -> None:
        """
        Receive the next piece of the body; None is its end.
        """
        if piece is None:
            self._over = True
        else:
            self._body += piece
        if self._done is None:
            self._output.pauseProducing()
        elif self._over or len(self._body) >= self._limit:
            self._finish()

    def read(self, limit: int, seconds: float) -> Deferred[HandedBody]:
        """
        Return the beginning of the body; see `HandedResponse.read`.
        """
        self.was_read = True
        done: Deferred[HandedBody] = Deferred()
        self._done = done
        self._limit = limit
        if self._over or len(self._body) >= limit:
            self._finish()
        else:
            self._timer = self._reactor.callLater(seconds, self._finish)
            self._output.resumeProducing()
        return done

    def stop(self) -> None:
        """
        End reading: the application has failed.
        """
        self._over = self._failed = True
        self._finish()

    def _finish(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        done, self._done = self._done, None
        self._output.close()
        if done is not None:
            body, self._body = bytes(self._body), bytearray()
            complete = self._over and not self._failed and len(body) >= (self._length or 0)
            self._ended()
            data = body[: self._limit]
            done.callback(HandedBody(data, complete and len(data) == len(body)))
