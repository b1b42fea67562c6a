"""
The input of one websocket: bytes in, whole messages out, within the limits.
"""

from __future__ import annotations

from rt_twisted.actions.websocket.context import WebSocketContext
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.codecs.websocket_inbound import FrameParser, WebSocketEvent

_MESSAGES = (1, 2)  # Opcode.TEXT and BINARY


class MessageReceiver:
    """
    Parses the frames of one client, and enforces its rate and size limits.

    Args:
        context: limits, metrics and the current second.
        deflate: whether compression was negotiated.

    Attributes:
        unparsed: bytes that wait for the next `receive`, because the quota of this turn of
            the reactor was spent, by this client or others.
    """

    __slots__ = (
        "_bytes",
        "_context",
        "_deflate",
        "_frames",
        "_parser",
        "_second",
        "_started",
        "unparsed",
    )

    def __init__(self, context: WebSocketContext, deflate: bool) -> None:
        self._context = context
        self._deflate = deflate
        # None between messages: creating a parser is cheaper than keeping one per client.
        self._parser: FrameParser | None = None
        self.unparsed = b""
        self._started = 0  # second in which the incomplete message began
        self._frames = 0  # received in `_second`
        self._bytes = 0  # received in `_second`, decompressed
        self._second = 0

    def receive(self, data: bytes) -> tuple[list[WebSocketEvent], tuple[int, str] | None]:
        """
        Parse the next bytes, however they are split.

        Args:
            data: b"" to continue with `unparsed`.

        Returns:
            the completed messages and control frames, in order; and code and reason
            if the connection has to be closed, else None.
        """
        parser = self._parser
        if parser is None:
            parser = FrameParser(self._context.limits.message, self._deflate)
        if len(data) <= parser.max_feed and not self._deflate:
            return self._feed(parser, data)
        quota = self._context.inflating
        data, self.unparsed = self.unparsed + data, b""
        events: list[WebSocketEvent] = []
        for at in range(0, len(data), parser.max_feed):
            if self._deflate and quota.left <= 0:
                self.unparsed = data[at:]
                break
            more, failure = self._feed(parser, data[at : at + parser.max_feed])
            events += more
            if parser.closed:
                return events, failure  # bytes after a close frame are discarded (1.4)
            if self._deflate:
                quota.spend(parser.bytes)
        return events, None

    def _feed(
        self, parser: FrameParser, data: bytes
    ) -> tuple[list[WebSocketEvent], tuple[int, str] | None]:
        context = self._context
        events = parser.feed(data)
        if self._second != context.second:
            self._second = context.second
            self._frames = self._bytes = 0
        self._frames += parser.frames
        context.metrics.websocket_frames += parser.frames
        size = len(data)
        self._bytes += size if size > parser.bytes else parser.bytes
        if parser.failure is None and (
            self._frames > context.max_frames or self._bytes > context.max_bytes
        ):
            events = []
            parser.fail(CloseCode.POLICY, "too much at once")
        if parser.idle:
            self._parser = None
        else:
            if self._parser is None or any(opcode in _MESSAGES for opcode, _ in events):
                self._started = context.second
            self._parser = parser
        return events, parser.failure

    def consume_rate(self, frames: int) -> None:
        """
        Count an expensive message as *frames* more frames of this second.

        The limit takes effect with the next bytes of the client.
        """
        self._frames += frames

    @property
    def is_slow(self) -> bool:
        """
        Whether one message has been incomplete for longer than its time limit.
        """
        parser = self._parser
        if parser is None or parser.closed:
            return False
        return self._context.second - self._started > self._context.limits.message_seconds

    @property
    def buffered(self) -> int:
        """
        Bytes that wait for more input, approximately.
        """
        return len(self.unparsed) + (self._parser.buffered if self._parser is not None else 0)

    def restart_timer(self) -> None:
        """
        Give the incomplete message its full time again, after reading was paused.
        """
        self._started = self._context.second

    def discard(self) -> None:
        """
        Free all buffered input.
        """
        self._parser = None
        self.unparsed = b""
