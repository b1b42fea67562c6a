"""
The part of a publisher that brokers with a server share.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from rt_twisted.model.message import NOWHERE, Draft, Position, PublishResult

MAX_PENDING_BYTES = 64 << 20  # without an answer, before further publications are refused


class Publication:
    """
    One call of `IBroker.publish`, whose drafts get their positions one by one.

    Args:
        drafts: at least one.
    """

    __slots__ = ("_missing", "_positions", "done", "drafts")

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.done: Deferred[PublishResult] = Deferred()
        self._positions = [NOWHERE] * len(drafts)
        self._missing = len(drafts)

    def place(self, index: int, position: Position) -> None:
        """
        Set the position of the draft *index*; the last one fires `done`.
        """
        self._positions[index] = position
        self._missing -= 1
        if not self._missing and not self.done.called:
            self.done.callback(PublishResult(tuple(self._positions)))

    def fail(self, error: Exception) -> None:
        """
        Fail `done` with *error*, unless it has fired.
        """
        if not self.done.called:
            self.done.errback(error)
