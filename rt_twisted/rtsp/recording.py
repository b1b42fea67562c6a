"""
A publisher that records: its packets become a live stream.
"""

from __future__ import annotations

from collections.abc import Callable

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.publication import LivePublication
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.media.live_run import LiveRun
from rt_twisted.media.rtp.reader import RtpReader
from rt_twisted.model.errors import HttpError
from rt_twisted.rtsp.interfaces import ConnectionInput


class Recording:
    """
    Publishes what one client records, until one of both ends.

    Args:
        context: the hub and the settings.
        publisher: the right to publish.
        run: numbers the frames.
        reader: of the packets.
        input: is paused while the broker is slow.
        end: ends the connection, with the reason.
    """

    def __init__(
        self,
        context: ActionContext,
        publisher: LivePublisher,
        run: LiveRun,
        reader: RtpReader,
        input: ConnectionInput,
        end: Callable[[str], object],
    ) -> None:
        self._seconds = context.hub.seconds
        self._reader = reader
        self._input = input
        self._end = end
        self._publication = LivePublication(context, self, publisher, run)

    def touch(self) -> None:
        """
        Note that something was received.
        """
        self._publication.touch()

    def packet(self, channel: int, data: bytes) -> None:
        """
        Receive a packet.
        """
        parts = self._reader.feed(channel, data, round(self._seconds() * 1_000_000))
        if parts:
            try:
                self._publication.feed(parts)
            except RemoteProtocolError as error:
                self._publication.fail(HttpError(400, error.reason))

    def close(self, reason: str) -> None:
        """
        End the publication; viewers wait for the publisher to return.
        """
        self._publication.close(reason)
        # Break the reference cycle, else memory is held until the garbage collector runs.
        del self._publication

    # The owner of the publication.

    def pause(self) -> None:
        self._input.pause_input()

    def resume(self) -> None:
        self._input.resume_input()

    def acknowledged(self) -> None:
        pass

    def refuse(self, error: HttpError) -> None:
        self._end(error.reason)
