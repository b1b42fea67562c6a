"""
The audit log: a JSON line for each refused client and each administrative act.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from rt_twisted.codecs.trace_context import read_traceparent
from rt_twisted.tap.logfiles import LogFile

_log = Logger()


class AuditLog:
    """
    Writes lines to a file. They never have keys, tokens, cookies or queries.

    Args:
        file: the log.
    """

    def __init__(self, file: LogFile) -> None:
        self.file = file
        self._failing = False

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        """
        Write one line.

        Args:
            event: `refused`, or the name of an administrative act.
            fields: what is known of it; JSON values.
        """
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        try:
            self.file.write(line + "\n")
        except OSError as error:
            if not self._failing:
                _log.error(
                    "cannot write the audit log {path}: {error}",
                    path=self.file.path,
                    error=error.strerror,
                )
            self._failing = True
        else:
            self._failing = False

    def refused(self, exchange: Any, status: int) -> None:
        """
        Write that the client of *exchange* is refused with *status*.
        """
        fields = {
            "status": status,
            "method": exchange.method,
            "path": exchange.path[:500],
            "address": exchange.address,
        }
        trace = read_traceparent(exchange.header("traceparent"))
        if trace:
            fields["traceparent"] = trace
        self("refused", fields)
