"""
The interface of formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

from rt_twisted.model.message import Message, Position, Replay

if TYPE_CHECKING:
    pass


class IFormat(Interface):
    """
    How messages look on one kind of wire. Pure, immutable, hashable; equal
    formats share one encoding. Every method returns whole frames: any two
    results may be joined or sent apart.
    """

    content_type = Attribute("str: the media type of the stream.")
    heartbeat = Attribute("bytes: a frame that says nothing, to keep proxies awake; may be empty.")

    def start(replay: Replay) -> Sequence[bytes | Message]:
        """
        What a subscriber that joins now is sent, in order: preamble, a gap if the
        replay is not complete, what was missed, and a cursor.

        Returns:
            frames as bytes, which may be empty; and messages, as references. Each is
            encoded by `encode` when there is room to send it, perhaps much later.
        """

    def encode(message: Message) -> bytes:
        """
        *message* for everyone.
        """

    def cursor(position: Position) -> bytes:
        """
        Move the reader's cursor without a message; empty where the wire has none.
        """

    def gap(position: Position) -> bytes:
        """
        Say that messages up to *position* were dropped for this reader.
        """

    def end(retry: int) -> bytes:
        """
        The last bytes before the daemon hangs up; the reader shall come back
        in *retry* ms, 0 for whenever it likes.
        """
