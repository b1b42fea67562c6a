"""
A line per response, for operators who switch it on.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from twisted.logger import Logger

if TYPE_CHECKING:
    from rt_twisted.front.exchange import HttpExchange

_log = Logger()


class AccessLog:
    """
    Common log format, without the query: it may hold keys. Cookies and other
    headers are not written either.

    Args:
        path: appended to; `-` for standard output.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        # Open as long as the daemon runs; a line is whole or not there.
        self._file: TextIO = sys.stdout if path == "-" else open(path, "a", 1, "utf-8")  # noqa: SIM115
        self._failing = False

    def __call__(self, exchange: HttpExchange, status: int, size: int) -> None:
        """
        Write that *exchange* is answered with *status* and *size* bytes; a
        stream's size is 0, as it is only beginning.
        """
        path = exchange.target.partition(b"?")[0].decode("latin-1")
        target = path.replace("\\", "%5C").replace('"', "%22")
        version = "1.1" if exchange.framed else "1.0"
        now = time.strftime("%d/%b/%Y:%H:%M:%S %z")
        line = (
            f"{exchange.address or '-'} - - [{now}] "
            f'"{exchange.method} {target} HTTP/{version}" {status} {size}\n'
        )
        try:
            self._file.write(line)
        except OSError as error:
            if not self._failing:
                _log.error("access log {path}: {error}", path=self._path, error=error.strerror)
            self._failing = True
        else:
            self._failing = False
