"""
Plain streams: the bytes of each message, one behind the other.
"""

from __future__ import annotations

import re

from rt_twisted.codecs.response import ResponseReader
from rt_twisted.tools.clients.http import path_for, request, seconds_to_wait
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest

# How our messages begin; the digits are whole, as a dash follows.
MARK = re.compile(rb"load-[0-9]+-[0-9a-f]{8}-[0-9]+-[0-9]+-")
LONGEST_MARK = 100  # bytes


class StreamClient:
    """
    Finds our own messages in a stream that says nothing but messages: they
    begin with a mark, and their size is known. Nobody learns where he is.

    Args:
        asking: what is asked for.
        position: means nothing here.
    """

    def __init__(self, asking: ClientRequest, position: str) -> None:
        self.position = ""
        self.retry: float | None = None
        self.opened = False
        self.over = ""
        self._asking = asking
        self._response = ResponseReader()
        self._rest = bytearray()

    def begin(self) -> bytes:
        """
        See `Wire`.
        """
        asking = self._asking
        return request(asking.url, f"GET {path_for(asking.url, asking.channels)}", [])

    def feed(self, data: bytes) -> list[ClientEvent]:
        """
        See `Wire`.
        """
        response = self._response
        body = response.feed(data)
        if response.head is None:
            return []
        if response.head.status != 200:
            self.retry = seconds_to_wait(response.head)
            self.over = f"status {response.head.status}"
            return []
        self.opened = True
        self._rest += body
        heard = self._cut()
        if response.complete:
            self.over = "ended by the server"
        return heard

    def _cut(self) -> list[ClientEvent]:
        rest, at = self._rest, 0
        heard: list[ClientEvent] = []
        while (mark := MARK.search(rest, at)) is not None:
            end = max(mark.start() + self._asking.size, mark.end())
            if end > len(rest):
                del rest[: mark.start()]
                return heard
            heard.append(ClientEvent(rest[mark.start() : end].decode(errors="replace")))
            at = end
        # What others publish is skipped; a mark may have begun at the very end.
        del rest[: max(at, len(rest) - LONGEST_MARK)]
        return heard

    def take(self) -> bytes:
        """
        See `Wire`.
        """
        return b""
