"""
One HTTP/2 request, and the right to answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from zope.interface import implementer

from rt_twisted.http.body import too_large
from rt_twisted.http.exchange import HttpExchange, has_length
from rt_twisted.http.file_body import FileBody
from rt_twisted.http.interfaces import Detach, IExchange, StreamHandle
from rt_twisted.http.refusals import respond_to
from rt_twisted.http.site import SiteChannel
from rt_twisted.model.errors import Header, HttpError

if TYPE_CHECKING:
    from twisted.web.server import Site

    from rt_twisted.http.h2_stream import Http2Stream


@implementer(IExchange)
class Http2Exchange:
    """
    Asks as an HTTP/1.1 request does, and answers on a stream.

    Args:
        stream: where the answer goes.
        request: what was asked; its own answers are not used.
    """

    __slots__ = (
        "_channel",
        "_request",
        "_stream",
        "_watcher",
        "answered",
        "length",
        "method",
        "path",
        "query_string",
        "raw_headers",
        "refused",
        "target",
    )

    framed = False  # streams have frames of their own
    secure = True
    version = "2"

    def __init__(self, stream: Http2Stream, request: HttpExchange) -> None:
        self._stream = stream
        self._request = request
        self._channel: SiteChannel | None = None
        self._watcher: Callable[[], object] | None = None
        self.answered = False
        self.refused = 0  # the status of the refusal that it is answered with
        self.method = request.method
        self.path = request.path
        self.query_string = request.query_string
        self.target = request.target
        self.length = request.length
        self.raw_headers = request.raw_headers

    # The request.

    @property
    def address(self) -> str:
        """
        See `IExchange`.
        """
        return self._request.address

    @property
    def local(self) -> bool:
        """
        See `IExchange`.
        """
        return self._request.local

    @property
    def scheme(self) -> str:
        """
        See `IExchange`.
        """
        return self._request.scheme

    def header(self, name: str) -> str | None:
        """
        See `IExchange`.
        """
        return self._request.header(name)

    def query(self) -> Mapping[str, list[str]]:
        """
        See `IExchange`.
        """
        return self._request.query()

    def cookies(self) -> Mapping[str, str]:
        """
        See `IExchange`.
        """
        return self._request.cookies()

    def read(self, limit: int) -> Deferred[bytes]:
        """
        See `IExchange`.
        """
        return self._request.read(limit)

    def receive(self, sink: Any) -> None:
        """
        See `IExchange`.
        """
        self._request.receive(sink)

    def gone(self) -> None:
        """
        The client is: nobody hears an answer.
        """
        watcher = None if self.answered else self._watcher
        self.answered = True
        if watcher is not None:
            watcher()
        self._request.body_lost(ConnectionLost())
        if self._channel is not None:
            self._channel.lost(ConnectionLost())

    def watch(self, lost: Callable[[], object]) -> None:
        """
        See `IExchange`.
        """
        self._watcher = lost

    # The answer.

    def answer(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "",
        headers: Sequence[Header] = (),
    ) -> None:
        """
        See `IExchange`.
        """
        if self.answered:
            return
        head = self._head(status, content_type, headers, len(body))
        if self.method == "HEAD":
            body = b""
        self.started(status, len(body))
        self._stream.write_head(head, end=not body)
        self._stream.write(body)
        self.finished()

    def answer_file(
        self,
        status: int,
        file: BinaryIO,
        parts: Sequence[bytes | range],
        content_type: str,
        headers: Sequence[Header] = (),
    ) -> None:
        """
        See `IExchange`.
        """
        stream, size = self._stream, sum(map(len, parts))

        def done() -> None:
            stream.unregisterProducer()
            self.finished()

        if self.answered:
            file.close()
            return
        empty = self.method == "HEAD" or not size
        self.started(status, 0 if empty else size)
        stream.write_head(self._head(status, content_type, headers, size), end=empty)
        if empty:
            file.close()
            self.finished()
            return
        stream.registerProducer(
            FileBody(file, parts, stream.write, done, stream.abortConnection), False
        )

    def _head(self, status: int, content_type: str, headers: Sequence[Header], size: int) -> bytes:
        head = self._stream.server.head(status, content_type, headers, self.header("origin"))
        if has_length(self.method, status, size):
            head += b"Content-Length: %d\r\n" % size
        return head

    def refuse(self, refusal: HttpError) -> None:
        """
        See `IExchange`.
        """
        response = respond_to(self, refusal)
        self.refused = refusal.status
        self.answer(response.status, response.body, response.content_type, response.headers)

    def open(self, content_type: str, headers: Sequence[Header] = ()) -> StreamHandle:
        """
        See `IExchange`.
        """
        if self.answered:
            raise ConnectionLost
        self.started(200)
        stream = self._stream
        stream.write_head(stream.server.head(200, content_type, headers, self.header("origin")))
        stream.detach()
        return StreamHandle(stream, b"")

    def upgrade(self, headers: Sequence[Header]) -> StreamHandle:
        """
        See `IExchange`. Nobody asks so for a websocket: browsers open an
        HTTP/1.1 connection for it, unless RFC 8441 is offered to them.
        """
        raise HttpError(501, "HTTP/2 has no upgrades: ask by HTTP/1.1")

    def hand_off(self, take: Detach) -> Deferred[bool]:
        """
        See `IExchange`. Never: other streams have the same connection, which is
        all that a client needs to come here each time.
        """
        return succeed(False)

    def render(self, site: Site, depth: int) -> None:
        """
        See `IExchange`.
        """
        limit = self._stream.server.limits.body
        if self.length is not None and self.length > limit:
            raise too_large(limit)
        there: Any = _SiteConnection(self._stream)
        here: Any = self
        self._channel = SiteChannel(there, here, site, depth)
        self._request.feed_site(self._channel)

    def started(self, status: int, size: int = 0) -> None:
        """
        The answer begins; it cannot be another one any more.
        """
        self.answered = True
        self._request.forget_body()
        log: Any = self._stream.server.access_log
        if log is not None:
            log(self, status, size)

    def finished(self) -> None:
        """
        The answer is whole.
        """
        self._stream.loseConnection()


class _SiteConnection:
    """
    What `SiteChannel` asks of a connection, and of its transport.

    Args:
        stream: that of the request.
    """

    def __init__(self, stream: Http2Stream) -> None:
        self.transport = self.writer = self
        self.server = stream.server
        self._stream = stream
        self._begun = False
        self.lend = stream.registerProducer
        self.take_back = stream.unregisterProducer
        self.getPeer = stream.getPeer
        self.getHost = stream.getHost
        self.loseConnection = stream.loseConnection
        self.abortConnection = stream.abortConnection

    def stays_open(self, exchange: Any) -> bool:
        """
        Whatever becomes of this request, the connection serves others.
        """
        return True

    def drain(self) -> None:
        """
        The response's end waits behind the response by itself.
        """

    def write(self, data: bytes) -> None:
        """
        The head first, then pieces of the body.
        """
        if self._begun:
            self._stream.write(data)
            return
        self._begun = True
        self._stream.write_head(data)

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """
        Some of them.
        """
        self.write(b"".join(pieces))
