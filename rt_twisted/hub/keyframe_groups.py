"""
Retention of live streams: whole keyframe groups, so that subscribers can begin at any.

A group is a head and what follows it up to the next one.
"""

from __future__ import annotations

import math
import sys
from collections import deque

from twisted.logger import Logger

from rt_twisted.model.message import Mark, Message
from rt_twisted.model.retention import History, Retention

_log = Logger()

_HEAD, _END = Mark.HEAD, Mark.END  # attributes of an Enum class are slow to look up
_UNBOUNDED = Retention(sys.maxsize, sys.maxsize, math.inf, 0, 0.0)


class KeyframeGroups:
    """
    The groups in the history of one live channel, which only this object appends to.

    Args:
        channel: its name, for the log.
        history: of the channel; emptied, and without bounds of its own from now on.
        retention: has the bounds of the groups.
    """

    __slots__ = (
        "_channel",
        "_dropped",
        "_groups",
        "_headless",
        "_history",
        "_logged",
        "_oversize_since",
        "_received",
        "_retention",
    )

    def __init__(self, channel: str, history: History, retention: Retention) -> None:
        history.clear()
        history.reconfigure(_UNBOUNDED)
        self._channel = channel
        self._history = history
        self._retention = retention
        self._groups: deque[tuple[float, int]] = deque()  # when each began; messages before it
        self._received = 0  # messages appended so far
        self._dropped = 0  # and no more retained
        self._headless = False  # whether what follows belongs to a group that was dropped
        self._oversize_since: float | None = None  # when a group over a bound began
        self._logged = False

    @property
    def bytes(self) -> int:
        """
        Return the bytes that are retained.
        """
        return self._history.bytes

    def __bool__(self) -> bool:
        """
        Return whether there is a group.
        """
        return bool(self._groups)

    def reconfigure(self, retention: Retention) -> None:
        """
        Use other bounds; they apply from the next message on.
        """
        self._retention = retention

    def append(self, message: Message, mark: Mark, now: float) -> None:
        """
        Add *message*, received at *now* (seconds), and drop the oldest groups that exceed the
        bounds. At an end everything is dropped.

        Messages before the first head are a group too: they may continue what the broker's
        history has. What follows a group that was dropped while it was the newest is not
        retained up to the next head.
        """
        history = self._history
        groups = self._groups
        if mark is _HEAD:
            self._log_interval(now)
        if mark is _HEAD or not (groups or self._headless):
            groups.append((now, self._received))
            self._headless = False
        history.append(message, now)
        self._received += 1
        if mark is _END or self._headless:
            self.clear()
        if mark is _END:
            self._oversize_since = None
            self._headless = False
        retention = self._retention
        while groups and history.bytes > retention.live_bytes:
            self._drop_exceeding()
        if groups and groups[0][0] < now - retention.live_seconds:
            self.expire(now)

    def expire(self, now: float) -> None:
        """
        Drop the groups that began too long before *now*.
        """
        oldest = now - self._retention.live_seconds
        while self._groups and self._groups[0][0] < oldest:
            self._drop_exceeding()

    def drop_oldest(self) -> None:
        """
        Drop the oldest group. If it is the only one, subscribers cannot begin before the
        next head.
        """
        self._groups.popleft()
        if not self._groups:
            self.clear()
            self._headless = True
            return
        upto = self._groups[0][1]
        self._history.drop(upto - self._dropped)
        self._dropped = upto

    def clear(self) -> None:
        """
        Drop all groups and their messages.
        """
        self._groups.clear()
        self._history.clear()
        self._dropped = self._received

    def _drop_exceeding(self) -> None:
        if len(self._groups) == 1:
            self._oversize_since = self._groups[0][0]
        self.drop_oldest()

    def _log_interval(self, now: float) -> None:
        since, self._oversize_since = self._oversize_since, None
        if since is not None and not self._logged:
            self._logged = True
            _log.warn(
                "channel {channel}: its keyframe interval of {seconds:.1f} seconds exceeds "
                "live-seconds = {limit:g} or live-bytes = {bytes}; new viewers wait for the next "
                "keyframe. Set a shorter interval at the publisher (ffmpeg: -g)",
                channel=self._channel,
                seconds=now - since,
                limit=self._retention.live_seconds,
                bytes=self._retention.live_bytes,
            )
