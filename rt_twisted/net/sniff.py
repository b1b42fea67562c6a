"""
Decide by the first bytes of a connection which protocol it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

MAX_START = 8192  # bytes after which a connection that no protocol has accepted is HTTP

# Four bytes that are enough for HTTP. OPTIONS is not here: RTSP has it, too.
HTTP_STARTS = frozenset((b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"PATC", b"SOUR"))


class StartMatcher(Protocol):
    """
    Recognizes a protocol; see `IPortProtocol`.
    """

    def matches(self, start: bytes) -> bool | None:
        """
        Return whether a connection that begins with *start* has this protocol.
        """


class ConnectionStart:
    """
    Collects the first bytes of a connection until they are known to be HTTP or not.

    Attributes:
        data: the bytes that are not decided yet.
    """

    __slots__ = ("data",)

    def __init__(self) -> None:
        self.data = b""

    def feed(self, data: bytes, protocols: Sequence[StartMatcher]) -> tuple[bytes, Any]:
        """
        Receive the next bytes.

        Args:
            data: the next bytes.
            protocols: are asked in order, unless the bytes are HTTP.

        Returns:
            the first bytes and their protocol, which is None for HTTP. While that is not
            decided the bytes are empty, and the next call gets more.
        """
        start = self.data + data
        self.data = b""
        if start[:4] in HTTP_STARTS:
            return start, None
        undecided = False
        for protocol in protocols:
            found = protocol.matches(start)
            if found:
                return start, protocol
            undecided = undecided or found is None
        if undecided and len(start) < MAX_START:
            self.data = start
            return b"", None
        return start, None
