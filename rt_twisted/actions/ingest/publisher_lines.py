"""
The lines of live publishers in the access log.
"""

from __future__ import annotations

from typing import Any, Protocol

from rt_twisted.http.stream_handle import StreamEntry


class PublisherLog(Protocol):
    """
    The access log, as publishers use it.
    """

    def open_stream(self, exchange: Any, status: int, head: int) -> StreamEntry | None:
        """
        Return what writes the line of a request when its stream ends; None without a log.
        """


class PublisherLines:
    """
    Opens the line of each publisher; shared by all routes.

    Attributes:
        log: the access log; None for none.
    """

    log: PublisherLog | None = None

    def open(self, request: Any) -> StreamEntry | None:
        """
        Return what writes the line of a publisher when its publication ends; None for no line.

        Args:
            request: the publisher's, by whatever protocol. An HTTP exchange writes no line of its
                own from then on. None for a publisher without a request.
        """
        if self.log is None or request is None:
            return None
        request.unlogged = True
        return self.log.open_stream(request, 200, 0)
