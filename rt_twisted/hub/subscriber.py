"""
One reader: its format, its transport, and how far it is behind.

Writing is the hot path. A reader for whom nothing waits is written by the
socket's own `send`; what does not fit waits here, as references to frames that
all readers share, and the transport gets one small piece at a time, so that it
calls back when the kernel has room again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPullProducer, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.replay_frames import PIECE, ReplayFrames
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Position
from rt_twisted.net.transports import Send, direct_send, hand_over, hang_up

if TYPE_CHECKING:
    from twisted.python.failure import Failure

_log = Logger()


class DisconnectReason(Enum):
    """
    Why a reader is gone; the values are the names of the counters.
    """

    CLIENT = "client"  # it hung up
    LOST = "lost"  # its connection broke, or its host is silent
    BEHIND = "behind"  # too many bytes were waiting for it
    STALLED = "stalled"  # it took nothing for too long
    LIMIT = "limit"  # it had asked for no more than so many bytes
    SILENT = "silent"  # it did not answer a ping
    BROKEN = "broken"  # it broke the rules of its protocol, or a limit
    ENDED = "ended"  # our side of its conversation was over
    SHUTDOWN = "shutdown"  # the daemon stops


class SubscriberObserver(Protocol):
    """
    Who is told how a subscriber fares: the hub.
    """

    def seconds(self) -> float:
        """
        The time; does not go back.
        """

    def position(self) -> Position:
        """
        The end of the log.
        """

    def fell_behind(self, subscriber: Subscriber) -> None:
        """
        Bytes wait for it from now on.
        """

    def caught_up(self, subscriber: Subscriber) -> None:
        """
        None wait any more.
        """

    def skipped(self, subscriber: Subscriber) -> None:
        """
        Messages were dropped for it, and it was told.
        """

    def leave(self, subscriber: Subscriber, cause: DisconnectReason) -> None:
        """
        It is gone. Called once, whatever happens.
        """


@implementer(IProtocol, IPullProducer, IPushProducer)
class Subscriber:
    """
    A reader's end of a connection that was taken over for a stream.

    To Twisted it is the connection's protocol and, while it is behind, its
    producer.

    Args:
        transport: the connection; nobody else writes to it from now on.
        format: what messages look like to this reader.
        audience: who is told.
        patience: how far behind it may be.
        address: the client's, as the limits count it.
        limit: bytes after which the stream ends, for clients that keep all
            they got in memory; 0 for none.
    """

    __slots__ = (
        "_backlog",
        "_direct",
        "_paused",
        "_progress",
        "_send",
        "_waiting",
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
        self.channels: tuple[Any, ...] = ()  # the hub's
        self.bucket = -1  # the hub's: when it is sent a heartbeat; -1 while it has not joined
        self._backlog: deque[Any] | None = None  # None: nothing waits
        self._waiting = 0  # bytes in the backlog behind its first frame
        self._progress = 0.0  # when it last took something, while it is behind
        self._paused = False  # transports without a socket say when to stop
        send = direct_send(transport)
        hand_over(transport, self)
        self._direct = send is not None
        self._send: Send = send or self._through_transport
        if limit:
            self._send = _Limited(self._send, limit, self)
        if not self._direct:
            transport.registerProducer(self, True)

    @property
    def closed(self) -> bool:
        """
        Whether it has left; what is written to it then goes nowhere.
        """
        return self._send is _discard

    @property
    def behind(self) -> bool:
        """
        Whether something waits for it.
        """
        return self._backlog is not None

    @property
    def stalled_since(self) -> float:
        """
        When it last took something (`Audience.seconds`), if it is behind.
        """
        return self._progress

    @property
    def backlog_bytes(self) -> int:
        """
        Bytes that wait here until it can be sent more.
        """
        return self._waiting + len(self._backlog[0]) if self._backlog else 0

    def write(self, frame: bytes) -> None:
        """
        Send *frame* now, or as soon as what waits before it is sent.
        """
        broadcast((self,), frame)

    def write_replay(self, replay: ReplayFrames) -> None:
        """
        Send *replay*, each piece as soon as there is room for it: what waits here is
        references to its messages.
        """
        if self._backlog is not None:
            self._queue(replay)
            return
        while piece := self._next_piece(replay):
            try:
                sent = self._send(piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop(DisconnectReason.LOST)
                return
            if self.closed:  # that was as much as it had asked for
                return
            whole = sent == len(piece)
            replay.sent(sent)
            if not whole or self._backlog is not None:
                self._fall_behind(replay)
                return

    def on_stall_timeout(self) -> None:
        """
        It has taken nothing for longer than its patience: apply the policy.
        """
        if self.backlog_limits.policy is SlowConsumerPolicy.DISCONNECT:
            self.drop(DisconnectReason.STALLED)
        elif self._backlog is not None and len(self._backlog) > 2:
            self._skip()

    def drop(self, cause: DisconnectReason) -> None:
        """
        Hang up at once; what waits is lost.
        """
        self._leave(cause)
        self.transport.abortConnection()

    def end(self, cause: DisconnectReason, retry: int) -> None:
        """
        Say when to come back (*retry* ms), then hang up. A reader that is
        behind is dropped: it resumes from its position.
        """
        if not self.closed and self._backlog is None:
            self.write(self.format.end(retry))
        if self._backlog is not None:
            self.drop(cause)
            return
        self._leave(cause)
        hang_up(self.transport)

    def detach(self, cause: DisconnectReason) -> None:
        """
        Write nothing more, and leave the connection as it is to whoever took
        its transport over. Not while it is behind: what waits would be lost.
        """
        self._leave(cause)

    # What Twisted calls.

    def makeConnection(self, transport: Any) -> None:
        """
        Not called: the connection was made before it was taken over.
        """

    def connectionMade(self) -> None:
        """
        Not called either.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        What a reader says after its request has no meaning.
        """

    def connectionLost(self, reason: Failure) -> None:
        """
        The client hung up, or is found to be gone.
        """
        self._leave(
            DisconnectReason.CLIENT if reason.check(ConnectionDone) else DisconnectReason.LOST
        )

    def pauseProducing(self) -> None:
        """
        The transport has enough; only transports without a socket say so.
        """
        self._paused = True
        if self._backlog is None and not self.closed:
            self._fall_behind(b"")

    def resumeProducing(self) -> None:
        """
        The transport has sent what it had: give it the next piece.
        """
        self._paused = False
        backlog = self._backlog
        if backlog is None:
            return
        self._progress = self.observer.seconds()
        while backlog and not self._paused:
            frame = replay = backlog[0]
            if type(replay) is ReplayFrames:
                frame = self._next_piece(replay)
            try:
                sent = self._send(frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop(DisconnectReason.LOST)
                return
            if self._backlog is None:  # it is gone
                return
            # Only the transport can tell when there is room again, and only
            # about bytes of its own: a piece of the frame is its reminder.
            reminder = bytes(frame[sent : sent + PIECE])
            if frame is not replay:
                replay.sent(sent + len(reminder))
                if not replay:
                    self._shift(backlog)
            elif sent + len(reminder) == len(frame):
                self._shift(backlog)
            else:
                backlog[0] = memoryview(frame)[sent + PIECE :]
            if reminder:
                self.transport.write(reminder)
                return
        if not backlog and not self._paused:
            self._catch_up()

    def stopProducing(self) -> None:
        """
        The connection is being lost; connectionLost follows.
        """

    # Being behind.

    def _through_transport(self, frame: Any) -> int:
        sent = 0
        while sent < len(frame) and not self._paused:
            self.transport.write(bytes(frame[sent : sent + PIECE]))
            sent += PIECE
        return min(sent, len(frame))

    def _next_piece(self, replay: ReplayFrames) -> Any:
        try:
            return replay.piece()
        except Exception:
            # Somebody's own format. The client resumes, and misses nothing unsaid.
            _log.failure("{codec} cannot encode a replay", codec=self.format)
            self.drop(DisconnectReason.LOST)
            return b""

    def _fall_behind(self, rest: Any) -> None:
        self._backlog = deque((rest,) if rest else ())
        self._waiting = 0
        self._progress = self.observer.seconds()
        self.observer.fell_behind(self)
        if self._direct:
            # A pull producer is asked at once, and again whenever the
            # transport has nothing left.
            self.transport.registerProducer(self, False)

    def _catch_up(self) -> None:
        self._backlog = None
        if self._direct:
            self.transport.unregisterProducer()
        self.observer.caught_up(self)

    def _queue(self, frame: bytes | ReplayFrames) -> None:
        backlog = self._backlog
        assert backlog is not None
        if self._waiting > self.backlog_limits.bytes:
            if self.backlog_limits.policy is SlowConsumerPolicy.DISCONNECT:
                self.drop(DisconnectReason.BEHIND)
                return
            self._skip()
        self._append(backlog, frame)

    def _append(self, backlog: deque[Any], frame: bytes | ReplayFrames) -> None:
        if backlog:
            self._waiting += len(frame)
        backlog.append(frame)

    def _shift(self, backlog: deque[Any]) -> None:
        backlog.popleft()
        if backlog:
            self._waiting -= len(backlog[0])

    def _skip(self) -> None:
        backlog = self._backlog
        assert backlog is not None
        # The first frame may be sent in part: it has to stay.
        while len(backlog) > 1:
            backlog.pop()
        self._waiting = 0
        self._append(backlog, self.format.gap(self.observer.position()))
        self.observer.skipped(self)

    def _leave(self, cause: DisconnectReason) -> None:
        if self.closed:
            return
        if not self._direct or self._backlog is not None:
            self.transport.unregisterProducer()
        self._send = _discard
        if self._backlog is not None:
            self._backlog = None
            self.observer.caught_up(self)
        self.observer.leave(self, cause)


def broadcast(subscribers: Iterable[Subscriber], frame: bytes) -> None:
    """
    `Subscriber.write` for each of *readers*: the loop that everything else is
    there for. A call per reader, or a second look at an attribute, shows.
    """
    size = len(frame)
    for subscriber in subscribers:
        if subscriber._backlog is not None:
            subscriber._queue(frame)
            continue
        send = subscriber._send
        try:
            sent = send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            subscriber.drop(DisconnectReason.LOST)
            continue
        if sent != size:
            subscriber._fall_behind(memoryview(frame)[sent:])


class _Limited:
    """
    Counts what is sent, and ends the stream when it is enough.
    """

    __slots__ = ("_left", "_send", "_subscriber")

    def __init__(self, send: Send, limit: int, subscriber: Subscriber) -> None:
        self._send = send
        self._left = limit
        self._subscriber = subscriber

    def __call__(self, frame: Any) -> int:
        sent = self._send(frame)
        self._left -= sent
        subscriber = self._subscriber
        if self._left <= 0 and sent == len(frame) and subscriber._backlog is None:
            subscriber._send = self._send
            subscriber.end(DisconnectReason.LIMIT, 0)
        return sent


def _discard(frame: Any) -> int:
    return len(frame)
