"""
The history file.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.brokers.idempotency import KEY_SECONDS
from rt_twisted.brokers.sqlite import trimming
from rt_twisted.brokers.sqlite.database import (
    APPLICATION_ID,
    WAL_LIMIT,
    KeyUse,
    UnusableStore,
    is_damage,
    prepare,
)
from rt_twisted.brokers.sqlite.store import Store
from rt_twisted.model.message import After, Message, Newest, Position, Replay
from rt_twisted.model.retention import Retention
from tests.defaults import make_retention

LARGE = 1 << 30


class StoreFolder:
    """
    Opens stores of one file, on a clock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.clock.advance(1e9)
        self.journals: list[Store] = []

    def open(
        self, retention: Retention = make_retention(), limit: int = LARGE, boot: str = "b"
    ) -> Store:
        journal = Store(str(self.path), retention, limit, self.clock.seconds, boot)
        self.journals.append(journal)
        return journal

    def close(self) -> None:
        while self.journals:
            journal = self.journals.pop()
            journal.reader.close()
            journal.close()

    def crash(self) -> None:
        """
        Continue with the files that kill -9 leaves.
        """
        other = self.path.with_name("other")
        for suffix in ("", "-wal", ".lock"):
            shutil.copy(f"{self.path}{suffix}", f"{other}{suffix}")
        self.close()
        self.path = other


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[StoreFolder]:
    """
    A folder without a file.
    """
    desk = StoreFolder(tmp_path / "log")
    yield desk
    desk.close()


def write(journal: Store, count: int, channel: str = "a", size: int = 10) -> None:
    messages = []
    for offset in range(journal.head + 1, journal.head + count + 1):
        text = b"%d" % offset
        messages.append(Message(channel, text.ljust(size), Position(journal.epoch, offset)))
    journal.append(messages)


def vacuum_step(journal: Store) -> int:
    steps = 0
    while journal.trimmer.step():
        steps += 1
    return steps


def after(journal: Store, offset: int, *channels: str) -> Replay:
    since = After(Position(journal.epoch, offset))
    [replay] = journal.reader.replay([(channels or ("a",), since)], journal.head)
    return replay


def offsets(replay: Replay) -> list[int]:
    return [message.position.offset for message in replay.messages]


@pytest.mark.parametrize("count", [1, 9, 10, 11, 99, 100, 101, 321])
def test_batches_of_all_sizes_are_whole(desk: StoreFolder, count: int) -> None:
    """
    A transaction may have any number of messages.
    """
    journal = desk.open(make_retention(count=1000))
    write(journal, count)

    assert offsets(after(journal, 0)) == list(range(1, count + 1))


def test_all_or_nothing(desk: StoreFolder) -> None:
    """
    A batch that fails writes nothing, and the next one succeeds.
    """
    journal = desk.open()
    write(journal, 1)
    again = Message("a", b"", Position(journal.epoch, 1))
    new = Message("a", b"", Position(journal.epoch, 2))

    with pytest.raises(sqlite3.IntegrityError) as caught:
        journal.append([new, again])
    assert not is_damage(caught.value)
    write(journal, 1)
    assert offsets(after(journal, 0)) == [1, 2]


def test_keys_survive_a_crash(desk: StoreFolder) -> None:
    """
    Keys that have not expired are loaded, oldest first.
    """
    journal = desk.open()
    old, new = (KeyUse("a", f"k{n}", n, desk.clock.seconds() + n) for n in (1, 2))
    messages = [Message("a", b"", Position(journal.epoch, n)) for n in (1, 2)]
    journal.append(messages, [old, new])
    desk.crash()
    assert desk.open().keys == [old, new]
    desk.close()
    desk.clock.advance(KEY_SECONDS + 1)
    journal = desk.open()
    assert journal.keys == [new]
    vacuum_step(journal)
    assert journal._db.execute("SELECT count(*) FROM keys").fetchone() == (1,)


def test_the_count_of_each_channel_is_bounded(desk: StoreFolder) -> None:
    """
    Up to an eighth more is retained, and the start position is known for each channel.
    """
    journal = desk.open(make_retention(count=80))
    write(journal, 3, "quiet")
    write(journal, 91)
    assert vacuum_step(journal)
    assert not vacuum_step(journal)

    assert offsets(after(journal, 0)) == list(range(15, 95))
    assert not after(journal, 13).complete
    assert after(journal, 14).complete
    assert after(journal, 0, "quiet").complete
    write(journal, 10)
    vacuum_step(journal)
    assert len(offsets(after(journal, 0))) == 90  # not one by one


def test_the_bytes_of_each_channel_are_bounded(desk: StoreFolder) -> None:
    """
    A message that is larger than that is not retained at all.
    """
    journal = desk.open(make_retention(bytes=10_000))
    write(journal, 20, size=1000)
    vacuum_step(journal)
    assert len(offsets(after(journal, 0))) == 7
    write(journal, 1, size=20_000)
    vacuum_step(journal)
    assert offsets(after(journal, 0)) == []
    assert not after(journal, 20).complete
    assert after(journal, 21).complete


def test_a_retention_of_none(desk: StoreFolder) -> None:
    """
    Positions increase all the same, over restarts too.
    """
    journal = desk.open(make_retention(count=0))
    write(journal, 5)
    vacuum_step(journal)
    assert offsets(after(journal, 0)) == []
    desk.crash()
    assert desk.open().head == 5


def test_a_crash_during_trimming(desk: StoreFolder) -> None:
    """
    Counts are those of the file, not of the process.
    """
    journal = desk.open(make_retention(count=80))
    write(journal, 1000)
    assert journal.trimmer.step()
    desk.crash()
    journal = desk.open(make_retention(count=80))
    write(journal, 1)
    vacuum_step(journal)
    assert offsets(after(journal, 0)) == list(range(922, 1002))


def test_the_file_does_not_grow(desk: StoreFolder) -> None:
    """
    Ten times its limit is written: the oldest messages go, and steps are small.
    """
    journal = desk.open(make_retention(count=10**6, bytes=LARGE), 4 << 20)
    largest = 0
    for round in range(40):
        write(journal, 1000, f"c{round % 7}", size=1000)
        vacuum_step(journal)
        largest = max(largest, sum(path.stat().st_size for path in desk.path.parent.iterdir()))

    assert largest < (4 << 20) * 3 + WAL_LIMIT
    assert not after(journal, 0, "c1").complete
    assert journal.reader.replay([(("c4",), Newest(1))], journal.head)[0].messages


def test_a_lower_limit_returns_pages(desk: StoreFolder) -> None:
    """
    The file shrinks in small steps.
    """
    journal = desk.open(make_retention(count=10**6, bytes=LARGE))
    write(journal, 20_000, size=1000)
    desk.close()
    before = desk.path.stat().st_size

    journal = desk.open(make_retention(count=10**6, bytes=LARGE), 4 << 20)
    assert vacuum_step(journal) > 20
    desk.close()

    assert desk.path.stat().st_size < before / 2


def test_horizons_are_bounded(desk: StoreFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Channels come and go: those trimmed longest ago share one horizon.
    """
    monkeypatch.setattr(trimming, "MAX_HORIZONS", 50)
    journal = desk.open(make_retention(age=10.0))
    for number in range(80):
        write(journal, 1, f"c{number}")
    desk.clock.advance(70)
    write(journal, 1, "last")
    vacuum_step(journal)

    assert not after(journal, 29, "never").complete
    assert after(journal, 30, "never").complete
    assert not after(journal, 30, "c40").complete
    assert after(journal, 41, "c40").complete


def test_replays_are_of_one_moment(desk: StoreFolder) -> None:
    """
    What is written later is for the next read: no message comes twice.
    """
    journal = desk.open()
    write(journal, 10)

    [replay] = journal.reader.replay([(("a",), After(Position(journal.epoch, 2)))], 7)

    assert offsets(replay) == [3, 4, 5, 6, 7]
    assert replay.position == Position(journal.epoch, 7)


def test_a_machine_that_lost_power(desk: StoreFolder) -> None:
    """
    The last messages may be lost: no position is assigned again, and earlier positions
    get a gap.
    """
    journal = desk.open(boot="monday")
    write(journal, 3)
    desk.crash()
    journal = desk.open(boot="tuesday")
    assert journal.head >= 10**15
    assert offsets(after(journal, 1)) == [2, 3]
    assert not after(journal, 3).complete
    head = journal.head
    assert after(journal, head).complete
    desk.close()

    assert desk.open(boot="wednesday").head == head, "stopped in good order"


def test_a_crash_while_messages_were_lossy(desk: StoreFolder) -> None:
    """
    A lossy mark has the same effect on the same machine.
    """
    journal = desk.open()
    write(journal, 3)
    assert journal.files.mark(lossy=True)
    desk.crash()
    assert desk.open().head >= 10**15
    head = desk.journals[0].head
    desk.close()
    assert desk.open().head == head


def header(path: Path) -> None:
    path.write_bytes(b"x" * 100 + path.read_bytes()[100:])


def pages(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))


def table(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("DROP TABLE log")
    db.close()


def row(path: Path) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("DELETE FROM log")
    db.close()


def half(path: Path) -> None:
    os.truncate(path, 6000)


@pytest.mark.parametrize("break_it", [header, pages, table, row, half])
def test_a_damaged_file_is_moved_aside(desk: StoreFolder, break_it: Callable[[Path], None]) -> None:
    """
    A new log begins in a new file, however the old one is damaged.
    """
    journal = desk.open()
    write(journal, 3)
    desk.close()
    break_it(desk.path)

    anew = desk.open()

    assert anew.epoch != journal.epoch
    assert (anew.head, anew.keys) == (0, [])
    assert Path(anew.moved_to).exists()
    assert anew.moved_to.startswith(f"{desk.path}.damaged-")
    write(anew, 1)
    desk.close()
    assert desk.open().moved_to == ""


def test_an_empty_file_is_a_new_one(desk: StoreFolder) -> None:
    """
    An empty file is not taken for a damaged one.
    """
    desk.path.touch()

    assert desk.open().moved_to == ""


def test_a_daemon_that_was_killed_while_it_made_the_file(tmp_path: Path) -> None:
    """
    What is there after each statement is one of our files, and becomes a whole one.
    """
    path = tmp_path / "log"
    left: list[Path] = []

    class Copied(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            cursor = super().execute(*args)
            left.append(tmp_path / f"log{len(left)}")
            for each in tmp_path.glob("log*"):
                _, dash, suffix = each.name.partition("-")
                if each.name == f"log{dash}{suffix}":
                    shutil.copy(each, f"{left[-1]}{dash}{suffix}")
            return cursor

    with closing(sqlite3.connect(path, isolation_level=None, factory=Copied)) as db:
        prepare(db)
    begun = [each for each in left if each.stat().st_size]
    assert len(begun) > 10
    for each in left:
        desk = StoreFolder(each)
        write(desk.open(), 1)
        assert offsets(after(desk.journals[0], 0, "a")) == [1]
        desk.close()


def test_other_users_cannot_read_the_file(desk: StoreFolder) -> None:
    """
    The files have mode 0600, as messages may be private.
    """
    write(desk.open(), 1)

    modes = {path.name: path.stat().st_mode & 0o777 for path in desk.path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "log-wal" in modes


def test_a_second_store_is_refused(desk: StoreFolder) -> None:
    """
    The first one is not disturbed.
    """
    journal = desk.open()
    with pytest.raises(UnusableStore, match="in use by another daemon"):
        desk.open()
    write(journal, 1)


def test_a_file_of_another_version_is_left_alone(desk: StoreFolder) -> None:
    """
    A file of another version is neither changed nor moved aside.
    """
    desk.open()._db.execute("PRAGMA user_version = 99")
    desk.close()

    with pytest.raises(UnusableStore, match="it was written by another version"):
        desk.open()


def test_a_reload_changes_the_bounds(desk: StoreFolder) -> None:
    """
    Messages are trimmed by the new bounds.
    """
    journal = desk.open(make_retention(count=100))
    write(journal, 100)
    vacuum_step(journal)
    journal.trimmer.reconfigure(make_retention(count=10))
    write(journal, 1)
    vacuum_step(journal)

    assert len(offsets(after(journal, 0))) == 10


def other_database(path: Path, statement: str) -> None:
    """
    Create a database of another program.
    """
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


@pytest.mark.parametrize(
    "kind", ["text", "binary", "database", "same table", "another number", "folder", "pipe"]
)
def test_a_file_of_another_program_is_left_alone(kind: str, tmp_path: Path) -> None:
    """
    A file of another program is refused and not changed, and no other file is created.
    """
    path = tmp_path / "other"
    if kind == "text":
        path.write_text("port = 1\n")
    elif kind == "binary":
        path.write_bytes(bytes(range(256)) * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        table = "log" if kind == "same table" else "visitors"
        other_database(path, f"CREATE TABLE {table} (id INTEGER)")
        if kind == "another number":
            other_database(path, "PRAGMA application_id = 7")
    before = path.read_bytes() if path.is_file() else b""

    for _ in range(2):
        with pytest.raises(
            UnusableStore, match=r"cannot be used: it (belongs to another|is not a regular)"
        ):
            Store(str(path), make_retention(), 1 << 30, lambda: 1e9)
    assert [each.name for each in tmp_path.iterdir()] == ["other"]
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_damaged_file_is_recognized_by_its_header(tmp_path: Path) -> None:
    """
    A damaged history file is moved aside although its lock file is missing.
    """
    path = tmp_path / "log"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE a (b)")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.commit()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"nonsense" * 400)
    journal = Store(str(path), make_retention(), 1 << 30, lambda: 1e9)
    journal.reader.close()
    journal.close()

    assert journal.moved_to
