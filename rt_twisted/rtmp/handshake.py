"""
The handshake of RTMP: the simple one (RTMP 1.0, 5.2), and the one with digests, by which
clients since Flash Player 9 and ffmpeg prove their version.
"""

from __future__ import annotations

import hmac

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtmp.start import VERSION

SIZE = 1536  # bytes of C1, C2, S1 and S2

_DIGEST = 32
_BLOCK = 764  # bytes of the block with the digest, and of the one with a key
_SERVER_VERSION = b"\x04\x05\x00\x01"
_SUFFIX = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_CLIENT_KEY = b"Genuine Adobe Flash Player 001"
_SERVER_KEY = b"Genuine Adobe Flash Media Server 001"


class ServerHandshake:
    """
    The server's side of one handshake.

    Args:
        random: SIZE random bytes.

    Attributes:
        rest: what the client has sent behind the handshake; None until it is complete.
    """

    def __init__(self, random: bytes) -> None:
        self._random = random
        self._buffer = b""
        self._answered = False
        self.rest: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """
        Read the next bytes, and return what is to be sent.

        Raises:
            RemoteProtocolError: the client has another version of the protocol.
        """
        self._buffer += data
        reply = b""
        if self._buffer[:1] not in (b"", VERSION):
            raise RemoteProtocolError("RTMP: the version of the protocol is not 3")
        if not self._answered and len(self._buffer) > SIZE:
            reply = VERSION + _reply(self._buffer[1 : SIZE + 1], self._random)
            self._answered = True
        # C2 should repeat S1. Some clients send anything.
        if len(self._buffer) > 2 * SIZE:
            self.rest = self._buffer[2 * SIZE + 1 :]
            self._buffer = b""
        return reply


def _reply(hello: bytes, random: bytes) -> bytes:
    """
    Return S1 and S2 for the C1 *hello*.
    """
    base = next((base for base in (_BLOCK + 8, 8) if _has_digest(hello, base)), None)
    if base is None:
        return bytes(8) + random[8:] + hello
    own = bytes(4) + _SERVER_VERSION + random[8:]
    at = _digest_at(own, base)
    before, behind = own[:at], own[at + _DIGEST :]
    own = before + _hash(_SERVER_KEY, before + behind) + behind
    at = _digest_at(hello, base)
    key = _hash(_SERVER_KEY + _SUFFIX, hello[at : at + _DIGEST])
    echo = random[_DIGEST:]
    return own + echo + _hash(key, echo)


def _digest_at(hello: bytes, base: int) -> int:
    """
    Return where the digest is in a block that begins at *base* with four bytes for its offset.
    """
    return base + 4 + sum(hello[base : base + 4]) % (_BLOCK - 4 - _DIGEST)


def _has_digest(hello: bytes, base: int) -> bool:
    at = _digest_at(hello, base)
    found = hello[at : at + _DIGEST]
    return hmac.compare_digest(found, _hash(_CLIENT_KEY, hello[:at] + hello[at + _DIGEST :]))


def _hash(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
