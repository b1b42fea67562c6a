"""
What every format guarantees (`IFormat`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zope.interface.verify import verifyObject

from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay
from tests.fakes import started

AT = Position("e", 7)


@dataclass(frozen=True, slots=True)
class FormatContract:
    """
    Check formats of one class.

    Args:
        formats: different from each other.
        twins: the same, built once more.
        data: messages that this wire carries.
    """

    formats: Sequence[Any]
    twins: Sequence[Any]
    data: Sequence[bytes]

    def check(self) -> None:
        """
        Check that formats are pure, compare by value, and return bytes.
        """
        for format, twin in zip(self.formats, self.twins, strict=True):
            verifyObject(IFormat, format)
            assert format == twin
            assert hash(format) == hash(twin)
            assert isinstance(format.content_type, str)
            for frame in self.frames(format):
                assert isinstance(frame, bytes)
            assert self.frames(format) == self.frames(twin), "not pure"
        assert len(set(self.formats) | set(self.twins)) == len(self.formats)

    def frames(self, format: Any) -> list[bytes]:
        """
        Return frames that may follow each other on the wire in any order.
        """
        messages = [
            Message("news", data, Position("e", number), None)
            for number, data in enumerate(self.data, 1)
        ]
        replay = Replay(tuple(messages), True, Position("e", len(messages)))
        return [
            started(format, Replay((), False, AT)),
            started(format, replay),
            *map(format.encode, messages),
            format.heartbeat,
            format.cursor(AT),
            format.gap(AT),
            format.encode(messages[0]),
        ]
