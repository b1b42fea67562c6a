"""
A line per response, for operators who switch it on.
"""

from __future__ import annotations

import string
import time
from urllib.parse import quote

from twisted.logger import Logger

from rt_twisted.http.interfaces import IServerExchange
from rt_twisted.tap.log_filter import printable
from rt_twisted.tap.logfiles import LogFile

PLAIN = string.punctuation.translate({ord('"'): None, ord("\\"): None})  # as they came

_log = Logger()


class AccessLog:
    """
    Common log format, without the query: it may hold keys. Cookies and other
    headers are not written either.

    Args:
        file: appended to.
    """

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self._failing = False

    def __call__(self, exchange: IServerExchange, status: int, size: int) -> None:
        """
        Write that *exchange* is answered with *status* and *size* bytes; a
        stream's size is 0, as it is only beginning.
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
                _log.error("access log {path}: {error}", path=self.file.path, error=error.strerror)
            self._failing = True
        else:
            self._failing = False
