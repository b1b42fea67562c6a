"""
Histogram of latencies, as text and as PNG.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rt_twisted.tools.load.latencies import Latencies
from rt_twisted.tools.load.png import Canvas, Color, text_width

ROWS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)  # where the rows in a terminal end, per power of ten
TICKS = (1.0, 2.0, 5.0)  # labels of the picture's axis
BARS = 60  # of the picture

WIDTH, HEIGHT = 1000, 560
LEFT, RIGHT, TOP, BOTTOM = 100, 40, 150, 80  # around the bars
INK: Color = (34, 38, 46)
FAINT: Color = (120, 126, 136)
GRID: Color = (228, 231, 235)
BAR: Color = (27, 127, 92)
MARK: Color = (201, 98, 32)
PAPER: Color = (255, 255, 255)


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


def png_histogram(latencies: Latencies, title: str, subtitle: str) -> bytes:
    """
    Draw bars over a logarithmic time axis, with the percentiles marked, as PNG.

    Args:
        latencies: to be drawn.
        title: one line of ASCII.
        subtitle: one more line.
    """
    canvas = Canvas(WIDTH, HEIGHT, PAPER)
    canvas.text(LEFT, 26, title, INK, 3)
    canvas.text(LEFT, 60, subtitle, FAINT, 2)
    if not latencies.count:
        canvas.text(WIDTH // 2, HEIGHT // 2, "nothing was delivered", MARK, 3, 0.5)
        return canvas.encode()
    ticks = _edges(latencies, TICKS)
    low, high = math.log(ticks[0]), math.log(ticks[-1])
    edges = [math.exp(low + (high - low) * (i + 1) / BARS) for i in range(BARS)]
    bars = latencies.bars(edges)
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    bottom = HEIGHT - BOTTOM

    def x(seconds: float) -> int:
        place = (math.log(max(seconds, ticks[0])) - low) / (high - low)
        return LEFT + round(min(place, 1.0) * across)

    step = _step(max(bars))
    top = math.ceil(max(bars) / step) * step
    for level in range(0, top + 1, step):
        y = bottom - round(level / top * up)
        canvas.fill(LEFT, y, across, 1, GRID)
        canvas.text(LEFT - 12, y - 7, f"{level:,}", FAINT, 2, 1.0)
    free = 0
    for tick in ticks:
        canvas.fill(x(tick), bottom, 2, 8, FAINT)
        text = duration(tick)
        if x(tick) - text_width(text, 2) // 2 > free:
            canvas.text(x(tick), bottom + 16, text, FAINT, 2, 0.5)
            free = x(tick) + text_width(text, 2) // 2 + 12
    canvas.text(LEFT + across // 2, bottom + 46, "from publishing to arrival", INK, 2, 0.5)
    for number, bar in enumerate(bars):
        left = LEFT + round(number * across / BARS)
        right = LEFT + round((number + 1) * across / BARS)
        tall = max(round(bar / top * up), 2) if bar else 0
        canvas.fill(left + 1, bottom - tall, right - left - 2, tall, BAR)
    canvas.fill(LEFT, bottom, across, 2, INK)
    _mark(canvas, latencies, x, bottom)
    return canvas.encode()


def _mark(canvas: Canvas, latencies: Latencies, x: Callable[[float], int], bottom: int) -> None:
    marks = [(f"p{part * 100:g}", latencies.percentile(part)) for part in (0.5, 0.9, 0.99)]
    marks.append(("max", latencies.max))
    for line, (_, value) in enumerate(marks):
        for dash in range(TOP - 48 + line * 16, bottom, 8):
            canvas.fill(x(value), dash, 2, 4, MARK)
    # Over all the dashes, each on a line of its own, as they may lie close together.
    for line, (name, value) in enumerate(marks):
        text = f"{name} {duration(value)}"
        wide = text_width(text, 2)
        left = min(x(value) - 4, WIDTH - wide - 8)
        top = TOP - 64 + line * 16
        canvas.fill(left - 4, top - 1, wide + 8, 16, PAPER)
        canvas.text(left, top, text, MARK, 2)


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
