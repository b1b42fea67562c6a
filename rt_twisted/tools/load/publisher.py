"""
Publish messages at a rate.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.response import ResponseReader
from rt_twisted.tools.clients.http import request
from rt_twisted.tools.load.sent import SentLog
from rt_twisted.tools.load.target import ConnectAttempt, Target, describe_failure

BATCH = 500  # messages of one request; the daemon accepts 1,000


class Publisher(Protocol):
    """
    Publish messages over one connection, with one request in flight, so that their order is kept.

    Messages that become due while a request is in flight are batched in the next one.

    Args:
        target: where to publish.
        key: the secret; "" if the server requires none.
        sent_log: creates the messages.
        errors: counts failures.
        clock: the reactor.
    """

    transport: Any

    def __init__(
        self, target: Target, key: str, sent_log: SentLog, errors: Counter[str], clock: Any
    ) -> None:
        self._target = target
        self._sent_log = sent_log
        self._errors = errors
        self._clock = clock
        self._waiting: list[tuple[str, str]] = []
        self._requested: list[tuple[str, str]] = []
        self._response = ResponseReader()
        self._connecting = False
        parts = urlsplit(target.url)
        self._line = f"POST {parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        self._headers = ["Content-Type: application/x-ndjson"]
        if key:
            self._headers.append(f"Authorization: Bearer {key}")

    @property
    def idle(self) -> bool:
        """
        Return whether all messages that were due have been answered.
        """
        return not self._waiting and not self._requested

    def add(self) -> None:
        """
        Add a message, due now.
        """
        self._waiting.append(self._sent_log.write(self._clock.seconds()))

    def push(self) -> None:
        """
        Send the messages that are due, unless a request is in flight.
        """
        if self._requested or not self._waiting:
            return
        if self.transport is None:
            if not self._connecting:
                self._connecting = True
                self._target.connect(ConnectAttempt(self, Publisher._failed))
            return
        self._requested, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        lines = [json.dumps({"channel": name, "message": text}) for name, text in self._requested]
        body = "\n".join(lines).encode()
        length = f"Content-Length: {len(body)}"
        self.transport.write(request(self._target.url, self._line, [*self._headers, length]) + body)

    def connectionMade(self) -> None:
        self._connecting = False
        self._response = ResponseReader()
        self.push()

    def dataReceived(self, data: bytes) -> None:
        response = self._response
        try:
            response.feed(data)
        except RemoteProtocolError:
            self._fail_requested("malformed")
            self.transport.abortConnection()
            return
        if not response.complete or response.head is None:
            return
        self._response = ResponseReader()
        if response.head.status == 200:
            self._sent_log.accepted += len(self._requested)
            self._requested = []
        else:
            self._fail_requested(f"status {response.head.status}")
        if response.keep_alive:
            self.push()
        else:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        if self._requested:
            self._fail_requested(describe_failure(reason))

    def _failed(self, reason: Failure) -> None:
        self._connecting = False
        self._requested, self._waiting = self._waiting, []
        self._fail_requested(describe_failure(reason))

    def _fail_requested(self, why: str) -> None:
        self._errors[f"publish: {why}"] += 1
        for _, text in self._requested:
            self._sent_log.mark_unconfirmed(text)
        self._requested = []

    def close(self) -> None:
        """
        Abort the connection.
        """
        if self.transport is not None:
            self.transport.abortConnection()
