"""
The picture: horizontal bars, one group a figure, as SVG without any library.
"""

from collections.abc import Sequence
from html import escape

from benchmarks.figures import BARE, NCHAN, OURS, Goal, Line

_COLORS = {OURS: "#1b7f5c", NCHAN: "#c9822b", BARE: "#8a8f98"}
_WIDTH, _LEFT, _RIGHT = 900, 340, 110  # px; bars are between left and right
_BAR, _GAP = 13, 14  # px
_TOP = 64


def number(value: float) -> str:
    """
    Three digits that count, without an exponent.
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
    parts: list[str] = []
    top = _TOP
    for line in lines:
        if line.figure.goals:
            parts += _group(line, top)
            top += _BAR * len(line.values) + _GAP
    style = "font-family='system-ui, sans-serif' font-size='11'"
    legend = "".join(
        f"<rect x='{_LEFT + 90 * i}' y='42' width='10' height='10' fill='{color}'/>"
        f"<text x='{_LEFT + 90 * i + 15}' y='51'>{name}</text>"
        for i, (name, color) in enumerate(_COLORS.items())
    )
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{top}'"
            f" viewBox='0 0 {_WIDTH} {top}' {style} fill='#222'>",
            "<rect width='100%' height='100%' fill='#fff'/>",
            "<text x='12' y='20' font-size='15' font-weight='600'>Side by side, "
            "medians; each group has its own scale; dashed: the goal for ours</text>",
            f"<text x='12' y='36' fill='#666'>{escape(caption)}</text>",
            legend,
            *parts,
            "</svg>\n",
        ]
    )


def _group(line: Line, top: int) -> list[str]:
    bounds = [bound for goal in line.figure.goals if (bound := _bound(goal, line)) is not None]
    if line.figure.either:
        bounds = [max(bounds)]
    longest = max(line.values.values())
    scale = (_WIDTH - _LEFT - _RIGHT) / longest if longest else 0.0
    height = _BAR * len(line.values)
    middle = top + height / 2 + 4
    mark = {"yes": "reached", "no": "missed"}.get(line.verdict(), "")
    parts = [
        f"<text x='{_LEFT - 10}' y='{middle:.0f}' text-anchor='end'>{escape(line.title)}</text>",
        f"<text x='{_WIDTH - 12}' y='{middle:.0f}' text-anchor='end' fill='#666'>{mark}</text>",
    ]
    texts: list[str] = []
    for i, (name, value) in enumerate(line.values.items()):
        y, width = top + i * _BAR, max(value * scale, 1)
        parts.append(
            f"<rect x='{_LEFT}' y='{y}' width='{width:.1f}' height='{_BAR - 2}'"
            f" fill='{_COLORS[name]}'/>"
        )
        texts.append(
            f"<text x='{_LEFT + width + 4:.1f}' y='{y + 9}' font-size='10'"
            " paint-order='stroke' stroke='#fff' stroke-width='2'>"
            f"{number(value)} {line.figure.unit}</text>"
        )
    for bound in bounds:
        if bound <= longest:
            x = _LEFT + bound * scale
            parts.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top - 4}' y2='{top + _BAR + 2}'"
                " stroke='#b3261e' stroke-width='1.5' stroke-dasharray='3 2'/>"
            )
    return parts + texts


def _bound(goal: Goal, line: Line) -> float | None:
    """
    Where the goal is on the scale of the figure itself.
    """
    if not goal.of:
        return goal.limit
    other = line.values.get(goal.of)
    return None if other is None else goal.limit * other
