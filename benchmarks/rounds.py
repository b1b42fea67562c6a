"""
Runs of a comparison: rounds of measures, each on all columns in turn.
"""

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from benchmarks.figures import Sheet
from benchmarks.load import DeliveryError
from benchmarks.machine import HERE, SetupError, alone, cores, description, raise_file_limit
from benchmarks.report import Run, table, write

Task: TypeAlias = Callable[[], dict[str, float]]
Tasks: TypeAlias = Mapping[str, Mapping[str, Task]]  # measure -> column -> what to run


def play(
    tasks: Tasks, count: int, often: Mapping[str, int] | None = None
) -> tuple[dict[str, dict[str, list[dict[str, float]]]], list[str]]:
    """
    Run all tasks, *count* times.

    Args:
        tasks: by measure and column.
        count: rounds.
        often: how often to run measures that run more than once in a round.

    Returns:
        the figures of each round, and a sentence for each failure. A column that cannot be
        started is left out from there on.
    """
    rounds: dict[str, dict[str, list[dict[str, float]]]] = {
        measure: {column: [] for column in columns} for measure, columns in tasks.items()
    }
    faults: list[str] = []
    left_out: set[str] = set()
    for number in range(count):
        turns = [measure for measure in tasks for _ in range((often or {}).get(measure, 1))]
        for turn, measure in enumerate(turns, number):
            columns = tasks[measure]
            present = [column for column in columns if column not in left_out]
            # Each round begins with another column, so that no column is always the first.
            first = turn % max(len(present), 1)
            for column in (*present[first:], *present[:first]):
                _show_progress(f"round {number + 1}: {measure}, {column}")
                figures: dict[str, float] = {}
                try:
                    figures = columns[column]()
                except DeliveryError as error:
                    faults.append(f"{column}, {measure}, round {number + 1}: {error}")
                except SetupError as error:
                    faults.append(f"{column}, {measure}: {error}; left out from here on")
                    left_out.add(column)
                rounds[measure][column].append(figures)
    _show_progress("")
    return rounds, faults


def choose(
    parser: argparse.ArgumentParser, words: Sequence[str], known: Mapping[str, Sequence[str]]
) -> argparse.Namespace:
    """
    Parse the options; those in *known* are lists of some of the values there.
    """
    chosen = parser.parse_args(words)
    for name, possible in known.items():
        setattr(chosen, name, getattr(chosen, name).split(","))
        for value in getattr(chosen, name):
            if value not in possible:
                parser.error(f"--{name}: {value} is not one of {', '.join(possible)}")
    return chosen


def report(chosen: argparse.Namespace, measure: Callable[[Path], Run]) -> int:
    """
    Measure, print the report, and write it to the folder that *chosen* names.

    Args:
        chosen: the options; `output` and `quick` are used.
        measure: gets a temporary folder.

    Returns:
        1 if a column could not be measured or was faulty, else 0; goals do not count.
    """
    # As Ctrl-C: every `finally` on the stack stops its server.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with alone(), TemporaryDirectory(prefix="bench-") as folder:
            run = measure(Path(folder))
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # the status of shells after Ctrl-C
    print(table(run))
    output = chosen.output or (None if chosen.quick else HERE)
    if output:
        write(run, output)
    return 1 if run.faults else 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    A benchmark program that compares servers.

    Args:
        command: its name, after `python -m`.
        about: for --help.
        sheet: of the report.
        work: the sizes, and `quick` the smaller ones; dataclasses.
        measures: their names.
        prepare: from the chosen options, a folder and the sizes, makes descriptions of the
            columns, and the tasks; servers that it started end with the context.
        arguments: adds options of its own.
        often: how often to run measures with a tight goal in a round, by name.
    """

    command: str
    about: str
    sheet: Sheet
    work: Any
    quick: Any
    measures: Sequence[str]
    prepare: Callable[
        [argparse.Namespace, Path, Any], AbstractContextManager[tuple[dict[str, str], Tasks]]
    ]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda _: None
    often: Mapping[str, int] = field(default_factory=dict)

    def main(self, words: Sequence[str]) -> int:
        """
        Run the rounds of this benchmark and report them.

        Returns:
            1 if a column could not be measured or was faulty, else 0; goals do not count.
        """
        chosen = self._options(words)
        return report(chosen, lambda folder: self._run(chosen, folder, words))

    def _options(self, words: Sequence[str]) -> argparse.Namespace:
        parser = argparse.ArgumentParser(prog=f"python -m {self.command}", description=self.about)
        add = parser.add_argument
        add("--rounds", type=int, help="how often all is repeated (default: 3, with --quick 1)")
        add("--quick", action="store_true", help="less work; for a look, not a claim")
        add("--measures", default=",".join(self.measures), help="some of: %(default)s")
        add("--columns", default=",".join(self.sheet.columns), help="some of: %(default)s")
        add("--output", type=Path, help="folder of the report (default: here; with --quick none)")
        self.arguments(parser)
        known = {"measures": self.measures, "columns": self.sheet.columns}
        return choose(parser, words, known)

    def _run(self, chosen: argparse.Namespace, folder: Path, words: Sequence[str]) -> Run:
        raise_file_limit()
        os.sched_setaffinity(0, {cores()[1]})
        work = self.quick if chosen.quick else self.work
        with self.prepare(chosen, folder, work) as (titles, tasks):
            chosen_tasks = {
                measure: {
                    column: task
                    for column, task in tasks[measure].items()
                    if column in chosen.columns
                }
                for measure in chosen.measures
            }
            count = chosen.rounds or (1 if chosen.quick else 3)
            rounds, faults = play(chosen_tasks, count, {} if chosen.quick else self.often)
        date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        command = shlex.join(["python", "-m", self.command, *words])
        return Run(self.sheet, date, description() | titles, command, work, rounds, faults)


def _show_progress(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"{progress:40}", end="\r", file=sys.stderr, flush=True)
