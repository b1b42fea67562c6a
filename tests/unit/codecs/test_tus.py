"""
The headers of tus.
"""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.tus import (
    MAX_LENGTH,
    UploadChecksum,
    read_checksum,
    read_metadata,
    read_number,
)

FIELDS = st.dictionaries(st.from_regex(r"[a-z!+~]{1,9}", fullmatch=True), st.text(max_size=9))


@pytest.mark.parametrize("text", ["0", "7", "007", str(MAX_LENGTH)])
def test_a_number_is_read(text: str) -> None:
    """
    From nothing to the largest file.
    """
    assert read_number("Upload-Length", text) == int(text)


@pytest.mark.parametrize(
    "text", [None, "", "-1", "+1", "1.5", "1e3", " 1", "\xb2", str(MAX_LENGTH + 1), "9" * 5000]
)
def test_another_number_is_refused(text: str | None) -> None:
    """
    The client gets 400, with the name of the header.
    """
    with pytest.raises(RemoteProtocolError, match="Upload-Length") as caught:
        read_number("Upload-Length", text)
    assert caught.value.status == 400


def test_metadata_are_read() -> None:
    """
    Values are Base64, and may be missing; bytes that are not UTF-8 are replaced.
    """
    assert read_metadata(None) == read_metadata("") == {}
    given = "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==, is_confidential,x /w=="
    assert read_metadata(given) == {
        "filename": "world_domination_plan.pdf",
        "is_confidential": "",
        "x": "\ufffd",
    }


@pytest.mark.parametrize(
    "text", ["a eA==,a eA==", "a eA", "a e\xe9==", ",", "a,,b", "\xe9 eA==", "," * 101]
)
def test_malformed_metadata_are_refused(text: str) -> None:
    """
    The client gets 400.
    """
    with pytest.raises(RemoteProtocolError, match="Upload-Metadata"):
        read_metadata(text)


@given(FIELDS)
def test_all_metadata_arrive(fields: dict[str, str]) -> None:
    """
    What a client encodes is what is read.
    """
    pairs = [f"{key} {b64encode(text.encode()).decode()}" for key, text in fields.items()]
    assert read_metadata(",".join(pairs)) == fields


def test_a_checksum_is_read() -> None:
    """
    The example of the protocol.
    """
    found = read_checksum("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")
    assert found == UploadChecksum(
        "sha1", bytes.fromhex("2aae6c35c94fcfb415dbe95f408b9ce91ee846ed")
    )


@pytest.mark.parametrize("text", ["", "sha1 x", "crc32 AAAA", "shake_128 AAAA", "sha1 \xe9"])
def test_another_checksum_is_refused(text: str) -> None:
    """
    Only algorithms that the server names are used.
    """
    with pytest.raises(RemoteProtocolError):
        read_checksum(text)


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=200))
def test_any_header_is_read_or_refused(text: str) -> None:
    """
    No value raises another error.
    """
    for read in (read_metadata, read_checksum, lambda value: read_number("x", value)):
        with suppress(RemoteProtocolError):
            read(text)
