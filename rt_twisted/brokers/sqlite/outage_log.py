"""
Log lines about a history file that cannot be written.
"""

from __future__ import annotations

import sqlite3

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.brokers.sqlite.database import UnusableStore

_log = Logger()

LOG_INTERVAL = 60.0  # seconds between two log lines for a disk that is full now and then


class OutageLog:
    """
    Logs the begin and the end of an outage, and not more often than every LOG_INTERVAL.

    Args:
        clock: the reactor.
        path: the history file.
        refuse: whether messages are refused meanwhile.
    """

    def __init__(self, clock: IReactorTime, path: str, refuse: bool) -> None:
        self._clock = clock
        self._path = path
        self._meanwhile = "publishers are refused" if refuse else "messages are not durable"
        self._logged = False  # the present outage
        self._logged_at = -LOG_INTERVAL

    def on_failure(self, failure: Failure) -> None:
        """
        Log why the file could not be written or opened.
        """
        now = self._clock.seconds()
        if self._logged or now - self._logged_at < LOG_INTERVAL:
            return
        self._logged, self._logged_at = True, now
        reason = failure.getErrorMessage()
        if failure.check(UnusableStore):
            _log.error(
                "{reason}; {meanwhile} until it can", reason=reason, meanwhile=self._meanwhile
            )
        elif failure.check(sqlite3.Error):
            _log.error(
                "the history file {file} cannot be written: {reason}; {meanwhile} until it can",
                file=self._path,
                reason=reason,
                meanwhile=self._meanwhile,
            )
        else:
            _log.failure("while writing the history file", failure)

    def on_written(self) -> None:
        """
        Log the end of an outage that was logged.
        """
        if self._logged:
            self._logged = False
            _log.info("the history file {file} is written again", file=self._path)
