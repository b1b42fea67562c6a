"""
Readers, as many as you like.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.eventsource import Event, EventReader
from rt_twisted.codecs.response import ResponseHead, ResponseReader
from rt_twisted.codecs.sse import GAP
from rt_twisted.load.latencies import Latencies
from rt_twisted.load.ledger import Ledger, Receipt
from rt_twisted.load.target import Call, Target, kind

RETRY = 2.0  # seconds until a reader comes back if nobody says otherwise


class State(Enum):
    """
    Where a reader is.
    """

    AWAY = "away"  # not yet connected, or waiting to come back
    CALLING = "calling"
    OPEN = "open"
    GONE = "gone"


class Reader(Protocol):
    """
    One reader, over all its connections.

    Args:
        crowd: whose.
        number: of the reader.
        channels: the numbers of its channels.
        path: what it asks for.
    """

    transport: Any

    def __init__(self, crowd: Crowd, number: int, channels: Sequence[int], path: str) -> None:
        self.number = number
        self.path = path
        self.state = State.AWAY
        self.receipt = Receipt(channels)
        self.last_id = ""
        self.began = 0.0  # when it last began to connect
        self.retry = RETRY
        self.why = ""  # we hung up
        self._crowd = crowd
        self._response = ResponseReader()
        self._events = EventReader()

    def connectionMade(self) -> None:
        """
        Ask for the stream.
        """
        self.why = ""
        self._response = ResponseReader()
        self._events = EventReader(self.last_id)
        headers = ["Accept: text/event-stream", "Cache-Control: no-cache"]
        if self.last_id:
            headers.append(f"Last-Event-ID: {self.last_id}")
        self.transport.write(self._crowd.target.request(f"GET {self.path}", headers))

    def dataReceived(self, data: bytes) -> None:
        """
        Hear what comes.
        """
        response, events = self._response, self._events
        try:
            body = response.feed(data)
            if self.state is not State.OPEN and (
                response.head is None or not self._opens(response.head)
            ):
                return
            for event in events.feed(body) if body else ():
                self._crowd.heard(self, event)
        except RemoteProtocolError:
            self.hang_up("malformed")
            return
        self.last_id = events.last_id
        if events.retry is not None:
            self.retry = events.retry / 1e3
        if response.over:
            self.hang_up("ended by the server" if self.state is State.OPEN else "sent away")

    def _opens(self, head: ResponseHead) -> bool:
        if self.state is State.GONE or self.why:
            return False
        media = (head.header("content-type") or "").partition(";")[0].strip()
        if head.status == 200 and media == "text/event-stream":
            # A stream whose end is known is none: its `retry` says when to come back.
            if head.header("content-length") is None:
                self._crowd.opened(self)
            return True
        wait = head.header("retry-after") or ""
        if wait.isascii() and wait.isdigit():
            self.retry = float(wait)
        self.hang_up(
            f"status {head.status}" if head.status != 200 else f"no event stream, but {media!r}"
        )
        return False

    def hang_up(self, why: str) -> None:
        """
        End the connection.
        """
        self.why = self.why or why
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It has ended.
        """
        self.transport = None
        self._crowd.ended(self, self.why or kind(reason))


class Crowd:
    """
    All readers, and what they found.

    Args:
        target: the server.
        ledger: what is published.
        reconnect: whether those who were cut come back.
        clock: schedules.
    """

    def __init__(self, target: Target, ledger: Ledger, reconnect: bool, clock: Any) -> None:
        self.target = target
        self.ledger = ledger
        self.readers: list[Reader] = []
        self.connecting = Latencies()
        self.latency = Latencies()
        self.delivered = self.others = self.gaps = 0
        self.wrong: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.states: Counter[State] = Counter()
        self.ever_open = self.reconnects = 0
        self._reconnect = reconnect
        self._clock = clock
        self._closing = False

    def add(self, channels: Sequence[int], path: str) -> None:
        """
        One more reader, which connects at once.
        """
        reader = Reader(self, len(self.readers), channels, path)
        self.readers.append(reader)
        self.states[State.AWAY] += 1
        self._call(reader)

    def _move(self, reader: Reader, state: State) -> None:
        self.states[reader.state] -= 1
        self.states[state] += 1
        reader.state = state

    def _call(self, reader: Reader) -> None:
        if self._closing:
            return
        self._move(reader, State.CALLING)
        reader.began = self._clock.seconds()
        try:
            self.target.connect(Call(reader, self._failed), reader.number)
        except OSError as error:  # no port left, no descriptor left
            self.ended(reader, os.strerror(error.errno or 0).lower())

    def opened(self, reader: Reader) -> None:
        """
        The head of a stream has come.
        """
        self.connecting.add(self._clock.seconds() - reader.began)
        self._move(reader, State.OPEN)
        if reader.receipt.begin(self.ledger):
            self.ever_open += 1
        else:
            self.reconnects += 1

    def heard(self, reader: Reader, event: Event) -> None:
        """
        An event has come.
        """
        sent = self.ledger.find(event.data)
        if sent is None:
            if event.type == GAP:
                self.gaps += 1
            else:
                self.others += 1
            return
        wrong = reader.receipt.take(sent)
        if wrong:
            self.wrong[wrong] += 1
        if wrong in ("", "out of order"):
            self.delivered += 1
            self.latency.add(self._clock.seconds() - sent.at)

    def _failed(self, reader: Reader, reason: Failure) -> None:
        self.ended(reader, kind(reason))

    def ended(self, reader: Reader, why: str) -> None:
        """
        A connection has ended, or could not be made.
        """
        if self._closing:
            self._move(reader, State.GONE)
            return
        self.errors[why] += 1
        if not self._reconnect:
            self._move(reader, State.GONE)
            reader.receipt.end(self.ledger)
            return
        self._move(reader, State.AWAY)
        self._clock.callLater(reader.retry * random.uniform(1, 1.5), self._call, reader)

    def sweep(self) -> None:
        """
        Give up those to whom nobody answers.
        """
        late = self._clock.seconds() - self.target.patience
        for reader in self.readers:
            if reader.state is State.CALLING and reader.began < late:
                reader.hang_up("no answer")

    def lost(self) -> int:
        """
        Deliveries that have not come so far.
        """
        return sum(reader.receipt.lost(self.ledger) for reader in self.readers)

    def close(self) -> None:
        """
        All hang up.
        """
        self._closing = True
        for reader in self.readers:
            reader.hang_up("over")
