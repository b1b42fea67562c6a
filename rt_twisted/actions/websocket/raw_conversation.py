"""
A websocket on which a frame is a message, in and out, as in uwsgi-realtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.publish import trimmed
from rt_twisted.codecs.websocket import Code
from rt_twisted.house import House
from rt_twisted.interfaces import IConversation, Refusal, Unavailable
from rt_twisted.message import Draft

_CODES = {413: Code.TOO_BIG}  # of a Refusal; others are POLICY


@implementer(IConversation)
class RawConversation:
    """
    Publishes what the client says.

    Args:
        house: the daemon.
        channels: where to; without any the client has nothing to say.
        prefix: goes in front of each message.
        suffix: goes behind it.
    """

    __slots__ = ("_channels", "_house", "_prefix", "_suffix", "_websocket")

    def __init__(
        self, house: House, channels: Sequence[str], prefix: bytes = b"", suffix: bytes = b""
    ) -> None:
        self._house = house
        self._channels = channels
        self._prefix = prefix
        self._suffix = suffix
        self._websocket: Any = None

    def opened(self, websocket: Any) -> None:
        """
        See `IConversation`.
        """
        self._websocket = websocket

    def message(self, data: bytes, binary: bool) -> None:
        """
        Publish it, whatever kind it is.
        """
        house, websocket = self._house, self._websocket
        if not self._channels:
            websocket.close(Code.UNSUPPORTED, "nothing can be published here")
            return
        if self._prefix or self._suffix:
            data = self._prefix + data + self._suffix
        if len(data) > house.max_message:
            websocket.close(Code.TOO_BIG, f"a message has up to {house.max_message} bytes")
            return
        if house.trim:
            data = trimmed(data)
        published = websocket.publish([Draft(channel, data) for channel in self._channels])
        if isinstance(published, Deferred):
            published.addErrback(self._not_published)

    def closed(self, code: int, reason: str) -> None:
        """
        See `IConversation`.
        """
        self._websocket = None

    def _not_published(self, failure: Failure) -> None:
        # There are no words for it here, and silence would be a lie.
        code = Code.TRY_LATER
        if isinstance(failure.value, Refusal):
            code = _CODES.get(failure.value.status, Code.POLICY)
        else:
            failure.trap(Unavailable)
        if self._websocket is not None:
            self._websocket.close(code, failure.getErrorMessage())
