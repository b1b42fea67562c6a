"""
Histogram of latencies, as text and as SVG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rt_twisted.tools.load.latencies import Latencies
from rt_twisted.tools.svg import document, line, rectangle, text

ROWS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)  # where the rows in a terminal end, per power of ten
TICKS = (1.0, 2.0, 5.0)  # labels of the picture's axis
BARS = 60  # of the picture

WIDTH, HEIGHT = 1000, 560  # px
LEFT, RIGHT, TOP, BOTTOM = 120, 40, 150, 80  # px around the bars
FONT_SIZE = 14  # px
CHARACTER = 9  # px, more than the average width of a character at this size
INK, FAINT, GRID, BAR, MARK = "#222", "#787e88", "#e4e7eb", "#1b7f5c", "#c96220"


def duration(seconds: float) -> str:
    """
    Format a duration with two or three significant digits.
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    raise AssertionError("every duration has a unit")


def text_histogram(latencies: Latencies, width: int = 80) -> str:
    """
    Draw a row for each range of durations; "" if there are none.

    Args:
        latencies: to be drawn.
        width: columns of the terminal.
    """
    if not latencies.count:
        return ""
    edges = _edges(latencies, ROWS)
    bars = latencies.bars(edges)
    first = next(i for i, bar in enumerate(bars) if bar)
    last = max(i for i, bar in enumerate(bars) if bar)
    room = max(width - 26, 10)
    lines = []
    for edge, bar in zip(edges[first : last + 1], bars[first : last + 1], strict=True):
        # The shortest bar is an eighth of a block: a count above 0 is always visible.
        eighths = max(round(bar / max(bars) * room * 8), 1) if bar else 0
        drawn = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        lines.append(f"  ≤ {duration(edge):>7} {bar:>11,}  {drawn}".rstrip())
    return "\n".join(lines) + "\n"


def svg_histogram(latencies: Latencies, title: str, subtitle: str) -> str:
    """
    Draw bars over a logarithmic time axis, with the percentiles marked, as SVG.

    Args:
        latencies: to be drawn.
        title: one line.
        subtitle: one more line.
    """
    parts = [
        text(LEFT, 42, title, font_size=22, font_weight=600),
        text(LEFT, 68, subtitle, fill=FAINT),
    ]
    if not latencies.count:
        note = "nothing was delivered"
        parts.append(text(WIDTH / 2, HEIGHT / 2, note, fill=MARK, text_anchor="middle"))
        return document(WIDTH, HEIGHT, FONT_SIZE, parts)
    ticks = _edges(latencies, TICKS)
    low, high = math.log(ticks[0]), math.log(ticks[-1])
    across, bottom = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM

    def x(seconds: float) -> float:
        place = (math.log(max(seconds, ticks[0])) - low) / (high - low)
        return LEFT + min(place, 1.0) * across

    bars = latencies.bars([math.exp(low + (high - low) * (i + 1) / BARS) for i in range(BARS)])
    parts += _levels(bars)
    parts.append(rectangle(LEFT, bottom, across, 2, INK))
    parts += _time_axis(ticks, x)
    parts += _marks(latencies, x)
    return document(WIDTH, HEIGHT, FONT_SIZE, parts)


def _levels(bars: Sequence[int]) -> list[str]:
    """
    Return the grid with its labels, and the bars.
    """
    across, up, bottom = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM
    step = _step(max(bars))
    top = math.ceil(max(bars) / step) * step
    parts = []
    for level in range(0, top + 1, step):
        y = bottom - level / top * up
        parts.append(rectangle(LEFT, y, across, 1, GRID))
        parts.append(text(LEFT - 10, y + 5, f"{level:,}", fill=FAINT, text_anchor="end"))
    width = across / BARS
    for number, bar in enumerate(bars):
        if bar:
            tall = max(bar / top * up, 2.0)
            left = LEFT + number * width + 1
            parts.append(rectangle(left, bottom - tall, width - 2, tall, BAR))
    return parts


def _time_axis(ticks: Sequence[float], x: Callable[[float], float]) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    free = 0.0  # where the next label may begin
    for tick in ticks:
        parts.append(rectangle(x(tick), bottom, 2, 8, FAINT))
        label = duration(tick)
        half = len(label) * CHARACTER / 2
        if x(tick) - half > free:
            parts.append(text(x(tick), bottom + 26, label, fill=FAINT, text_anchor="middle"))
            free = x(tick) + half + 12
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, bottom + 56, "from publishing to arrival", text_anchor="middle"))
    return parts


def _marks(latencies: Latencies, x: Callable[[float], float]) -> list[str]:
    """
    Return a dashed line for each percentile, each label on a line of its own.
    """
    marks = [(f"p{part * 100:g}", latencies.percentile(part)) for part in (0.5, 0.9, 0.99)]
    marks.append(("max", latencies.max))
    dashes: list[str] = []
    labels: list[str] = []
    halo = {"paint_order": "stroke", "stroke": "#fff", "stroke_width": 4}
    for row, (name, value) in enumerate(marks):
        place, y = x(value), TOP - 52 + row * 16
        end = (place, HEIGHT - BOTTOM)
        dashes.append(line((place, y + 4), end, MARK, stroke_width=1.5, stroke_dasharray="4 4"))
        label = f"{name} {duration(value)}"
        fits = place + len(label) * CHARACTER < WIDTH
        left, anchor = (place - 4, "start") if fits else (WIDTH - 8, "end")
        labels.append(text(left, y, label, fill=MARK, text_anchor=anchor, **halo))
    return dashes + labels


def _edges(latencies: Latencies, steps: tuple[float, ...]) -> list[float]:
    """
    Return round durations from below the shortest to above the longest; two at least.
    """
    shortest, most = latencies.min(), latencies.max
    first = math.floor(math.log10(max(shortest, 1e-6)))
    last = math.floor(math.log10(max(most, 1e-6))) + 1
    edges = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    below = max((i for i, edge in enumerate(edges) if edge <= shortest), default=0)
    above = next(i for i, edge in enumerate(edges) if edge >= most and i > below)
    return edges[below : above + 1]


def _step(highest: int) -> int:
    """
    Return the distance of four to ten round numbers up to *highest*.
    """
    power: int = 10 ** max(len(str(highest)) - 2, 0)
    return next(step for step in (power, 2 * power, 5 * power, 10 * power, 20 * power)
                if highest / step <= 6)  # fmt: skip
