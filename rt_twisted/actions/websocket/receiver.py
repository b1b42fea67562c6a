"""
What one websocket's client sends, as bytes: whole messages come of it, within
the limits.
"""

from __future__ import annotations

from rt_twisted.actions.websocket.context import WebSocketContext
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.codecs.websocket_inbound import FrameParser, Said

READ_QUOTA = 1 << 20  # bytes, inflated, after which others have their turn
_MESSAGES = (1, 2)  # Opcode.TEXT and BINARY


class MessageReceiver:
    """
    One client's.

    Args:
        context: the limits, and the second it is.
        deflate: compression was agreed on.

    Attributes:
        rest: bytes that wait for the next `take`: others shall have their turn
            before what comes of them.
    """

    __slots__ = (
        "_begun",
        "_bytes",
        "_context",
        "_deflate",
        "_frames",
        "_parser",
        "_second",
        "rest",
    )

    def __init__(self, context: WebSocketContext, deflate: bool) -> None:
        self._context = context
        self._deflate = deflate
        # Only within a message: a parser costs less to make than to keep.
        self._parser: FrameParser | None = None
        self.rest = b""  # not fed yet
        self._begun = 0  # when that message did
        self._frames = 0  # what was said in one second
        self._bytes = 0
        self._second = 0  # and in which

    def take(self, data: bytes) -> tuple[list[Said], tuple[int, str] | None]:
        """
        Take the next bytes, however they are cut.

        Args:
            data: b"" to go on with `rest`.

        Returns:
            what they completed, in order; and, if the connection has to be
            closed, the code and the reason.
        """
        parser = self._parser
        if parser is None:
            parser = FrameParser(self._context.limits.message, self._deflate)
        if len(data) <= parser.piece and not self.rest:
            return self._feed(parser, data)
        data, self.rest = self.rest + data, b""
        said: list[Said] = []
        bite = 0
        for at in range(0, len(data), parser.piece):
            before = self._bytes
            more, failure = self._feed(parser, data[at : at + parser.piece])
            said += more
            if parser.closed:
                return said, failure  # bytes after a close frame are discarded (1.4)
            bite += max(0, self._bytes - before)  # a second may have begun
            if bite > READ_QUOTA:
                self.rest = data[at + parser.piece :]
                break
        return said, None

    def _feed(self, parser: FrameParser, data: bytes) -> tuple[list[Said], tuple[int, str] | None]:
        context = self._context
        said = parser.feed(data)
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
            said = []
            parser.fail(CloseCode.POLICY, "too much at once")
        if parser.idle:
            self._parser = None
        else:
            if self._parser is None or any(opcode in _MESSAGES for opcode, _ in said):
                self._begun = context.second
            self._parser = parser
        return said, parser.failure

    def consume_rate(self, frames: int) -> None:
        """
        What the client said was as dear as so many frames more: they count in
        this second, and what it says next is too much if they are.
        """
        self._frames += frames

    @property
    def is_slow(self) -> bool:
        """
        Whether the client has been saying one message for too long, which waits here.
        """
        parser = self._parser
        if parser is None or parser.closed:
            return False
        return self._context.second - self._begun > self._context.limits.message_seconds

    @property
    def held(self) -> int:
        """
        Bytes, about, that wait here for more.
        """
        return len(self.rest) + (self._parser.held if self._parser is not None else 0)

    def excuse(self) -> None:
        """
        It was not listened to until now: what it is saying has only begun.
        """
        self._begun = self._context.second

    def end(self) -> None:
        """
        Keep nothing.
        """
        self._parser = None
        self.rest = b""
