"""
The interface of formats.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Attribute, Interface

from rt_twisted.model.message import Message, Position, Replay


class IFormat(Interface):
    """
    How messages look on one kind of wire.

    A format is pure, immutable and hashable; equal formats share one encoding. Every
    method returns whole frames: any two results may be joined or sent separately.
    """

    content_type = Attribute("str: the media type of the stream.")
    heartbeat = Attribute('bytes: an empty frame that keeps proxies from closing; may be b"".')

    def start(replay: Replay) -> Sequence[bytes | Message]:
        """
        Return what a subscriber that joins now is sent, in order: preamble, a gap if the
        replay is not complete, missed messages, and a cursor.

        Returns:
            Frames as bytes, which may be empty; and messages, as references. Each message is
            encoded by `encode` when there is room to send it, perhaps much later.
        """

    def encode(message: Message) -> bytes:
        """
        Return the frame of *message*, the same for all subscribers.
        """

    def cursor(position: Position) -> bytes:
        """
        Return a frame that moves the client's cursor without a message; b"" where the
        wire has none.
        """

    def gap(position: Position) -> bytes:
        """
        Return a frame that reports that messages up to *position* were dropped.
        """

    def end(retry: int) -> bytes:
        """
        Return the last frame before the connection is closed. The client should reconnect
        in *retry* ms; 0 leaves it to the client.
        """


class IExpiringFormat(IFormat):
    """
    A format that can notify a client that its stream will end.
    """

    def expire(seconds: int, position: Position | None) -> bytes:
        """
        Return a frame that reports that the stream ends in *seconds*, as the client's grant
        does.

        Args:
            seconds: at most; 0 for at once.
            position: up to which the client has received everything; None if that is not
                known now.
        """


class IEndingFormat(IFormat):
    """
    A format whose streams end with the live stream of their channel; so do those of each
    `ISyncFormat`. Streams of other formats go on without frames.
    """


class ISyncFormat(IFormat):
    """
    A format that can begin only at some messages, such as the head of a live stream.

    `start` begins at the first such message of its replay, and leaves out those before.
    """

    def is_resync_point(message: Message) -> bool:
        """
        Return whether a subscriber can begin, or go on after a skip, at *message*.
        """

    def must_restart(message: Message) -> bool:
        """
        Return whether a stream that has begun cannot go on at *message*, because the codec
        or the size changes. The subscriber's stream is ended; it may connect again.
        """

    def resumed(last: Message | None, first: Message) -> IFormat:
        """
        Return the format for a subscriber that was last sent *last* and goes on at *first*.

        Its timeline has no hole between the two. It does not begin again: no `start` is
        called, and *first* is encoded as the next message. Equal shifts give equal formats.

        Args:
            last: None if the subscriber was sent no message yet.
            first: a resync point.
        """
