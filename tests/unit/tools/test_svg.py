"""
Pictures are well-formed XML, whatever text is in them.
"""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.tools.svg import document, line, rectangle, text

SVG = "{http://www.w3.org/2000/svg}"


def test_elements_have_the_given_attributes() -> None:
    """
    Numbers have at most one decimal, `_` in a name stands for `-`.
    """
    parts = [
        rectangle(1, 2.0, 3.25, 4, "#fff"),
        line((1, 2), (3, 4.04), "red", stroke_dasharray="3 2"),
        text(5, 6, "a < b", text_anchor="end"),
    ]
    root = ElementTree.fromstring(document(100, 50, 11, parts))

    assert (root.tag, root.get("viewBox"), root.get("font-size")) == (
        SVG + "svg",
        "0 0 100 50",
        "11",
    )
    _, drawn, dashes, words = root
    assert drawn.attrib == {"x": "1", "y": "2", "width": "3.2", "height": "4", "fill": "#fff"}
    assert dashes.attrib == {
        "x1": "1", "x2": "3", "y1": "2", "y2": "4", "stroke": "red", "stroke-dasharray": "3 2",
    }  # fmt: skip
    assert (words.tag, words.get("text-anchor"), words.text) == (SVG + "text", "end", "a < b")


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_drawn(content: str) -> None:
    """
    Characters that XML forbids become U+FFFD; all others are kept.
    """
    root = ElementTree.fromstring(document(9, 9, 9, [text(0, 0, content)]).encode())

    shown = root[-1].text or ""
    assert len(shown) == len(content.replace("\r\n", "\n"))
    for before, after in zip(content.replace("\r\n", "\n"), shown, strict=True):
        assert after in (before, "\N{REPLACEMENT CHARACTER}", "\n")
