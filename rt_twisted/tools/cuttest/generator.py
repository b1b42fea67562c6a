"""
Publish the messages of a channel, and repeat each until the server confirms it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.response import ResponseReader
from rt_twisted.model.message import NOWHERE, Position
from rt_twisted.tools.clients.http import request, retry_after
from rt_twisted.tools.cuttest.published import Published
from rt_twisted.tools.load.target import ConnectAttempt, Target, describe_failure

RETRY = 0.2  # seconds until a message is sent again
MAX_RETRY = 2.0  # the same, even if Retry-After is longer
RESPONSE_TIMEOUT = 10.0  # seconds for a response
TEMPORARY = frozenset(
    (408, 425, 429, 500, 502, 503, 504)
)  # statuses after which a retry may succeed
MAX_RESPONSE = 64 * 1024  # bytes


class Generator(Protocol):
    """
    Publish the messages of one channel, one request at a time, so that their order is known.

    Each message is repeated with the same idempotency key, on any node, until one confirms it.

    Args:
        choose_target: returns the node to connect to.
        key: the secret; "" if the server requires none.
        published: creates the messages.
        channel: its index.
        errors: counts failures.
        clock: the reactor.
    """

    transport: Any = None

    def __init__(
        self,
        choose_target: Callable[[], Target],
        key: str,
        published: Published,
        channel: int,
        errors: Counter[str],
        clock: Any,
    ) -> None:
        self.refused = ""  # why publishing failed for good; "" if it did not
        self.tried = 0  # requests
        self._choose_target = choose_target
        self._key = key
        self._published = published
        self._channel = channel
        self._errors = errors
        self._clock = clock
        self._due = 0
        self._number: int | None = None  # of the message that the server has not confirmed
        self._target: Any = None
        self._response = ResponseReader()
        self._body = b""
        self._requested = False
        self._connecting = False
        self._timer: Any = None  # until the next try
        self._alarm: Any = None  # if there is no response
        self._closed = False

    @property
    def idle(self) -> bool:
        """
        Return whether all messages that were due are accepted.
        """
        return self._number is None and not self._due

    def add(self, count: int = 1) -> None:
        """
        Add *count* messages that are due now.
        """
        self._due += count
        self.push()

    def drop(self) -> None:
        """
        Drop the messages that are due and not yet sent.
        """
        self._due = 0

    def push(self) -> None:
        """
        Send the next message, unless one is in flight.
        """
        if self._requested or self._timer is not None or self._closed or self.refused:
            return
        if self._number is None:
            if not self._due or not self._published.has_room():
                return
            self._due -= 1
            self._number = self._published.write(self._channel)
        if self.transport is not None:
            self._send()
        elif not self._connecting:
            self._connecting = True
            self._target = self._choose_target()
            self._target.connect(ConnectAttempt(self, Generator._failed))

    def _send(self) -> None:
        number = self._number
        assert number is not None
        published = self._published
        name = published.channels[self._channel]
        text = published.text(self._channel, number)
        body = json.dumps({"channel": name, "message": text}).encode()
        # The text contains the id of the run, so keys differ between runs.
        headers = [
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            f"Idempotency-Key: {text[:100].rstrip('x')}",
        ]
        if self._key:
            headers.append(f"Authorization: Bearer {self._key}")
        parts = urlsplit(self._target.url)
        line = f"POST {parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        self._requested = True
        self._response, self._body = ResponseReader(), b""
        self.tried += 1
        self._alarm = self._clock.callLater(RESPONSE_TIMEOUT, self._on_timeout)
        self.transport.write(request(self._target.url, line, headers) + body)

    def connectionMade(self) -> None:
        self._connecting = False
        self.push()

    def dataReceived(self, data: bytes) -> None:
        response = self._response
        try:
            self._body += response.feed(data)
        except RemoteProtocolError:
            self._errors["publish: malformed"] += 1
            self.transport.abortConnection()
            return
        if len(self._body) > MAX_RESPONSE:
            self._errors["publish: response too long"] += 1
            self.transport.abortConnection()
            return
        if response.head is None or not response.complete or not self._requested:
            return
        self._answered()
        status = response.head.status
        if status == 200:
            self._accepted()
        else:
            self._errors[f"publish: status {status}"] += 1
            if status not in TEMPORARY:
                self.refused = f"status {status}"
                return
            wait = retry_after(response.head)
            self._wait(RETRY if wait is None else min(max(wait, RETRY), MAX_RETRY))
        if not response.keep_alive:
            self.transport.loseConnection()
            return
        self.push()

    def _accepted(self) -> None:
        try:
            position = Position.parse(str(json.loads(self._body)["position"]))
        except (ValueError, KeyError, TypeError):
            position = NOWHERE
        if position == NOWHERE:
            self.refused = "no position in the response"
            return
        self._published.accept(self._channel, position)
        self._number = None

    def _answered(self) -> None:
        self._requested = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _on_timeout(self) -> None:
        self._alarm = None
        self._errors["publish: no answer"] += 1
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        if self._requested:
            self._answered()
            self._errors[f"publish: {describe_failure(reason)}"] += 1
        self._wait(RETRY)

    def _failed(self, reason: Failure) -> None:
        self._connecting = False
        self._errors[f"publish: {describe_failure(reason)}"] += 1
        self._wait(RETRY)

    def _wait(self, seconds: float) -> None:
        if self._timer is None and not self._closed:
            wait = seconds * random.uniform(1, 1.5)
            self._timer = self._clock.callLater(wait, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self.push()

    def close(self) -> None:
        """
        Stop, and abort the connection.
        """
        self._closed = True
        for call in (self._timer, self._alarm):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._alarm = None
        if self.transport is not None:
            self.transport.abortConnection()
