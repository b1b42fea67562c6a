"""
The publisher of the redis broker: it sends what one reactor turn publishes in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from rt_twisted.brokers.publisher import MAX_PENDING_BYTES, Publication
from rt_twisted.brokers.redis.copies import CopyNames, encode
from rt_twisted.brokers.redis.errors import RedisUnavailable, ResponseError, reason_of
from rt_twisted.brokers.redis.scripts import PUBLISH
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, Position, PublishResult

BATCH = 256  # drafts in one script: redis does nothing else for about 2 ms
BATCH_BYTES = 1 << 20
OVERHEAD = 256  # bytes counted for a draft beside its data
# Bytes of a message: redis' default `proto-max-bulk-len`, less what is sent around it.
MAX_MESSAGE_BYTES = (512 << 20) - 65536
# What redis answers to a larger one before it closes the connection.
_TOO_LARGE = "invalid bulk length"

Call = Callable[..., Deferred[Any]]
Batch = list[tuple[Publication, int]]  # the drafts of one script: publication and index


class RedisPublisher:
    """
    Sends publications to redis, in order.

    Args:
        clock: the reactor.
        call: runs a script.
        bounds: returns the bounds of the channels' history and those of transient drafts,
            as scripts take them.
        on_position: called with the newest position of each batch.
        copies: the names of plain copies.
        on_copy_denied: called with the reason when redis denies one.
        wait: seconds that a publication may wait for redis to come back.
    """

    def __init__(
        self,
        clock: Any,
        call: Call,
        bounds: Callable[[], tuple[int, ...]],
        on_position: Callable[[Position], None],
        copies: CopyNames,
        on_copy_denied: Callable[[str], None],
        wait: float,
    ) -> None:
        self._clock = clock
        self._call = call
        self._bounds = bounds
        self._on_position = on_position
        self._copies = copies
        self._on_copy_denied = on_copy_denied
        self._wait = wait
        self._open = False
        self._reason = "redis is not there yet"
        self._waiting: list[Publication] = []
        self._timeouts: dict[Publication, Any] = {}  # delayed calls, while redis is away
        self._pending_bytes = 0
        self._max_message = MAX_MESSAGE_BYTES  # lower once redis has refused a message
        self._scheduled = False

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Queue *drafts*; see `IBroker.publish`.
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
        if self._pending_bytes > MAX_PENDING_BYTES:
            return fail(Unavailable("redis is too slow"))
        publication = Publication(drafts)
        self._pending_bytes += _size(drafts)
        self._waiting.append(publication)
        if self._open:
            self._schedule()
        else:
            self._start_timeout(publication)
        return publication.done

    def open(self) -> None:
        """
        Send what waits: redis is connected.
        """
        self._open = True
        self._cancel_timeouts()
        self._schedule()

    def close(self, reason: str) -> None:
        """
        Stop sending: redis is away.

        What was sent already fails with its connection; the rest waits for the time
        that is left to it.
        """
        self._open = False
        self._reason = reason
        for publication in tuple(self._waiting):
            if publication not in self._timeouts:
                self._start_timeout(publication)

    def stop(self) -> None:
        """
        Fail what waits, and refuse all that is published from now on.
        """
        self._wait = 0
        self._cancel_timeouts()
        self.close("the server is stopping")

    def _start_timeout(self, publication: Publication) -> None:
        if self._wait:
            timeout = self._clock.callLater(self._wait, self._expire, publication)
            self._timeouts[publication] = timeout
        else:
            self._expire(publication)

    def _cancel_timeouts(self) -> None:
        for timeout in self._timeouts.values():
            timeout.cancel()
        self._timeouts.clear()

    def _expire(self, publication: Publication) -> None:
        self._timeouts.pop(publication, None)
        self._waiting.remove(publication)
        self._pending_bytes -= _size(publication.drafts)
        publication.fail(Unavailable(self._reason))

    def _schedule(self) -> None:
        if not self._scheduled and self._waiting:
            self._scheduled = True
            self._clock.callLater(0, self._send)

    def _send(self) -> None:
        self._scheduled = False
        if not self._open:
            return
        publications, self._waiting = self._waiting, []
        batch: Batch = []
        size = 0
        for publication in publications:
            for index, draft in enumerate(publication.drafts):
                if batch and (len(batch) >= BATCH or size + len(draft.data) > BATCH_BYTES):
                    self._send_batch(batch)
                    batch, size = [], 0
                batch.append((publication, index))
                size += len(draft.data)
        if batch:
            self._send_batch(batch)

    def _send_batch(self, batch: Batch) -> None:
        arguments: list[Any] = []
        for publication, index in batch:
            draft = publication.drafts[index]
            arguments += (
                encode(draft.channel),
                draft.data,
                _event(draft),
                b"" if draft.key is None else b"k" + encode(draft.key),
                self._copies.of_draft(draft),
            )
        answer = self._call(PUBLISH, *self._bounds(), self._copies.announcement, *arguments)
        answer.addCallbacks(self._on_answer, self._on_failure, (batch,), errbackArgs=(batch,))

    def _on_answer(self, answer: list[Any], batch: Batch) -> None:
        self._pending_bytes -= _batch_size(batch)
        epoch, places = answer[0].decode(), answer[2:]
        if answer[1]:
            self._on_copy_denied(answer[1].decode(errors="replace"))
        offsets = [given for given in places if type(given) is int]
        if offsets:  # those of known idempotency keys are positions of before, as text
            self._on_position(Position(epoch, offsets[-1]))
        for (publication, index), given in zip(batch, places, strict=True):
            known = type(given) is not int
            publication.place(
                index, Position.parse(given.decode()) if known else Position(epoch, given)
            )

    def _on_failure(self, failure: Failure, batch: Batch) -> None:
        failure.trap(RedisUnavailable, ResponseError)
        self._pending_bytes -= _batch_size(batch)
        reason = reason_of(failure.value)
        if _TOO_LARGE in reason:
            # Each further one would cost the node its connection again.
            largest = max(len(publication.drafts[index].data) for publication, index in batch)
            self._max_message = min(self._max_message, max(0, largest - 1))
        for publication in dict.fromkeys([publication for publication, _ in batch]):
            publication.fail(self._error_of(publication, reason))

    def _check(self, draft: Draft) -> None:
        if len(draft.data) > self._max_message:
            size = f"more than {self._max_message} bytes (proto-max-bulk-len)"
            raise HttpError(413, f"redis takes no message of {size}")

    def _error_of(self, publication: Publication, reason: str) -> Exception:
        """
        Return Unavailable, or the HttpError of a draft that can never be published.
        """
        try:
            for draft in publication.drafts:
                self._check(draft)
        except HttpError as error:
            return error
        return Unavailable(f"redis: {reason}")


def _size(drafts: Sequence[Draft]) -> int:
    return sum([len(draft.data) + OVERHEAD for draft in drafts])


def _batch_size(batch: Batch) -> int:
    return _size([publication.drafts[index] for publication, index in batch])


def _event(draft: Draft) -> bytes:
    if draft.transient:
        return b"t" + (draft.event or "").encode()
    return b"" if draft.event is None else b"e" + draft.event.encode()
