"""
Listening sockets that workers share.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol

from rt_twisted.workers.sockets import InheritedListeners, ListenerBinder


async def test_the_kernel_distributes_connections() -> None:
    """
    Each worker has a socket on the port; new connections go to the selected workers only.
    """
    from twisted.internet import reactor

    binder = ListenerBinder(reactor, 4, replaceable=False)
    await serverFromString(binder, "tcp:0:interface=127.0.0.1:backlog=500").listen(Factory())
    (bound,) = binder.bound
    port = bound.getHost().port
    try:
        for selected in ([0, 1, 2, 3], [1, 3], [2]):
            bound.steer(selected)
            counts = _count_accepted(bound.sockets, port, 40 * len(selected))
            assert [index for index, count in enumerate(counts) if count] == selected
            assert min(count for count in counts if count) > 10
        with pytest.raises(CannotListenError):
            ListenerBinder(reactor, 4, replaceable=False).listenTCP(
                port, Factory(), interface="127.0.0.1"
            )
    finally:
        bound.stopListening()


def _count_accepted(sockets: Any, port: int, clients_count: int) -> list[int]:
    clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(clients_count)]
    counts = []
    for listener in sockets:
        count = 0
        while True:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                break
            connection.close()
            count += 1
        counts.append(count)
    for client in clients:
        client.close()
    return counts


async def test_workers_accept_from_inherited_sockets() -> None:
    """
    The endpoints of a worker get the sockets that the parent's endpoints bound, in order.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    binder = ListenerBinder(loop, 1, replaceable=False)
    strings = ("tcp:0:interface=127.0.0.1", r"tcp6:0:interface=\:\:1")
    for string in strings:
        await serverFromString(binder, string).listen(Factory())
    inherited = [(socket.dup(one.of(0).fileno()), int(one.of(0).family)) for one in binder.bound]
    listening = InheritedListeners(loop, inherited)
    ports = [
        await serverFromString(listening, each).listen(Factory.forProtocol(Protocol))
        for each in strings
    ]

    assert [port.getHost() for port in ports] == [one.getHost() for one in binder.bound]
    for port in ports:
        await port.stopListening()
    for one in binder.bound:
        one.stopListening()
