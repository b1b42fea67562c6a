"""
A publisher that records: its packets become a live stream, or plain messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.publication import LivePublication
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.media.live_run import LiveRun
from rt_twisted.media.rtp.reader import RtpReader
from rt_twisted.model.errors import HttpError
from rt_twisted.rtsp.interfaces import ConnectionInput
from rt_twisted.rtsp.requests import RtspExchange

_log = Logger()


class PacketPublisher(Protocol):
    """
    Publishes what is in packets.
    """

    def publish(self, publication: LivePublication, channel: int, data: bytes, time: int) -> None:
        """
        Publish a packet that has arrived.

        Args:
            publication: takes the messages.
            channel: interleaved, of the packet.
            data: the packet.
            time: of its arrival, in microseconds.
        """


class LivePackets:
    """
    Publishes the frames of packets as a live stream.

    Args:
        reader: of the packets.
    """

    def __init__(self, reader: RtpReader) -> None:
        self._reader = reader

    def publish(self, publication: LivePublication, channel: int, data: bytes, time: int) -> None:
        reader = self._reader
        parts = reader.feed(channel, data, time)
        if reader.problems:
            for id, reason in reader.problems:
                _log.warn(
                    "packets of track {id} of {channel} are dropped: {reason}",
                    id=id,
                    channel=publication.channel,
                    reason=reason,
                )
            reader.problems.clear()
        if parts:
            try:
                publication.feed(parts)
            except RemoteProtocolError as error:
                publication.fail(HttpError(400, error.reason))


class Recording:
    """
    Publishes what one client records, until one of both ends.

    Args:
        context: the hub and the settings.
        publisher: the right to publish.
        run: numbers the frames of a live stream.
        packets: publishes what the client sends.
        input: is paused while the broker is slow.
        end: ends the connection, with the reason.
        request: of the client, for the access log; None for no line.
        transport: that has the packets; see `LivePublication`.
    """

    times_out = True

    def __init__(
        self,
        context: ActionContext,
        publisher: LivePublisher,
        run: LiveRun,
        packets: PacketPublisher,
        input: ConnectionInput,
        end: Callable[[str], object],
        request: RtspExchange | None = None,
        transport: object = None,
    ) -> None:
        self._seconds = context.hub.seconds
        self._packets = packets
        self._input = input
        self._end = end
        self._publication = LivePublication(context, self, publisher, run, request, transport)

    def touch(self, size: int) -> None:
        """
        Note that *size* bytes were received.
        """
        self._publication.touch(size)

    def packet(self, channel: int, data: bytes) -> None:
        """
        Receive a packet.
        """
        time = round(self._seconds() * 1_000_000)
        self._packets.publish(self._publication, channel, data, time)

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
