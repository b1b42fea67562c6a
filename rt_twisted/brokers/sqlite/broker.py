"""
The embedded broker with a history file: its log survives the process.

A message is delivered, and its publisher answered, when it is committed: no subscriber
has ever seen a position that another message could get. What is published in one
reactor iteration, or while the file is being written, is one transaction.
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.brokers.interfaces import (
    IBroker,
    IForgetting,
    IHistory,
    IPatterns,
    IReady,
    IReceiver,
    IReconfigurable,
)
from rt_twisted.brokers.sqlite.batch import BatchBuilder, SqliteBatch, SqlitePublication
from rt_twisted.brokers.sqlite.database import UnusableStore, is_damage
from rt_twisted.brokers.sqlite.files import Loss, check_usable
from rt_twisted.brokers.sqlite.io_thread import Executor, IoThread
from rt_twisted.brokers.sqlite.outage_log import OutageLog
from rt_twisted.brokers.sqlite.reader import HistoryQuery
from rt_twisted.brokers.sqlite.replay_queue import ReplayQueue
from rt_twisted.brokers.sqlite.store import Store
from rt_twisted.brokers.sqlite.unwritten import UnwrittenMessages
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import (
    After,
    Draft,
    Position,
    PublishResult,
    Replay,
    Since,
)
from rt_twisted.model.retention import OVERHEAD, Retention

_log = Logger()

NO_LIVE_STREAMS = "live streams cannot be published while history-file is set"
MAX_QUEUED_BYTES = 64 << 20  # of publications, before further ones are refused
RETRY_SECONDS = 1.0  # between two attempts to write a file that could not be written


class SqliteBrokerState(Enum):
    """
    State of the history file.
    """

    DURABLE = "messages are written, then delivered"
    UNWRITABLE = "the file cannot be written; a retry is due"
    REPLACING = "the file is being replaced; publications wait"
    UNAVAILABLE = "there is no file, and none can be created; a retry is due"


class WriteState(Enum):
    """
    State of the writing thread, as the reactor's thread knows it.
    """

    IDLE = "nothing is being written"
    SCHEDULED = "a batch will be written in the next reactor iteration"
    WRITING = "a batch, or the mark of the lock file, is being written"


# States in which the file is not in use.
_WITHOUT_FILE = (SqliteBrokerState.REPLACING, SqliteBrokerState.UNAVAILABLE)


ExecutorFactory = Callable[[Any, str, Callable[[], bool]], Executor]
Open = Callable[[Retention], Store]


@implementer(IBroker, IForgetting, IHistory, IPatterns, IReady, IReconfigurable)
class SqliteBroker(Service):
    """
    Gives drafts positions, writes them to a `Store`, then delivers them to the hub.

    The store is opened by `startService`: after twistd's fork, and as the user that the
    daemon runs as.

    Args:
        reactor: the reactor.
        path: the history file, absolute.
        open: open it.
        retention: of each channel.
        refuse: what happens to messages that cannot be written: True, the publisher is
            asked to retry; False, they are delivered all the same, and the response
            to the publisher says that they are not durable.
        make_executor: make the two threads that write and read; tests have their own.
    """

    def __init__(
        self,
        reactor: Any,
        path: str,
        open: Open,
        retention: Retention,
        refuse: bool = False,
        make_executor: ExecutorFactory = IoThread,
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._open = open
        self._retention = retention
        self._refuse = refuse
        self._make_executor = make_executor
        self._state = SqliteBrokerState.DURABLE
        self._head = Position("", 0)  # of the last delivered message
        self._written_offset = 0  # messages up to here are in the file, and delivered
        self._builder = BatchBuilder(reactor)
        self._queue: list[SqlitePublication] = []
        self._queued_bytes = 0
        self._write_state = WriteState.IDLE
        self._unwritten = UnwrittenMessages()
        self._outages = OutageLog(reactor, path, refuse)
        self._replays = ReplayQueue(self._read_replays, _log_unexpected)
        self._retry: Any = None  # the call of _retry_writing
        self._checking_file = False
        self._check_loop = LoopingCall(self._check_file)
        self._check_loop.clock = reactor
        self._receiver: IReceiver
        self._store: Store
        self._writer: Executor
        self._reader: Executor

    # Start and stop.

    def privilegedStartService(self) -> None:
        """
        Check that the file can be used, before any listener is opened. Nothing is created
        yet, as it would belong to root.

        Raises:
            SystemExit: one sentence, if the file cannot be used.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            check_usable(self._path)
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
            store = self._open(self._retention)
        except UnusableStore as error:
            sys.exit(f"realtime: {error}")
        self._use_store(store)
        self._builder.remember(store.epoch, store.keys)
        self._writer = self._make_executor(self._reactor, "sqlite writer", self._vacuum_step)
        self._reader = self._make_executor(self._reactor, "sqlite reader", _no_idle_work)
        self._check_loop.start(1.0, now=False)
        # Not in stopService: requests in progress may still publish then.
        self._reactor.addSystemEventTrigger("after", "shutdown", self.close)

    def close(self) -> None:
        """
        Write what is queued, and close the file. Blocks; nothing may be called afterwards.
        """
        if self._check_loop.running:
            self._check_loop.stop()
        if self._retry is not None:
            self._retry.cancel()
        self._reader.submit(self._store.reader.close)
        self._reader.stop()
        if self._queue or (self._unwritten and self._write_state is not WriteState.WRITING):
            self._writer.submit(partial(self._append_last, self._make_batch(self._queue)))
        self._writer.submit(self._store.close)
        self._writer.stop()

    def _append_last(self, batch: SqliteBatch) -> None:
        self._store.append(batch.messages, batch.keys, self._unwritten.lost_offset)
        self._store.files.mark(lossy=False)  # all that was delivered is in the file

    def reconfigure(self, retention: Retention) -> None:
        self._retention = retention
        self._writer.submit(partial(self._store.trimmer.reconfigure, retention))

    def _use_store(self, store: Store) -> None:
        """
        Continue where *store* ends.
        """
        if store.moved_to:
            _log.error(
                "the history file {file} is damaged; it is now {moved}, and a new log begins",
                file=self._path,
                moved=store.moved_to,
            )
        elif store.missing:
            _log.warn(
                "the history file {file} {missing} since the last start; a new log begins",
                file=self._path,
                missing=store.missing,
            )
        self._store = store
        self._head = self._opened_at = Position(store.epoch, store.head)
        self._written_offset = store.head
        self._builder.continue_after(self._head)

    def _vacuum_step(self) -> bool:
        """
        Run on the writing thread while it is idle. Errors that messages meet too are logged
        when they do.
        """
        store = self._store
        try:
            return store.trimmer.step()
        except sqlite3.Error as error:
            if is_damage(error):
                self._reactor.callFromThread(self._replace_store, store)
        except Exception:
            _log.failure("while trimming the history file")
        return False

    def _check_file(self) -> None:
        """
        Check that the file is still there, and let the writing thread expire old messages.
        """
        if not self._checking_file and self._state not in _WITHOUT_FILE:
            self._checking_file = True
            looked = self._writer.submit(self._store.files.find_loss)
            looked.addBoth(self._on_file_checked, self._store).addErrback(_log_unexpected)

    def _on_file_checked(self, found: Loss | Failure | None, store: Store) -> None:
        self._checking_file = False
        if isinstance(found, Failure):
            # An error of the disk: messages meet it too, and it is logged then.
            found.trap(OSError, sqlite3.Error)
        elif found is not None and self._state not in _WITHOUT_FILE:
            self._replace_store(store, found)

    # IBroker, IReady, IHistory.

    def attach(self, receiver: IReceiver) -> None:
        self._receiver = receiver

    def position(self) -> Position:
        return self._head

    def check_pattern(self, pattern: Wildcard) -> None:
        pass

    def subscribe(self, channel: Selector) -> Deferred[Position]:
        return succeed(self._opened_at)

    def unsubscribe(self, channel: Selector) -> None:
        pass

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        if any(draft.transient for draft in drafts):
            return fail(HttpError(400, NO_LIVE_STREAMS))
        if self._state in (SqliteBrokerState.UNWRITABLE, SqliteBrokerState.UNAVAILABLE):
            if self._refuse:
                return fail(Unavailable("the history file cannot be written"))
            return succeed(self._deliver_unwritten(drafts))
        if self._queued_bytes > MAX_QUEUED_BYTES:
            return fail(Unavailable("the history file is too slow"))
        publication = SqlitePublication(drafts, Deferred())
        self._queue.append(publication)
        self._queued_bytes += sum([len(draft.data) + OVERHEAD for draft in drafts])
        if self._write_state is WriteState.IDLE:
            self._write_state = WriteState.SCHEDULED
            self._reactor.callLater(0, self._write_batch)
        return publication.done

    def ready(self) -> bool:
        return self._state is SqliteBrokerState.DURABLE or not self._refuse

    def after(self, channels: Sequence[Selector], since: Since) -> Deferred[Replay]:
        return self._replays.add((tuple(channels), since))

    def forget(self, channel: str) -> Deferred[None]:
        if self._state is not SqliteBrokerState.DURABLE:
            return fail(Unavailable("the history file cannot be written"))
        deleted = self._writer.submit(partial(self._store.trimmer.forget, channel))
        return deleted.addCallbacks(
            self._on_forgotten, self._on_not_forgotten, (channel,), errbackArgs=(self._store,)
        )

    def _on_forgotten(self, _: None, channel: str) -> None:
        self._receiver.missed(channel, self._head)

    def _on_not_forgotten(self, failure: Failure, store: Store) -> None:
        failure.trap(sqlite3.Error)
        if isinstance(failure.value, sqlite3.Error) and is_damage(failure.value):
            self._replace_store(store)
        raise Unavailable(f"the history file cannot be written: {failure.getErrorMessage()}")

    # Writing.

    def _write_batch(self) -> None:
        if self._write_state is WriteState.WRITING:
            return
        self._write_state = WriteState.IDLE
        if self._state is not SqliteBrokerState.DURABLE:
            return
        if not self._queue and not self._unwritten:
            return
        publications, self._queue, self._queued_bytes = self._queue, [], 0
        batch = self._make_batch(publications)
        self._write_state = WriteState.WRITING
        lost = self._unwritten.lost_offset
        written = self._writer.submit(partial(self._store.append, batch.messages, batch.keys, lost))
        written.addCallbacks(
            self._on_written, self._on_write_failed, (batch,), errbackArgs=(batch,)
        )
        written.addErrback(_log_unexpected)

    def _make_batch(self, publications: Sequence[SqlitePublication]) -> SqliteBatch:
        return self._builder.build(publications, *self._unwritten.snapshot())

    def _on_written(self, _: None, batch: SqliteBatch) -> None:
        self._write_state = WriteState.IDLE
        self._outages.on_written()
        if batch.delivered:
            self._unwritten.clear()
            self._writer.submit(partial(self._store.files.mark, lossy=False))
        self._deliver(batch)
        self._written_offset = self._head.offset
        for publication in batch.publications:
            publication.done.callback(PublishResult(publication.positions))
        self._write_batch()

    def _on_write_failed(self, failure: Failure, batch: SqliteBatch) -> None:
        self._write_state = WriteState.IDLE
        self._builder.continue_after(self._head)
        self._queue = [*batch.publications, *self._queue]
        if self._state is SqliteBrokerState.UNAVAILABLE:
            self._answer_queued()
            return
        if self._state is SqliteBrokerState.REPLACING:
            return  # the new log will take the queue
        if isinstance(failure.value, sqlite3.Error) and is_damage(failure.value):
            self._replace_store(self._store)
            return
        self._outages.on_failure(failure)
        if self._unwritten or self._refuse:
            self._pause_writing()
            return
        # If the daemon is killed before the file can be written, subscribers that reconnect
        # must get a gap: no message is delivered before that mark is written.
        self._write_state = WriteState.WRITING
        marked = self._writer.submit(partial(self._store.files.mark, lossy=True))
        marked.addCallback(self._on_marked).addErrback(_log_unexpected)

    def _on_marked(self, possible: bool) -> None:
        self._write_state = WriteState.IDLE
        if self._state is SqliteBrokerState.REPLACING:
            return  # the new log will take the queue
        if not possible:
            _log.warn(
                "if the daemon is killed now, subscribers that reconnect "
                "will not be notified of missed messages"
            )
        # Offsets that are never assigned again, whatever happens to the file.
        fresh = self._store.fresh_offset(self._head.offset)
        self._builder.continue_after(Position(self._head.epoch, fresh - 1))
        self._pause_writing()

    def _pause_writing(self) -> None:
        self._state = SqliteBrokerState.UNWRITABLE
        self._retry = self._reactor.callLater(RETRY_SECONDS, self._retry_writing)
        self._answer_queued()

    def _answer_queued(self) -> None:
        """
        Answer queued publications without the file.
        """
        publications, self._queue, self._queued_bytes = self._queue, [], 0
        for publication in publications:
            if self._refuse:
                publication.done.errback(Unavailable("the history file cannot be written"))
            else:
                publication.done.callback(self._deliver_unwritten(publication.drafts))

    def _retry_writing(self) -> None:
        self._retry = None
        if self._state is SqliteBrokerState.UNWRITABLE:
            self._state = SqliteBrokerState.DURABLE  # until the next write fails
            self._write_batch()

    def _deliver(self, batch: SqliteBatch) -> None:
        self._builder.remember(self._head.epoch, batch.keys)
        for message in batch.messages[batch.delivered :]:
            self._head = message.position
            self._receiver.receive(message)

    # Without the file.

    def _deliver_unwritten(self, drafts: Sequence[Draft]) -> PublishResult:
        """
        Deliver *drafts*, and keep them until the file can be written.
        """
        publication = SqlitePublication(drafts, Deferred())
        batch = self._builder.build([publication], [], [])
        self._unwritten.add(batch.messages, batch.keys)
        self._deliver(batch)
        return PublishResult(publication.positions, durable=False)

    # A file that is damaged or lost.

    def _replace_store(self, store: Store, loss: Loss | None = None) -> None:
        # Both threads may find the same damage, also after the file was replaced.
        if self._state not in _WITHOUT_FILE and store is self._store:
            self._state = SqliteBrokerState.REPLACING
            ensureDeferred(self._reopen(loss)).addErrback(_log_unexpected)

    async def _reopen(self, loss: Loss | None) -> None:
        """
        Move a damaged file aside, or close one that is lost, and open what is there or a
        new one. A new epoch makes subscribers receive a gap.
        """
        store, before = self._store, self._head
        if loss is not None:
            _log.error(
                "the history file {file} is lost: {reason}; it is opened again or created",
                file=self._path,
                reason=loss.reason,
            )
        whole = loss is not None and not loss.damaged
        await self._reader.submit(store.reader.close)
        moved = await self._writer.submit(store.abandon if whole else store.discard)
        while True:
            try:
                anew = await self._writer.submit(partial(self._open_continued, before))
                break
            except (UnusableStore, sqlite3.Error) as error:
                self._outages.on_failure(Failure(error))
                self._continue_without_file()
                await deferLater(self._reactor, RETRY_SECONDS)
        anew.moved_to, anew.missing = moved, ""
        self._use_store(anew)
        if loss is not None:
            same = anew.epoch == before.epoch
            _log.info(
                "the history file {file} is in use again: {what}",
                file=self._path,
                what="the same log goes on" if same else "another log begins",
            )
        self._receiver.reached(self._head)
        self._unwritten.clear()
        self._state = SqliteBrokerState.DURABLE
        self._write_batch()

    def _open_continued(self, before: Position) -> Store:
        """
        Open the file. If it is an older copy of this log, no position is assigned twice.
        """
        store = self._open(self._retention)
        try:
            if store.epoch == before.epoch:
                store.continue_after(before.offset)
        except sqlite3.Error:
            store.reader.close()
            store.close()
            raise
        return store

    def _continue_without_file(self) -> None:
        """
        Deliver messages without a file, in an epoch of their own: the file may come back.
        """
        if self._state is SqliteBrokerState.REPLACING:
            self._state = SqliteBrokerState.UNAVAILABLE
            self._unwritten.clear()
            self._head = self._opened_at = Position(secrets.token_hex(4), 0)
            self._builder.continue_after(self._head)
            self._receiver.reached(self._head)
            self._answer_queued()

    # Reading.

    def _read_replays(self, queries: list[HistoryQuery]) -> Deferred[list[Replay]]:
        store = self._store
        replays = self._reader.submit(partial(store.reader.replay, queries, self._written_offset))
        return replays.addErrback(self._on_read_failed, store, queries)

    def _on_read_failed(
        self, failure: Failure, store: Store, queries: list[HistoryQuery]
    ) -> list[Replay]:
        failure.trap(sqlite3.Error)
        if isinstance(failure.value, sqlite3.Error) and is_damage(failure.value):
            self._replace_store(store)
        if self._state not in _WITHOUT_FILE:  # otherwise it was logged already
            _log.warn(
                "the history file {file} cannot be read: {reason}",
                file=self._path,
                reason=failure.getErrorMessage(),
            )
        # Subscribers get what the hub retains itself, and a gap before it.
        return [
            Replay((), False, since.position if isinstance(since, After) else self._head)
            for _, since in queries
        ]


def _no_idle_work() -> bool:
    return False


def _log_unexpected(failure: Failure) -> None:
    _log.failure("unexpected error in the broker of the history file", failure)
