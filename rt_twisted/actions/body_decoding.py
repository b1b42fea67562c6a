"""
Decode the content codings of request bodies, not too much of them in one turn of the reactor.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from rt_twisted.actions.context import ActionContext
from rt_twisted.codecs.content_coding import decode_in_steps
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.collected_body import body_memory_exhausted
from rt_twisted.model.errors import HttpError
from rt_twisted.net.inbound_memory import Reservation


class BodyDecoding:
    """
    Decodes one body. While it waits for the next turn, its memory counts as incomplete input.

    Args:
        context: has the quota and the memory for input.
        codings: as of `decode_in_steps`, and the next two.
        body: as received.
        limit: bytes of the decoded body.
    """

    def __init__(self, context: ActionContext, codings: list[str], body: bytes, limit: int) -> None:
        self._quota = context.inflate_quota
        self._inbound = context.inbound
        self._size = len(body)
        self._steps = decode_in_steps(codings, body, limit)
        self._reserved: Reservation | None = None
        self._later: Deferred[bytes] | None = None

    def start(self) -> bytes | Deferred[bytes]:
        """
        Return the decoded body, or a Deferred of it if it cannot be decoded in this turn.

        Raises:
            HttpError: 400 or 413, it cannot be decoded. The Deferred may also fail with 503,
                there is too much incomplete input.
        """
        decoded = self._decode()
        if decoded is not None:
            return decoded
        later = self._later = Deferred()
        self._reserved = self._inbound.open(self)
        self._reserved.grow(self._size)  # may drop it at once
        self._quota.wait(self._continue)
        return later

    # What `InboundMemory` calls.

    def pause_input(self) -> None:
        pass  # all of it was received

    def resume_input(self) -> None:
        pass

    def drop_input(self) -> None:
        self._steps.close()
        self._fail(body_memory_exhausted())

    def _decode(self) -> bytes | None:
        """
        Decode on; return None if the quota of this turn is spent.
        """
        quota = self._quota
        try:
            while quota.left > 0:
                size = next(self._steps)
                self._size += size
                quota.spend(size)
        except StopIteration as end:
            decoded: bytes = end.value
            return decoded
        except RemoteProtocolError as error:
            raise HttpError(error.status, error.reason) from None
        return None

    def _continue(self) -> None:
        if self._later is None or self._reserved is None:
            return  # it was dropped
        try:
            decoded = self._decode()
        except HttpError as error:
            self._reserved.close()
            self._fail(error)
            return
        if decoded is None:
            self._quota.wait(self._continue)
            self._reserved.resize(self._size)
            return
        self._reserved.close()
        later, self._later = self._later, None
        later.callback(decoded)

    def _fail(self, error: HttpError) -> None:
        later, self._later = self._later, None
        if later is not None:
            later.errback(error)
