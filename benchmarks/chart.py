"""
The picture: horizontal bars, one group per figure, as SVG.
"""

from collections.abc import Sequence

from benchmarks.figures import BARE, NCHAN, OURS, Goal, Line
from rt_twisted.tools.svg import document, line, rectangle, text

_COLORS = {OURS: "#1b7f5c", NCHAN: "#c9822b", BARE: "#8a8f98"}
_WIDTH, _LEFT, _RIGHT = 900, 340, 110  # px; bars are between left and right
_BAR, _GAP = 13, 14  # px
_TOP = 64


def number(value: float) -> str:
    """
    Format a value with three significant digits, without an exponent.
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def svg(lines: Sequence[Line], caption: str) -> str:
    """
    Draw the figures that have a goal; the dashed marks are the goals.

    Args:
        lines: what was measured.
        caption: one line under the title.
    """
    title = "Side by side, medians; each group has its own scale; dashed: the goal for ours"
    parts = [
        text(12, 20, title, font_size=15, font_weight=600),
        text(12, 36, caption, fill="#666"),
    ]
    for i, (name, color) in enumerate(_COLORS.items()):
        parts.append(rectangle(_LEFT + 90 * i, 42, 10, 10, color))
        parts.append(text(_LEFT + 90 * i + 15, 51, name))
    top = _TOP
    for each in lines:
        if each.figure.goals:
            parts += _group(each, top)
            top += _BAR * len(each.values) + _GAP
    return document(_WIDTH, top, 11, parts)


def _group(measured: Line, top: int) -> list[str]:
    figure = measured.figure
    bounds = [bound for goal in figure.goals if (bound := _bound(goal, measured)) is not None]
    if figure.either:
        bounds = [max(bounds)]
    longest = max(measured.values.values())
    scale = (_WIDTH - _LEFT - _RIGHT) / longest if longest else 0.0
    middle = round(top + _BAR * len(measured.values) / 2 + 4)
    mark = {"yes": "reached", "no": "missed"}.get(measured.verdict(), "")
    bars = [
        text(_LEFT - 10, middle, measured.title, text_anchor="end"),
        text(_WIDTH - 12, middle, mark, text_anchor="end", fill="#666"),
    ]
    labels: list[str] = []
    halo = {"paint_order": "stroke", "stroke": "#fff", "stroke_width": 2}
    for i, (name, value) in enumerate(measured.values.items()):
        y, width = top + i * _BAR, max(value * scale, 1.0)
        bars.append(rectangle(_LEFT, y, width, _BAR - 2, _COLORS[name]))
        label = f"{number(value)} {figure.unit}"
        labels.append(text(_LEFT + width + 4, y + 9, label, font_size=10, **halo))
    dashes = {"stroke_width": 1.5, "stroke_dasharray": "3 2"}
    for bound in bounds:
        if bound <= longest:
            x = _LEFT + bound * scale
            bars.append(line((x, top - 4), (x, top + _BAR + 2), "#b3261e", **dashes))
    return bars + labels


def _bound(goal: Goal, measured: Line) -> float | None:
    """
    Return the place of the goal on the scale of the figure itself; None if it cannot be computed.
    """
    if not goal.of:
        return goal.limit
    other = measured.values.get(goal.of)
    return None if other is None else goal.limit * other
