"""
Reports of a run: for a terminal, as a page, and as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.chart import number, svg
from benchmarks.figures import Line, Rounds, Sheet, lines


@dataclass(frozen=True, slots=True)
class Run:
    """
    A whole run: date, machine, sizes and results.

    `machine` has facts about machine and servers, by name; `faults` a sentence for each failure;
    `command` repeats the run; `work` is a dataclass with the sizes.
    """

    sheet: Sheet
    date: str
    machine: Mapping[str, str]
    command: str
    work: Any
    rounds: Rounds
    faults: Sequence[str]

    def count(self) -> int:
        """
        Return the number of rounds.
        """
        return min(self._counts().values(), default=0)

    def counted(self) -> str:
        """
        Return the number of rounds as text, with the measures that ran more often.
        """
        counts, rounds = self._counts(), self.count()
        more = [f"{measure} {count}" for measure, count in counts.items() if count > rounds]
        return f"{rounds}{'; of ' if more else ''}{', '.join(more)}"

    def _counts(self) -> dict[str, int]:
        return {
            measure: max(map(len, columns.values()), default=0)
            for measure, columns in self.rounds.items()
        }

    def lines(self) -> list[Line]:
        """
        Return the figures of the run, one line each.
        """
        return lines(self.sheet, self.rounds, asdict(self.work))


def table(run: Run) -> str:
    """
    Format the run for a terminal, in columns.
    """
    rows = [_headings(run.sheet), *(_cells(run.sheet, line) for line in run.lines())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = [_aligned(row, widths) for row in rows]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*text, *(f"failed: {fault}" for fault in run.faults)])


def write(run: Run, folder: Path) -> None:
    """
    Write the page (RESULTS.md), the raw figures (results.json, which git ignores), and the
    picture if the sheet has one.
    """
    found, name = run.lines(), run.sheet.name
    if run.sheet.picture:
        caption = f"{run.machine.get('processor', '')}, {run.date}, rounds: {run.count()}"
        (folder / f"{name}.svg").write_text(svg(found, caption))
    (folder / f"{name}.json").write_text(_json(run, found))
    (folder / f"{name.upper()}.md").write_text(_page(run, found))


def _page(run: Run, found: Sequence[Line]) -> str:
    facts = "\n".join(f"- {name}: {fact}" for name, fact in run.machine.items())
    sheet = run.sheet
    headings = _headings(sheet)
    rows = "\n".join(f"| {' | '.join(_cells(sheet, line))} |" for line in found)
    picture = f"\n![The figures that have a goal, as bars]({sheet.name}.svg)\n"
    faults = "".join(f"- failed: {fault}\n" for fault in run.faults)
    return f"""# {sheet.title}

{sheet.about};
[README.md](README.md) describes how each figure is measured.

- date: {run.date}
{facts}
- values: medians (rounds: {run.counted()}); ratios: the median of each round's own ratio
{faults}
| {" | ".join(headings)} |
| --- |{" ---: |" * (len(headings) - 3)} --- | --- |
{rows}
{picture if sheet.picture else ""}
To repeat: `{run.command}` from the checkout. It also writes the
raw figures, to `{sheet.name}.json`.
"""


def _json(run: Run, found: Sequence[Line]) -> str:
    figures = [
        {
            "figure": f"{line.figure.measure}.{line.figure.key}",
            "title": line.title,
            "unit": line.figure.unit,
            "values": line.values,
            "ratios": {f"{one}/{other}": ratio for (one, other), ratio in line.ratios.items()},
            "goals": [goal.text(line.figure.unit) for goal in line.figure.goals],
            "reached": line.verdict(),
        }
        for line in found
    ]
    results = asdict(run) | {"figures": figures}
    del results["sheet"]
    return json.dumps(results, indent=1) + "\n"


def _headings(sheet: Sheet) -> tuple[str, ...]:
    pairs = [f"{one}/{other}" for one, other in sheet.pairs]
    return ("figure", *sheet.columns, *pairs, "goal", "reached")


def _cells(sheet: Sheet, line: Line) -> tuple[str, ...]:
    unit = line.figure.unit
    values = [_with_unit(line.values.get(name), unit) for name in sheet.columns]
    # Figures without a unit describe the run itself and are not compared.
    ratios = [_with_unit(line.ratios.get(pair) if unit else None, "") for pair in sheet.pairs]
    word = " or " if line.figure.either else ", "
    goals = word.join(goal.text(unit) for goal in line.figure.goals)
    return (line.title, *values, *ratios, goals, line.verdict())


def _with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{number(value)} {unit}".strip()


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if 0 < i < len(row) - 2 else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
