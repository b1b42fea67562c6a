"""
The embedded broker with a file: its log survives the process.

A message is told, and its publisher answered, when it is committed: no reader
has ever seen a position that another message could get. What is published in
one turn of the reactor, or while the file is being written, is one transaction.
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.brokers.idempotency import MAX_KEYS, IdempotencyKeys
from rt_twisted.brokers.interfaces import IBroker, IHistory, IReady, IReceiver, IReconfigurable
from rt_twisted.brokers.sqlite.io_thread import Executor, IoThread
from rt_twisted.brokers.sqlite.store import (
    KeyUse,
    Loss,
    Question,
    Store,
    UnusableStore,
    is_damage,
    look,
)
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import (
    After,
    Draft,
    Message,
    Position,
    PublishResult,
    Replay,
    Since,
)
from rt_twisted.model.retention import OVERHEAD, Retention

_log = Logger()

WAITING = 64 << 20  # bytes that may wait to be written before publishers are refused
HELD = 64 << 20  # bytes kept for a file that cannot be written, until it can
RETRY = 1.0  # seconds between two tries to write such a file
TOLD = 60.0  # seconds; a disk that is full now and then is told of once in so long
QUESTIONS = 32  # read in one go: their answers are in memory together
ASKED = 256  # readers answered in one go: some milliseconds of the reactor


class SqliteBrokerState(Enum):
    """
    How it stands with the file.
    """

    DURABLE = "what is published is written, then told"
    AWAY = "it cannot be written; the next try is due"
    DAMAGED = "it is being replaced; what is published waits"
    GONE = "there is none, and none can be made; the next try is due"


@dataclass(slots=True)
class SqlitePublication:
    """
    What one call of `publish` handed in.
    """

    drafts: Sequence[Draft]
    done: Deferred[PublishResult]
    positions: list[Position] = field(default_factory=list)


@dataclass(slots=True)
class SqliteBatch:
    """
    What is written in one transaction: messages told already, while the file
    could not be written, and then those of *publications*.
    """

    publications: list[SqlitePublication]
    told: int
    messages: list[Message]
    keys: list[KeyUse]


Threads = Callable[[Any, str, Callable[[], bool]], Executor]
Open = Callable[[Retention], Store]


@implementer(IBroker, IHistory, IReady, IReconfigurable)
class SqliteBroker(Service):
    """
    Numbers drafts, writes them to a journal, then hands them to the hub.

    The journal is opened by `startService`: behind twistd's fork, and as the
    user it becomes.

    Args:
        reactor: the reactor.
        path: the history file, absolute.
        open: opens it.
        keep: what each channel remembers.
        refuse: what meets a message that cannot be written: True, its publisher
            is told to come again; False, it is told to readers all the same,
            and the publisher that it is not durable.
        threads: makes the two that write and read; tests have their own.
    """

    def __init__(
        self,
        reactor: Any,
        path: str,
        open: Open,
        retention: Retention,
        refuse: bool = False,
        threads: Threads = IoThread,
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._open = open
        self._retention = retention
        self._refuse = refuse
        self._threads = threads
        self._state = SqliteBrokerState.DURABLE
        self._head = Position("", 0)  # of what was told
        self._written = 0  # offset up to which messages are in the file, and told
        self._numbered = 0  # offset of the last that has a number
        self._keys = IdempotencyKeys()
        self._waiting: list[SqlitePublication] = []
        self._waiting_bytes = 0
        self._writing = False
        self._due = False  # a turn's batch is on its way
        self._held: deque[Message] = deque()  # told, and not in the file
        self._held_keys: list[KeyUse] = []
        self._held_bytes = 0
        self._lost = 0  # offset of the last that was held and let go
        self._said = False  # that the file cannot be written
        self._said_at = -TOLD
        self._asked: deque[tuple[Question, Deferred[Replay]]] = deque()
        self._reading = False
        self._retry: Any = None  # the call that will
        self._nudged = False
        self._tick = LoopingCall(self._nudge)
        self._tick.clock = reactor
        self._receiver: IReceiver
        self._journal: Store
        self._writer: Executor
        self._reader: Executor

    # Life.

    def privilegedStartService(self) -> None:
        """
        Look before anybody listens; nothing is made yet, as root would own it.

        Raises:
            SystemExit: one sentence, if the file cannot be used.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            look(self._path)
        except UnusableStore as error:
            sys.exit(f"realtime: {error}")

    def startService(self) -> None:
        """
        Open the file.

        Raises:
            SystemExit: one sentence, if that is not possible.
        """
        super().startService()  # type: ignore[no-untyped-call]
        try:
            journal = self._open(self._retention)
        except UnusableStore as error:
            sys.exit(f"realtime: {error}")
        self._go_on(journal)
        for use in journal.keys:
            position = Position(journal.epoch, use.offset)
            self._keys.remember(use.channel, use.key, position, use.time)
        self._writer = self._threads(self._reactor, "journal writer", self._tidy)
        self._reader = self._threads(self._reactor, "journal reader", _nothing)
        self._tick.start(1.0, now=False)
        # Not in stopService: requests that are running then may still publish.
        self._reactor.addSystemEventTrigger("after", "shutdown", self.close)

    def close(self) -> None:
        """
        Write what waits, and close the file. Blocks; the last that is called.
        """
        if self._tick.running:
            self._tick.stop()
        if self._retry is not None:
            self._retry.cancel()
        self._reader.do(self._journal.close_reading)
        self._reader.stop()
        if self._waiting or (self._held and not self._writing):
            self._writer.do(partial(self._save, self._batch(self._waiting)))
        self._writer.do(self._journal.close)
        self._writer.stop()

    def _save(self, batch: SqliteBatch) -> None:
        self._journal.append(batch.messages, batch.keys, self._lost)
        self._journal.mark(lossy=False)  # what was told is in it

    def reconfigure(self, retention: Retention) -> None:
        """
        Go on with other bounds; what is over them is forgotten little by little.
        """
        self._retention = retention
        self._writer.do(partial(self._journal.reconfigure, retention))

    def _go_on(self, journal: Store) -> None:
        """
        Go on where *journal* ends.
        """
        if journal.moved:
            _log.error(
                "the history file {file} is damaged; it is now {moved}, and a new log begins",
                file=self._path,
                moved=journal.moved,
            )
        elif journal.missing:
            _log.warn(
                "the history file {file} {missing} since the last start; a new log begins",
                file=self._path,
                missing=journal.missing,
            )
        self._journal = journal
        self._head = self._opened = Position(journal.epoch, journal.head)
        self._written = self._numbered = journal.head

    def _tidy(self) -> bool:
        """
        On the writing thread. What fails here fails for messages too, and is
        said there.
        """
        journal = self._journal
        try:
            return journal.vacuum_step()
        except sqlite3.Error as error:
            if is_damage(error):
                self._reactor.callFromThread(self._replace, journal)
        except Exception:
            _log.failure("while tidying the history file")
        return False

    def _nudge(self) -> None:
        """
        Look whether the file is still there. Without messages, too, some grow too old.
        """
        if not self._nudged and self._state in (SqliteBrokerState.DURABLE, SqliteBrokerState.AWAY):
            self._nudged = True
            looked = self._writer.do(self._journal.lost)
            looked.addBoth(self._was_nudged, self._journal).addErrback(_unexpected)

    def _was_nudged(self, found: Loss | Failure | None, journal: Store) -> None:
        self._nudged = False
        if isinstance(found, Failure):
            found.trap(
                OSError, sqlite3.Error
            )  # the disk; messages meet it too, and it is said there
        elif found is not None and self._state in (
            SqliteBrokerState.DURABLE,
            SqliteBrokerState.AWAY,
        ):
            self._replace(journal, found)

    # What a broker does.

    def attach(self, receiver: IReceiver) -> None:
        """
        See `IBroker.attach`.
        """
        self._receiver = receiver

    def position(self) -> Position:
        """
        The last one told; known once started.
        """
        return self._head

    def subscribe(self, channel: str) -> Deferred[Position]:
        """
        Fires at once: every channel is received, from the end of the file as
        it was opened.
        """
        return succeed(self._opened)

    def unsubscribe(self, channel: str) -> None:
        """
        Nothing to do either.
        """

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Fires when *drafts* are committed, or, not durable, when they are told
        without that.
        """
        if self._state in (SqliteBrokerState.AWAY, SqliteBrokerState.GONE):
            if self._refuse:
                return fail(Unavailable("the history file cannot be written"))
            return succeed(self._tell_only(drafts))
        if self._waiting_bytes > WAITING:
            return fail(Unavailable("the history file is too slow"))
        publication = SqlitePublication(drafts, Deferred())
        self._waiting.append(publication)
        self._waiting_bytes += sum([len(draft.data) + OVERHEAD for draft in drafts])
        if not self._due and not self._writing:
            self._due = True
            self._reactor.callLater(0, self._write)
        return publication.done

    def ready(self) -> bool:
        """
        Not while publishers are refused.
        """
        return self._state is SqliteBrokerState.DURABLE or not self._refuse

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        """
        See `IHistory.after`; read from the file.
        """
        done: Deferred[Replay] = Deferred()
        self._asked.append(((tuple(channels), since), done))
        self._read()
        return done

    # Writing.

    def _write(self) -> None:
        self._due = False
        if self._writing or self._state is not SqliteBrokerState.DURABLE:
            return
        if not self._waiting and not self._held:
            return
        publications, self._waiting, self._waiting_bytes = self._waiting, [], 0
        batch = self._batch(publications)
        self._writing = True
        written = self._append(batch)
        written.addCallbacks(self._was_written, self._was_not, (batch,), errbackArgs=(batch,))
        written.addErrback(_unexpected)

    def _append(self, batch: SqliteBatch) -> Deferred[None]:
        append = self._journal.append
        return self._writer.do(partial(append, batch.messages, batch.keys, self._lost))

    def _batch(self, publications: list[SqlitePublication]) -> SqliteBatch:
        """
        Number what was published. Nothing of it is remembered but how far the
        numbers went.
        """
        batch = SqliteBatch(publications, len(self._held), list(self._held), list(self._held_keys))
        now = self._reactor.seconds()
        used: dict[tuple[str, str], Position] = {}
        for publication in publications:
            publication.positions = [
                self._number(draft, batch, used, now) for draft in publication.drafts
            ]
        return batch

    def _number(
        self, draft: Draft, batch: SqliteBatch, used: dict[tuple[str, str], Position], now: float
    ) -> Position:
        if draft.key is not None:
            known = used.get((draft.channel, draft.key))
            known = known or self._keys.find(draft.channel, draft.key, now)
            if known is not None:
                return known
        self._numbered += 1
        position = Position(self._head.epoch, self._numbered)
        batch.messages.append(Message(draft.channel, draft.data, position, draft.event))
        if draft.key is not None:
            used[draft.channel, draft.key] = position
            batch.keys.append(KeyUse(draft.channel, draft.key, position.offset, now))
        return position

    def _was_written(self, _: None, batch: SqliteBatch) -> None:
        self._writing = False
        if self._said:
            self._said = False
            _log.info("the history file {file} is written again", file=self._path)
        if batch.told:
            self._let_go()
            self._writer.do(partial(self._journal.mark, lossy=False))
        self._tell(batch)
        self._written = self._head.offset
        for publication in batch.publications:
            publication.done.callback(PublishResult(tuple(publication.positions)))
        self._write()

    def _was_not(self, failure: Failure, batch: SqliteBatch) -> None:
        self._writing = False
        self._numbered = self._head.offset
        self._waiting = batch.publications + self._waiting
        if self._state is SqliteBrokerState.GONE:
            self._let_pass()
            return
        if self._state is SqliteBrokerState.DAMAGED:
            return  # for the new log
        if isinstance(failure.value, sqlite3.Error) and is_damage(failure.value):
            self._replace(self._journal)
            return
        self._say(failure)
        if self._held or self._refuse:
            self._go_without()
            return
        # Should the daemon die before the file can be written, whoever comes back is told
        # of a gap: nobody is told a message before that is sure.
        self._writing = True
        marked = self._writer.do(partial(self._journal.mark, lossy=True))
        marked.addCallback(self._marked).addErrback(_unexpected)

    def _marked(self, possible: bool) -> None:
        self._writing = False
        if self._state is SqliteBrokerState.DAMAGED:
            return  # for the new log
        if not possible:
            _log.warn(
                "if the daemon is killed now, readers that are away "
                "will not be told of what they missed"
            )
        # Offsets that are never given again, whatever becomes of the file.
        self._numbered = self._journal.fresh_offset(self._head.offset) - 1
        self._go_without()

    def _go_without(self) -> None:
        self._state = SqliteBrokerState.AWAY
        self._retry = self._reactor.callLater(RETRY, self._try_again)
        self._let_pass()

    def _let_pass(self) -> None:
        """
        Answer publishers who wait, without the file.
        """
        publications, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for publication in publications:
            if self._refuse:
                publication.done.errback(Unavailable("the history file cannot be written"))
            else:
                publication.done.callback(self._tell_only(publication.drafts))

    def _try_again(self) -> None:
        self._retry = None
        if self._state is SqliteBrokerState.AWAY:
            self._state = SqliteBrokerState.DURABLE  # unless the file knows better
            self._write()

    def _say(self, failure: Failure) -> None:
        now = self._reactor.seconds()
        if self._said or now - self._said_at < TOLD:
            return
        self._said, self._said_at = True, now
        meanwhile = "publishers are refused" if self._refuse else "messages are not durable"
        reason = failure.getErrorMessage()
        if failure.check(UnusableStore):
            _log.error("{reason}; {meanwhile} until it can", reason=reason, meanwhile=meanwhile)
            return
        if not failure.check(sqlite3.Error):
            _log.failure("while writing the history file", failure)
            return
        _log.error(
            "the history file {file} cannot be written: {reason}; {meanwhile} until it can",
            file=self._path,
            reason=reason,
            meanwhile=meanwhile,
        )

    def _tell(self, batch: SqliteBatch) -> None:
        for use in batch.keys:
            position = Position(self._head.epoch, use.offset)
            self._keys.remember(use.channel, use.key, position, use.time)
        for message in batch.messages[batch.told :]:
            self._head = message.position
            self._receiver.receive(message)

    # Without the file.

    def _tell_only(self, drafts: Sequence[Draft]) -> PublishResult:
        """
        Tell *drafts*, and keep them for the file.
        """
        publication = SqlitePublication(drafts, Deferred())
        batch = SqliteBatch([publication], 0, [], [])
        now = self._reactor.seconds()
        used: dict[tuple[str, str], Position] = {}
        positions = [self._number(draft, batch, used, now) for draft in drafts]
        self._held.extend(batch.messages)
        self._held_bytes += sum([len(message.data) + OVERHEAD for message in batch.messages])
        while self._held_bytes > HELD:
            message = self._held.popleft()
            self._held_bytes -= len(message.data) + OVERHEAD
            self._lost = message.position.offset
        self._held_keys += batch.keys
        del self._held_keys[:-MAX_KEYS]
        self._tell(batch)
        return PublishResult(tuple(positions), durable=False)

    def _let_go(self) -> None:
        """
        What was told without the file is in it, or is lost with it.
        """
        self._held.clear()
        self._held_keys.clear()
        self._held_bytes = self._lost = 0

    # A file that is damaged or lost.

    def _replace(self, journal: Store, loss: Loss | None = None) -> None:
        # Both threads may find it, and say so late.
        if (
            self._state not in (SqliteBrokerState.DAMAGED, SqliteBrokerState.GONE)
            and journal is self._journal
        ):
            self._state = SqliteBrokerState.DAMAGED
            ensureDeferred(self._begin_anew(loss)).addErrback(_unexpected)

    async def _begin_anew(self, loss: Loss | None) -> None:
        """
        Move a damaged file aside, or close one that is lost, and open what is there or a
        new one. Its epoch tells readers of the gap.
        """
        journal, before = self._journal, self._head
        if loss is not None:
            _log.error(
                "the history file {file} is lost: {reason}; it is opened again, or made",
                file=self._path,
                reason=loss.reason,
            )
        whole = loss is not None and not loss.damaged
        await self._reader.do(journal.close_reading)
        moved = await self._writer.do(journal.abandon if whole else journal.discard)
        while True:
            try:
                anew = await self._writer.do(partial(self._open_again, before))
                break
            except (UnusableStore, sqlite3.Error) as error:
                self._say(Failure(error))
                self._go_on_without()
                await deferLater(self._reactor, RETRY)
        anew.moved, anew.missing = moved, ""
        self._go_on(anew)
        if loss is not None:
            same = anew.epoch == before.epoch
            _log.info(
                "the history file {file} is in use again: {what}",
                file=self._path,
                what="the same log goes on" if same else "another log begins",
            )
        self._receiver.reached(self._head)
        self._let_go()
        self._state = SqliteBrokerState.DURABLE
        self._write()

    def _open_again(self, before: Position) -> Store:
        """
        Open the file. If it is a copy of this log from earlier, no position is given twice.
        """
        journal = self._open(self._retention)
        try:
            if journal.epoch == before.epoch:
                journal.continue_after(before.offset)
        except sqlite3.Error:
            journal.close_reading()
            journal.close()
            raise
        return journal

    def _go_on_without(self) -> None:
        """
        Tell messages without a file, in an epoch of their own: the file may come back.
        """
        if self._state is SqliteBrokerState.DAMAGED:
            self._state = SqliteBrokerState.GONE
            self._let_go()
            self._head = self._opened = Position(secrets.token_hex(4), 0)
            self._numbered = 0
            self._receiver.reached(self._head)
            self._let_pass()

    # Reading.

    def _read(self) -> None:
        if self._reading or not self._asked:
            return
        asked: dict[Question, list[Deferred[Replay]]] = {}
        for _ in range(min(ASKED, len(self._asked))):
            question, done = self._asked[0]
            if question not in asked and len(asked) == QUESTIONS:
                break
            asked.setdefault(question, []).append(done)
            self._asked.popleft()
        self._reading = True
        answered = self._reader.do(partial(self._journal.replay, list(asked), self._written))
        answered.addErrback(self._not_read, self._journal, asked)
        answered.addCallback(self._was_read, asked)
        answered.addErrback(_unexpected)

    def _was_read(
        self, replays: Sequence[Replay], asked: dict[Question, list[Deferred[Replay]]]
    ) -> None:
        self._reading = False
        for replay, waiting in zip(replays, asked.values(), strict=True):
            for done in waiting:
                done.callback(replay)
        self._read()

    def _not_read(
        self, failure: Failure, journal: Store, asked: dict[Question, list[Deferred[Replay]]]
    ) -> list[Replay]:
        failure.trap(sqlite3.Error)
        if isinstance(failure.value, sqlite3.Error) and is_damage(failure.value):
            self._replace(journal)
        if self._state not in (
            SqliteBrokerState.DAMAGED,
            SqliteBrokerState.GONE,
        ):  # which is in the log
            _log.warn(
                "the history file {file} cannot be read: {reason}",
                file=self._path,
                reason=failure.getErrorMessage(),
            )
        # Only what the hub remembers itself, then, and a gap before it.
        return [
            Replay((), False, since.position if isinstance(since, After) else self._head)
            for _, since in asked
        ]


def _nothing() -> bool:
    return False


def _unexpected(failure: Failure) -> None:
    _log.failure("in the durable broker", failure)
