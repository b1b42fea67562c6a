"""
The Basic authentication scheme (RFC 7617).
"""

from __future__ import annotations

import binascii
from base64 import b64decode

CHALLENGE = ("WWW-Authenticate", 'Basic realm="publish", charset="UTF-8"')


def basic_password(authorization: str | None) -> bytes | None:
    """
    Return the password in an `Authorization` header, whatever the user name.

    Returns:
        None for no header, another scheme, or malformed credentials.
    """
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = b64decode(credentials.strip(" "), validate=True)
    except (binascii.Error, ValueError):
        return None
    _, colon, password = decoded.partition(b":")
    return password if colon else None
