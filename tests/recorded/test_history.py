"""
A history file of an earlier version is read, and the file's own shape.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.real.conftest import StartDaemon
from tests.recorded.conftest import Check
from tests.recorded.peers import publish
from tests.recorded.test_redis import AGE, replay
from tests.recorded.transcript import DATA, Transcript

PRAGMAS = "application_id user_version auto_vacuum journal_mode page_size encoding".split()


def test_file_of_an_earlier_version(daemon: StartDaemon, check: Check, tmp_path: Path) -> None:
    """
    Subscribers resume from a file that an earlier version has written.

    `history.sqlite` was written by commit ef43342; it is not recorded anew.
    """
    file = tmp_path / "history.sqlite"
    shutil.copy(DATA / "history.sqlite", file)
    server = daemon(f"--history-file={file}", f"--history-age={AGE}")
    check("history-replay.txt", replay(server, "956b2368"))


def test_tables(daemon: StartDaemon, check: Check, tmp_path: Path) -> None:
    """
    Tables of the file, for programs that read it and for versions to come.
    """
    file = tmp_path / "history.sqlite"
    server = daemon(f"--history-file={file}")
    publish(server, "news", b"\xff", "kind")
    server.kill()
    record = Transcript()
    with closing(sqlite3.connect(file)) as database:
        for name in PRAGMAS:
            record.add(f"{name}: {database.execute(f'pragma {name}').fetchone()[0]}")
        for (sql,) in database.execute("select sql from sqlite_master order by name"):
            record.add(f"{sql};")
        record.title("a message")
        for row in database.execute("select offset, channel, data, event from messages"):
            record.add(str(row))
    record.add(
        f"names beside it: {sorted(each.name for each in tmp_path.glob('*.*') if each.is_file())}"
    )
    check("history-tables.txt", record)
