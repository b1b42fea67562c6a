"""
A server with a route for live publishers, and a sink for their bodies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from rt_twisted.http.interfaces import IChunkSink
from tests.unit.http.clients import Place


@implementer(IChunkSink)
class ChunkSink:
    """
    Records its calls, and calls *then* after each.
    """

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.events: list[bytes | str] = []
        self._then = then

    def data(self, piece: bytes) -> None:
        self._record(piece)

    def chunk_end(self) -> None:
        self._record("chunk")

    def end(self) -> None:
        self._record("end")

    def lost(self, reason: Exception) -> None:
        self._record(f"lost {getattr(reason, 'status', type(reason).__name__)}")

    def _record(self, events: bytes | str) -> None:
        self.events.append(events)
        self._then()

    @property
    def body(self) -> bytes:
        return b"".join(each for each in self.events if isinstance(each, bytes))


def live_place() -> tuple[Place, list[Any]]:
    """
    Return a place with the route `/live` and the protocol `Shout`, and the exchanges that wait.
    """
    place = Place("^/live tests.ingest.WaitingIngest", "^/shout$ tests.ingest.Shout")
    shout: Any = place.server.context.find("GET", "/shout")
    place.server.context.port_protocols = [shout[0]]
    found: Any = place.server.context.find("PUT", "/live")
    return place, found[0].waiting
