"""
The access log: one line per response.
"""

from __future__ import annotations

import string
import time
from urllib.parse import quote

from twisted.logger import Logger

from rt_twisted.http.interfaces import IServerExchange
from rt_twisted.tap.log_filter import printable
from rt_twisted.tap.logfiles import LogFile

PLAIN = string.punctuation.translate({ord('"'): None, ord("\\"): None})  # not percent-encoded

_log = Logger()


class AccessLog:
    """
    Writes the common log format, without queries, which may contain keys, and without
    cookies and other headers.

    Args:
        file: that lines are appended to.
    """

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self._failing = False

    def __call__(self, exchange: IServerExchange, status: int, size: int) -> None:
        """
        Write the line of *exchange*, whose response has *status* and *size* bytes.

        The size of a stream is 0, as it only begins.
        """
        target = quote(exchange.target.partition(b"?")[0], PLAIN)
        version = exchange.version
        now = time.strftime("%d/%b/%Y:%H:%M:%S %z")
        line = (
            f"{exchange.address or '-'} - - [{now}] "
            f'"{printable(exchange.method)} {target} HTTP/{version}" {status} {size}\n'
        )
        try:
            self.file.write(line)
        except OSError as error:
            if not self._failing:
                _log.error(
                    "cannot write the access log {path}: {error}",
                    path=self.file.path,
                    error=error.strerror,
                )
            self._failing = True
        else:
            self._failing = False
