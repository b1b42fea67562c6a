"""
Client of plain streams, which contain only the bytes of messages.
"""

from __future__ import annotations

import re

from rt_twisted.codecs.response import ResponseReader
from rt_twisted.tools.clients.http import path_for, request, retry_after
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest

# Prefix of our messages; the dash shows that the digits are complete.
MARK = re.compile(rb"load-[0-9]+-[0-9a-f]{8}-[0-9]+-[0-9]+-")
MAX_MARK = 100  # bytes


class StreamClient:
    """
    Find the messages of this program in a stream without message boundaries.

    They have a known prefix and size. A plain stream has no positions.

    Args:
        client_request: the subscription.
        position: not used.
    """

    def __init__(self, client_request: ClientRequest, position: str) -> None:
        self.position = ""
        self.retry: float | None = None
        self.opened = False
        self.close_reason = ""
        self._client_request = client_request
        self._response = ResponseReader()
        self._rest = bytearray()

    def begin(self) -> bytes:
        client_request = self._client_request
        return request(
            client_request.url, f"GET {path_for(client_request.url, client_request.channels)}", []
        )

    def feed(self, data: bytes) -> list[ClientEvent]:
        response = self._response
        body = response.feed(data)
        if response.head is None:
            return []
        if response.head.status != 200:
            self.retry = retry_after(response.head)
            self.close_reason = f"status {response.head.status}"
            return []
        self.opened = True
        self._rest += body
        received = self._split()
        if response.complete:
            self.close_reason = "ended by the server"
        return received

    def _split(self) -> list[ClientEvent]:
        rest, at = self._rest, 0
        received: list[ClientEvent] = []
        while (mark := MARK.search(rest, at)) is not None:
            end = max(mark.start() + self._client_request.size, mark.end())
            if end > len(rest):
                del rest[: mark.start()]
                return received
            received.append(ClientEvent(rest[mark.start() : end].decode(errors="replace")))
            at = end
        # Skip messages of others; a prefix may have begun at the very end.
        del rest[: max(at, len(rest) - MAX_MARK)]
        return received

    def data_to_send(self) -> bytes:
        return b""
