"""
What is published here, on its way to redis: everything of one turn together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from txredisapi import ResponseError

from rt_twisted.brokers.redis.connections import RedisUnavailable, reason_of
from rt_twisted.brokers.redis.scripts import PUBLISH
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, Position, PublishResult

BATCH = 256  # drafts in one script: redis does nothing else for about 2 ms
BATCH_BYTES = 1 << 20
WAITING = 64 << 20  # bytes on the way before publishers are refused
OVERHEAD = 256
# Bytes of a message: redis' default `proto-max-bulk-len`, less what is sent around it.
LARGEST = (512 << 20) - 65536
# What redis answers to a larger one before it closes the connection.
_TOO_LARGE = "invalid bulk length"

Call = Callable[..., Deferred[Any]]


@dataclass(slots=True, eq=False)
class RedisPublication:
    """
    What one call of `publish` handed in.
    """

    drafts: Sequence[Draft]
    done: Deferred[PublishResult]
    size: int
    positions: list[Position | None] = field(default_factory=list)
    left: int = 0  # batches without an answer
    late: Any = None  # the call that gives up waiting
    error: str = ""


class RedisPublisher:
    """
    Publications, in order.

    Args:
        clock: the reactor.
        call: runs a script.
        bounds: of the channels' history, as scripts take them.
        known: is told of each position that is given.
        wait: seconds a publication may wait for redis to come back.
    """

    def __init__(
        self,
        clock: Any,
        call: Call,
        bounds: Callable[[], tuple[int, int, int]],
        known: Callable[[Position], None],
        wait: float,
    ) -> None:
        self._clock = clock
        self._call = call
        self._bounds = bounds
        self._known = known
        self._wait = wait
        self._open = False
        self._reason = "redis is not there yet"
        self._waiting: list[RedisPublication] = []
        self._bytes = 0  # of all that has no answer
        self._largest = LARGEST  # bytes of a message that redis takes, as far as is known
        self._due = False

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        See `IBroker.publish`.
        """
        if not drafts:
            return succeed(PublishResult(()))
        try:
            for draft in drafts:
                self._check(draft)
        except HttpError:
            return fail()
        if not self._open and not self._wait:
            return fail(Unavailable(self._reason))
        if self._bytes > WAITING:
            return fail(Unavailable("redis is too slow"))
        size = sum([len(draft.data) + OVERHEAD for draft in drafts])
        publication = RedisPublication(drafts, Deferred(), size)
        self._bytes += size
        self._waiting.append(publication)
        if self._open:
            self._schedule()
        else:
            publication.late = self._clock.callLater(self._wait, self._too_late, publication)
        return publication.done

    def open(self) -> None:
        """
        Redis is there.
        """
        self._open = True
        for publication in self._waiting:
            if publication.late is not None:
                publication.late.cancel()
                publication.late = None
        self._schedule()

    def close(self, reason: str) -> None:
        """
        It is not. What was sent fails by its connection; what was not may wait.
        """
        self._open = False
        self._reason = reason
        for publication in tuple(self._waiting):
            if publication.late is not None:
                continue
            if self._wait:
                publication.late = self._clock.callLater(self._wait, self._too_late, publication)
            else:
                self._too_late(publication)

    def stop(self) -> None:
        """
        Nothing is sent any more.
        """
        self._wait = 0
        for publication in self._waiting:
            if publication.late is not None:
                publication.late.cancel()
                publication.late = None
        self.close("the server is stopping")

    def _too_late(self, publication: RedisPublication) -> None:
        publication.late = None
        self._waiting.remove(publication)
        self._bytes -= publication.size
        publication.done.errback(Unavailable(self._reason))

    def _schedule(self) -> None:
        if not self._due and self._waiting:
            self._due = True
            self._clock.callLater(0, self._send)

    def _send(self) -> None:
        self._due = False
        if not self._open:
            return
        publications, self._waiting = self._waiting, []
        places: list[tuple[RedisPublication, int]] = []
        arguments: list[Any] = []
        size = 0
        batches = []
        for publication in publications:
            publication.positions = [None] * len(publication.drafts)
            for index, draft in enumerate(publication.drafts):
                if places and (len(places) >= BATCH or size + len(draft.data) > BATCH_BYTES):
                    batches.append((places, arguments))
                    places, arguments, size = [], [], 0
                places.append((publication, index))
                arguments += (
                    encode(draft.channel),
                    draft.data,
                    b"" if draft.event is None else b"e" + draft.event.encode(),
                    b"" if draft.key is None else b"k" + encode(draft.key),
                )
                size += len(draft.data)
        if places:
            batches.append((places, arguments))
        for places, _ in batches:
            for publication in dict.fromkeys([publication for publication, _ in places]):
                publication.left += 1
        for places, arguments in batches:
            answer = self._call(PUBLISH, *self._bounds(), *arguments)
            answer.addCallbacks(self._answered, self._failed, (places,), errbackArgs=(places,))

    def _answered(self, answer: list[Any], places: list[tuple[RedisPublication, int]]) -> None:
        epoch = answer[0].decode()
        newest = 0
        for (publication, index), given in zip(places, answer[1:], strict=True):
            if type(given) is int:
                publication.positions[index] = Position(epoch, given)
                newest = given
            else:
                publication.positions[index] = Position.parse(given.decode())
        if newest:
            self._known(Position(epoch, newest))
        self._count_down(places)

    def _failed(self, failure: Failure, places: list[tuple[RedisPublication, int]]) -> None:
        failure.trap(RedisUnavailable, ResponseError)
        reason = reason_of(failure.value)
        if _TOO_LARGE in reason:
            # Each further one would cost the node its connection again.
            largest = max(len(publication.drafts[index].data) for publication, index in places)
            self._largest = min(self._largest, max(0, largest - 1))
        for publication, _ in places:
            publication.error = f"redis: {reason}"
        self._count_down(places)

    def _check(self, draft: Draft) -> None:
        if len(draft.data) > self._largest:
            size = f"more than {self._largest} bytes (proto-max-bulk-len)"
            raise HttpError(413, f"redis takes no message of {size}")

    def _error_of(self, publication: RedisPublication) -> Exception:
        """
        Unavailable, or the Refusal of what can never be published.
        """
        try:
            for draft in publication.drafts:
                self._check(draft)
        except HttpError as refusal:
            return refusal
        return Unavailable(publication.error)

    def _count_down(self, places: list[tuple[RedisPublication, int]]) -> None:
        for publication in dict.fromkeys([publication for publication, _ in places]):
            publication.left -= 1
            if publication.left:
                continue
            self._bytes -= publication.size
            if publication.error:
                publication.done.errback(self._error_of(publication))
            else:
                positions = cast(list[Position], publication.positions)  # all are set now
                publication.done.callback(PublishResult(tuple(positions)))


def encode(name: str) -> bytes:
    """
    A name as redis has it; any text has its own.
    """
    return name.encode("utf-8", "surrogatepass")
