"""
Files in forms, however the body is cut.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.form_files import FilePart, FormFiles

TYPE = 'multipart/form-data; boundary="xyz"'
FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="token"\r\n\r\nsecret\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a b.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\none\r\ntwo\r\n"
    b'--xyz\r\nContent-Disposition: form-data; name="none"; filename=""\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n\r\n"
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa9"\r\n\r\n\r\n'
    b"--xyz--\r\n"
)


def files(form: FormFiles, pieces: list[bytes]) -> list[tuple[FilePart, bytes]]:
    """
    Return the files in a body.
    """
    found: list[tuple[FilePart, bytes]] = []
    for piece in pieces:
        for thing in form.feed(piece):
            if isinstance(thing, FilePart):
                found.append((thing, b""))
            else:
                found[-1] = found[-1][0], found[-1][1] + thing
    form.end()
    return found


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_files_are_found(step: int) -> None:
    """
    Fields, and inputs for which no file was chosen, are skipped.
    """
    pieces = [FORM[at : at + step] for at in range(0, len(FORM), step)]

    assert files(FormFiles(TYPE), pieces) == [
        (FilePart("a b.txt", "text/plain"), b"one\r\ntwo"),
        (FilePart("é", ""), b""),
    ]


def test_a_form_that_is_cut_off_is_refused() -> None:
    """
    The last boundary is missing.
    """
    form = FormFiles(TYPE)
    form.feed(FORM[:-10])
    with pytest.raises(RemoteProtocolError):
        form.end()


@pytest.mark.parametrize("type", ["", "multipart/form-data", "multipart/form-data; boundary="])
def test_a_boundary_is_needed(type: str) -> None:
    """
    The client gets 400.
    """
    with pytest.raises(RemoteProtocolError):
        FormFiles(type)


@given(st.lists(st.binary(min_size=1, max_size=60) | st.sampled_from([FORM, FORM[:150], b"--xyz"])))
def test_any_body_is_read_or_refused(pieces: list[bytes]) -> None:
    """
    No body raises another error.
    """
    with suppress(RemoteProtocolError):
        files(FormFiles(TYPE), pieces)
