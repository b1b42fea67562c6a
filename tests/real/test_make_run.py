"""
`make run` as a new user types it: in a terminal, in a fresh clone, with a fresh HOME.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, ROOT, free_port, report_missing, require

SAYS = """\
Making the virtual environment .venv ...
Installing the daemon and what it needs into .venv, from PyPI: up to a minute ...
Starting the daemon. Open {address} to try it; Ctrl-C stops it.
"""
INSTALLING = 300.0  # seconds, with packages from PyPI


class Terminal:
    """
    A terminal in which a command runs.

    Args:
        command: that is typed.
        folder: where it runs.
        environment: all variables.
    """

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.text = ""
        self._pid, self._screen = pty.fork()
        if self._pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(folder)
            os.execvpe(command[0], command, environment)

    def type(self, keys: bytes) -> None:
        """
        Press *keys*, as a user does.
        """
        os.write(self._screen, keys)

    def read_until(self, pattern: str, seconds: float) -> str | None:
        """
        Return the first group of *pattern* in the text; None if the command has ended before.
        """
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, self.text
            if not select.select([self._screen], [], [], 1.0)[0]:
                continue
            try:
                self.text += os.read(self._screen, 65536).decode(errors="replace")
            except OSError:  # the end of a terminal is an error
                return None
        return found[1]

    def end(self) -> int:
        """
        Return the exit status of the command, which has ended.
        """
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def close(self) -> None:
        """
        Close the terminal, which ends what still runs in it.
        """
        os.close(self._screen)


@contextmanager
def terminal(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    """
    Yield a terminal in which *command* runs, and close it.
    """
    screen = Terminal(command, folder, environment)
    try:
        yield screen
    finally:
        screen.close()


def copy_checkout(folder: Path) -> None:
    """
    Copy the files that a clone has, as they are now.
    """
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a clone")
    git = require("git", "git")
    names = subprocess.check_output([git, "ls-files", "-z"], cwd=ROOT).decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


@pytest.mark.limit(INSTALLING + 2 * PATIENCE)
def test_make_run_in_a_fresh_clone(tmp_path: Path) -> None:
    """
    `make run PORT=...` says what it does before it is silent, nothing else before the daemon's
    log, and the address to open. Ctrl-C stops the daemon; its last line is not an error.
    """
    require("make", "make")
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    copy_checkout(clone)
    port = free_port()
    environment = {**os.environ, "HOME": str(home), "PYTHON": sys._base_executable}  # type: ignore[attr-defined]
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "ARGS"):
        environment.pop(name, None)
    with terminal(["make", "run", f"PORT={port}"], clone, environment) as screen:
        address = screen.read_until(r"a page to try it: (\S+)\r\n", INSTALLING)
        if address is None and re.search("No matching distribution|connection broken", screen.text):
            screen.end()
            report_missing("PyPI is unreachable: connect to a network")
        assert address == f"http://127.0.0.1:{port}/try", screen.text
        assert screen.text.startswith(SAYS.replace("\n", "\r\n").format(address=address))
        with urllib.request.urlopen(address, timeout=PATIENCE) as response:
            assert response.status == 200
        screen.type(b"\x03")
        assert screen.read_until("(never)", PATIENCE) is None
        status = screen.end()

    assert screen.text.endswith("Server Shut Down.\r\n")
    assert "Traceback" not in screen.text
    assert status == -signal.SIGINT  # make's; twistd has ended by itself
