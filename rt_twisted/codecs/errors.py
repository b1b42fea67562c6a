"""
What codecs raise.
"""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """
    The peer's mistake.

    Args:
        reason: one sentence for the peer.
        status: the HTTP status to answer.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
