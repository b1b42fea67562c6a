"""
An upload of 1 GiB beside dd with fsync on the same disk, and beside npm's @tus/server where that
is installed, in turn within the same minutes.

    python -m benchmarks.uploads                    5 rounds, in the present folder
    python -m benchmarks.uploads --rounds 1 --mib 256 --folder /srv

It prints the medians, and needs curl and dd. @tus/server fsyncs nothing and has no SHA-256: the
row "npm, with fsync" counts the time of `sync FILE` behind it. The file that is sent is in memory
(/dev/shm).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import alone, description, free_port, times

MIB = 1024**2
_PATIENCE = 20.0  # seconds for the daemon to start
_NPM = "npm's tus"
_TUS = ("Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream")


def main(words: Sequence[str] | None = None) -> None:
    """
    Measure, and print the medians.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uploads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024, help="size of the upload")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk")
    parser.add_argument(
        "--modules",
        type=Path,
        default=Path.home() / ".cache" / "rt-twisted-npm",
        help="folder in which npm has installed @tus/server and @tus/file-store "
        "(default: %(default)s)",
    )
    chosen = parser.parse_args(words)
    found: dict[str, list[float]] = {}
    with (
        alone(),
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
        tempfile.TemporaryDirectory(dir=chosen.folder) as folder,
    ):
        source = Path(memory) / "source"
        with source.open("wb") as file:
            for _ in range(chosen.mib):
                file.write(os.urandom(MIB))
        for _ in range(chosen.rounds):
            _round(found, source, Path(folder), chosen.mib, chosen.modules)
    for name, value in description().items():
        print(f"- {name}: {value}")
    print(f"- {chosen.mib} MiB, rounds: {chosen.rounds}, medians\n")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values):.2f} |")


def _round(
    found: dict[str, list[float]], source: Path, folder: Path, mib: int, modules: Path
) -> None:
    target = folder / "dd"
    disk = _timed("dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none")
    target.unlink()
    _note(found, "dd with fsync, MB/s", mib * MIB / disk / 1e6)
    kinds = ["a body", "tus"]
    if (modules / "node_modules" / "@tus").is_dir():
        kinds.append(_NPM)
    for kind in kinds:
        with _npm(folder, modules) if kind == _NPM else _daemon(folder) as (pid, port):
            url = f"http://127.0.0.1:{port}/upload"
            arguments = ["-s", "-f", "-o", os.devnull, "-T", str(source), url + "/x"]
            if kind != "a body":
                arguments = _tus_arguments(url, source, mib)
            before, rest = times(pid).ran, _rss(pid)
            with _Peak(pid) as peak:
                seconds = _timed("curl", *arguments)
            used = times(pid).ran - before
        names = [path for path in folder.iterdir() if not path.name.startswith(".")]
        [stored] = [path for path in names if path.suffix != ".json"]
        if kind == _NPM:
            synced = seconds + _timed("sync", str(stored))
            _note(found, "npm, with fsync: x of dd", disk / synced)
        assert stored.stat().st_size == mib * MIB
        for path in folder.iterdir():
            path.unlink()
        _note(found, f"{kind}: MB/s", mib * MIB / seconds / 1e6)
        _note(found, f"{kind}: x of dd", disk / seconds)
        _note(found, f"{kind}: CPU, s", used)
        _note(found, f"{kind}: growth of RSS, MB", (peak.highest - rest) / 1e6)


def _note(found: dict[str, list[float]], name: str, value: float) -> None:
    found.setdefault(name, []).append(value)


def _timed(*command: str) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True)
    return time.monotonic() - start


def _tus_arguments(url: str, source: Path, mib: int) -> list[str]:
    """
    Create an upload, and return curl's arguments that send all of it.
    """
    create = ["-X", "POST", "-H", f"Upload-Length: {mib * MIB}", "-H", _TUS[0]]
    printed = subprocess.run(
        ["curl", "-s", "-i", *create, url], capture_output=True, text=True, check=True
    ).stdout
    location = re.search(r"(?i)^Location: (\S+)", printed, re.MULTILINE)
    assert location, printed
    url = url.rpartition("/")[0] + "/" + location[1]
    headers = [f"-H{header}" for header in (*_TUS, "Upload-Offset: 0")]
    if location[1].startswith(("http:", "//")):
        url = url.rpartition("/upload")[0] + "/upload/" + location[1].rpartition("/")[2]
    return ["-s", "-f", "-o", os.devnull, "-X", "PATCH", *headers, "-T", str(source), url]


@contextmanager
def _daemon(folder: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    route = f"--route=^/upload upload:to={folder},max=0"
    twistd = str(Path(sys.executable).parent / "twistd")
    with _running(port, twistd, "-n", "--pidfile=", "realtime", route, f"--port={port}") as pid:
        yield pid, port


@contextmanager
def _npm(folder: Path, modules: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    script = str(Path(__file__).with_name("tus.mjs"))
    with _running(port, "node", script, str(port), str(modules), str(folder)) as pid:
        yield pid, port


@contextmanager
def _running(port: int, *command: str) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE
        ready = ["curl", "-s", "-o", os.devnull, f"http://127.0.0.1:{port}/"]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, f"{command[0]} does not start"
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Peak:
    """
    Reads the RSS of a process every 20 ms.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.highest = _rss(pid)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self.highest = max(self.highest, _rss(self._pid))


if __name__ == "__main__":
    main()
