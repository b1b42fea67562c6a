"""
Simple pictures as SVG 1.1: rectangles, lines and texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

FONT = "font-family='system-ui, sans-serif'"

# XML 1.0, 2.2: the other control characters cannot occur in a document, not even escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def document(width: int, height: int, size: int, parts: Iterable[str]) -> str:
    """
    Return a whole SVG file with a white background.

    Args:
        width: in px.
        height: in px.
        size: of the font in px, where a text does not set its own.
        parts: elements, the last on top.
    """
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'"
        f" viewBox='0 0 {width} {height}' {FONT} font-size='{size}' fill='#222'>"
    )
    background = "<rect width='100%' height='100%' fill='#fff'/>"
    return "\n".join([head, background, *parts, "</svg>\n"])


def rectangle(x: float, y: float, width: float, height: float, color: str) -> str:
    """
    Return a filled rectangle.

    Args:
        x: its left side in px.
        y: its upper side in px.
        width: in px.
        height: in px.
        color: as in CSS.
    """
    return f"<rect {_attributes(x=x, y=y, width=width, height=height, fill=color)}/>"


def line(
    start: tuple[float, float], end: tuple[float, float], color: str, **attributes: object
) -> str:
    """
    Return a line.

    Args:
        start: x and y in px.
        end: x and y in px.
        color: as in CSS.
        attributes: further ones, with `_` for `-`.
    """
    (x1, y1), (x2, y2) = start, end
    return f"<line {_attributes(x1=x1, x2=x2, y1=y1, y2=y2, stroke=color, **attributes)}/>"


def text(x: float, y: float, content: str, **attributes: object) -> str:
    """
    Return a line of text; characters that XML forbids become U+FFFD.

    Args:
        x: where it begins, or ends with `text_anchor="end"`, in px.
        y: its baseline in px.
        content: any text.
        attributes: further ones, with `_` for `-`.
    """
    shown = escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", content), quote=False)
    return f"<text {_attributes(x=x, y=y, **attributes)}>{shown}</text>"


def _attributes(**attributes: object) -> str:
    return " ".join(
        f"{name.replace('_', '-')}='{_format(value)}'" for name, value in attributes.items()
    )


def _format(value: object) -> str:
    """
    Return an attribute's value; numbers have at most one decimal.
    """
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return escape(str(value))
