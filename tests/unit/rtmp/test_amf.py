"""
AMF0 values, in both directions and hostile.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtmp import amf

BOTH_WAYS = [
    ("003ff8000000000000", 1.5),
    ("0101", True),
    ("0100", False),
    ("020003636174", "cat"),
    ("020003c3b674", "\u00f6t"),
    ("05", None),
    ("0300016102000162000009", {"a": "b"}),
    ("03000009", {}),
    ("0a000000020200046176303102000468766331", ["av01", "hvc1"]),
    ("03000161030001620100000009000009", {"a": {"b": False}}),
]
READ_ONLY = [
    ("06", None),
    ("0d", None),
    ("08000000020001610100000009", {"a": False}),
    ("0b42000000000000000000", 2.0**33),
    ("0c00000003636174", "cat"),
    ("0f000000033c613e", "<a>"),
    ("1000036361740001610101000009", {"a": True}),
]


@pytest.mark.parametrize(("wire", "value"), BOTH_WAYS)
def test_values_in_both_directions(wire: str, value: Any) -> None:
    """
    Each value has one form, and is read from it.
    """
    data = bytes.fromhex(wire)

    assert amf.encode(value) == data
    assert amf.decode(data) == [value]
    assert amf.decode(data + data) == [value, value]


@pytest.mark.parametrize(("wire", "value"), READ_ONLY)
def test_values_that_only_clients_send(wire: str, value: Any) -> None:
    """
    Arrays with names, dates, XML and typed objects are read, too.
    """
    assert amf.decode(bytes.fromhex(wire)) == [value]


def test_references() -> None:
    """
    A reference stands for an object or an array before it.
    """
    first = bytes.fromhex("030001610100000009")

    assert amf.decode(first + b"\x07\0\0") == [{"a": False}, {"a": False}]
    with pytest.raises(RemoteProtocolError):
        amf.decode(b"\x07\0\0")


def test_unknown_values_are_left_out() -> None:
    """
    A value of an unknown type ends the list; what precedes it in objects is kept.
    """
    assert amf.decode(b"\x05\x11\x04\x01") == [None]
    assert amf.decode(b"\x03\0\x01a\x02\0\x01b\0\x01c\x11\x01\0\0\x09") == [{"a": "b"}]
    nested = b"\x03\0\x01a\x0a\0\0\0\x02\x05\x11"
    assert amf.decode(nested) == [{"a": [None]}]


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\0\0\0\x01" * (amf.MAX_DEPTH + 2) + b"\x05",
        b"\x05" * (amf.MAX_VALUES + 1),
        b"\x0a\xff\xff\xff\xff" + b"\x05" * 100,
        b"\x02\xff\xffabc",
        b"\x0c\xff\xff\xff\xffabc",
        b"\x00\x00",
        b"\x03\x00",
        b"\x03\x00\x01a\x05",
    ],
)
def test_hostile_values_are_refused(data: bytes) -> None:
    """
    Depth, number and size of values are bounded.
    """
    with pytest.raises(RemoteProtocolError):
        amf.decode(data)


def test_long_texts() -> None:
    """
    A text over 64 KiB has another form.
    """
    text = "x" * 70_000

    assert amf.decode(amf.encode(text)) == [text]


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.lists(VALUES, max_size=4))
def test_what_is_written_is_read(values: list[Any]) -> None:
    """
    Any values come back as they were.
    """
    assert amf.decode(amf.encode(*values)) == values


@given(st.binary(max_size=300))
def test_no_input_raises_another_error(data: bytes) -> None:
    """
    Only the codecs' error is raised.
    """
    with contextlib.suppress(RemoteProtocolError):
        amf.decode(data)
