"""
The headers of tus 1.0, the protocol for uploads that are resumed.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
ALGORITHMS = ("md5", "sha1", "sha256", "sha512")
BODY_TYPE = "application/offset+octet-stream"  # of PATCH, and of POST with the first bytes
CHECKSUM_MISMATCH = 460
MAX_LENGTH = 2**63 - 1  # bytes of an upload: the largest file of Linux
MAX_FIELDS = 100  # of Upload-Metadata
# Headers that pages of other origins send, and those that they read.
REQUEST_HEADERS = (
    "Tus-Resumable", "Upload-Checksum", "Upload-Defer-Length", "Upload-Length", "Upload-Metadata",
    "Upload-Offset", "X-HTTP-Method-Override",
)  # fmt: skip
RESPONSE_HEADERS = (
    "Location", "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable",
    "Tus-Version", "Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset",
)  # fmt: skip

_NUMBER = re.compile(r"[0-9]{1,19}")
_KEY = re.compile(r"[!-+\--~]{1,200}")  # visible ASCII without a comma


@dataclass(frozen=True, slots=True)
class UploadChecksum:
    """
    What `Upload-Checksum` says about a body.

    Args:
        algorithm: one of ALGORITHMS, as hashlib names it.
        digest: of the body.
    """

    algorithm: str
    digest: bytes


def read_number(name: str, value: str | None) -> int:
    """
    Return the number of bytes in the header *name*, from 0 to MAX_LENGTH.

    Raises:
        RemoteProtocolError: the header is missing, is no number, or is out of range.
    """
    if value is None:
        raise RemoteProtocolError(f"{name} is missing")
    if _NUMBER.fullmatch(value) and int(value) <= MAX_LENGTH:
        return int(value)
    raise RemoteProtocolError(f"{name} must be a number from 0 to {MAX_LENGTH}")


def read_metadata(value: str | None) -> dict[str, str]:
    """
    Return the fields of `Upload-Metadata`; bytes that are not UTF-8 are replaced.

    Raises:
        RemoteProtocolError: the header is malformed, has a field twice, or more than MAX_FIELDS.
    """
    fields: dict[str, str] = {}
    if value is None or not value.strip():
        return fields
    pairs = value.split(",", MAX_FIELDS)
    if len(pairs) > MAX_FIELDS:
        raise RemoteProtocolError(f"Upload-Metadata has more than {MAX_FIELDS} fields")
    for pair in pairs:
        key, _, encoded = pair.strip(" ").partition(" ")
        if not _KEY.fullmatch(key) or key in fields:
            raise RemoteProtocolError("Upload-Metadata must have fields of different names")
        fields[key] = _from_base64("Upload-Metadata", encoded).decode(errors="replace")
    return fields


def read_checksum(value: str) -> UploadChecksum:
    """
    Return what the header `Upload-Checksum` says.

    Raises:
        RemoteProtocolError: the algorithm is not one of ALGORITHMS, or the header is malformed.
    """
    algorithm, _, encoded = value.strip(" ").partition(" ")
    if algorithm not in ALGORITHMS:
        raise RemoteProtocolError(f"Upload-Checksum must use one of {', '.join(ALGORITHMS)}")
    return UploadChecksum(algorithm, _from_base64("Upload-Checksum", encoded))


def _from_base64(name: str, text: str) -> bytes:
    try:
        return b64decode(text.strip(" "), validate=True)
    except (binascii.Error, ValueError):
        raise RemoteProtocolError(f"{name} has a value that is not Base64") from None
