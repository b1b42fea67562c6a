"""
Errors that the layers above raise and handle.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil


class Unavailable(Exception):
    """
    The broker cannot accept messages now. The text is sent to the publisher.
    """


Header = tuple[str, str]


class HttpError(Exception):
    """
    A request that is answered with an error.

    Args:
        status: HTTP status, 400 to 599.
        reason: one sentence for the client, without secrets.
        headers: further response headers.
        retry: seconds after which the client may retry, sent as Retry-After; 0 for none.

    Attributes:
        body: of the response; b"" for the reason as a line of text.
        content_type: of that body.
    """

    def __init__(
        self, status: int, reason: str, headers: Sequence[Header] = (), retry: float = 0
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = (*headers, ("Retry-After", str(ceil(retry)))) if retry else headers
        self.retry = retry
        self.body = b""
        self.content_type = ""

    def copy(self) -> HttpError:
        """
        Return the same error without a traceback.

        One that is kept is raised as a copy: each raise adds the frames of its callers to the
        traceback, which holds their requests as long as the error.
        """
        made = HttpError(self.status, self.reason, self.headers)
        made.retry, made.body, made.content_type = self.retry, self.body, self.content_type
        return made
