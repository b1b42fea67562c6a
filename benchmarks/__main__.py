"""
`python -m benchmarks`: run the measures in turn on all servers, and report.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.figures import BARE, NCHAN, OURS, RESULTS
from benchmarks.machine import SetupError, cores, description, raise_file_limit
from benchmarks.measures import MEASURES, QUICK, Stage, Work, programs
from benchmarks.report import Run
from benchmarks.rounds import choose, play, report
from benchmarks.servers import Server

_SPARE_FILES = 300  # of the servers and the load, beside one per subscriber


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, help="how often all is repeated (default: 5, with --quick 1)")
    add("--quick", action="store_true", help="less work, half a minute; for a look, not a claim")
    add("--measures", default=",".join(MEASURES), help="some of: %(default)s")
    add("--servers", default="ours,nchan,bare", help="some of: %(default)s")
    add("--readers", type=int, help="on one channel (default: 1000)")
    add("--crowd", type=int, help="the many readers (default: 15000)")
    add("--ours", default="", metavar="OPTIONS", help="more options for the daemon, one word")
    add("--output", type=Path, help="folder of the report (default: here; with --quick none)")
    known = {"measures": list(MEASURES), "servers": [OURS, NCHAN, BARE]}
    return choose(parser, words, known)


def _work(chosen: argparse.Namespace, files: int) -> Work:
    work = QUICK if chosen.quick else Work()
    if chosen.readers:
        work = replace(work, readers=chosen.readers)
    if chosen.crowd:
        work = replace(work, crowd=chosen.crowd)
    needed = max(work.readers, work.crowd + work.few, work.spread) + _SPARE_FILES
    if needed > files:
        raise SetupError(f"This needs {needed} open files and {files} are allowed: try --crowd.")
    return work


def _found(chosen: argparse.Namespace, folder: Path) -> list[Server]:
    """
    Return the servers that can run here; print the names of the others.
    """
    makers: dict[str, Callable[[], Server]] = {
        OURS: lambda: servers.ours(shlex.split(chosen.ours)),
        NCHAN: servers.nchan,
        BARE: lambda: servers.bare(folder),
    }
    found = []
    for name in chosen.servers:
        try:
            found.append(makers[name]())
        except SetupError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


def _measured(chosen: argparse.Namespace, folder: Path, words: Sequence[str]) -> Run:
    work = _work(chosen, raise_file_limit())
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    load, probe = programs(folder)
    found = _found(chosen, folder)
    machine = description() | {server.name: server.title for server in found}
    tasks = {
        measure: {
            server.name: partial(MEASURES[measure], Stage(server, work, server_core, load, probe))
            for server in found
        }
        for measure in chosen.measures
    }
    rounds, faults = play(tasks, chosen.rounds or (1 if chosen.quick else 5))
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    command = shlex.join(["python", "-m", "benchmarks", *words])
    return Run(RESULTS, date, machine, command, work, rounds, faults)


def main(words: Sequence[str]) -> int:
    """
    Run the benchmark that *words* choose.

    Returns:
        1 if a server could not be measured or made a fault, else 0; goals do not count.
    """
    if words[:1] == ["soak"]:
        from benchmarks import soak

        return soak.main(words[1:])
    if words[:1] == ["media"]:
        from benchmarks import media

        return media.COMPARISON.main(words[1:])
    chosen = _options(words)
    return report(chosen, lambda folder: _measured(chosen, folder, words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
