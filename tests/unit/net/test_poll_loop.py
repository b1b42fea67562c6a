"""
The turn of the reactor, with one of Twisted's own and real sockets.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rt_twisted.net.poll_loop import MAX_EVENTS, PollLoop


class Connection(FileDescriptor):
    """
    One end of a pair of sockets; `peer` is the other one.

    Args:
        reactor: reads it.
        on_read: called with it when there is something to read; returns what doRead may.
        on_lost: called with it when the reactor has disconnected it.
    """

    def __init__(
        self,
        reactor: Any,
        on_read: Callable[[Connection], Any] = lambda _: None,
        on_lost: Callable[[Connection], object] = lambda _: None,
    ) -> None:
        super().__init__(reactor)
        self.own, self.peer = socket.socketpair()
        self.received = b""
        self.written = 0
        self.lost: list[Any] = []
        self._on_read = on_read
        self._on_lost = on_lost
        self.startReading()  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        return self.own.fileno()

    def doRead(self) -> Any:
        self.received += self.own.recv(100)
        return self._on_read(self)

    def doWrite(self) -> None:
        self.written += 1
        self.stopWriting()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason.type)
        self._on_lost(self)


class Turning:
    """
    A reactor whose turn is ours.
    """

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()
        self.holds: list[float] = []
        self.connections: list[Connection] = []
        self.loop = PollLoop(self.reactor, self.holds.append)
        self.loop.start()

    def connect(self, *calls: Callable[[Connection], Any]) -> Connection:
        """
        Add a connection; *calls* as of `Connection`.
        """
        self.connections.append(Connection(self.reactor, *calls))
        return self.connections[-1]

    def turn(self) -> None:
        """
        Serve what is ready.
        """
        self.reactor.doIteration(0)

    def close(self) -> None:
        """
        Close the reactor and all connections.
        """
        self.loop.stop()
        self.reactor.removeAll()
        self.reactor.waker.connectionLost(None)
        self.reactor._poller.close()
        for connection in self.connections:
            connection.own.close()
            connection.peer.close()


@pytest.fixture
def turning() -> Iterator[Turning]:
    """
    Return a reactor whose turn is ours.
    """
    found = Turning()
    yield found
    found.close()


def test_a_turn_reads_all_that_is_ready(turning: Turning) -> None:
    """
    Connections without data are not read.
    """
    connections = [turning.connect() for _ in range(3)]
    connections[0].peer.send(b"first")
    connections[2].peer.send(b"third")
    turning.turn()

    assert [each.received for each in connections] == [b"first", b"", b"third"]


def test_a_turn_writes_where_there_is_room(turning: Turning) -> None:
    """
    Until the connection has nothing more to write.
    """
    connection: Any = turning.connect()
    connection.startWriting()
    turning.turn()
    turning.turn()

    assert connection.written == 1
    assert connection.received == b""


def test_a_peer_that_has_closed_is_disconnected(turning: Turning) -> None:
    """
    With the reason that the connection returns, or that the reactor finds.
    """
    connection = turning.connect(lambda _: ConnectionDone())
    connection.peer.close()
    turning.turn()

    assert connection.lost == [ConnectionDone]


def test_an_event_may_close_a_connection_that_is_ready_too(turning: Turning) -> None:
    """
    Its own event is dropped.
    """

    def close_other(connection: Connection) -> None:
        for other in pair:
            if other is not connection:
                turning.reactor.removeReader(other)

    pair = [turning.connect(close_other), turning.connect(close_other)]
    for each in pair:
        each.peer.send(b"data")
    turning.turn()

    assert sorted(each.received for each in pair) == [b"", b"data"]


def test_an_error_of_one_connection_concerns_no_other(
    turning: Turning, clean_reactor: list[Failure]
) -> None:
    """
    What a read raises ends its connection. What the end raises is logged.
    """

    def fail(_: Connection) -> None:
        raise ZeroDivisionError

    broken = [turning.connect(lambda _: ConnectionDone(), fail) for _ in range(3)]
    whole = turning.connect()
    for each in (*broken, whole):
        each.peer.send(b"data")
    turning.turn()

    assert [each.lost for each in broken] == [[ConnectionDone]] * 3
    assert whole.received == b"data"
    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError] * 3
    clean_reactor.clear()


def test_a_turn_has_a_bounded_number_of_events(turning: Turning) -> None:
    """
    The others are served by the next ones, whichever come first.
    """
    connections = [turning.connect() for _ in range(MAX_EVENTS + 20)]
    for each in connections:
        each.peer.send(b"data")
    turning.turn()
    assert len([each for each in connections if each.received]) == MAX_EVENTS
    turning.turn()

    assert all(each.received == b"data" for each in connections)


def test_a_turn_waits_for_its_timeout_or_an_event(turning: Turning) -> None:
    """
    A turn without a timeout waits for an event.
    """
    connection = turning.connect()
    began = time.monotonic()
    turning.reactor.doIteration(0.03)
    assert time.monotonic() - began >= 0.03
    connection.peer.send(b"data")
    turning.reactor.doIteration(None)

    assert connection.received == b"data"


def test_the_time_between_two_polls_is_reported(turning: Turning) -> None:
    """
    The time in which events are served, and not that of the poll.
    """
    connection = turning.connect(lambda _: time.sleep(0.02))
    connection.peer.send(b"data")
    turning.turn()
    turning.holds.clear()
    turning.reactor.doIteration(0.05)
    turning.turn()

    assert [seconds >= 0.02 for seconds in turning.holds] == [True, False]


def test_the_reactor_gets_its_own_turn_back() -> None:
    """
    A loop that is stopped has no effect any more.
    """
    turning = Turning()
    replaced = turning.reactor.doIteration
    turning.close()

    assert turning.reactor.doIteration != replaced
    assert turning.reactor.doIteration.__name__ == "doPoll"


def test_other_reactors_keep_their_turn() -> None:
    """
    Only those that wait by epoll(7) are replaced.
    """
    assert not PollLoop.is_possible(Clock())
