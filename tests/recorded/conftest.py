"""
Daemons for the recorded tests, and the comparison with the records.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.conftest import (
    TWISTD,
    Server,
    daemon,
    free_port,
    pytest_runtest_makereport,
    serve,
)
from tests.recorded.transcript import DATA, Transcript, differences

__all__ = ["daemon", "pytest_runtest_makereport", "serve"]

RECORD = bool(os.environ.get("RECORD"))
ADVICE = (
    "If users shall see this change: RECORD=1 python -m pytest {test}\n"
    "then commit tests/recorded/data with a line in CHANGES.md."
)

Check = Callable[[str, Transcript | str], None]


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """
    Compares a transcript with the file of that name; with RECORD=1 writes the file.
    """

    def compare(name: str, transcript: Transcript | str) -> None:
        __tracebackhide__ = True
        found = str(transcript)
        file = DATA / name
        if RECORD:
            DATA.mkdir(exist_ok=True)
            file.write_text(found)
            return
        recorded = file.read_text() if file.exists() else ""
        if recorded != found:
            advice = ADVICE.format(test=request.node.nodeid.partition("[")[0])
            text = differences(recorded, found, name)
            pytest.fail(f"{name} is not what was recorded:\n{text}\n\n{advice}", pytrace=False)

    return compare


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """
    A daemon as it is without any option but the port, for all tests of a module.
    """
    yield from run_daemon(tmp_path_factory.mktemp("shared"))


def run_daemon(folder: Path, *options: str) -> Iterator[Server]:
    """
    A daemon with *options*, stopped behind the yield; for fixtures.
    """
    port = free_port()
    server = Server([*TWISTD, "realtime", f"--port={port}", *options], port, folder, {})
    server.start()
    try:
        yield server
    finally:
        server.stop()
    assert "Traceback (most recent call last)" not in server.log, server.log
