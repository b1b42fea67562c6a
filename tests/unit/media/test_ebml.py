"""
EBML elements, however the stream is split.
"""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.ebml import (
    MAX_DEPTH,
    MAX_SKIPPED,
    ElementReader,
    children,
    element,
    read_number,
    text,
    unsigned,
    unsigned_element,
)

ROOT = 0x1A45DFA3
BOX = 0x18538067
LEAF = 0xA3
OTHER = 0x4DBB


def reader() -> ElementReader:
    return ElementReader({BOX: {ROOT, BOX}}, {ROOT: 100, LEAF: 1000})


def test_elements_in_order() -> None:
    """
    Masters come before their contents; unknown elements are skipped.
    """
    inner = element(OTHER, b"x" * 300) + element(LEAF, b"one") + element(LEAF, b"")
    data = element(ROOT, b"head") + element(BOX, inner) + element(ROOT, b"again")

    assert reader().feed(data) == [
        (ROOT, b"head"),
        (BOX, b""),
        (LEAF, b"one"),
        (LEAF, b""),
        (ROOT, b"again"),
    ]


@pytest.mark.parametrize("size", [b"\xff", b"\x7f\xff", b"\x1f\xff\xff\xff", b"\x01" + b"\xff" * 7])
def test_all_ones_at_any_length_is_an_unknown_size(size: bytes) -> None:
    """
    One byte FF is unknown too, not 127. The master ends where an element begins that
    cannot be in it.
    """
    data = BOX.to_bytes(4) + size + element(LEAF, b"x" * 200)

    assert reader().feed(data + data + element(ROOT, b"")) == [
        (BOX, b""),
        (LEAF, b"x" * 200),
        (BOX, b""),
        (LEAF, b"x" * 200),
        (ROOT, b""),
    ]


@given(st.lists(st.integers(0, 400), max_size=20))
def test_any_split_gives_the_same_elements(cuts: list[int]) -> None:
    """
    Nothing depends on how the stream arrives.
    """
    data = element(ROOT, b"head") + BOX.to_bytes(4) + b"\xff" + element(LEAF, b"x" * 150)
    data += element(OTHER, b"y" * 130) + unsigned_element(LEAF, 7)
    whole = reader().feed(data)
    split = reader()
    found = []
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    for start, end in itertools.pairwise(places):
        found += split.feed(data[start:end])

    assert found == whole


def nested(levels: int) -> bytes:
    return (BOX.to_bytes(4) + b"\xff") * levels


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00", "an element ID has more than four bytes"),
        (b"\x08" + b"\xff" * 9, "an element ID has more than four bytes"),
        (b"\xa3\x00", "a number has more than eight bytes"),
        (b"\xa3\xff", "the size of element A3 is unknown"),
        (element(LEAF, bytes(1001)), "element A3 is larger than 1000 bytes"),
        (b"\xa3\x08\x80\x00\x00\x00", "element A3 is larger than 1000 bytes"),
        (element(OTHER, b""), "element 4DBB cannot stand by itself"),
        (b"GET / HTTP/1.1\r\n\r\n", "element 4745 cannot stand by itself"),
        (b"\xec\x01" + b"\x7f" * 7, f"element EC is larger than {MAX_SKIPPED} bytes"),
        (element(BOX, b"\xa3\x85only"), "element A3 is larger than its master"),
        (element(BOX, element(BOX, b"abc")[:-1]), "element 18538067 is larger than its master"),
    ],
)
def test_malformed_streams(data: bytes, reason: str) -> None:
    """
    Each bound and each rule has its own sentence, as soon as the bytes show it.
    """
    with pytest.raises(RemoteProtocolError, match=f"EBML: {reason}"):
        reader().feed(data)


def test_the_bound_of_levels() -> None:
    """
    Eight levels are read, a ninth is refused.
    """
    deep = ElementReader({BOX: frozenset()}, {})
    assert len(deep.feed(nested(MAX_DEPTH))) == MAX_DEPTH
    with pytest.raises(RemoteProtocolError, match="more than 8 levels"):
        deep.feed(nested(1))


@given(st.binary(max_size=200))
def test_no_input_raises_another_error(data: bytes) -> None:
    """
    Only the codecs' error is raised, whole and byte by byte, and at the same place.
    """
    outcomes = []
    for size in (1, len(data) or 1):
        one = reader()
        found: list[tuple[int, bytes]] = []
        try:
            for start in range(0, len(data), size):
                found += one.feed(data[start : start + size])
        except RemoteProtocolError as error:
            outcomes.append((error.reason, len(found) if size == 1 else None))
        else:
            outcomes.append(("", None))
    assert outcomes[0][0] == outcomes[1][0]
    for parse in (children, text, unsigned):
        with contextlib.suppress(RemoteProtocolError):
            parse(data)


@given(st.integers(0, 2**56 - 2))
def test_numbers(value: int) -> None:
    """
    A number is read as it was written; a truncated one is incomplete.
    """
    length = 1
    while value >= (1 << 7 * length) - 1:
        length += 1
    coded = (value | 1 << 7 * length).to_bytes(length)

    assert read_number(b"x" + coded, 1) == (value, 1 + length)
    assert read_number(coded[:-1], 0) is None


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 16382, 16383, 70000])
def test_written_elements_are_read(size: int) -> None:
    """
    The size is never written as all ones, which would be unknown.
    """
    assert children(element(LEAF, bytes(size)) + element(ROOT, b"x")) == [
        (LEAF, bytes(size)),
        (ROOT, b"x"),
    ]


def test_values() -> None:
    """
    Strings may be padded with NUL bytes; integers have up to eight bytes.
    """
    assert text(b"V_VP8\0\0") == "V_VP8"
    assert text(b"\xff") == "\N{REPLACEMENT CHARACTER}"
    assert unsigned(b"") == 0
    assert unsigned(b"\x01\x00") == 256
    with pytest.raises(RemoteProtocolError):
        unsigned(bytes(9))
