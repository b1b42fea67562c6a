"""
What one websocket's client says, as bytes: whole messages come of it, within
the limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rt_twisted.codecs.websocket import Code
from rt_twisted.codecs.websocket_inbound import Inbound, Parser, Said

if TYPE_CHECKING:
    from rt_twisted.actions.websocket.websockets import Websockets

BITE = 1 << 20  # bytes, inflated, after which others have their turn
_MESSAGES = (1, 2)  # Opcode.TEXT and BINARY
_CLOSE = 8


class Intake:
    """
    One client's.

    Args:
        shared: the limits, and the second it is.
        inbound: lends a parser while a message is incomplete.

    Attributes:
        rest: bytes that wait for the next `take`: others shall have their turn
            before what comes of them.
    """

    __slots__ = (
        "_begun",
        "_bytes",
        "_frames",
        "_inbound",
        "_parser",
        "_second",
        "_shared",
        "rest",
    )

    def __init__(self, shared: Websockets, inbound: Inbound) -> None:
        self._shared = shared
        self._inbound = inbound
        self._parser: Parser | None = None  # only within a message
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
        piece = self._inbound.piece
        if len(data) <= piece and not self.rest:
            return self._feed(data)
        data, self.rest = self.rest + data, b""
        said: list[Said] = []
        bite = 0
        for at in range(0, len(data), piece):
            before = self._bytes
            more, failure = self._feed(data[at : at + piece])
            said += more
            if failure is not None or (more and more[-1][0] == _CLOSE):
                return said, failure  # bytes after a close frame are discarded (1.4)
            bite += max(0, self._bytes - before)  # a second may have begun
            if bite > BITE:
                self.rest = data[at + piece :]
                break
        return said, None

    def _feed(self, data: bytes) -> tuple[list[Said], tuple[int, str] | None]:
        shared = self._shared
        parser = self._parser or self._inbound.borrow()
        said = parser.feed(data)
        failure = parser.failure
        if self._second != shared.second:
            self._second = shared.second
            self._frames = self._bytes = 0
        self._frames += parser.frames
        size = len(data)
        self._bytes += size if size > parser.bytes else parser.bytes
        if failure is None and (
            self._frames > shared.most_frames or self._bytes > shared.most_bytes
        ):
            said, failure = [], (int(Code.POLICY), "too much at once")
        if failure is not None:
            self._parser = None  # it may hold much, and is not asked again
        elif parser.idle:
            self._inbound.give_back(parser)
            self._parser = None
        else:
            if self._parser is None or any(opcode in _MESSAGES for opcode, _ in said):
                self._begun = shared.second
            self._parser = parser
        return said, failure

    def charge(self, frames: int) -> None:
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
        spent = self._shared.second - self._begun
        return self._parser is not None and spent > self._shared.limits.message_seconds

    def excuse(self) -> None:
        """
        It was not listened to until now: what it is saying has only begun.
        """
        self._begun = self._shared.second

    def end(self) -> None:
        """
        Keep nothing.
        """
        self._parser = None
        self.rest = b""
