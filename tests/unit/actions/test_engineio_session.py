"""
Tests of Engine.IO sessions: pings, polls, and pending sessions.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.keepalive import Keepalive, KeepaliveAction
from rt_twisted.actions.engineio.registry import SessionRegistry
from rt_twisted.actions.engineio.session import Session
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.engineio_framing import Framing, Poll4
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.model.errors import HttpError
from tests.defaults import make_context, make_hub, make_hub_limits, make_socketio_limits

LIMITS = make_socketio_limits(ping_interval=25, ping_timeout=20)


def test_the_server_pings_clients_of_revision_4() -> None:
    """
    A ping is due every interval; a client that does not answer in time has timed out.
    """
    keepalive = Keepalive(4, LIMITS, 0.0)

    assert keepalive.check(24.9) is KeepaliveAction.NOTHING
    assert keepalive.check(25.0) is KeepaliveAction.PING
    assert keepalive.check(44.9) is KeepaliveAction.NOTHING
    keepalive.on_packet(44.9, heartbeat=True)
    assert keepalive.check(69.8) is KeepaliveAction.NOTHING
    assert keepalive.check(69.9) is KeepaliveAction.PING
    keepalive.on_packet(80.0, heartbeat=False)  # it is alive, and has not answered
    assert keepalive.check(99.9) is KeepaliveAction.NOTHING
    assert keepalive.check(100.0) is KeepaliveAction.TIMEOUT


def test_clients_of_revision_3_ping() -> None:
    """
    A client times out an interval and a timeout after its last packet.
    """
    keepalive = Keepalive(3, LIMITS, 0.0)

    keepalive.on_packet(30.0, heartbeat=True)
    assert keepalive.check(74.9) is KeepaliveAction.NOTHING
    assert keepalive.check(75.0) is KeepaliveAction.TIMEOUT


class SilentObserver:
    """
    An observer that sends nothing, and whose client has joined a namespace.
    """

    def opened(self, session: Session) -> None:
        pass

    def message(self, data: str | bytes) -> None:
        raise NotImplementedError

    def closed(self, why: str) -> None:
        pass

    def idle(self) -> bool:
        return False

    def format(self, framing: Framing, quiet: bool = False, welcome: bytes = b"") -> SocketIOEvents:
        return SocketIOEvents(framing, quiet=quiet, welcome=welcome)


class PollExchange:
    """
    A poll, and its response.
    """

    query_string = "EIO=4&transport=polling&t=PkX1abc.0"

    def __init__(self, agent: str | None = None) -> None:
        self.body = b""
        self._agent = agent

    def header(self, name: str) -> str | None:
        return self._agent if name == "user-agent" else None

    def watch(self, lost: object) -> None:
        pass

    def answer(self, status: int, body: bytes, *_: object) -> None:
        self.body = body


def open_session(
    registry: SessionRegistry[Session], context: ActionContext, address: str = "", poll: Any = None
) -> Session:
    """
    Return a session that has answered its first poll.
    """
    session = Session(registry, context, SilentObserver(), 4, "", False)
    session.open_polling(Poll4(), address)
    session.poll(poll or cast(Any, PollExchange()))
    return session


@pytest.mark.parametrize(
    ("query", "agent", "packets"),
    [
        ("EIO=4&transport=polling&t=PkX1abc.0", "Mozilla/5.0", 100),
        ("EIO=4&transport=polling&t=m5k0q9xa3f", None, 100),
        ("EIO=4&transport=polling", "okhttp/4.9", 100),
        ("EIO=4&transport=polling", "python-requests/2.34.2", 16),
        ("EIO=4&transport=polling", "Python/3.11 aiohttp/3.9.1", 16),
        ("transport=polling&EIO=4&t=1718000000.123456", "Mozilla/5.0", 16),
        ("t=1718000000.5&transport=polling&EIO=4&sid=x", None, 16),
        ("EIO=4&transport=polling&at=1.5", None, 100),
    ],
)
def test_python_clients_get_at_most_16_packets(query: str, agent: str | None, packets: int) -> None:
    """
    python-engineio reconnects if a response has more; its time stamp or its User-Agent
    shows it. The next polls get the rest. Other clients get all packets at once.
    """
    clock = Clock()
    context = make_context(make_hub(MemoryBroker(clock, "e"), clock), clock, socketio=LIMITS)
    session = open_session(SessionRegistry(clock), context)
    session.write(b"".join(b"4%d\x1e" % number for number in range(100)))
    received: list[bytes] = []
    while len(received) < 100:
        poll: Any = PollExchange(agent)
        poll.query_string = query
        session.poll(poll)
        answer = poll.body.split(b"\x1e")
        received += answer
        assert len(answer) == packets or len(received) == 100
    session.close("over")

    assert received == [b"4%d" % number for number in range(100)]


def test_a_client_that_fetches_portions_does_not_time_out() -> None:
    """
    The ping may wait behind the portions; without polls the client times out.
    """
    clock = Clock()
    context = make_context(make_hub(MemoryBroker(clock, "e"), clock), clock, socketio=LIMITS)
    session = open_session(SessionRegistry(clock), context)
    session.confirm()
    session.write(b"".join(b"4%d\x1e" % number for number in range(100_000)))
    clock.pump([1.0] * 26)
    received = b""
    while not received.endswith(b"\x1e2"):
        poll: Any = PollExchange()
        session.poll(poll)
        assert poll.body
        received += b"\x1e" + poll.body
        clock.pump([1.0] * 15)
        assert not session.closed
    assert clock.seconds() > 3 * LIMITS.ping_timeout

    clock.pump([1.0] * 15)
    assert session.closed


class PostExchange:
    """
    A request with a body.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body

    def header(self, name: str) -> None:
        return None

    def read(self, limit: int) -> Deferred[bytes]:
        return succeed(self._body)


def test_pings_come_at_each_interval() -> None:
    """
    A timeout longer than the interval does not delay them. A client that times out gets no
    CLOSE, after which python-socketio would not reconnect.
    """
    clock = Clock()
    limits = make_socketio_limits(ping_interval=1.0, ping_timeout=5.0)
    context = make_context(make_hub(MemoryBroker(clock, "e"), clock), clock, socketio=limits)
    session = open_session(SessionRegistry(clock), context)
    session.confirm()
    poll: Any = PollExchange()
    session.poll(poll)
    pings = 0
    for _ in range(20):
        clock.pump([1.0, 0.0])
        if poll.body:
            assert poll.body == b"2"
            pings += 1
            ensureDeferred(session.post(cast(Any, PostExchange(b"3")), Poll4()))
            session.poll(poll := cast(Any, PollExchange()))
    assert pings >= 10

    while not session.closed:
        clock.pump([1.0, 0.0])
        if poll.body == b"2":
            session.poll(poll := cast(Any, PollExchange()))
    assert poll.body == b"6"


class DueSession:
    """
    A session that records when it is checked.
    """

    def __init__(self, sid: str, due: float) -> None:
        self.sid = sid
        self.due = due
        self.checks: list[float] = []

    def check(self, now: float) -> None:
        self.checks.append(now)
        self.due = now + 2

    def expire(self) -> None:
        raise NotImplementedError


def test_due_sessions_are_checked_once_a_second() -> None:
    """
    The timer runs while there are sessions.
    """
    clock = Clock()
    registry: SessionRegistry[DueSession] = SessionRegistry(clock)
    one, two = DueSession("1", 3.0), DueSession("2", 99.0)
    for session in (one, two):
        registry.add(session)
    clock.pump([1.0] * 6)

    assert (one.checks, two.checks) == ([3.0, 5.0], [])
    for session in (one, two):
        registry.remove(session)
    assert clock.getDelayedCalls() == []
    assert len(registry) == 0


def test_session_ids_name_their_node() -> None:
    """
    The rest of an id cannot be guessed from other ids.
    """
    registry: SessionRegistry[DueSession] = SessionRegistry(Clock())
    ids = {registry.new_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert {sid.partition("-")[0] for sid in ids} == {registry.node}
    assert min(map(len, ids)) >= 30


class SmallNode:
    """
    A node that allows two subscribers and three pending sessions.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = make_hub(
            MemoryBroker(self.clock, "e"), self.clock, limits=make_hub_limits(subscribers=2)
        )
        limits = make_socketio_limits(max_pending=3)
        self.context = make_context(self.hub, self.clock, socketio=limits)
        self.registry: SessionRegistry[Session] = SessionRegistry(self.clock)

    def open(self, address: str = "a", poll: Any = None) -> Session:
        return open_session(self.registry, self.context, address, poll)


def test_a_pending_session_is_no_subscriber() -> None:
    """
    A polling session counts when its client has sent a second request and has connected to
    a namespace, in either order.
    """
    node = SmallNode()
    first, second, third = node.open(), node.open(), node.open()
    first.admit()
    first.joined()
    second.confirm()
    assert (node.hub.subscribers, node.hub.metrics.joined) == (0, 0)

    first.confirm()
    second.joined()
    second.joined()
    assert node.hub.subscribers == 2
    with pytest.raises(HttpError):
        third.admit()

    third.close("over")
    second.close("over")
    assert (node.hub.subscribers, node.hub.metrics.joined) == (1, 2)
    assert sum(node.hub.metrics.closed.values()) == 1


def test_the_second_request_is_refused_if_there_are_too_many_subscribers() -> None:
    """
    The session is closed then.
    """
    node = SmallNode()
    sessions = [node.open() for _ in range(3)]
    for session in sessions:
        session.joined()
    sessions[0].confirm()
    sessions[1].confirm()
    with pytest.raises(HttpError) as refused:
        sessions[2].confirm()

    assert refused.value.status == 503
    assert [session.closed for session in sessions] == [False, False, True]
    assert node.hub.subscribers == 2


def test_pending_sessions_displace_those_of_their_own_address() -> None:
    """
    Above the limit the oldest session of the address with the most of them is closed, and
    its poll is answered. Confirmed sessions stay.
    """
    node = SmallNode()
    other = node.open("b")
    poll: Any = PollExchange()
    many = [node.open("a", poll if n == 0 else None) for n in range(20)]

    assert not other.closed
    assert [session.closed for session in many] == [True] * 18 + [False] * 2
    other.confirm()
    other.joined()
    for _ in range(20):
        node.open("a")
    assert not other.closed


def test_a_session_without_a_second_request_is_closed() -> None:
    """
    The second request must come within `handshake_seconds`; a client that has sent it may take
    longer to connect.
    """
    node = SmallNode()
    silent, slow = node.open(), node.open()
    slow.confirm()
    node.clock.pump([1.0] * 12)

    assert (silent.closed, slow.closed) == (True, False)
    assert node.hub.subscribers == 0
