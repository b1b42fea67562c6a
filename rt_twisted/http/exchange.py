"""
One HTTP/1.1 request, and the right to answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.codecs.addresses import AddressHeader, client_address, forwarded_scheme, last_scheme
from rt_twisted.codecs.query import parse_cookies, parse_query
from rt_twisted.http.body import BodyBuffer, too_large, too_many_bodies
from rt_twisted.http.file_body import FileBody
from rt_twisted.http.interfaces import Detach, IExchange, StreamHandle
from rt_twisted.http.refusals import respond_to
from rt_twisted.http.request import RequestHead
from rt_twisted.http.site import SiteChannel
from rt_twisted.model.errors import Header, HttpError
from rt_twisted.net.inbound_memory import Reservation

if TYPE_CHECKING:
    from twisted.web.server import Site

    from rt_twisted.http.h1 import Http1Connection

_log = Logger()

MAX_FIELDS = 1000  # in a query
ON_DISK = 100_000  # bytes of a body from which twisted.web has it in a file
_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via")
_NOTHING: Mapping[str, list[str]] = {}


@implementer(IExchange)
class HttpExchange:
    """
    What `Connection` makes of a request whose head is complete.

    Args:
        connection: where it came from, and where the answer goes.
        method: as it came.
        head: checked; its target begins with a slash, or is the asterisk.
        framed: HTTP/1.1: bodies of unknown length go in chunks.
        length: bytes of the body; None if it comes in chunks.

    Raises:
        Refusal: 400, the path is not text.
    """

    __slots__ = (
        "_body",
        "_channel",
        "_file",
        "_headers",
        "_metrics",
        "_query",
        "_reserved",
        "_sink",
        "_watcher",
        "answered",
        "complete",
        "connection",
        "failure",
        "framed",
        "held",
        "keep_alive",
        "length",
        "method",
        "path",
        "query_string",
        "raw_headers",
        "refused",
        "streaming",
        "target",
        "waits",
    )

    def __init__(
        self,
        connection: Http1Connection,
        method: str,
        head: RequestHead,
        framed: bool,
        length: int | None,
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = head.target
        self.raw_headers = head.raw_headers
        self.framed = framed
        self.length = length
        self.keep_alive = True  # the client wants to ask more
        self.answered = False
        self.refused = 0  # the status of the refusal that it is answered with
        self.complete = length == 0  # the body has come
        self.streaming = False  # the body may take as long as it likes
        self._headers = head.headers
        self._query: Mapping[str, list[str]] | None = None
        self._sink: Any = None
        self._channel: SiteChannel | None = None
        self._file: FileBody | None = None  # being sent
        self.held = 0  # bytes of the body that nobody wanted yet
        self.waits = False  # it is not read on, as all bodies together are too large
        self._reserved: Reservation | None = None  # for the body, once some of it is here
        self._metrics = True  # it is in memory
        self.failure: Exception | None = None  # why the body will never be whole
        self._watcher: Callable[[], object] | None = None
        self._body = bytearray()  # what came before somebody wanted it
        path, _, query = head.target.partition(b"?")
        if b"%" in path:
            path = unquote_to_bytes(path)
        try:
            self.path = path.decode()
        except UnicodeDecodeError:
            raise HttpError(400, "the path is not UTF-8") from None
        if "\0" in self.path:
            raise HttpError(400, "the path has a NUL in it")
        self.query_string = query.decode("latin-1")

    # The request.

    @property
    def version(self) -> str:
        """
        Of HTTP, as a log line has it.
        """
        return "1.1" if self.framed else "1.0"

    @property
    def peer(self) -> str:
        """
        The address of the other end of the connection; "" for a unix socket.
        """
        return str(getattr(self.connection.peer, "host", "")).removeprefix("::ffff:")

    @property
    def address(self) -> str:
        """
        See `IExchange`.
        """
        limits = self.connection.server.limits
        if not limits.trusted_proxies:
            return self.peer
        kind = limits.address_header
        return client_address(self.peer, self.header(kind) or "", kind, limits.trusted_proxies)

    @property
    def local(self) -> bool:
        """
        See `IExchange`.
        """
        peer = self.peer
        near = not peer or peer == "::1" or peer.startswith("127.")
        # nginx adds none of these headers by itself, but speaks HTTP/1.0.
        return near and self.framed and not any(name in self._headers for name in _FORWARDED)

    @property
    def secure(self) -> bool:
        """
        See `IExchange`.
        """
        return self.connection.secure

    @property
    def scheme(self) -> str:
        """
        See `IExchange`.
        """
        limits = self.connection.server.limits
        own = "https" if self.connection.secure else "http"
        if self.peer not in limits.trusted_proxies:
            return own
        if limits.address_header is AddressHeader.FORWARDED:
            return forwarded_scheme(self.header("forwarded") or "") or own
        return last_scheme(self.header("x-forwarded-proto") or "") or own

    def header(self, name: str) -> str | None:
        """
        See `IExchange`.
        """
        value = self._headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    def query(self) -> Mapping[str, list[str]]:
        """
        See `IExchange`.
        """
        if self._query is None:
            if not self.query_string:
                return _NOTHING
            if self.query_string.count("&") >= MAX_FIELDS:
                raise HttpError(400, "too many fields in the query")
            self._query = parse_query(self.query_string)
        return self._query

    def cookies(self) -> Mapping[str, str]:
        """
        See `IExchange`.
        """
        return parse_cookies(self.header("cookie") or "")

    # Its body.

    def read(self, limit: int) -> Deferred[bytes]:
        """
        See `IExchange`.
        """
        whole = BodyBuffer(limit)
        if self.length is not None and self.length > limit:
            whole.lost(too_large(limit))
        else:
            self._take(whole)
        return whole.done

    def receive(self, sink: Any) -> None:
        """
        See `IExchange`.
        """
        self.streaming = True
        self.forget_body()
        self._take(sink)

    def _take(self, sink: Any) -> None:
        self._sink = sink
        if self._body:
            body, self._body = bytes(self._body), bytearray()
            self._give(body)
        if self.held:
            self.held = 0
            self.connection.rearm()
        if self.failure is not None:
            self.body_lost(self.failure)
        elif self.complete:
            self._end()
        elif self.framed and self.header("expect") is not None:
            self.connection.send_continue()

    def _end(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.end()
            except Exception:
                self._fail()
            self.forget_body()

    def pause_input(self) -> None:
        """
        See `IncompleteInput`.
        """
        self.waits = True  # the connection asks when it has parsed what it has read

    def resume_input(self) -> None:
        """
        See `IncompleteInput`.
        """
        self.waits = False
        self.connection.rearm()

    def drop_input(self) -> None:
        """
        See `IncompleteInput`.
        """
        self.waits = self._metrics = False
        self.connection.refuse_body(self, too_many_bodies())

    def forget_body(self) -> None:
        """
        It does not count any more.
        """
        self._metrics = self.waits = False
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _give(self, piece: bytes) -> None:
        if self._sink is not None:
            try:
                self._sink.data(piece)
            except Exception:
                self._fail()

    def _fail(self) -> None:
        """
        Who reads the body has raised: log it, and answer, or close if that is too late.
        """
        self._sink = None
        _log.failure("while reading the body of {path}", path=self.path)
        self.connection.body_failed(self)

    def body_data(self, piece: bytes) -> None:
        """
        The next piece has come.
        """
        if self._metrics:
            if self._reserved is None:
                self._reserved = self.connection.server.inbound.open(self)
            self._reserved.grow(len(piece))
        if self._sink is not None:
            self._give(piece)
        elif not self.answered:
            self._body += piece
            self.held += len(piece)

    def body_end(self) -> None:
        """
        It is whole.
        """
        if not self.complete:
            self.complete = True
            self._end()

    def body_lost(self, reason: Exception) -> None:
        """
        It will never be: malformed, or too slow.
        """
        self.failure = reason
        self.forget_body()
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.lost(reason)

    def gone(self) -> None:
        """
        The client is: nobody hears an answer.
        """
        watcher = None if self.answered else self._watcher
        self.answered = True
        if watcher is not None:
            watcher()
        self.body_lost(ConnectionLost())
        if self._channel is not None:
            self._channel.lost(ConnectionLost())
        if self._file is not None:
            self._file.stopProducing()

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
        self.connection.writer.write(head + body)
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
        connection = self.connection
        writer, transport = connection.writer, connection.transport
        size = sum(map(len, parts))

        def done() -> None:
            writer.take_back()
            writer.drain()
            self.finished()

        if self.answered:
            file.close()
            return
        head = self._head(status, content_type, headers, size)
        if self.method == "HEAD" or not size:
            file.close()
            self.started(status)
            writer.write(head)
            self.finished()
            return
        self.started(status, size)
        transport.write(head)
        self._file = FileBody(file, parts, transport.write, done, transport.abortConnection)
        writer.lend(self._file, False)

    def _head(self, status: int, content_type: str, headers: Sequence[Header], size: int) -> bytes:
        connection = self.connection
        lines = [connection.server.head(status, content_type, headers, self.header("origin"))]
        if has_length(self.method, status, size):
            lines.append(b"Content-Length: %d\r\n" % size)
        if connection.stays_open(self):
            # A 426 has `Connection: Upgrade`; by HTTP/1.1 the connection stays open anyway.
            if not any(name == "Connection" for name, _ in headers):
                lines.append(connection.server.kept_alive)
        else:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

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
        connection = self.connection
        connection.refuse_half_closed(self)
        self.started(200)
        origin = self.header("origin")
        head = connection.server.head(200, content_type, headers, origin)
        framing = b"Transfer-Encoding: chunked" if self.framed else b"Connection: close"
        return StreamHandle(connection.detach(), b"%s%s\r\n\r\n" % (head, framing))

    def upgrade(self, headers: Sequence[Header]) -> StreamHandle:
        """
        See `IExchange`.
        """
        if not self.framed:
            raise HttpError(501, "HTTP/1.0 has no upgrades: ask by HTTP/1.1")
        if self.answered:
            raise ConnectionLost
        connection = self.connection
        connection.refuse_half_closed(self)
        self.started(101)
        head = connection.server.head(101, "", headers, self.header("origin"))
        rest = connection.take_rest()
        return StreamHandle(connection.detach(), head + b"\r\n", rest)

    def render(self, site: Site, depth: int) -> None:
        """
        See `IExchange`.
        """
        limit = self.connection.server.limits.body
        if self.length is not None and self.length > limit:
            raise too_large(limit)
        if not self.framed:
            self.keep_alive = False
        self._channel = SiteChannel(self.connection, self, site, depth)
        self.feed_site(self._channel)

    def feed_site(self, channel: SiteChannel) -> None:
        """
        Let *channel* have the body, whole.
        """
        channel.start(self.length)
        if self.length is None or self.length >= ON_DISK:
            self.forget_body()
        self._take(channel)

    def hand_off(self, take: Detach) -> Deferred[bool]:
        """
        See `IExchange`.
        """
        done: Deferred[bool] = Deferred()
        # What came with the head is parsed by then, and nothing else is read.
        clock = self.connection.server.clock
        clock.callLater(0, lambda: done.callback(self.connection.hand_off(self, take)))
        return done

    def repeated(self) -> bytes:
        """
        The request as it may have come, with what has come of its body.
        """
        lines = [b"%s %s HTTP/%s\r\n" % (self.method.encode(), self.target, self.version.encode())]
        lines += [b"%s: %s\r\n" % header for header in self.raw_headers]
        lines.append(b"\r\n")
        body = bytes(self._body)
        if self.length is None:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        return b"".join(lines) + body

    def started(self, status: int, size: int = 0) -> None:
        """
        The answer begins; it cannot be another one any more.
        """
        self.answered = True
        self.forget_body()
        log = self.connection.server.access_log
        if log is not None:
            log(self, status, size)

    def finished(self) -> None:
        """
        The answer is whole.
        """
        self.connection.finished(self)


def has_length(method: str, status: int, size: int) -> bool:
    """
    Whether a response says its length (RFC 9110, 8.6): 204 and 304 never have a
    body, and to HEAD none may be said that a GET would not have.
    """
    return status not in (204, 304) and (size > 0 or method != "HEAD")
