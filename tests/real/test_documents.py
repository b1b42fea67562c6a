"""
What the documents show is what happens: their commands are run, their answers
compared.

A block marked `console` is run as it stands, `$` in front of each command, and
must answer as it says. A block marked `sh` that has a `twistd -n realtime` in it
starts another daemon for what follows; one marked `ini` whose first line is
`# NAME.conf` is put into a file of that name. A daemon on port 8080 with the
defaults stands ready. `curl -N` runs on: what it is to show may be published by
later commands.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.real.conftest import (
    PATIENCE,
    PAUSE,
    ROOT,
    Browser,
    Server,
    StartDaemon,
    free_port,
    require,
)

DOCUMENTS = (
    "README.md",
    "docs/configuration.md",
    "docs/migrating.md",
    "docs/numbers.md",
    "docs/operating.md",
    "docs/polling.md",
    "docs/publishing.md",
    "docs/security.md",
    "docs/sse.md",
    "docs/uploads.md",
    "docs/websocket.md",
)
PORT = "8080"  # in the documents
EPOCH = "6c4fd964"  # what they call the log of the daemon that runs

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_POSITION = re.compile(r"\b([0-9a-f]{8})\.\d")


class Reading:
    """
    A `curl -N` at work.

    Args:
        command: for a shell.
        expected: what its output has to begin with.
        output: a file for it.
    """

    def __init__(self, command: str, expected: str, output: Path, **shell: Any) -> None:
        self.command = command
        self.expected = expected
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                stdout=file,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                **shell,
            )

    def text(self, least: int = 1) -> str:
        """
        What it has shown, as soon as that is *least* bytes, or its time is up.
        """
        deadline = time.monotonic() + PATIENCE
        while self._output.stat().st_size < least and time.monotonic() < deadline:
            time.sleep(PAUSE)
        return self._output.read_text()

    def end(self) -> None:
        """
        Interrupt the process group (SIGINT, as Ctrl-C does) and wait for its end.
        """
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(PATIENCE)


class Walk:
    """
    Runs the commands and requests that a document shows, in its order.

    Args:
        daemon: starts daemons.
        folder: where it happens.
    """

    def __init__(self, daemon: StartDaemon, folder: Path) -> None:
        self._start = daemon
        self._folder = folder
        self._port = free_port()
        self._epoch = EPOCH
        self._server: Server | None = None
        self._readings: list[Reading] = []
        for name in ("examples", "etc"):
            (folder / name).symlink_to(ROOT / name)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._shell = {"cwd": folder, "env": {**os.environ, "PATH": path}}

    def restart(self, *options: str, environment: dict[str, str] | None = None) -> None:
        """
        Start a daemon in place of the one before.
        """
        self.finish_reading()
        if self._server is not None:
            self._server.kill()
        self._server = self._start(
            *options,
            "--heartbeat=0",  # heartbeats arrive at any time, which no document can show
            port=self._port,
            folder=self._folder,
            environment=environment,
        )
        if environment:
            # Ports are open before the user's own services have started.
            with suppress(HTTPError):
                urlopen(self._server.url, timeout=PATIENCE).close()

    def start_as_documented(self, text: str) -> None:
        """
        Start the daemon that a block of shell commands starts, if it does.
        """
        words = shlex.split(text.replace("\\\n", " "), comments=True)
        if "realtime" not in words or words[words.index("realtime") - 2] != "twistd":
            return
        end = words.index("twistd")
        start = end
        while start and re.match(r"[A-Z_]+=", words[start - 1]):
            start -= 1
        environment = dict(word.split("=", 1) for word in words[start:end])
        options = [word for word in words[end + 3 :] if word != f"--port={PORT}"]
        self.restart(*options, environment=environment)

    def type(self, command: str, expected: str) -> None:
        """
        Run *command*, and see that it answers as *expected*.
        """
        real = command.replace(f":{PORT}", f":{self._port}").replace(EPOCH, self._epoch)
        if "curl" in command and " -N " in command:
            output = self._folder / f"reading-{len(self._readings)}"
            reading = Reading(real, expected, output, **self._shell)
            self._readings.append(reading)
            assert self._seen(reading.text()), f"{command}: shows nothing"
            return
        both = "curl" not in command  # it shows its progress on the other one
        done = subprocess.run(
            ["bash", "-c", real],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if both else subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE,
            **self._shell,  # type: ignore[call-overload]  # cwd and env
        )
        assert self._seen(done.stdout) == _normalized(expected), command

    def finish_reading(self) -> None:
        """
        See that every stream has shown what it was to show, and stop it.
        """
        for reading in self._readings:
            least = len(reading.expected.encode())
            shown = self._seen(reading.text(least))
            reading.end()
            assert shown[: len(_normalized(reading.expected))] == _normalized(reading.expected), (
                reading.command
            )
        self._readings = []

    def run_python(self, text: str) -> None:
        """
        Run what publishes.
        """
        if f":{PORT}/" in text and "import requests" not in text:
            exec(text.replace(f":{PORT}/", f":{self._port}/"), {})

    def _seen(self, text: str) -> str:
        found = _POSITION.search(text)
        if found is not None:
            self._epoch = found[1]
        return _normalized(text.replace(self._epoch, EPOCH))


def _normalized(text: str) -> str:
    """
    *text* without what differs each time: the date, and how many subscribers a
    test keeps that a person would have stopped.
    """
    text = text.replace("\r\n", "\n")
    text = re.sub(r"(?m)^Date: .*$", "Date: now", text)
    return re.sub(r'"receivers": \d+', '"receivers": 0', text)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """
    The blocks of code of a document: language, content.
    """
    for found in _BLOCK.finditer(text):
        yield found[1], found[2]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_shows_is_what_happens(
    name: str, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    Every command that is shown with an answer gives this answer.
    """
    require("curl", "curl")
    walk = Walk(daemon, tmp_path)
    walk.restart()
    typed = 0
    for language, text in blocks((ROOT / name).read_text()):
        if language == "ini" and (file := re.match(r"# (\w+\.conf)\n", text)):
            (tmp_path / file[1]).write_text(text)
        elif language == "sh":
            walk.start_as_documented(text)
        elif language == "python":
            walk.run_python(text)
        elif language == "console":
            for command, expected in _COMMAND.findall(text):
                walk.type(command, expected)
                typed += 1
    walk.finish_reading()

    assert typed


def test_the_script_in_the_readme_receives_everything(
    daemon: StartDaemon, browser: Browser
) -> None:
    """
    The script of the README receives plain messages and event types, and reloads at a gap.
    """
    (script,) = (text for kind, text in blocks((ROOT / "README.md").read_text()) if kind == "js")
    server = daemon()
    browser.open(f"{server.url}/try")
    script = script.replace(f"http://127.0.0.1:{PORT}", server.url).replace(
        "const source", "source"
    )
    script = script.replace("console.log(", "heard.push(").replace("location.reload()", "0")
    browser.evaluate(f"new Function({('heard = [];' + script)!r})()")
    browser.wait_for("source.readyState === 1")
    for fields in ("message=hello", 'event=goal&message={"team": "Ajax"}'):
        _publish(server, f"channel=news&{fields}")

    assert browser.wait_for("heard.length === 4 && heard") == ["news:", "hello", "goal for", "Ajax"]


PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """
    Each to a file that is there, and to a heading that is in it.
    """
    for link in re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        name, _, heading = link.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", there.read_text()), re.MULTILINE)
            assert heading in map(_anchor, headings), link


def _anchor(heading: str) -> str:
    """
    What a heading is called behind a `#`.
    """
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _publish(server: Server, form: str) -> None:
    subprocess.run(
        ["curl", "-sf", "-d", form, f"{server.url}/publish"], check=True, timeout=PATIENCE
    )
