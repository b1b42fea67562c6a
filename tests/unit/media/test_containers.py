"""
Tests of `rt_twisted.media.containers`.
"""

from __future__ import annotations

import pytest

from rt_twisted.media.containers import START_BYTES, find_reader, may_be_container
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.mp4_reader import Mp4Reader

EBML = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81"
FTYP = b"\0\0\0\x1cftyp"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (EBML, MatroskaReader),
        (FTYP, Mp4Reader),
        (b"\0\0\0\x1cmoov", None),
        (b'{"a": 1}', None),
        (b"ftyp", None),
        (b"", None),
    ],
)
def test_a_container_is_recognized_by_its_first_bytes(start: bytes, kind: type | None) -> None:
    """
    Any other stream has no reader.
    """
    reader = find_reader(start, "", float)

    assert (None if reader is None else type(reader)) is kind


@pytest.mark.parametrize("start", [EBML, FTYP])
def test_a_few_bytes_do_not_decide(start: bytes) -> None:
    """
    Every beginning of a container may become one.
    """
    assert all(may_be_container(start[:size]) for size in range(START_BYTES + 1))


@pytest.mark.parametrize("start", [b"h", b"\x1a\x45\xde", b"\0\1", b"\0\0\0\x1cfo"])
def test_other_bytes_decide_at_once(start: bytes) -> None:
    """
    A short message is not held back.
    """
    assert not may_be_container(start)
