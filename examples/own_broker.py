"""
A broker of your own: it stores messages in a SQLite file, so that subscribers miss
nothing when the daemon is restarted.

    PYTHONPATH=. twistd -n realtime --broker=own_broker.SqliteBroker

The class is called with (reactor, settings). For many messages a second, write in a
thread instead; this example writes in the reactor's thread to stay short.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from rt_twisted.api import (
    After,
    Draft,
    IBroker,
    IHistory,
    IReceiver,
    Message,
    Newest,
    Position,
    PublishResult,
    Replay,
    Since,
)

FILE = "messages.sqlite"
KEPT = 10_000  # messages in the file

TABLES = """
create table if not exists log (epoch text);
create table if not exists message (
    offset integer primary key autoincrement, time real, channel text, data blob, event text
);
"""


@implementer(IBroker, IHistory)
class SqliteBroker:
    """
    Number and store the messages of one process; the log outlives restarts.
    """

    def __init__(self, reactor: Any, settings: Mapping[str, Any]) -> None:
        self._file = sqlite3.connect(FILE, isolation_level=None)
        self._file.executescript(TABLES)
        if self._file.execute("select epoch from log").fetchone() is None:
            self._file.execute("insert into log values (?)", [secrets.token_hex(4)])
        (self._epoch,) = self._file.execute("select epoch from log").fetchone()
        self._receiver: IReceiver
        self._begin = self.position()

    def attach(self, receiver: IReceiver) -> None:
        self._receiver = receiver

    def position(self) -> Position:
        # SQLite remembers the last number even when its message is deleted.
        row = self._file.execute("select seq from sqlite_sequence where name = 'message'")
        return Position(self._epoch, (row.fetchone() or (0,))[0])

    def subscribe(self, channel: str) -> Deferred[Position]:
        # This process publishes all messages itself, so each channel is received from the start.
        return succeed(self._begin)

    def unsubscribe(self, channel: str) -> None:
        pass

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        positions = []
        with self._file:
            self._file.execute("begin")
            for draft in drafts:
                row = (time.time(), draft.channel, draft.data, draft.event)
                added = self._file.execute("insert into message values (null, ?, ?, ?, ?)", row)
                positions.append(Position(self._epoch, added.lastrowid or 0))
            oldest = positions[-1].offset - KEPT
            self._file.execute("delete from message where offset <= ?", [oldest])
        for draft, position in zip(drafts, positions, strict=True):
            self._receiver.receive(Message(draft.channel, draft.data, position, draft.event))
        return succeed(PublishResult(tuple(positions)))

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        here = self.position()
        first, moment, last = 0, 0.0, -1
        complete = True
        if isinstance(since, After):
            known = since.position.epoch == self._epoch and since.position.offset <= here.offset
            first = since.position.offset if known else 0
            complete = known and first >= here.offset - KEPT
        elif isinstance(since, Newest):
            last = since.count
        else:
            moment = time.time() - since.seconds
        rows = self._file.execute(
            "select offset, channel, data, event from message where offset > ? and time >= ?"
            f" and channel in ({', '.join('?' * len(channels))}) order by offset desc limit ?",
            [first, moment, *channels, last],
        ).fetchall()
        messages = [
            Message(channel, data, Position(self._epoch, offset), event)
            for offset, channel, data, event in reversed(rows)
        ]
        return succeed(Replay(tuple(messages), complete, here))
