"""
The errors that codecs raise.
"""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """
    The peer broke the protocol.

    Args:
        reason: one sentence for the peer.
        status: to send: an HTTP status, or a websocket close code.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
