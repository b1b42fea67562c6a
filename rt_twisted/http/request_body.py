"""
The body of one request, from the parser to the action that receives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rt_twisted.http.channel import ResponseChannel
from rt_twisted.http.collected_body import body_memory_exhausted
from rt_twisted.http.held_body import BOUNDARY, HeldBody
from rt_twisted.http.interfaces import IChunkSink
from rt_twisted.net.inbound_memory import Reservation


class RequestBody:
    """
    Delivers a body to the sink of an action, and holds what is received before that.

    Provides `IncompleteInput`: the bodies of all requests together are bounded.

    Args:
        channel: of the request.
        length: bytes of the body; None if that is not known yet.
        ends_at_length: the channel calls `end` at once behind *length* bytes, as HTTP/1 does.

    Attributes:
        complete: all of it was received.
        streaming: it may take as long as it likes, if it goes on.
        timeout: seconds between two pieces of a streaming body; 0 for those of the server.
        buffered: bytes that wait for `deliver_to` or `resume`.
        paused: not received on, as all bodies together are too large.
        held: not received on, as the action has paused it.
        failure: why it will never be complete; None while it may be.
    """

    __slots__ = (
        "_channel",
        "_counted",
        "_delivering",
        "_discards",
        "_on_chunk_end",
        "_on_error",
        "_reserved",
        "_sink",
        "_waiting",
        "_whole",
        "buffered",
        "complete",
        "failure",
        "held",
        "paused",
        "streaming",
        "timeout",
    )

    def __init__(self, channel: ResponseChannel, length: int | None, ends_at_length: bool) -> None:
        self._channel = channel
        self._whole = length if ends_at_length else None
        self.complete = length == 0
        self.streaming = self.paused = self.held = False
        self.timeout = 0.0
        self.buffered = 0
        self.failure: Exception | None = None
        self._sink: Any = None
        self._on_chunk_end: Callable[[], object] | None = None  # of the sink
        self._on_error: Callable[[], object] | None = None  # set while there is a sink
        self._delivering = False
        self._discards = False  # what no sink receives
        self._waiting: HeldBody | None = None  # the buffered part
        self._counted = True  # it is in memory
        self._reserved: Reservation | None = None  # once some of it is here

    def __bytes__(self) -> bytes:
        """
        Return what is buffered.
        """
        return bytes(self._waiting or b"")

    # For the action.

    def deliver_to(self, sink: Any, on_error: Callable[[], object]) -> None:
        """
        Deliver the body to *sink*, what is buffered at once.

        Args:
            sink: provides `IBodySink`.
            on_error: called with the exception that *sink* raised as the current one. The rest of
                the body is not delivered then.
        """
        self._sink, self._on_error = sink, on_error
        if self.buffered:
            self._deliver_waiting()
            if not self.held:
                self._channel.read_more()
        elif self.failure is not None:
            self.fail(self.failure)
        elif self.complete:
            self._end_sink()

    def stream(self, sink: Any, timeout: float) -> None:
        """
        Let `deliver_to` take as long as it takes, and report the ends of chunks.

        Args:
            sink: that of `deliver_to`; may provide `IChunkSink`.
            timeout: seconds between two pieces; 0 for that of the server.
        """
        self.streaming = True
        self.timeout = timeout
        self.stop_counting()
        if IChunkSink.providedBy(sink):
            self._on_chunk_end = sink.chunk_end

    def pause(self) -> None:
        """
        Stop to deliver; see `IExchange.pause`.
        """
        if not self.held:
            self.held = True
            self._channel.read_more()

    def resume(self) -> None:
        """
        Deliver on; see `IExchange.resume`.
        """
        if self.held:
            self.held = False
            self._deliver_waiting()
            if not self.held:
                self._channel.read_more()

    def stop_counting(self) -> None:
        """
        Take the body out of `InboundMemory`.
        """
        self._counted = self.paused = False
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def discard(self) -> None:
        """
        Keep nothing of the body unless there is a sink: the request is answered.
        """
        self._discards = True
        self._counted = self.paused = False
        if self._reserved is not None:
            self.stop_counting()

    # For the parser.

    def feed(self, piece: bytes) -> None:
        """
        Receive the next bytes.
        """
        ready = self._sink is not None and not self.held
        # A piece that is the whole body is not kept.
        if self._counted and not (ready and len(piece) == self._whole):
            if self._reserved is None:
                self._reserved = self._channel.context.inbound_memory.open(self)
            self._reserved.grow(len(piece))
        if self._sink is not None and not self.held and not self.buffered:
            self._deliver(piece)
        elif self._sink is not None or not self._discards:
            self._hold().add(piece)
            self.buffered += len(piece)

    def end_chunk(self) -> None:
        """
        Receive the end of an HTTP chunk that was not empty.
        """
        if self._sink is not None and not self.held and not self.buffered:
            self._deliver_chunk_end()
        elif (self._sink is None and not self._discards) or self._on_chunk_end is not None:
            self._hold().end_chunk()
            self.buffered += BOUNDARY
            if self._reserved is not None:
                self._reserved.grow(BOUNDARY)

    def end(self) -> None:
        """
        Receive the end.
        """
        if not self.complete:
            self.complete = True
            self._end_sink()

    def fail(self, reason: Exception) -> None:
        """
        End a body that will never be complete: it is malformed, too slow or refused.
        """
        self.failure = reason
        self.stop_counting()
        self._waiting = None
        sink, self._sink, self._on_error = self._sink, None, None
        if sink is not None:
            sink.lost(reason)

    # Called by `InboundMemory`.

    def pause_input(self) -> None:
        self.paused = True  # the channel checks this when it has parsed what it has read

    def resume_input(self) -> None:
        self.paused = False
        self._channel.read_more()

    def drop_input(self) -> None:
        self.paused = self._counted = False
        self._waiting = None
        error = body_memory_exhausted()
        if self.complete:
            self.fail(error)
        else:
            self._channel.reject_body(error)

    # Delivery.

    def _hold(self) -> HeldBody:
        if self._waiting is None:
            self._waiting = HeldBody()
        return self._waiting

    def _deliver_waiting(self) -> None:
        """
        Deliver what is buffered, and the end of the body, until the action pauses.
        """
        if self._delivering or self._sink is None:
            return
        self._delivering = True
        while (waiting := self._waiting) and not self.held and self._sink is not None:
            if self._on_chunk_end is None:
                self._deliver(waiting.take_all())
                continue
            piece = waiting.take()
            if piece is None:
                self._deliver_chunk_end()
            else:
                self._deliver(piece)
        self._delivering = False
        self.buffered = len(waiting) if waiting else 0
        if self.failure is not None:
            self.fail(self.failure)
        elif self.complete:
            self._end_sink()

    def _deliver(self, piece: bytes) -> None:
        try:
            self._sink.data(piece)
        except Exception:
            self._on_sink_error()

    def _deliver_chunk_end(self) -> None:
        if self._on_chunk_end is not None:
            try:
                self._on_chunk_end()
            except Exception:
                self._on_sink_error()

    def _end_sink(self) -> None:
        if self.held or self._delivering or self.buffered:
            return
        sink, on_error = self._sink, self._on_error
        self._sink = self._on_error = None
        if sink is not None:
            try:
                sink.end()
            except Exception:
                if on_error is not None:
                    on_error()
            if self._counted:
                self.stop_counting()

    def _on_sink_error(self) -> None:
        on_error = self._on_error
        self._sink = self._on_error = None
        if on_error is not None:
            on_error()
