"""
Fixtures of the tests of HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_twisted

from tests.unit.http.clients import Listen, Peer, Place, turns


@pytest_twisted.async_yield_fixture
async def listen() -> AsyncIterator[Listen]:
    """
    Serve a place on a port of 127.0.0.1; `await connect()` then returns a peer.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

    loop: Any = reactor
    ports: list[Any] = []
    peers: list[Peer] = []

    def listen(place: Place) -> Callable[[], Any]:
        port = loop.listenTCP(0, place.server, interface="127.0.0.1")
        ports.append(port)

        async def connect() -> Peer:
            endpoint = TCP4ClientEndpoint(loop, "127.0.0.1", port.getHost().port)
            peer: Peer = await connectProtocol(endpoint, Peer())
            peers.append(peer)
            return peer

        return connect

    yield listen
    for port in ports:
        await port.stopListening()
    for peer in peers:
        wire: Any = peer.transport
        wire.abortConnection()
    await turns()
