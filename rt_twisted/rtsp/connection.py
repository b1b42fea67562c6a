"""
One RTSP connection: requests in order, and the packets between them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.ingest.publication import CONNECTION_LOST
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.stream_handle import Find, PeerInfo
from rt_twisted.hub.duplex import CloseHandshake, DuplexSubscriber
from rt_twisted.model.errors import Header, HttpError
from rt_twisted.net.inbound_memory import SMALL, Reservation
from rt_twisted.net.transports import close_transport, direct_send, drained, replace_protocol
from rt_twisted.rtsp.dialogue import Dialogue
from rt_twisted.rtsp.interfaces import Reply
from rt_twisted.rtsp.messages import (
    InterleavedPacket,
    MessageParser,
    RtspItem,
    RtspRequest,
    write_response,
)
from rt_twisted.rtsp.requests import RtspExchange, TunnelHead
from rt_twisted.rtsp.server import HANDSHAKE_SECONDS, SESSION_GRACE, SESSION_SECONDS, RtspServer
from rt_twisted.rtsp.session import RtspState

_log = Logger()

MAX_QUEUED = 4096  # requests and packets behind a request that is being answered
MAX_QUEUED_BYTES = 1024 * 1024
_STATUS = {429: 453, 409: 455}  # of RTSP, for those of HTTP that it lacks


@implementer(IProtocol)
class RtspConnection:
    """
    Answers the requests of one client in order, each when the one before it is answered.

    Args:
        server: what all connections share.
        find: returns the action for a method and a path.
        peer: the client.
        tunnel: the HTTP request that carries the connection; None for a connection of its own.

    Attributes:
        parser: of what the client sends.
        subscriber: the client as a subscriber, while it plays.
        closed: the connection is lost, or about to be closed.
        input: the transport that is read; in a tunnel it is another one.
        when_lost: called when the connection is lost.
    """

    def __init__(
        self,
        server: RtspServer,
        find: Find | None,
        peer: PeerInfo,
        tunnel: TunnelHead | None = None,
    ) -> None:
        self.server = server
        self.parser = MessageParser()
        self.peer = peer
        self.subscriber: DuplexSubscriber | None = None
        self.closed = False
        self.transport: Any = None
        self.input: Any = None
        self.when_lost: Callable[[], object] = lambda: None
        self._tunnel = tunnel
        self._dialogue = Dialogue(self, find)
        self._queue: deque[RtspItem | RemoteProtocolError] = deque()
        self._queued_bytes = 0  # at least what the queue has
        self._busy = False  # a request is being answered
        self._holding = False  # nothing is read until then: others wait behind it
        self._processing = False
        self._pauses = 0
        self._received_at: float = server.reactor.seconds()
        self._begun_at: float = self._received_at  # of the handshake
        self._busy_since = 0.0
        self._timer: Any = None
        self._reserved: Reservation | None = None  # for incomplete input

    # Called by Twisted.

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.input = self.input or transport
        self._set_timer()

    def connectionMade(self) -> None:
        """
        Do nothing: makeConnection has done it.
        """

    def dataReceived(self, data: bytes) -> None:
        self.on_input(data)

    def connectionLost(self, reason: Failure) -> None:
        self.on_lost()

    # The owner of a duplex subscriber.

    def on_input(self, data: bytes) -> None:
        """
        Receive the next bytes of the connection, which mean nothing in the GET of a tunnel.
        """
        if self._tunnel is None:
            self.feed(data)

    def feed(self, data: bytes) -> None:
        """
        Receive the next bytes of the client.
        """
        if self.closed:
            return
        self._received_at = self.server.reactor.seconds()
        self._dialogue.touch(len(data))
        self._queued_bytes = self._queued_bytes + len(data) if self._queue else len(data)
        items: list[RtspItem] = []
        try:
            self.parser.feed(data, items)
            self._queue.extend(items)
        except RemoteProtocolError as error:
            self._queue.extend((*items, error))
        self._reserve(self.parser.buffered)
        if self.closed:  # its memory was needed for other input
            return
        if len(self._queue) > MAX_QUEUED or self._queued_bytes > MAX_QUEUED_BYTES:
            self.abort("too many requests at once")
            return
        self._process()
        if self._tunnel is not None and self._is_held() and not self.closed:
            self.input.pauseProducing()  # the subscriber has paused the other half

    def on_resumed(self) -> None:
        """
        Process what was received while output was buffered.
        """
        self._process()
        if not self._pauses and not self.closed:
            self.input.resumeProducing()
        if self.input is not self.transport and not self.closed:
            self.transport.resumeProducing()

    def on_closing(self, closing: CloseHandshake) -> None:
        """
        Do nothing: RTSP has no closing handshake.
        """

    def on_lost(self) -> None:
        """
        Release what belongs to the connection.
        """
        self.closed = True
        self._queue.clear()
        self._reserve(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._dialogue.end(CONNECTION_LOST)
        self._dialogue.release()
        # Break the reference cycle, else memory is held until the garbage collector runs.
        del self._dialogue
        when_lost, self.when_lost = self.when_lost, lambda: None
        when_lost()

    # The input.

    def pause_input(self) -> None:
        """
        Receive nothing more until `resume_input`. Pauses nest.
        """
        self._pauses += 1
        if self._pauses == 1 and not self.closed:
            self.input.pauseProducing()

    def resume_input(self) -> None:
        """
        Undo one `pause_input`.
        """
        self._pauses -= 1
        if not self._pauses and not self.closed and not self._is_held():
            self.input.resumeProducing()

    def drop_input(self) -> None:
        """
        Close the connection: the memory of its input is needed.
        """
        self.abort("too much incomplete input")

    def _reserve(self, size: int) -> None:
        """
        Reserve memory for *size* bytes of incomplete input, unless they are few.
        """
        if self._reserved is None:
            if size > SMALL:
                self._reserved = self.server.inbound.open(self)
                self._reserved.grow(size)
        elif size:
            self._reserved.resize(size)
        else:
            reserved, self._reserved = self._reserved, None
            reserved.close()
            if reserved.paused:  # TLS had more bytes behind the pause
                self.resume_input()

    def _is_held(self) -> bool:
        """
        Return whether output is buffered: nothing is read meanwhile.
        """
        return self.subscriber is not None and self.subscriber.pauses > 0

    def _process(self) -> None:
        if self._processing:
            return
        self._processing = True
        try:
            while self._queue and not (self._busy or self.closed or self._is_held()):
                item = self._queue.popleft()
                if isinstance(item, InterleavedPacket):
                    self._dialogue.packet(item)
                elif isinstance(item, RtspRequest):
                    self._begin(item)
                elif isinstance(item, RemoteProtocolError):
                    self.write(_response(None, Reply(item.status, reason=item.reason)))
                    self.close()
        finally:
            self._processing = False
        # Not before: a client that leaves while its only request is answered would not be noticed.
        if self._busy and self._queue and not (self._holding or self.closed):
            self._holding = True
            self.pause_input()

    def _begin(self, request: RtspRequest) -> None:
        self._busy = True
        self._busy_since = self.server.reactor.seconds()
        answered = ensureDeferred(self._answer(request))
        answered.addErrback(lambda failure: self._on_unexpected(failure))
        answered.addBoth(self._on_answered)

    def _on_answered(self, _: object) -> None:
        self._busy = False
        self._begun_at += self.server.reactor.seconds() - self._busy_since
        if self._holding:
            self._holding = False
            self.resume_input()
        self._process()

    def _on_unexpected(self, failure: Failure) -> None:
        _log.failure("while answering an RTSP request", failure)
        self.abort("internal error")

    async def _answer(self, request: RtspRequest) -> None:
        try:
            exchange = RtspExchange(request, self.peer, lambda: self.closed, self._tunnel)
            reply = await self._dialogue.answer(exchange)
        except HttpError as error:
            status = _STATUS.get(error.status, error.status)
            is_wrong = error.status == 401 and "authorization" in request.headers
            stale = any("stale=true" in value for _, value in error.headers)
            reply = Reply(status, error.headers, reason=error.reason, closes=is_wrong and not stale)
        except RemoteProtocolError as error:
            reply = Reply(error.status, reason=error.reason)
        except ConnectionLost:
            return
        except Exception:
            _log.failure("while answering an RTSP request")
            reply = Reply(500, reason="internal error")
        if reply is None or self.closed:
            return
        self.write(self.response(request, reply))
        if reply.then is not None:
            reply.then()
        if reply.closes:
            self.close()
        elif not self.closed and self.subscriber is None:
            await self._flush()

    # The output.

    async def _flush(self) -> None:
        """
        Wait until the kernel has what was written, for HANDSHAKE_SECONDS at most.

        A subscriber then cannot overtake it, and a client that does not read is not read either.
        """
        if direct_send(self.transport) is None:
            return
        reason = "the client does not read"
        timer = self.server.reactor.callLater(HANDSHAKE_SECONDS, self.abort, reason)
        if not await drained(self.transport):
            self.closed = True
        if timer.active():
            timer.cancel()

    def response(self, request: RtspRequest, reply: Reply) -> bytes:
        """
        Return the bytes of the response to *request*.
        """
        return _response(request.headers.get("cseq"), reply)

    def write(self, data: bytes) -> None:
        """
        Send *data*, which are whole messages.
        """
        if self.subscriber is not None:
            self.subscriber.subscriber.write(data)
        else:
            self.transport.write(data)

    def take_back(self) -> None:
        """
        Receive the input again, instead of the duplex subscriber, which has left the hub.
        """
        self.subscriber = None
        replace_protocol(self.transport, self)

    def close(self) -> None:
        """
        Close the connection when all that was written is sent, within HANDSHAKE_SECONDS.
        """
        if not self.closed:
            self.closed = True
            self._queue.clear()
            self._dialogue.end("the publisher has broken the protocol")
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.server.reactor.callLater(HANDSHAKE_SECONDS, self._check)
            close_transport(self.transport)

    def abort(self, reason: str) -> None:
        """
        Close the connection at once, for *reason*.
        """
        if not self.closed:
            _log.debug("an RTSP connection is closed: {reason}", reason=reason)
            self.closed = True
            self._queue.clear()
            self._dialogue.end(reason)
            self.transport.abortConnection()

    # Time.

    def _deadline(self) -> float:
        state = self._dialogue.state
        if self._dialogue.times_out or self._busy or self._is_held():
            return math.inf
        if state is RtspState.INIT:
            return self._begun_at + HANDSHAKE_SECONDS
        return self._received_at + SESSION_SECONDS + SESSION_GRACE

    def begin_handshake(self) -> None:
        """
        Give the client the time of a new connection: it has ended its session.
        """
        self._begun_at = self.server.reactor.seconds()

    def _set_timer(self) -> None:
        left = min(self._deadline() - self.server.reactor.seconds(), HANDSHAKE_SECONDS)
        self._timer = self.server.reactor.callLater(max(left, 0.1), self._check)

    def _check(self) -> None:
        self._timer = None
        if self.closed:
            self.transport.abortConnection()  # the client does not read what is left
        elif self._deadline() <= self.server.reactor.seconds():
            self.abort("the client was silent for too long")
        else:
            self._set_timer()


def _response(cseq: str | None, reply: Reply) -> bytes:
    headers: list[Header] = [("CSeq", cseq)] if cseq is not None else []
    headers += reply.headers
    body = reply.body
    if reply.reason and not body:
        headers.append(("Content-Type", "text/plain; charset=utf-8"))
        body = f"{reply.reason}\n".encode(errors="replace")
    return write_response(reply.status, headers, body)
