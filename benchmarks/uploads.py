"""
An upload of 1 GiB beside dd with fsync on the same disk, in turn within the same minutes.

    python -m benchmarks.uploads                    5 rounds, in the present folder
    python -m benchmarks.uploads --rounds 1 --mib 256 --folder /srv

It prints the medians, and needs curl and dd. The file that is sent is in memory (/dev/shm).
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
_TUS = ("Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream")


def main(words: Sequence[str] | None = None) -> None:
    """
    Measure, and print the medians.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uploads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024, help="size of the upload")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk")
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
            _round(found, source, Path(folder), chosen.mib)
    for name, value in description().items():
        print(f"- {name}: {value}")
    print(f"- {chosen.mib} MiB, rounds: {chosen.rounds}, medians\n")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values):.2f} |")


def _round(found: dict[str, list[float]], source: Path, folder: Path, mib: int) -> None:
    target = folder / "dd"
    disk = _timed("dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none")
    target.unlink()
    _note(found, "dd with fsync, MB/s", mib * MIB / disk / 1e6)
    for kind in ("a body", "tus"):
        with _daemon(folder) as (pid, port):
            url = f"http://127.0.0.1:{port}/upload"
            arguments = ["-s", "-f", "-o", os.devnull, "-T", str(source), url + "/x"]
            if kind == "tus":
                arguments = _tus_arguments(url, source, mib)
            before, rest = times(pid).ran, _rss(pid)
            with _Peak(pid) as peak:
                seconds = _timed("curl", *arguments)
            used = times(pid).ran - before
        [stored] = [path for path in folder.iterdir() if not path.name.startswith(".")]
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
    location = re.search(r"Location: (\S+)", printed)
    assert location, printed
    url = url.rpartition("/")[0] + "/" + location[1]
    headers = [f"-H{header}" for header in (*_TUS, "Upload-Offset: 0")]
    return ["-s", "-f", "-o", os.devnull, "-X", "PATCH", *headers, "-T", str(source), url]


@contextmanager
def _daemon(folder: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    route = f"--route=^/upload upload:to={folder},max=0"
    command = [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "realtime", route]
    process = subprocess.Popen([*command, f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _PATIENCE
        ready = ["curl", "-s", "-o", os.devnull, f"http://127.0.0.1:{port}/"]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, "the daemon does not start"
            time.sleep(0.1)
        yield process.pid, port
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
