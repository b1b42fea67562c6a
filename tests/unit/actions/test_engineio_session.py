"""
Who pings whom, and when sessions are looked after.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock

from rt_twisted.actions.context import ActionContext, SocketIOLimits
from rt_twisted.actions.engineio.keepalive import Keepalive, KeepaliveAction
from rt_twisted.actions.engineio.registry import SessionRegistry
from rt_twisted.actions.engineio.session import Session
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.engineio_framing import Framing, Poll4
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import HubLimits
from rt_twisted.model.errors import HttpError

LIMITS = SocketIOLimits(ping_interval=25, ping_timeout=20)


def test_revision_4_is_pinged() -> None:
    """
    Every interval; who does not answer in time is gone.
    """
    heart = Keepalive(4, LIMITS, 0.0)

    assert heart.look(24.9) is KeepaliveAction.NOTHING
    assert heart.look(25.0) is KeepaliveAction.PING
    assert heart.look(44.9) is KeepaliveAction.NOTHING
    heart.heard(44.9, beat=True)
    assert heart.look(69.8) is KeepaliveAction.NOTHING
    assert heart.look(69.9) is KeepaliveAction.PING
    heart.heard(80.0, beat=False)  # it lives, though it has not answered
    assert heart.look(99.9) is KeepaliveAction.NOTHING
    assert heart.look(100.0) is KeepaliveAction.GONE


def test_revision_3_pings() -> None:
    """
    Interval and timeout after the last word it is gone.
    """
    heart = Keepalive(3, LIMITS, 0.0)

    heart.heard(30.0, beat=True)
    assert heart.look(74.9) is KeepaliveAction.NOTHING
    assert heart.look(75.0) is KeepaliveAction.GONE


class Speaker:
    """
    Nobody speaks.
    """

    def opened(self, session: Session) -> None:
        pass

    def closed(self, why: str) -> None:
        pass

    def idle(self) -> bool:
        return False

    def format(self, framing: Framing, quiet: bool = False, welcome: bytes = b"") -> SocketIOEvents:
        return SocketIOEvents(framing, quiet=quiet, welcome=welcome)


class Poll:
    """
    A request, and its answer.
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
def test_python_gets_sixteen_packets_at_once(query: str, agent: str | None, packets: int) -> None:
    """
    python-engineio accepts no more in one answer, and reconnects: it is known by
    its time stamp or its User-Agent. What is left comes with the next polls, and
    all other clients get all that waits.
    """
    clock = Clock()
    context = ActionContext(Hub(MemoryBroker(clock, "e"), clock), clock, socketio=LIMITS)
    speaker: Any = Speaker()
    session = Session(SessionRegistry(clock), context, speaker, 4, "", False)
    session.open_polls(Poll4())
    session.poll(cast(Any, Poll()))
    session.write(b"".join(b"4%d\x1e" % number for number in range(100)))
    heard: list[bytes] = []
    while len(heard) < 100:
        poll: Any = Poll(agent)
        poll.query_string = query
        session.poll(poll)
        answer = poll.body.split(b"\x1e")
        heard += answer
        assert len(answer) == packets or len(heard) == 100
    session.close("over")

    assert heard == [b"4%d" % number for number in range(100)]


def test_who_fetches_much_in_portions_is_there() -> None:
    """
    Also while the ping has not come to it yet, as it waits behind the rest; not
    once it fetches no more.
    """
    clock = Clock()
    context = ActionContext(Hub(MemoryBroker(clock, "e"), clock), clock, socketio=LIMITS)
    sessions = SessionRegistry(clock)
    speaker: Any = Speaker()
    session = Session(sessions, context, speaker, 4, "", False)
    session.open_polls(Poll4())
    session.poll(cast(Any, Poll()))
    session.confirm()
    session.write(b"".join(b"4%d\x1e" % number for number in range(100_000)))
    clock.pump([1.0] * 26)
    heard = b""
    while not heard.endswith(b"\x1e2"):
        poll: Any = Poll()
        session.poll(poll)
        assert poll.body
        heard += b"\x1e" + poll.body
        clock.pump([1.0] * 15)
        assert not session.closed
    assert clock.seconds() > 3 * LIMITS.ping_timeout

    clock.pump([1.0] * 15)
    assert session.closed


class Post:
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
    Also where a client has longer than that to answer; who does not answer is gone, and
    hears no CLOSE, after which python-socketio would not come back.
    """
    clock = Clock()
    limits = SocketIOLimits(ping_interval=1.0, ping_timeout=5.0)
    context = ActionContext(Hub(MemoryBroker(clock, "e"), clock), clock, socketio=limits)
    speaker: Any = Speaker()
    session = Session(SessionRegistry(clock), context, speaker, 4, "", False)
    session.open_polls(Poll4())
    session.poll(cast(Any, Poll()))
    session.confirm()
    poll: Any = Poll()
    session.poll(poll)
    pings = 0
    for _ in range(20):
        clock.pump([1.0, 0.0])
        if poll.body:
            assert poll.body == b"2"
            pings += 1
            ensureDeferred(session.post(cast(Any, Post(b"3")), Poll4()))
            session.poll(poll := cast(Any, Poll()))
    assert pings >= 10

    while not session.closed:
        clock.pump([1.0, 0.0])
        if poll.body == b"2":
            session.poll(poll := cast(Any, Poll()))
    assert poll.body == b"6"


class Due:
    """
    A session that counts how often it is looked at.
    """

    def __init__(self, sid: str, due: float) -> None:
        self.sid = sid
        self.due = due
        self.looks: list[float] = []

    def look(self, now: float) -> None:
        self.looks.append(now)
        self.due = now + 2


def test_one_look_a_second() -> None:
    """
    At those that are due, while there are any; no timer is left afterwards.
    """
    clock = Clock()
    sessions = SessionRegistry(clock)
    one, two = Due("1", 3.0), Due("2", 99.0)
    for session in (one, two):
        sessions.add(session)  # type: ignore[arg-type]  # as much of one as is looked at
    clock.pump([1.0] * 6)

    assert (one.looks, two.looks) == ([3.0, 5.0], [])
    for session in (one, two):
        sessions.forget(session)  # type: ignore[arg-type]
    assert clock.getDelayedCalls() == []
    assert len(sessions) == 0


def test_ids_name_their_node() -> None:
    """
    And cannot be guessed from one another.
    """
    sessions = SessionRegistry(Clock())
    ids = {sessions.new_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert {sid.partition("-")[0] for sid in ids} == {sessions.node}
    assert min(map(len, ids)) >= 30


class Place:
    """
    A node with room for two subscribers and three pending sessions.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = Hub(MemoryBroker(self.clock, "e"), self.clock, limits=HubLimits(subscribers=2))
        limits = SocketIOLimits(max_pending=3)
        self.context = ActionContext(self.hub, self.clock, socketio=limits)
        self.sessions = SessionRegistry(self.clock)

    def open(self, address: str = "a", poll: Any = None) -> Session:
        speaker: Any = Speaker()
        session = Session(self.sessions, self.context, speaker, 4, "", False)
        session.open_polls(Poll4(), address)
        session.poll(poll or cast(Any, Poll()))
        return session


def test_a_handshake_alone_is_no_subscriber() -> None:
    """
    A session that polls counts when its client has sent a second request and has
    joined something, in either order, and not before.
    """
    place = Place()
    first, second, third = place.open(), place.open(), place.open()
    first.admit()
    first.joined()
    second.confirm()
    assert (place.hub.subscribers, place.hub.metrics.joined) == (0, 0)

    first.confirm()
    second.joined()
    second.joined()
    assert place.hub.subscribers == 2
    with pytest.raises(HttpError):
        third.admit()

    third.close("over")
    second.close("over")
    assert (place.hub.subscribers, place.hub.metrics.joined) == (1, 2)
    assert sum(place.hub.metrics.closed.values()) == 1


def test_who_finds_no_room_by_the_second_request_is_refused() -> None:
    """
    And its session ends.
    """
    place = Place()
    sessions = [place.open() for _ in range(3)]
    for session in sessions:
        session.joined()
    sessions[0].confirm()
    sessions[1].confirm()
    with pytest.raises(HttpError) as refused:
        sessions[2].confirm()

    assert refused.value.status == 503
    assert [session.closed for session in sessions] == [False, False, True]
    assert place.hub.subscribers == 2


def test_pending_sessions_take_room_from_their_own_address() -> None:
    """
    One more than there may be ends the oldest of the address that has most; its
    poll is answered. Who has been confirmed stays.
    """
    place = Place()
    honest = place.open("b")
    poll: Any = Poll()
    crowd = [place.open("a", poll if n == 0 else None) for n in range(20)]

    assert not honest.closed
    assert [session.closed for session in crowd] == [True] * 18 + [False] * 2
    honest.confirm()
    honest.joined()
    for _ in range(20):
        place.open("a")
    assert not honest.closed


def test_who_sends_no_second_request_is_gone() -> None:
    """
    After `handshake_seconds`, while a client that does may take longer to join.
    """
    place = Place()
    silent, slow = place.open(), place.open()
    slow.confirm()
    place.clock.pump([1.0] * 12)

    assert (silent.closed, slow.closed) == (True, False)
    assert place.hub.subscribers == 0
