"""
Messages at a rate.
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
from rt_twisted.tools.load.target import Call, Target, kind

BATCH = 500  # messages of one request; the daemon takes 1,000


class Publisher(Protocol):
    """
    Publishes at a rate, over one connection, one request at a time: so the server
    gets the messages in order. What is due while it has not answered goes together
    in the next request.

    Args:
        target: where to.
        key: the secret, if the server wants one.
        ledger: makes the messages.
        errors: where failures are counted.
        clock: tells the time.
    """

    transport: Any

    def __init__(
        self, target: Target, key: str, ledger: SentLog, errors: Counter[str], clock: Any
    ) -> None:
        self._target = target
        self._ledger = ledger
        self._errors = errors
        self._clock = clock
        self._waiting: list[tuple[str, str]] = []
        self._asked: list[tuple[str, str]] = []
        self._response = ResponseReader()
        self._calling = False
        parts = urlsplit(target.url)
        self._line = f"POST {parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        self._headers = ["Content-Type: application/x-ndjson"]
        if key:
            self._headers.append(f"Authorization: Bearer {key}")

    @property
    def idle(self) -> bool:
        """
        Whether all that was due has been answered.
        """
        return not self._waiting and not self._asked

    def add(self) -> None:
        """
        One more message is due.
        """
        self._waiting.append(self._ledger.write(self._clock.seconds()))

    def push(self) -> None:
        """
        Send what is due, if nothing is under way.
        """
        if self._asked or not self._waiting:
            return
        if self.transport is None:
            if not self._calling:
                self._calling = True
                self._target.connect(Call(self, Publisher._failed))
            return
        self._asked, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        lines = [json.dumps({"channel": name, "message": text}) for name, text in self._asked]
        body = "\n".join(lines).encode()
        length = f"Content-Length: {len(body)}"
        self.transport.write(request(self._target.url, self._line, [*self._headers, length]) + body)

    def connectionMade(self) -> None:
        """
        Ask at once.
        """
        self._calling = False
        self._response = ResponseReader()
        self.push()

    def dataReceived(self, data: bytes) -> None:
        """
        Read the answer.
        """
        response = self._response
        try:
            response.feed(data)
        except RemoteProtocolError:
            self._doubt("malformed")
            self.transport.abortConnection()
            return
        if not response.complete or response.head is None:
            return
        self._response = ResponseReader()
        if response.head.status == 200:
            self._ledger.accepted += len(self._asked)
            self._asked = []
        else:
            self._doubt(f"status {response.head.status}")
        if response.keep_alive:
            self.push()
        else:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The next message makes another connection.
        """
        self.transport = None
        if self._asked:
            self._doubt(kind(reason))

    def _failed(self, reason: Failure) -> None:
        self._calling = False
        self._asked, self._waiting = self._waiting, []
        self._doubt(kind(reason))

    def _doubt(self, why: str) -> None:
        self._errors[f"publish: {why}"] += 1
        for _, text in self._asked:
            self._ledger.doubt(text)
        self._asked = []

    def close(self) -> None:
        """
        Hang up.
        """
        if self.transport is not None:
            self.transport.abortConnection()
