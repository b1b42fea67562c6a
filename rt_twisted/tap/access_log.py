"""
The access log: one line per response, and per stream when it ends.
"""

from __future__ import annotations

import json
import string
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from twisted.logger import Logger

from rt_twisted.codecs.trace_context import read_traceparent
from rt_twisted.http.interfaces import IServerExchange
from rt_twisted.tap.log_filter import printable, printable_json
from rt_twisted.tap.logfiles import LogFile

PLAIN = string.punctuation.translate({ord('"'): None, ord("\\"): None})  # not percent-encoded

_log = Logger()


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """
    What a line says of a request.

    Args:
        address: of the client; "" for a unix socket.
        method: as received.
        path: percent-encoded.
        protocol: HTTP, RTMP, RTSP or ICY.
        version: of the protocol.
        status: of the response.
        traceparent: of the client; "" for none.
    """

    address: str
    method: str
    path: str
    protocol: str
    version: str
    status: int
    traceparent: str


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """
    What a line says of a stream that has ended.

    Args:
        messages: that its channels received for it, and those of the replay.
        reason: why it was disconnected.
    """

    messages: int
    reason: str


class AccessLog:
    """
    Writes the common log format, or JSON, without queries, which may contain keys, and without
    cookies and other headers.

    Args:
        file: that lines are appended to; None writes none.
        form: `text` or `json`.
    """

    def __init__(self, file: LogFile | None, form: str = "text") -> None:
        self.use(file, form)
        self._failing = False

    def use(self, file: LogFile | None, form: str) -> None:
        """
        Append the lines that follow to *file*, also those of streams that have begun.
        """
        self.file = file
        self._format = as_json if form == "json" else as_text

    def __call__(self, exchange: IServerExchange, status: int, size: int) -> None:
        """
        Write the line of *exchange*, whose response has *status* and *size* bytes.

        The size of a response without a length is 0, as it only begins.
        """
        if self.file is not None and not exchange.unlogged:
            self.write(_request_of(exchange, status), exchange.age, size)

    def open_stream(self, exchange: IServerExchange, status: int, head: int) -> StreamLine | None:
        """
        Return what writes the line of *exchange* when its stream ends; None without a log.

        *head* bytes of what is sent do not count.
        """
        if self.file is None:
            return None
        return StreamLine(self, _request_of(exchange, status), exchange.age, head)

    def write(
        self, request: LoggedRequest, seconds: float, size: int, end: StreamEnd | None = None
    ) -> None:
        """
        Write one line.

        Args:
            request: what was requested.
            seconds: from the head of the request to the response, or the end of the stream.
            size: bytes of the body.
            end: of a stream.
        """
        file = self.file
        if file is None:
            return
        try:
            file.write(self._format(request, seconds, size, end))
        except OSError as error:
            if not self._failing:
                _log.error(
                    "cannot write the access log {path}: {error}",
                    path=file.path,
                    error=error.strerror,
                )
            self._failing = True
        else:
            self._failing = False


@dataclass(frozen=True, slots=True)
class StreamLine:
    """
    The line of one stream; a `StreamEntry`.

    Args:
        log: that it is written to.
        request: the client's.
        waited: seconds from the head of the request to the beginning of the stream.
        head: bytes of what is sent that do not count.
    """

    log: AccessLog
    request: LoggedRequest
    waited: float
    head: int

    def end(self, seconds: float, size: int, messages: int, reason: str, status: int = 0) -> None:
        """
        Write the line; see `StreamEntry`.
        """
        end = StreamEnd(messages, reason)
        request = replace(self.request, status=status) if status else self.request
        self.log.write(request, self.waited + seconds, max(0, size - self.head), end)


def as_text(request: LoggedRequest, seconds: float, size: int, end: StreamEnd | None) -> str:
    """
    Return a line in the common log format. What it has no place for follows as `name=value`.
    """
    now = time.strftime("%d/%b/%Y:%H:%M:%S %z")
    line = (
        f"{request.address or '-'} - - [{now}] "
        f'"{request.method} {request.path} {request.protocol}/{request.version}" '
        f"{request.status} {size}"
    )
    if end is not None:
        line += f" seconds={seconds:.3f} messages={end.messages} reason={end.reason}"
    if request.traceparent:
        line += f" traceparent={request.traceparent}"
    return line + "\n"


def as_json(request: LoggedRequest, seconds: float, size: int, end: StreamEnd | None) -> str:
    """
    Return a line of JSON; `messages` and `reason` are those of a stream.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line: dict[str, Any] = {
        "time": now,
        "address": request.address,
        "method": request.method,
        "path": request.path,
        request.protocol.lower(): request.version,
        "status": request.status,
        "bytes": size,
        "seconds": round(seconds, 6),
    }
    if end is not None:
        line |= {"messages": end.messages, "reason": end.reason}
    if request.traceparent:
        line["traceparent"] = request.traceparent
    return printable_json(json.dumps(line, ensure_ascii=False)) + "\n"


def _request_of(exchange: IServerExchange, status: int) -> LoggedRequest:
    # The URL of RTSP may have a password.
    path = exchange.target.partition(b"?")[0] if exchange.protocol == "HTTP" else exchange.path
    return LoggedRequest(
        exchange.address,
        printable(exchange.method),
        quote(path, PLAIN),
        exchange.protocol,
        exchange.version,
        status,
        read_traceparent(exchange.header("traceparent")),
    )
