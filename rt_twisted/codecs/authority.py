"""
Hosts and ports, as the header Host and URLs have them (RFC 3986, 3.2).
"""

from __future__ import annotations


def split_authority(text: str) -> tuple[str, str]:
    """
    Return the host and the port of `HOST[:PORT]`.

    Args:
        text: as received; any text.

    Returns:
        the host as it is, an IPv6 address with its brackets; the port in digits, "" for none.
    """
    host, colon, port = text.rpartition(":")
    if colon and (port.isdecimal() or not port):
        return host, port
    return text, ""
