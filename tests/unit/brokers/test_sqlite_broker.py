"""
The embedded broker with a history file.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from rt_twisted.brokers.idempotency import KEY_SECONDS
from rt_twisted.brokers.interfaces import IHistory, IReady, IReconfigurable
from rt_twisted.brokers.sqlite.broker import MAX_QUEUED_BYTES, SqliteBroker
from rt_twisted.brokers.sqlite.store import Store
from rt_twisted.brokers.sqlite.unwritten import MAX_UNWRITTEN_BYTES
from rt_twisted.formats.sse import EventStream
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import (
    After,
    Draft,
    Message,
    Newest,
    Position,
    PublishResult,
    Since,
    Within,
)
from rt_twisted.model.retention import Retention
from tests.contracts.brokers import BrokerContract, ForgettingContract, HistoryContract
from tests.contracts.patterns import PatternContract, PatternHistoryContract
from tests.defaults import make_backlog_limits, make_hub, make_hub_limits, make_retention
from tests.fakes import FakeTransport, RecordingReceiver

ALL = make_retention(count=100_000, bytes=1 << 30, age=3600.0)


class TestSqliteBroker(
    BrokerContract, ForgettingContract, HistoryContract, PatternContract, PatternHistoryContract
):
    """
    SqliteBroker fulfils the contract of all brokers, on its real threads.
    """

    @pytest_twisted.async_yield_fixture
    async def broker(
        self, tmp_path: Path, receiver: RecordingReceiver
    ) -> AsyncIterator[SqliteBroker]:
        """
        A new broker with a receiver and a file.
        """
        from twisted.internet import reactor

        loop: Any = reactor
        file = str(tmp_path / "log")
        broker = SqliteBroker(
            loop, file, lambda retention: Store(file, retention, 1 << 30, loop.seconds), ALL
        )
        broker.attach(receiver)
        broker.startService()
        yield broker
        broker.close()

    async def test_its_history_comes_from_the_file(
        self, broker: SqliteBroker, receiver: RecordingReceiver
    ) -> None:
        """
        Each of many concurrent requests gets its own replay.
        """
        drafts = [Draft("a", b"%d" % n, key=f"{n}") for n in range(150)]
        positions = (await broker.publish(drafts)).positions

        queries = [broker.after(["a"], After(position)) for position in positions]
        queries += [broker.after(["a"], Newest(3)) for _ in range(300)]

        for number, answer in enumerate(queries[:150]):
            replay = await answer
            assert replay.complete
            assert list(replay.messages) == receiver.messages[number + 1 :]
        for answer in queries[150:]:
            assert list((await answer).messages) == receiver.messages[-3:]


class ManualExecutor:
    """
    An executor run by the test: `step` runs the next call, and reports its result unless
    the daemon dies before.
    """

    def __init__(self, reactor: Any, name: str, idle_step: Callable[[], bool]) -> None:
        self._idle_step = idle_step
        self._waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def submit(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._waiting.append((work, done))
        return done

    def step(self, known: bool = True) -> bool:
        if not self._waiting:
            return False
        work, done = self._waiting.pop(0)
        try:
            result: Any = work()
        except Exception:
            result = Failure()
        while self._idle_step():
            pass
        if known:
            done.callback(result)
        return True

    def stop(self) -> None:
        while self._waiting:
            self.step(known=False)


class DurableNode:
    """
    A broker with a file, and a hub in front of it, on a clock.
    """

    def __init__(
        self,
        folder: Path,
        retention: Retention = ALL,
        refuse: bool = False,
        limit: int = 1 << 30,
        now: float = 1e9,
    ) -> None:
        self.folder = folder
        self.file = folder / "log"
        self.clock: Any = MemoryReactorClock()
        self.clock.advance(now)
        self.workers: dict[str, ManualExecutor] = {}
        self.broker = SqliteBroker(
            self.clock,
            str(self.file),
            lambda retention: Store(str(self.file), retention, limit, self.clock.seconds, boot="b"),
            retention,
            refuse,
            self._worker,
        )
        self.hub = make_hub(self.broker, self.clock, retention)
        self.received: list[Message] = []
        self.lines: list[FakeTransport] = []
        self.ended = False

    def _worker(self, reactor: Any, name: str, idle_step: Callable[[], bool]) -> Any:
        self.workers[name] = ManualExecutor(reactor, name, idle_step)
        return self.workers[name]

    def start(self) -> DurableNode:
        self.broker.startService()
        self.hub.start()
        return self

    def publish(self, *drafts: Draft) -> Deferred[PublishResult]:
        return self.hub.publish(drafts)

    def settle(self) -> None:
        """
        Run everything that is due without advancing the clock.
        """
        busy = True
        while busy:
            self.clock.advance(0)
            busy = sum(worker.step() for worker in self.workers.values()) > 0  # all of them
        self.clock.advance(0)

    def join(self, *channels: str, since: Since | None = None) -> FakeTransport:
        line = FakeTransport(1 << 20)
        self.lines.append(line)
        subscriber = Subscriber(line, EventStream(), self.hub, make_backlog_limits(), "")
        self.hub.join(subscriber, channels, since)
        self.settle()
        return line

    def after(self, since: Since, *channels: str) -> Any:
        replays: list[Any] = []
        self.broker.after(channels or ("a",), since).addCallback(replays.append)
        self.settle()
        return replays[0]

    def die(self, folder: Path, **context: Any) -> DurableNode:
        """
        Return a new node in *folder* with the files that kill -9 leaves.
        """
        for suffix in ("", "-wal", ".lock"):
            if Path(f"{self.file}{suffix}").exists():
                shutil.copy(f"{self.file}{suffix}", folder / f"log{suffix}")
        now = self.clock.seconds()
        self.end()
        return DurableNode(folder, now=now + 1, **context)

    def end(self) -> None:
        """
        Close the node, unless it has died.
        """
        if self.ended:
            return
        self.ended = True
        self.broker.close()
        for line in self.lines:
            line.close()


@pytest.fixture
def context(tmp_path: Path) -> Iterator[DurableNode]:
    """
    A running node.
    """
    context = DurableNode(tmp_path).start()
    yield context
    context.end()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    An empty folder for a second node.
    """
    folder = tmp_path / "other"
    folder.mkdir()
    return folder


def texts(messages: Sequence[Message]) -> list[bytes]:
    return [message.data for message in messages]


def result(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "it has not fired"
    return results[0]


def test_provides_its_interfaces(context: DurableNode) -> None:
    """
    The hub uses its history, its readiness and its retention.
    """
    assert verifyObject(IHistory, context.broker)
    assert verifyObject(IReady, context.broker)
    assert verifyObject(IReconfigurable, context.broker)


def test_nothing_is_delivered_before_it_is_written(context: DurableNode) -> None:
    """
    Subscribers and publishers never see a position that can change.
    """
    line = context.join("a")
    line.read()
    publishing = context.publish(Draft("a", b"1"))
    context.clock.advance(0)
    assert not publishing.called
    assert context.broker.position().offset == 0
    assert line.read() == b""

    context.settle()

    assert result(publishing).positions == (context.broker.position(),)
    assert b"data: 1\n" in line.read()


def test_a_reload_changes_what_the_file_retains(context: DurableNode) -> None:
    """
    The hub passes a new retention on to a broker that retains messages itself.
    """
    start = context.broker.position()
    published(context, *[Draft("a", b"%d" % n) for n in range(10)])

    context.hub.reconfigure(make_retention(count=2), make_hub_limits())
    context.settle()
    published(context, Draft("a", b"10"))

    assert texts(context.after(After(start)).messages) == [b"9", b"10"]


def test_one_iteration_is_one_transaction(context: DurableNode) -> None:
    """
    What is published while it is written is the next transaction.
    """
    for text in (b"1", b"2", b"3"):
        context.publish(Draft("a", text))
    context.clock.advance(0)
    context.publish(Draft("a", b"4"))
    context.publish(Draft("a", b"5"))
    writer = context.workers["sqlite writer"]

    assert writer.step()
    assert context.broker.position().offset == 3
    assert writer.step()
    assert context.broker.position().offset == 5


def test_a_restart_continues_the_log(context: DurableNode, folder: Path) -> None:
    """
    Log, positions and keys continue; a subscriber that reconnects gets what it missed,
    without a gap.
    """
    [first, *_] = published(context, Draft("a", b"1"), Draft("a", b"2", "greeting", "k"))
    again = context.die(folder).start()
    try:
        line = again.join("a", since=After(first))
        position = Position(first.epoch, 2)
        assert line.read().endswith(
            b"event: greeting\ndata: 2\nid: %s\n\n" % str(position).encode()
        )
        assert published(again, Draft("a", b"2", "greeting", "k")) == (position,)
        assert published(again, Draft("a", b"3")) == (Position(first.epoch, 3),)
        again.clock.advance(KEY_SECONDS)
        assert published(again, Draft("a", b"4", key="k")) == (Position(first.epoch, 4),)
    finally:
        again.end()


def outcome(context: DurableNode, *drafts: Draft) -> Any:
    """
    Publish *drafts*; return the PublishResult, or the Failure.
    """
    publishing = context.publish(*drafts)
    context.settle()
    return result(publishing)


def published(context: DurableNode, *drafts: Draft) -> Sequence[Position]:
    """
    Publish *drafts* successfully; return their positions.
    """
    positions: Sequence[Position] = outcome(context, *drafts).positions
    return positions


def test_the_key_of_a_queued_message_is_known(context: DurableNode) -> None:
    """
    A key is used twice in one iteration, or while the first is written: published once.
    """
    publishing = [context.publish(Draft("a", b"1", key="k")) for _ in range(2)]
    context.clock.advance(0)
    publishing.append(context.publish(Draft("a", b"1", key="k"), Draft("a", b"2")))
    context.settle()

    first = result(publishing[0]).positions
    assert result(publishing[1]).positions == first
    assert result(publishing[2]).positions == (*first, Position(first[0].epoch, 2))


def test_a_death_between_commit_and_delivery(context: DurableNode, folder: Path) -> None:
    """
    The messages were delivered to no subscriber, and are replayed like all others.
    """
    start = context.broker.position()
    publishing = context.publish(Draft("a", b"1", key="k"))
    context.clock.advance(0)
    context.workers["sqlite writer"].step(known=False)
    again = context.die(folder).start()
    try:
        assert not publishing.called
        assert texts(again.after(After(start)).messages) == [b"1"]
        assert published(again, Draft("a", b"1", key="k")) == (Position(start.epoch, 1),)
    finally:
        again.end()


def test_each_kind_of_replay(context: DurableNode) -> None:
    """
    After a position, the newest, or of the last seconds, of several channels in order; for
    a position of another log, all that is retained and a gap.
    """
    positions = published(context, *[Draft("ab"[n % 2], b"%d" % n) for n in range(6)])
    context.clock.advance(100)
    published(context, Draft("a", b"6"))

    replay = context.after(After(positions[3]), "a", "b")
    assert (texts(replay.messages), replay.complete) == ([b"4", b"5", b"6"], True)
    assert replay.position == context.broker.position()
    assert texts(context.after(Newest(2), "a", "b").messages) == [b"5", b"6"]
    assert texts(context.after(Newest(0), "a", "b").messages) == []
    assert texts(context.after(Within(50.0)).messages) == [b"6"]
    assert len(context.after(Within(float("inf"))).messages) == 4
    replay = context.after(After(Position("x", 3)))
    assert (len(replay.messages), replay.complete) == (4, False)
    assert not context.after(After(Position(positions[0].epoch, 99))).complete


def test_odd_names_are_kept_as_they_are(context: DurableNode, folder: Path) -> None:
    """
    Lone surrogates, NUL and quotes are names like all others.
    """
    names = ["\ud800", "\0'", '"', "ü"]
    for name in names:
        published(context, Draft(name, b"", name, name))
    again = context.die(folder).start()
    try:
        found = again.after(Within(float("inf")), *names).messages
        assert [(message.channel, message.event) for message in found] == [(n, n) for n in names]
    finally:
        again.end()


def break_file(context: DurableNode) -> Callable[[], None]:
    """
    Make every write fail as on a full disk; return a function that ends it.
    """
    db = context.broker._store._db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    return lambda: db.execute("PRAGMA max_page_count = 1000000").close()


LARGE = b"x" * 40_000


def test_a_full_disk_does_not_stop_delivery(context: DurableNode) -> None:
    """
    Publishers learn that messages are not durable; when there is room again all of them are
    written, in order.
    """
    line = context.join("a")
    [before] = published(context, Draft("a", b"0"))
    heal = break_file(context)

    first = outcome(context, Draft("a", LARGE, key="k"))
    second = outcome(context, Draft("a", b"2"), Draft("a", LARGE, key="k"))
    assert not first.durable
    assert not second.durable
    assert second.positions[1] == first.positions[0]
    assert context.broker.ready()
    assert line.read_all().count(b"data: ") == 3
    heal()
    context.clock.advance(1.0)
    context.settle()

    last = outcome(context, Draft("a", b"3"))
    assert last.durable
    replay = context.after(After(before))
    assert replay.complete
    assert texts(replay.messages) == [LARGE, b"2", b"3"]
    assert [message.position for message in replay.messages] == [
        *first.positions,
        second.positions[0],
        *last.positions,
    ]


def test_killed_while_the_disk_is_full(context: DurableNode, folder: Path) -> None:
    """
    Unwritten messages are lost: subscribers that received or missed them get a gap, and no
    position is assigned twice.
    """
    [before] = published(context, Draft("a", b"0"))
    break_file(context)
    [lost] = published(context, Draft("a", LARGE))
    again = context.die(folder).start()
    try:
        for position in (before, lost):
            assert b"event: gap\n" in again.join("a", since=After(position)).read()
        [next] = published(again, Draft("a", b"1"))
        assert next.epoch == lost.epoch
        assert next.offset > lost.offset
        assert again.after(After(Position(next.epoch, next.offset - 1))).complete
    finally:
        again.end()


def test_a_clean_stop_with_a_full_disk_and_then_room(context: DurableNode, folder: Path) -> None:
    """
    Unwritten messages are written at the end.
    """
    [before] = published(context, Draft("a", b"0"))
    heal = break_file(context)
    published(context, Draft("a", LARGE))
    heal()
    context.end()
    for name in os.listdir(context.folder):
        if name.startswith("log"):
            shutil.copy(context.folder / name, folder / name)
    again = DurableNode(folder).start()
    try:
        replay = again.after(After(before))
        assert (texts(replay.messages), replay.complete) == ([LARGE], True)
    finally:
        again.end()


def test_unwritten_messages_are_bounded(context: DurableNode) -> None:
    """
    A disk that stays full does not fill the memory; what was dropped is a gap.
    """
    [before] = published(context, Draft("a", b"0"))
    heal = break_file(context)
    many = MAX_UNWRITTEN_BYTES // (1 << 20) + 8
    positions = [published(context, Draft("a", bytes(1 << 20)))[0] for _ in range(many)]
    heal()
    context.clock.advance(1.0)
    context.settle()

    assert not context.after(After(before)).complete
    assert len(context.after(After(before)).messages) < many
    assert context.after(After(positions[10])).complete


def test_a_mark_precedes_unwritten_messages(context: DurableNode, folder: Path) -> None:
    """
    A message that cannot be written is delivered once it is certain that the next start
    reports a gap.
    """
    line = context.join("a")
    line.read()
    break_file(context)
    waiting = context.publish(Draft("a", LARGE))
    context.clock.advance(0)
    writer = context.workers["sqlite writer"]
    writer.step()  # cannot write
    context.clock.advance(0)
    assert not waiting.called
    assert line.read_all() == b""
    last = context.broker.position()

    writer.step()  # writes the mark
    assert not result(waiting).durable
    again = context.die(folder).start()
    try:
        assert b"event: gap\n" in again.join("a", since=After(last)).read()
    finally:
        again.end()


def test_a_full_disk_may_refuse(tmp_path: Path) -> None:
    """
    With unwritable=refuse publishers get an error, nothing is delivered, and no position
    is lost.
    """
    context = DurableNode(tmp_path, refuse=True).start()
    line = context.join("a")
    heal = break_file(context)
    line.read()

    assert outcome(context, Draft("a", LARGE, key="k")).check(Unavailable)
    assert outcome(context, Draft("a", b"1")).check(Unavailable)
    assert not context.broker.ready()
    assert line.read_all() == b""
    heal()
    context.clock.advance(1.0)
    [position] = published(context, Draft("a", LARGE, key="k"))
    assert position.offset == 1
    context.end()


def test_a_slow_disk_refuses_before_memory_is_full(context: DurableNode) -> None:
    """
    The bytes of queued publications are bounded.
    """
    waiting = [context.publish(Draft("a", bytes(1 << 20))) for _ in range(MAX_QUEUED_BYTES >> 20)]

    assert result(context.publish(Draft("a", b""))).check(Unavailable)
    context.settle()
    assert all(isinstance(result(one), PublishResult) for one in waiting)


def test_damage_is_moved_aside(context: DurableNode, tmp_path: Path, folder: Path) -> None:
    """
    A file that was ours and is corrupt begins another log; the old file is kept.
    """
    [position] = published(context, Draft("a", b"1"))
    (folder / "log").write_bytes(b"nothing of the kind" * 1000)
    (folder / "log.lock").write_bytes(b" ")  # as a daemon that had the file open
    again = DurableNode(folder).start()
    try:
        [moved] = folder.glob("log.damaged-*")
        assert moved.read_bytes().startswith(b"nothing")
        assert again.broker.position().epoch != position.epoch
        assert b"event: gap\n" in again.join("a", since=After(position)).read()
    finally:
        again.end()


def lose(context: DurableNode, how: str, folder: Path) -> None:
    """
    Lose the file of *context* in the given way.
    """
    parts = [Path(f"{context.file}{suffix}") for suffix in ("", "-wal", "-shm")]
    if how == "deleted":
        for part in parts:
            part.unlink()
    elif how == "moved":
        context.file.rename(folder / "elsewhere")
    elif how == "replaced":
        (folder / "new").write_bytes(b"")
        (folder / "new").rename(context.file)
    elif how == "emptied":
        os.truncate(context.file, 0)
    elif how == "truncated":
        context.broker._store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.truncate(context.file, 4096)
    elif how == "log truncated":
        os.truncate(parts[1], 32)
    elif how == "folder removed":
        shutil.rmtree(context.folder)
        context.folder.mkdir()
    else:
        Path(f"{context.file}{how}").unlink()


LOSSES = ["deleted", "moved", "replaced", "emptied", "truncated", "log truncated", "folder removed"]


@pytest.mark.parametrize("how", LOSSES)
def test_a_lost_file_is_created_again(
    context: DurableNode, how: str, folder: Path, tmp_path: Path
) -> None:
    """
    Within a second subscribers get a gap, and what is published then is durable; a result
    says so only if it is.
    """
    [before] = published(context, Draft("a", b"1" * 9000))
    subscriber = context.join("a")
    lose(context, how, folder)
    context.clock.advance(1)
    context.settle()
    [after] = published(context, Draft("a", b"2"))

    assert after.epoch != before.epoch
    assert b"event: gap\n" in subscriber.read()
    (tmp_path / "next").mkdir()
    again = context.die(tmp_path / "next").start()
    try:
        [message] = again.after(Newest(9), "a").messages
        assert (message.position, message.data) == (after, b"2")
    finally:
        again.end()


@pytest.mark.parametrize("how", ["-wal", "-shm", ".lock"])
def test_a_lost_part_loses_no_message(context: DurableNode, how: str, tmp_path: Path) -> None:
    """
    What was only in that part is written to the file, and the log continues without a gap.
    """
    [before] = published(context, Draft("a", b"1"))
    subscriber = context.join("a")
    lose(context, how, tmp_path)
    context.clock.advance(1)
    context.settle()
    [after] = published(context, Draft("a", b"2"))

    assert after.epoch == before.epoch
    assert b"event: gap\n" not in subscriber.read()
    (tmp_path / "next").mkdir()
    again = context.die(tmp_path / "next").start()
    try:
        assert [each.data for each in again.after(Newest(9), "a").messages] == [b"1", b"2"]
    finally:
        again.end()


@pytest.mark.parametrize("refuse", [False, True])
def test_a_file_that_cannot_be_created_again(refuse: bool, tmp_path: Path) -> None:
    """
    Messages are delivered as not durable, or refused, as on a full disk; no publisher waits.
    """
    home = tmp_path / "home"
    home.mkdir()
    context = DurableNode(home, refuse=refuse).start()
    try:
        [before] = published(context, Draft("a", b"1"))
        shutil.rmtree(home)
        context.clock.advance(1)
        context.settle()
        answers: list[Any] = []
        context.publish(Draft("a", b"2")).addBoth(answers.append)
        context.settle()
        assert context.broker.ready() is not refuse
        answer = getattr(answers[0], "value", answers[0])
        assert isinstance(answer, Unavailable if refuse else PublishResult)
        assert not getattr(answer, "durable", False)

        home.mkdir()
        context.clock.advance(1)
        context.settle()
        [after] = published(context, Draft("a", b"3"))
        assert after.epoch != before.epoch
        assert context.broker.ready()
    finally:
        context.end()


def test_an_older_copy_assigns_no_position_twice(context: DurableNode, folder: Path) -> None:
    """
    An operator puts an old backup in place of the file.
    """
    published(context, Draft("a", b"1"))
    context.broker._store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(context.file, folder / "backup")
    [before] = published(context, Draft("a", b"2"))
    (folder / "backup").rename(context.file)
    context.clock.advance(1)
    context.settle()
    [after] = published(context, Draft("a", b"3"))

    assert after.epoch == before.epoch
    assert after.offset > before.offset
    assert not context.after(After(before)).complete


def damage(context: DurableNode) -> None:
    """
    Overwrite all but the first page of the file.
    """
    context.broker._store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = context.file.stat().st_size // 4096
    with context.file.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096) * (pages - 1))
    # SQLite has cached none of it.
    context.broker._store._db.execute("PRAGMA shrink_memory")


def test_damage_is_found_while_running(context: DurableNode) -> None:
    """
    Another log begins, and what was being published is in it.
    """
    [position] = published(context, Draft("a", b"1"))
    line = context.join("a")
    line.read()
    damage(context)

    results = [published(context, Draft("a", b"2")) for _ in range(3)]

    assert results[-1][0].epoch != position.epoch
    assert len(list(context.folder.glob("log.damaged-*"))) >= 1
    assert line.read_all().count(b"data: 2\n") == 3


def test_damage_is_found_while_the_disk_is_full(context: DurableNode) -> None:
    """
    The next write waits for the new log, and so does what is published.
    """
    [position] = published(context, Draft("a", b"1"))
    break_file(context)
    assert not outcome(context, Draft("a", LARGE)).durable
    damage(context)
    context.broker.after(["a"], Within(float("inf")))
    context.workers["sqlite reader"].step()  # finds it
    context.workers["sqlite reader"].step()  # closes it
    context.clock.advance(1.0)  # the next attempt is due
    waiting = context.publish(Draft("a", b"2"))
    context.settle()

    written = result(waiting)
    assert written.positions[0].epoch != position.epoch
    assert written.durable
    assert texts(context.after(After(position)).messages) == [b"2"]


def test_damage_is_found_while_a_write_is_about_to_fail(context: DurableNode) -> None:
    """
    The messages of that write are published in the new log.
    """
    [position] = published(context, Draft("a", b"1"))
    damage(context)
    context.broker._store._db.execute("PRAGMA query_only = 1")
    context.broker.after(["a"], Within(float("inf")))
    waiting = [context.publish(Draft("a", b"2"))]
    context.clock.advance(0)
    context.workers["sqlite reader"].step()  # finds it
    context.workers["sqlite writer"].step()  # cannot write, for another reason
    waiting.append(context.publish(Draft("a", b"3")))
    context.settle()

    for deferred in waiting:
        written = result(deferred)
        assert written.positions[0].epoch != position.epoch
        assert written.durable
    assert texts(context.after(After(position)).messages) == [b"2", b"3"]


def test_the_second_of_two_does_not_start(context: DurableNode) -> None:
    """
    The error says that another daemon has the file.
    """
    second = DurableNode(context.folder)

    for start in (second.broker.privilegedStartService, second.broker.startService):
        with pytest.raises(SystemExit, match=r"history file .*/log is in use by another daemon"):
            start()


@pytest.mark.parametrize("case", ["folder", "foreign"])
def test_what_cannot_be_used_is_left_alone(tmp_path: Path, case: str) -> None:
    """
    A database of another program is not moved aside, and a folder is no file.
    """
    context = DurableNode(tmp_path)
    if case == "folder":
        context.file.mkdir()
    else:
        db = sqlite3.connect(context.file)
        db.execute("CREATE TABLE theirs (x)")
        db.close()

    with pytest.raises(SystemExit, match=r"the history file .*/log cannot be used: "):
        context.broker.startService()
    assert context.file.exists()


CHANNELS = "abc"
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=5)),
    st.tuples(
        st.just("join"), st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True)
    ),
    st.tuples(st.just("cut"), st.integers(0, 9)),
    st.tuples(st.just("back"), st.integers(0, 9)),
    st.tuples(st.just("turn"), st.just(0)),
    st.tuples(st.just("write"), st.just(0)),
    st.tuples(st.just("read"), st.just(0)),
    st.tuples(st.just("die"), st.booleans()),
    st.tuples(st.just("break"), st.just(0)),
    st.tuples(st.just("heal"), st.just(0)),
)


class Client:
    """
    A subscriber that behaves like EventSource.
    """

    def __init__(self, channels: list[str]) -> None:
        self.channels = channels
        self.last: Position | None = None
        self.got: list[tuple[Position, bytes]] = []
        self.line: FakeTransport | None = None
        self.forgiven: set[bytes] = set()  # a gap may have them

    def connect(self, context: DurableNode, published: list[tuple[str, bytes]]) -> None:
        if self.line is None:
            since = After(self.last) if self.last is not None else None
            line = FakeTransport(1 << 20)
            context.lines.append(line)
            subscriber = Subscriber(line, EventStream(), context.hub, make_backlog_limits(), "")
            self.line = line
            context.hub.join(subscriber, self.channels, since)

    def read(self, published: list[tuple[str, bytes]]) -> None:
        if self.line is None:
            return
        for block in self.line.read_all().split(b"\n\n")[:-1]:
            fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
            if fields.get(b"event") == b"gap":
                self.forgiven |= {text for _, text in published}
                continue
            if b"id" in fields:
                position = Position.parse(fields[b"id"].decode())
                if self.last is None:
                    self.forgiven |= {text for _, text in published}
                self.last = position
                if b"data" in fields:
                    self.got.append((position, fields[b"data"]))

    def cut(self, context: DurableNode) -> None:
        if self.line is not None:
            self.line.hang_up()
            context.lines.remove(self.line)
            self.line = None


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(STEPS, max_size=40), st.sampled_from([2, 100_000]))
def test_complete_or_a_gap(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]], count: int
) -> None:
    """
    Each subscriber ends with all acknowledged messages since it first came, in order and
    once, or with a gap, for any sequence of deaths, full disks and cut connections. No
    position is ever assigned twice.
    """
    retention = make_retention(count=count, bytes=1 << 30)
    context = DurableNode(tmp_path_factory.mktemp("log"), retention=retention).start()
    clients: list[Client] = []
    published: list[tuple[str, bytes]] = []
    acknowledged: dict[bytes, Position] = {}
    where: dict[Position, bytes] = {}
    heal: Callable[[], object] = bool

    def check_usable() -> None:
        for client in clients:
            client.read(published)
            for position, text in client.got:
                assert where.setdefault(position, text) == text

    def acknowledge(result: PublishResult, texts: list[bytes]) -> None:
        acknowledged.update(zip(texts, result.positions, strict=True))

    try:
        for word, value in steps:
            if word == "publish":
                drafts = []
                for channel in value:
                    text = b"%d" % len(published) + b"x" * 5000
                    published.append((channel, text))
                    drafts.append(Draft(channel, text))
                publishing = context.hub.publish(drafts)
                publishing.addCallback(acknowledge, [draft.data for draft in drafts])
            elif word == "join":
                clients.append(Client(value))
                clients[-1].connect(context, published)
            elif word == "cut" and clients:
                clients[value % len(clients)].cut(context)
            elif word == "back" and clients:
                clients[value % len(clients)].connect(context, published)
            elif word == "turn":
                context.clock.advance(0)
            elif word == "write":
                context.workers["sqlite writer"].step()
            elif word == "read":
                context.workers["sqlite reader"].step()
            elif word == "die":
                if value:
                    context.workers["sqlite writer"].step(known=False)
                check_usable()
                for client in clients:
                    client.cut(context)
                context = context.die(tmp_path_factory.mktemp("log"), retention=retention).start()
                heal = bool
            elif word == "break":
                heal = break_file(context)
            elif word == "heal":
                heal()
                context.clock.advance(1.0)
            check_usable()
        heal()
        context.clock.advance(1.0)
        context.settle()
        for client in clients:
            client.connect(context, published)
        context.settle()
        check_usable()
        for client in clients:
            positions = [position for position, _ in client.got]
            assert all(one.offset < other.offset for one, other in pairwise(positions))
            got = {text for _, text in client.got}
            for channel, text in published:
                if channel in client.channels and text in acknowledged:
                    assert text in got or text in client.forgiven
    finally:
        context.end()


def test_old_messages_are_deleted_without_new_ones(tmp_path: Path) -> None:
    """
    Their offsets are not assigned again.
    """
    clock = Clock()
    clock.advance(1e9)
    path = str(tmp_path / "log")
    journal = Store(path, make_retention(age=10.0), 1 << 30, clock.seconds)
    journal.append([Message("a", b"1", Position(journal.epoch, 1))])
    clock.advance(11)
    while journal.trimmer.step():
        pass
    [replay] = journal.reader.replay([(("a",), After(Position(journal.epoch, 0)))], 1)
    assert (replay.messages, replay.complete) == ((), False)
    journal.reader.close()
    journal.close()

    again = Store(path, make_retention(age=10.0), 1 << 30, clock.seconds)
    assert (again.epoch, again.head) == (journal.epoch, 1)
    again.reader.close()
    again.close()


async def test_live_streams_are_refused(tmp_path: Path) -> None:
    """
    A camera would fill the file, and each picture would wait for the disk. The error
    names the setting.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    file = str(tmp_path / "log")
    broker = SqliteBroker(
        loop, file, lambda retention: Store(file, retention, 1 << 30, loop.seconds), ALL
    )

    with pytest.raises(HttpError, match="history-file"):
        await broker.publish([Draft("a", b"1"), Draft("cam", b"2", "unit/1", transient=True)])
