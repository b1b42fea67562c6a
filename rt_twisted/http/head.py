"""
The head of a response as a value, which HTTP/1.1 and HTTP/2 encode each in their way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

Field = tuple[bytes, bytes]  # name and value

BODILESS = frozenset((204, 304))  # statuses of responses that never have a body


@dataclass(slots=True, unsafe_hash=True)
class ResponseHead:
    """
    Status and fields of a response, without the fields that frame its body.

    Args:
        status: of the response.
        fields: names as HTTP/1.1 writes them.
        reason: phrase behind the status in HTTP/1.1.
        version: in front of it.

    Attributes:
        http1: the status line and the fields as HTTP/1.1 has them, without the empty
            line at the end. Encoded once, as most heads are sent many times.
        has_connection: one of the fields is Connection.
    """

    status: Final[int]
    fields: Final[Sequence[Field]]
    reason: Final[bytes]
    version: Final[bytes] = b"HTTP/1.1"
    http1: bytes = field(init=False, repr=False, compare=False)
    has_connection: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lines = [b"%s %d %s\r\n" % (self.version, self.status, self.reason)]
        lines += [b"%s: %s\r\n" % each for each in self.fields]
        self.http1 = b"".join(lines)
        object.__setattr__(self, "has_connection", b"\r\nConnection: " in self.http1)
