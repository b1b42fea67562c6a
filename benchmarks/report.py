"""
What was measured, for a terminal, for a page and for a program.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.chart import number, svg
from benchmarks.figures import BARE, NCHAN, OURS, Line, Rounds, lines
from benchmarks.measures import Work

_HEADINGS = ("figure", OURS, NCHAN, BARE, "ours/nchan", "ours/bare", "goal", "reached")


@dataclass(frozen=True, slots=True)
class Run:
    """
    A whole run: when, where, how much, and what came out.

    `machine` has what a reader should know, by name; `faults` a sentence for each round that
    failed; `command` repeats the run.
    """

    date: str
    machine: Mapping[str, str]
    command: str
    work: Work
    rounds: Rounds
    faults: Sequence[str]

    def count(self) -> int:
        """
        How many rounds there were.
        """
        return max(
            (len(r) for servers in self.rounds.values() for r in servers.values()), default=0
        )

    def lines(self) -> list[Line]:
        """
        The figures.
        """
        return lines(self.rounds, asdict(self.work))


def table(run: Run) -> str:
    """
    For a terminal, in columns.
    """
    rows = [_HEADINGS, *map(_cells, run.lines())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    text = [_aligned(row, widths) for row in rows]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*text, *(f"failed: {fault}" for fault in run.faults)])


def write(run: Run, folder: Path) -> None:
    """
    Write RESULTS.md, results.svg and results.json.
    """
    found = run.lines()
    caption = f"{run.machine.get('processor', '')}, {run.date}, rounds: {run.count()}"
    (folder / "results.svg").write_text(svg(found, caption))
    (folder / "results.json").write_text(_json(run, found))
    (folder / "RESULTS.md").write_text(_page(run, found))


def _page(run: Run, found: Sequence[Line]) -> str:
    facts = "\n".join(f"- {name}: {fact}" for name, fact in run.machine.items())
    rows = "\n".join(f"| {' | '.join(_cells(line))} |" for line in found)
    faults = "".join(f"- failed: {fault}\n" for fault in run.faults)
    return f"""# Results

Server CPU, memory and delay, three servers in turn on the same work;
[README.md](README.md) says how each figure is measured.

- date: {run.date}
{facts}
- values: medians (rounds: {run.count()}); ratios: the median of each round's own ratio
{faults}
| {" | ".join(_HEADINGS)} |
| --- |{" ---: |" * 5} --- | --- |
{rows}

![The figures that have a goal, as bars](results.svg)

To repeat: `{run.command}` from the checkout; the raw figures are in [results.json](results.json).
"""


def _json(run: Run, found: Sequence[Line]) -> str:
    figures = [
        {
            "figure": f"{line.figure.measure}.{line.figure.key}",
            "title": line.title,
            "unit": line.figure.unit,
            "values": line.values,
            "ratios": line.ratios,
            "goals": [goal.text(line.figure.unit) for goal in line.figure.goals],
            "reached": line.verdict(),
        }
        for line in found
    ]
    everything = asdict(run) | {"figures": figures}
    return json.dumps(everything, indent=1) + "\n"


def _cells(line: Line) -> tuple[str, ...]:
    unit = line.figure.unit
    values = [_with_unit(line.values.get(name), unit) for name in (OURS, NCHAN, BARE)]
    # What has no unit tells of the run itself: nothing to compare.
    ratios = [_with_unit(line.ratios.get(name) if unit else None, "") for name in (NCHAN, BARE)]
    word = " or " if line.figure.either else ", "
    goals = word.join(goal.text(unit) for goal in line.figure.goals)
    return (line.title, *values, *ratios, goals, line.verdict())


def _with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{number(value)} {unit}".strip()


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if 0 < i < 6 else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
