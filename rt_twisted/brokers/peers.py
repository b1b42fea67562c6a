"""
Explanations for the log when another kind of server listens at a broker's port.

They are made from the first bytes of the server and from how the connection ended.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.net.tls_errors import explain_tls

MAX_QUOTED = 24  # bytes of an unknown protocol

# First bytes of servers that send before they get a request, or respond to any request.
_NAMES = (
    (b"HTTP/", "HTTP"),
    (b"<", "HTTP"),
    (b"AMQP\x00\x01", "AMQP 1.0"),
    (b"AMQP\x02\x01", "AMQP 1.0"),  # by TLS
    (b"AMQP\x03\x01", "AMQP 1.0"),  # by SASL
    (b"AMQP\x01\x01\x00\x0a", "AMQP 0-10"),
    (b"AMQP\x00\x00\x09\x01", "AMQP 0-9-1"),
    (b"AMQP", "another version of AMQP"),
    (b"SSH-", "SSH"),
    (b"-ERR", "the protocol of redis"),
    (b"-NOAUTH", "the protocol of redis"),
    (b"-DENIED", "the protocol of redis"),
    (b"RFB ", "VNC"),
    (b"220", "SMTP or FTP"),
)


def describe(data: bytes) -> str:
    """
    Return a sentence that names the protocol of a server.

    Args:
        data: the server's first bytes, at least one.

    Returns:
        the sentence, without a full stop; bytes of an unknown protocol are quoted.
    """
    # A record of TLS: an alert or a handshake, of version 3.x (RFC 8446, 5.1).
    if data[:1] in (b"\x15", b"\x16") and data[1:2] in (b"\x03", b""):
        return "the server speaks TLS at this port"
    for start, name in _NAMES:
        if data.startswith(start):
            return f"the server speaks {name} at this port"
    return f"the server speaks an unknown protocol: it began with {data[:MAX_QUOTED]!r}"


def explain(error: Any, reason: str, tls: bool, answered: bool) -> str:
    """
    Return a sentence on why a connection ended before the login.

    Args:
        error: the exception that ended it.
        reason: the text of the error, or a better one.
        tls: whether we use TLS.
        answered: whether any byte of the broker's protocol was received.

    Returns:
        the sentence, without a full stop, with *reason* in it.
    """
    of_tls = explain_tls(error)
    if of_tls:
        return of_tls
    if answered:
        return reason
    reason = reason.rstrip(".")
    if tls:
        return f"{reason}; it has not answered: does it speak TLS at this port?"
    return f"{reason}; it has not answered: is this its port, and without TLS?"
