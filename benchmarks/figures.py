"""
The reported figures, their goals, and their computation from the rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeAlias

# Rounds: measure -> column -> the figures of each round; none where a round failed.
Rounds: TypeAlias = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]

OURS: Final = "ours"
NCHAN: Final = "nchan"
BARE: Final = "bare"


@dataclass(frozen=True, slots=True)
class Goal:
    """
    A bound for one column: `limit` times the figure of another, or `limit` itself.
    """

    limit: float
    of: str = ""
    least: bool = False
    column: str = OURS

    def text(self, unit: str) -> str:
        """
        Return the goal as text.
        """
        bound = f"{self.limit:g} x {self.of}" if self.of else f"{self.limit:g} {unit}".strip()
        column = "" if self.column == OURS else f"{self.column} "
        return f"{column}{'>=' if self.least else '<='} {bound}"


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One line of the report. With `either` one reached goal is enough, else all count.

    `title` may have names of sizes in braces.
    """

    measure: str
    key: str
    title: str
    unit: str
    goals: tuple[Goal, ...] = ()
    either: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """
    A figure with its values: medians of the rounds, and medians of the ratios of each round.

    `ratios` are by pairs of columns: the first over the second. `reached` has one value for
    each goal, None if a value is missing.
    """

    figure: Figure
    title: str
    values: dict[str, float]
    ratios: dict[tuple[str, str], float]
    reached: tuple[bool | None, ...]

    def verdict(self) -> str:
        """
        Return "yes", "no", "?" if a value is missing, or "" without a goal.
        """
        if not self.reached:
            return ""
        good = any(self.reached) if self.figure.either else all(self.reached)
        if not good and None in self.reached and False not in self.reached:
            return "?"
        return "yes" if good else "no"


@dataclass(frozen=True, slots=True)
class Sheet:
    """
    Layout of a report.

    Args:
        name: of its files.
        title: of the page.
        about: a sentence under it.
        columns: names of the compared servers.
        pairs: the ratios shown, each of the first over the second.
        figures: the lines.
        picture: whether the goals are drawn too.
    """

    name: str
    title: str
    about: str
    columns: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    picture: bool = False


# The kernel's part grows too, with the sockets that no longer fit into the processor's caches:
# what grows no more than the bare loop is as flat as it can be.
_FLAT = (Goal(1.3), Goal(1, BARE))

FIGURES = (
    Figure(
        "single",
        "cpu",
        "CPU per delivery, {readers} subscribers, 1 in flight",
        "us",
        (Goal(0.6, NCHAN), Goal(1.15, BARE)),
    ),
    Figure("burst", "cpu", "CPU per delivery, {readers} subscribers, 16 in flight", "us"),
    Figure(
        "burst",
        "rate",
        "deliveries a second, 16 in flight",
        "/s",
        (Goal(8, NCHAN, least=True),),
    ),
    Figure("burst", "load_share", "share of the time that the load was busy", ""),
    Figure("burst", "waited", "share of the time that other programs had the server's core", ""),
    Figure("paced", "each_p50", "fan-out at {rate}/s to {readers} subscribers, p50", "ms"),
    Figure(
        "paced",
        "each_p99",
        "fan-out at {rate}/s to {readers} subscribers, p99",
        "ms",
        (Goal(0.1, NCHAN), Goal(50)),
        either=True,
    ),
    Figure("paced", "last_p50", "the same, last subscriber, p50", "ms"),
    Figure("paced", "last_p99", "the same, last subscriber, p99", "ms"),
    Figure(
        "crowd", "memory", "memory per idle subscriber, {crowd} subscribers", "KiB", (Goal(2.5),)
    ),
    Figure("crowd", "join", "CPU per new subscriber", "us", (Goal(1.55, NCHAN),)),
    Figure("publish", "one", "CPU per single publish, no subscribers", "us", (Goal(2.5, NCHAN),)),
    Figure("publish", "busy", "the same, 16 in flight: without a wake-up for each", "us"),
    Figure(
        "publish",
        "pipelined",
        "the same, 16 pipelined on one connection",
        "us",
        (Goal(3.5, NCHAN),),
    ),
    Figure(
        "publish",
        "batch",
        "CPU per message in a batch of 100 (others: single)",
        "us",
        (Goal(0.2, NCHAN),),
    ),
    Figure("crowd", "few", "CPU per delivery, {few} subscribers", "us"),
    Figure("crowd", "many", "CPU per delivery, {crowd} subscribers", "us"),
    Figure(
        "crowd",
        "flat",
        "growth per delivery, {few} to {crowd} subscribers",
        "x",
        _FLAT,
        either=True,
    ),
    Figure("channels", "one", "CPU per delivery, {spread} subscribers on 1 channel", "us"),
    Figure("channels", "hundred", "CPU per delivery, on 100 channels", "us"),
    Figure("channels", "each", "CPU per delivery, on {spread} channels", "us"),
    Figure("channels", "each_publishing", "CPU per message, subtracted there", "us"),
    Figure(
        "channels", "flat", "growth per delivery, 1 to {spread} channels", "x", _FLAT, either=True
    ),
    Figure("crowd", "stranger_p99", "wait of an unrelated request, fan-out to {crowd}, p99", "ms"),
    Figure(
        "crowd",
        "stranger_max",
        "longest wait of an unrelated request, fan-out to {crowd}",
        "ms",
        (Goal(20),),
    ),
)


RESULTS = Sheet(
    "results",
    "Results",
    "Server CPU, memory and delay, three servers in turn on the same work",
    (OURS, NCHAN, BARE),
    ((OURS, NCHAN), (OURS, BARE)),
    FIGURES,
    picture=True,
)


def lines(sheet: Sheet, rounds: Rounds, sizes: Mapping[str, int]) -> list[Line]:
    """
    Return the lines of the report, in the order of the sheet.

    Args:
        sheet: what is shown.
        rounds: those measured; figures without any value are left out.
        sizes: of the work, by name.
    """
    words = {name: f"{size:,}" for name, size in sizes.items()}
    found = [
        _line(figure, rounds.get(figure.measure, {}), words, sheet.pairs)
        for figure in sheet.figures
    ]
    return [line for line in found if line.values]


def _line(
    figure: Figure,
    columns: Mapping[str, Sequence[Mapping[str, float]]],
    words: Mapping[str, str],
    pairs: Sequence[tuple[str, str]],
) -> Line:
    key = figure.key
    values = {
        name: median(round_[key] for round_ in rounds if key in round_)
        for name, rounds in columns.items()
        if any(key in round_ for round_ in rounds)
    }
    ratios: dict[tuple[str, str], float] = {}
    goals = [(goal.column, goal.of) for goal in figure.goals if goal.of]
    for one, other in {*pairs, *goals}:
        both = zip(columns.get(one, ()), columns.get(other, ()), strict=False)
        # A round's two ran within the same minute: compare them, not the medians.
        of_rounds = [a[key] / b[key] for a, b in both if key in a and b.get(key)]
        if of_rounds:
            ratios[one, other] = median(of_rounds)
    reached = tuple(_reached(goal, values, ratios) for goal in figure.goals)
    return Line(figure, figure.title.format_map(words), values, ratios, reached)


def _reached(
    goal: Goal, values: Mapping[str, float], ratios: Mapping[tuple[str, str], float]
) -> bool | None:
    value = ratios.get((goal.column, goal.of)) if goal.of else values.get(goal.column)
    if value is None:
        return None
    return value >= goal.limit if goal.least else value <= goal.limit
