"""
One subscriber: its format, its transport and its backlog.

Writing is the hot path. A subscriber without a backlog is written by the socket's own
`send`. What does not fit is queued here, as references to frames that all subscribers
share. The transport gets one small piece at a time, so that it calls back when the
kernel has room again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPullProducer, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.replay_frames import PIECE, ReplayFrames
from rt_twisted.hub.sinks import DISCARD, SentBytes, Sink
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position
from rt_twisted.net.transports import close_transport, direct_socket, replace_protocol

if TYPE_CHECKING:
    from twisted.python.failure import Failure

_log = Logger()


class DisconnectReason(Enum):
    """
    Why a subscriber was disconnected; the values are the names of the counters.
    """

    CLIENT = "client"  # the client closed the connection
    LOST = "lost"  # the connection broke, or the peer does not respond
    BEHIND = "behind"  # a slow consumer: its backlog was too large
    STALLED = "stalled"  # a slow consumer: its connection accepted nothing for too long
    LIMIT = "limit"  # it received as many bytes as it had requested
    SILENT = "silent"  # it did not respond to a ping
    BROKEN = "broken"  # it violated its protocol, or a limit
    ENDED = "ended"  # the daemon ended the session
    EXPIRED = "expired"  # its grant has expired
    SHUTDOWN = "shutdown"  # the daemon stopped


class WriteMode(Enum):
    """
    What becomes of frames that are written to a subscriber which has a backlog.
    """

    QUEUED = auto()
    PARKED = auto()  # discarded until `Subscriber.resume`; the backlog is sent meanwhile
    DRAINED = auto()  # the same, and the whole backlog is sent
    ENDING = auto()  # discarded; the connection is closed when the backlog is sent


_QUEUED = WriteMode.QUEUED  # attributes of an Enum class are slow to look up


class SubscriberObserver(Protocol):
    """
    Receives the events of a subscriber; the hub is one.
    """

    def seconds(self) -> float:
        """
        Return the time; it never goes back.
        """

    def position(self) -> Position:
        """
        Return the end of the log.
        """

    def fell_behind(self, subscriber: Subscriber) -> None:
        """
        Note that *subscriber* has a backlog from now on.
        """

    def caught_up(self, subscriber: Subscriber) -> None:
        """
        Note that *subscriber* has no backlog any more.
        """

    def skipped(self, subscriber: Subscriber) -> None:
        """
        Note that the subscriber's backlog was replaced: by a gap event, or with the policy
        NEWEST by newer messages.
        """

    def parked(self, subscriber: Subscriber) -> None:
        """
        Note that *subscriber* is too far behind: what is written to it is discarded until
        `Subscriber.resume`.
        """

    def stream_ended(self, subscriber: Subscriber, last: Message | None) -> None:
        """
        End *subscriber*, whose live stream is over, or let it go on with another one.

        Args:
            subscriber: was sent all of the stream, or has it in its backlog.
            last: the last unit that it was sent; None if none is known.
        """

    def leave(self, subscriber: Subscriber, reason: DisconnectReason) -> None:
        """
        Note that *subscriber* is disconnected. Called once, whatever happens.
        """


@implementer(IProtocol, IPullProducer, IPushProducer)
class Subscriber:
    """
    The subscriber's end of a connection that was taken over for a stream.

    To Twisted it is the connection's protocol and, while it has a backlog, its producer.

    Args:
        transport: the connection; only the subscriber writes to it from now on.
        format: how messages look to this subscriber.
        observer: receives its events.
        backlog_limits: how far behind it may be.
        address: the client's, as the limits count it.
        limit: bytes after which the stream ends, for clients that keep all that they
            received in memory; 0 for none.

    Attributes:
        channels: written by the hub's catch-up only; empty while it has not joined any.
        bucket: written by the hub's heartbeats only: when it is sent a heartbeat; -1
            while it has not joined the hub.
    """

    __slots__ = (
        "_backlog",
        "_direct",
        "_feed",
        "_last_progress",
        "_paused",
        "_queued_bytes",
        "_sink",
        "address",
        "backlog_limits",
        "bucket",
        "channels",
        "format",
        "observer",
        "transport",
    )

    def __init__(
        self,
        transport: Any,
        format: IFormat,
        observer: SubscriberObserver,
        backlog_limits: BacklogLimits,
        address: str = "",
        limit: int = 0,
    ) -> None:
        self.transport = transport
        self.format = format
        self.observer = observer
        self.backlog_limits = backlog_limits
        self.address = address
        self.channels: tuple[Any, ...] = ()
        self.bucket = -1
        self._backlog: deque[Any] | None = None  # None: it is not behind
        self._queued_bytes = 0  # bytes in the backlog behind its first frame
        self._feed = _QUEUED
        self._last_progress = 0.0  # when bytes were last accepted, while it is behind
        self._paused = False  # by a transport without a socket
        direct = direct_socket(transport)
        replace_protocol(transport, self)
        self._direct = direct is not None
        self._sink: Sink = direct or self
        if limit:
            self._sink = _LimitedSink(self._sink, limit, self)
        if not self._direct:
            transport.registerProducer(self, True)

    def count_sent(self) -> SentBytes:
        """
        Return what counts the bytes that its connection accepts from now on.
        """
        counter = SentBytes(self._sink)
        self._sink = counter
        return counter

    @property
    def closed(self) -> bool:
        """
        Return whether it is disconnected; what is written to it then is discarded.
        """
        return self._sink is DISCARD

    @property
    def behind(self) -> bool:
        """
        Return whether it has a backlog.
        """
        return self._backlog is not None

    @property
    def stalled_since(self) -> float:
        """
        Return when its connection last accepted bytes (`SubscriberObserver.seconds`), while
        it has a backlog.
        """
        return self._last_progress

    @property
    def backlog_bytes(self) -> int:
        """
        Return the size of its backlog.
        """
        return self._queued_bytes + len(self._backlog[0]) if self._backlog else 0

    @property
    def may_resume(self) -> bool:
        """
        Return whether at most half of the backlog that is allowed is left.

        With more, a subscriber that was parked would be parked again soon.
        """
        return self._queued_bytes <= self.backlog_limits.bytes // 2

    def write(self, frame: bytes) -> None:
        """
        Send *frame* now, or after the backlog.
        """
        broadcast((self,), frame)

    def write_replay(self, replay: ReplayFrames) -> None:
        """
        Send *replay* piece by piece, each as soon as there is room for it. The backlog has
        references to the messages, and not their frames.
        """
        if self._backlog is not None:
            self._enqueue(replay)
            return
        while piece := self._next_piece(replay):
            try:
                sent = self._sink.send(piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop(DisconnectReason.LOST)
                return
            if self.closed:  # it reached its limit
                return
            whole = sent == len(piece)
            replay.sent(sent)
            if not whole or self._backlog is not None:
                self._fall_behind(replay)
                return

    def on_stall_timeout(self) -> None:
        """
        Apply the policy for slow consumers: its connection accepted nothing for
        `BacklogLimits.seconds`.
        """
        policy = self.backlog_limits.policy
        if policy is SlowConsumerPolicy.DISCONNECT or self._feed is WriteMode.ENDING:
            self.drop(DisconnectReason.STALLED)
        elif policy is SlowConsumerPolicy.SKIP and self._backlog and len(self._backlog) > 2:
            self._skip_backlog()

    def resume(self) -> None:
        """
        Queue or send what is written from now on; undo what `SubscriberObserver.parked` notes.
        """
        feed = self._feed
        if feed is WriteMode.PARKED or feed is WriteMode.DRAINED:
            self._feed = WriteMode.QUEUED
            if feed is WriteMode.DRAINED and not self._paused:
                self._end_backlog()

    def end_after_backlog(self) -> None:
        """
        Send what is queued and the format's end, then close the connection: the stream is
        over. A connection that accepts nothing meanwhile is dropped by the stall timeout.
        """
        self.resume()
        if self._backlog is None:
            self.end(DisconnectReason.ENDED, 0)
            return
        self._append(self._backlog, self.format.end(0))
        self._feed = WriteMode.ENDING

    def drop(self, reason: DisconnectReason) -> None:
        """
        Abort the connection; the backlog is lost.
        """
        self._close(reason)
        self.transport.abortConnection()

    def end(self, reason: DisconnectReason, retry: int) -> None:
        """
        Send when to reconnect (*retry* ms), then close the connection.

        A subscriber with a backlog is dropped instead: it resumes from its position.
        """
        self.resume()
        if not self.closed and self._backlog is None:
            self.write(self.format.end(retry))
        if self._backlog is not None:
            self.drop(reason)
            return
        self._close(reason)
        close_transport(self.transport)

    def detach(self, reason: DisconnectReason) -> None:
        """
        Stop writing, and leave the connection open for the new owner of its transport.

        Not while there is a backlog, which would be lost.
        """
        self._close(reason)

    # IProtocol and producers.

    def makeConnection(self, transport: Any) -> None:
        pass

    def connectionMade(self) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self, failure: Failure) -> None:
        self._close(
            DisconnectReason.CLIENT if failure.check(ConnectionDone) else DisconnectReason.LOST
        )

    def pauseProducing(self) -> None:
        self._paused = True
        if self._backlog is None and not self.closed:
            self._fall_behind(b"")

    def resumeProducing(self) -> None:
        self._paused = False
        backlog = self._backlog
        if backlog is None:
            return
        self._last_progress = self.observer.seconds()
        while backlog and not self._paused:
            frame = replay = backlog[0]
            if type(replay) is ReplayFrames:
                frame = self._next_piece(replay)
            try:
                sent = self._sink.send(frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop(DisconnectReason.LOST)
                return
            if self._backlog is None:  # it was disconnected
                return
            # Only the transport learns when there is room again, and only for bytes
            # that it has itself: it gets a piece of the frame.
            handed = bytes(frame[sent : sent + PIECE])
            if frame is not replay:
                replay.sent(sent + len(handed))
                if not replay:
                    self._shift(backlog)
            elif sent + len(handed) == len(frame):
                self._shift(backlog)
            else:
                backlog[0] = memoryview(frame)[sent + PIECE :]
            if handed:
                if isinstance(self._sink, SentBytes):
                    self._sink.bytes += len(handed)
                self.transport.write(handed)
                return
        if not backlog and not self._paused:
            self._on_backlog_sent()

    def stopProducing(self) -> None:
        pass

    # Backlog.

    def send(self, frame: Any) -> int:
        """
        Write *frame* to a transport without a socket; it is the sink of such a subscriber.
        """
        if type(frame) is bytes and 0 < len(frame) <= PIECE and not self._paused:
            self.transport.write(frame)
            return len(frame)
        sent = 0
        while sent < len(frame) and not self._paused:
            self.transport.write(bytes(frame[sent : sent + PIECE]))
            sent += PIECE
        return min(sent, len(frame))

    def _next_piece(self, replay: ReplayFrames) -> Any:
        try:
            return replay.piece()
        except Exception:
            # A format of a plug-in. The client reconnects and resumes without loss.
            _log.failure("{encoder} cannot encode a replay", encoder=self.format)
            self.drop(DisconnectReason.LOST)
            return b""

    def _fall_behind(self, rest: Any) -> None:
        self._backlog = deque((rest,) if rest else ())
        self._queued_bytes = 0
        self._last_progress = self.observer.seconds()
        self.observer.fell_behind(self)
        if self._direct:
            # A pull producer is resumed at once, and again whenever the transport's
            # buffer is empty.
            self.transport.registerProducer(self, False)

    def _on_backlog_sent(self) -> None:
        if self._feed is WriteMode.QUEUED:
            self._end_backlog()
        elif self._feed is WriteMode.ENDING:
            self._close(DisconnectReason.ENDED)
            close_transport(self.transport)
        else:
            self._feed = WriteMode.DRAINED

    def _end_backlog(self) -> None:
        self._backlog = None
        if self._direct:
            self.transport.unregisterProducer()
        self.observer.caught_up(self)

    def _enqueue(self, frame: bytes | ReplayFrames) -> None:
        """
        Queue *frame*; apply the policy for slow consumers if the backlog is over its bound.
        """
        backlog = self._backlog
        assert backlog is not None
        if self._feed is not _QUEUED:
            return
        if self._queued_bytes > self.backlog_limits.bytes:
            policy = self.backlog_limits.policy
            if policy is SlowConsumerPolicy.DISCONNECT:
                self.drop(DisconnectReason.BEHIND)
                return
            if policy is SlowConsumerPolicy.SYNC:
                self._feed = WriteMode.PARKED
                self.observer.parked(self)
                return
            self._skip_backlog()
        self._append(backlog, frame)

    def _append(self, backlog: deque[Any], frame: bytes | ReplayFrames) -> None:
        if backlog:
            self._queued_bytes += len(frame)
        backlog.append(frame)

    def _shift(self, backlog: deque[Any]) -> None:
        backlog.popleft()
        if backlog:
            self._queued_bytes -= len(backlog[0])

    def _skip_backlog(self) -> None:
        backlog = self._backlog
        assert backlog is not None
        # The first frame may be sent in part: it must stay.
        while len(backlog) > 1:
            backlog.pop()
        self._queued_bytes = 0
        if self.backlog_limits.policy is SlowConsumerPolicy.SKIP:
            self._append(backlog, self.format.gap(self.observer.position()))
        self.observer.skipped(self)

    def _close(self, reason: DisconnectReason) -> None:
        if self.closed:
            return
        if not self._direct or self._backlog is not None:
            self.transport.unregisterProducer()
        self._sink = DISCARD
        if self._backlog is not None:
            self._backlog = None
            self.observer.caught_up(self)
        self.observer.leave(self, reason)


def broadcast(subscribers: Iterable[Subscriber], frame: bytes) -> None:
    """
    Write *frame* to each of *subscribers*, as `Subscriber.write` does.

    This is the hottest loop of the daemon: a call or a further attribute lookup per
    subscriber is measurable.
    """
    size = len(frame)
    for subscriber in subscribers:
        if subscriber._backlog is not None:
            subscriber._enqueue(frame)
            continue
        try:
            sent = subscriber._sink.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            subscriber.drop(DisconnectReason.LOST)
            continue
        if sent != size:
            subscriber._fall_behind(memoryview(frame)[sent:])


class _LimitedSink:
    """
    Counts the bytes sent, and ends the stream at the limit.
    """

    __slots__ = ("_left", "_sink", "_subscriber")

    def __init__(self, sink: Sink, limit: int, subscriber: Subscriber) -> None:
        self._sink = sink
        self._left = limit
        self._subscriber = subscriber

    def send(self, frame: Any) -> int:
        sent = self._sink.send(frame)
        self._left -= sent
        subscriber = self._subscriber
        if self._left <= 0 and sent == len(frame) and subscriber._backlog is None:
            subscriber._sink = self._sink
            subscriber.end(DisconnectReason.LIMIT, 0)
        return sent
