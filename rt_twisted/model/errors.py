"""
Errors that layers above raise and handle.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class Unavailable(Exception):
    """
    The broker cannot take messages now; its text is for the publisher.
    """


Header = tuple[str, str]


class HttpError(Exception):
    """
    A request that is answered with an error.

    Args:
        status: HTTP status, 400 to 599.
        reason: one sentence for the client; nothing secret in it.
        headers: further response headers.
        retry: seconds after which it is worth another try, said as Retry-After;
            0 for nothing said.
    """

    def __init__(
        self, status: int, reason: str, headers: Sequence[Header] = (), retry: float = 0
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = (*headers, ("Retry-After", str(ceil(retry)))) if retry else headers
        self.retry = retry
