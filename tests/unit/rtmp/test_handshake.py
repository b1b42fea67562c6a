"""
Both forms of the handshake.
"""

from __future__ import annotations

import hmac
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtmp.handshake import SIZE, ServerHandshake

RANDOM = Random(1).randbytes(SIZE)
HELLO = bytes(8) + Random(2).randbytes(SIZE - 8)
CLIENT_KEY = b"Genuine Adobe Flash Player 001"
SERVER_KEY = b"Genuine Adobe Flash Media Server 001"


def signed(hello: bytes, base: int, key: bytes) -> tuple[bytes, bytes]:
    """
    Return *hello* with the digest of a client, and the digest.
    """
    at = base + 4 + sum(hello[base : base + 4]) % 728
    digest = hmac.digest(key, hello[:at] + hello[at + 32 :], "sha256")
    return hello[:at] + digest + hello[at + 32 :], digest


@pytest.mark.parametrize("step", [1, 100, 5000])
def test_simple_handshake(step: int) -> None:
    """
    The server repeats what the client sends, and gives back what follows.
    """
    handshake = ServerHandshake(RANDOM)
    sent = b"\x03" + HELLO + bytes(SIZE) + b"rest"
    reply = b""
    for start in range(0, len(sent), step):
        if handshake.rest is None:
            reply += handshake.feed(sent[start : start + step])

    assert reply[0] == 3
    assert reply[1 : SIZE + 1] == bytes(8) + RANDOM[8:]
    assert reply[SIZE + 1 :] == HELLO
    assert handshake.rest is not None
    assert b"rest".startswith(handshake.rest)


@pytest.mark.parametrize("base", [8, 772])
def test_handshake_with_digests(base: int) -> None:
    """
    The server's digest is where the client's is, and the answer depends on it.
    """
    hello, digest = signed(b"\0\0\0\0\x80\0\x07\x02" + HELLO[8:], base, CLIENT_KEY)

    reply = ServerHandshake(RANDOM).feed(b"\x03" + hello)

    own, answer = reply[1 : SIZE + 1], reply[SIZE + 1 :]
    assert own[4] >= 3  # a version from which on players look for the digest
    assert signed(own, base, SERVER_KEY)[0] == own
    key = SERVER_KEY + bytes.fromhex(
        "f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae"
    )
    proof = hmac.digest(hmac.digest(key, digest, "sha256"), answer[:-32], "sha256")
    assert answer[-32:] == proof


def test_another_version_is_refused() -> None:
    """
    Only version 3 exists without encryption.
    """
    with pytest.raises(RemoteProtocolError):
        ServerHandshake(RANDOM).feed(b"\x06")


@given(st.binary(max_size=4000))
def test_any_bytes_are_a_handshake(data: bytes) -> None:
    """
    No content is refused behind the version.
    """
    handshake = ServerHandshake(RANDOM)

    reply = handshake.feed(b"\x03" + data)

    assert len(reply) == (2 * SIZE + 1 if len(data) >= SIZE else 0)
    assert handshake.rest == (data[2 * SIZE :] if len(data) >= 2 * SIZE else None)
