"""
Content codings of request bodies: the header `Content-Encoding` (RFC 9110, 8.4).
"""

from __future__ import annotations

import zlib
from collections.abc import Generator
from typing import cast

from rt_twisted.codecs.errors import RemoteProtocolError

ACCEPT_ENCODING = "gzip, deflate, identity"  # the header's value (RFC 9110, 12.5.3)
MAX_CODINGS = 2  # nested
MAX_MEMBERS = 100  # of one gzip file (RFC 1952, 2.2): each needs a decompressor
STEP = 65536  # bytes inflated at a time

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def read_codings(header: str) -> list[str]:
    """
    Parse the codings of a body, in the order in which they were applied.

    Args:
        header: the value of Content-Encoding; "" if there is none.

    Returns:
        `gzip` and `deflate`, without `identity`.

    Raises:
        RemoteProtocolError: 415, another coding or more than MAX_CODINGS. Respond
            with the header `Accept-Encoding: {ACCEPT_ENCODING}`.
    """
    codings = [word.strip().lower().removeprefix("x-") for word in header.split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    for coding in codings:
        if coding not in ("gzip", "deflate"):
            raise RemoteProtocolError(f"the content coding {coding[:40]!r} is not known", 415)
    if len(codings) > MAX_CODINGS:
        raise RemoteProtocolError(f"more than {MAX_CODINGS} content codings", 415)
    return codings


def decode(codings: list[str], body: bytes, max_size: int) -> bytes:
    """
    Decode *body* at once, as `decode_in_steps` does.
    """
    steps = decode_in_steps(codings, body, max_size)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return cast(bytes, end.value)


def decode_in_steps(codings: list[str], body: bytes, max_size: int) -> Generator[int, None, bytes]:
    """
    Decode *body*, the last coding first.

    Args:
        codings: from `read_codings`.
        body: as received.
        max_size: bytes of the result, and of each intermediate result.

    Yields:
        the bytes that a step has read or decompressed, whichever are more, up to STEP; the next
        one can wait.

    Returns:
        the decoded body.

    Raises:
        RemoteProtocolError: 400, the body is malformed or truncated; 413, the result is
            larger than *max_size*.
    """
    for coding in reversed(codings):
        if coding == "gzip":
            body = yield from _gunzip(body, max_size)
        else:
            # The zlib format (RFC 9110, 8.4.1.2); some clients send it without its header.
            is_zlib = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
            window = _ZLIB if is_zlib else _RAW
            body, rest = yield from _inflate(memoryview(body), window, max_size)
            if rest:
                raise _malformed()
    return body


def _gunzip(body: bytes, max_size: int) -> Generator[int, None, bytes]:
    pieces: list[bytes] = []
    left = memoryview(body)
    for _ in range(MAX_MEMBERS):
        piece, left = yield from _inflate(left, _GZIP, max_size)
        pieces.append(piece)
        max_size -= len(piece)
        if not left:
            return b"".join(pieces)
    raise RemoteProtocolError(f"more than {MAX_MEMBERS} gzip members in the body")


def _inflate(
    body: memoryview, window: int, max_size: int
) -> Generator[int, None, tuple[bytes, memoryview]]:
    """
    Decompress one stream at the start of *body*.

    Returns:
        its content, and the bytes after its end.
    """
    inflater = zlib.decompressobj(window)
    inflated = bytearray()
    at = 0
    rest: bytes | memoryview = b""
    while not inflater.eof:
        if not rest:  # in parts, as zlib copies what it leaves
            rest = body[at : at + STEP]
            at += len(rest)
        is_all = not rest
        try:
            piece = inflater.decompress(rest, STEP)
        except zlib.error:
            raise _malformed() from None
        read = len(rest)
        rest = inflater.unconsumed_tail
        read -= len(rest) + len(inflater.unused_data)
        inflated += piece
        if len(inflated) > max_size:
            raise RemoteProtocolError(f"the decoded body is larger than {max_size} bytes", 413)
        if is_all and not piece and not inflater.eof:
            raise _malformed()
        yield max(len(piece), read)
    return bytes(inflated), body[at - len(inflater.unused_data) :]


def _malformed() -> RemoteProtocolError:
    return RemoteProtocolError("the body is not what Content-Encoding says")
