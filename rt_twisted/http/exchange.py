"""
One HTTP request, and the right to answer it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, BinaryIO, ClassVar
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.codecs.addresses import AddressHeader, client_address, forwarded_scheme, last_scheme
from rt_twisted.codecs.chunks import LAST_CHUNK, chunk
from rt_twisted.codecs.query import MAX_FIELDS, parse_cookies, parse_query
from rt_twisted.http.channel import ResponseChannel
from rt_twisted.http.collected_body import BodyBuffer, BodyCall, BodyFile, body_too_large
from rt_twisted.http.file_body import FileBody
from rt_twisted.http.head import BODILESS, Field, ResponseHead
from rt_twisted.http.interfaces import IServerExchange
from rt_twisted.http.refusals import respond_to
from rt_twisted.http.request import RequestHead
from rt_twisted.http.request_body import RequestBody
from rt_twisted.http.response_stream import ResponseStream
from rt_twisted.http.stream_handle import Detach, StreamHandle
from rt_twisted.model.errors import Header, HttpError
from rt_twisted.model.load_object import load_object

if TYPE_CHECKING:
    from twisted.web.server import Site

    from rt_twisted.http.site import SiteChannel

_log = Logger()

# Headers of which a response has one: that of a route replaces that of an application.
_SINGLE = frozenset(
    (b"access-control-allow-origin", b"content-type", b"server", b"x-content-type-options")
)
ON_DISK = 100_000  # bytes of a body from which applications have it in a file on disk
_FORWARDED = frozenset(("x-forwarded-for", "forwarded", "x-real-ip", "via"))
_SITE_CHANNEL = "rt_twisted.http.site.SiteChannel"
_PERCENT = ord("%")  # `in` with bytes is slow, see `codecs.forms`
_NO_FIELDS: Mapping[str, list[str]] = {}


@implementer(IServerExchange)
class HttpExchange:
    """
    A request whose head is complete, and its response, by any version of HTTP.

    Args:
        channel: sends the response.
        method: as received.
        head: checked; its target begins with a slash, or is the asterisk.
        version: of HTTP: 1.0, 1.1 or 2.
        length: bytes of the body; None if that is not known yet.

    Attributes:
        refused: status of the error that the request is answered with; 0 for none.
        keep_alive: the client may send another request by HTTP/1.
        body: of the request.
        ends_half_closed: see `IExchange`.
        until_close: the body ends when the client closes its sending side.
        unlogged: the response has no line in the access log.
        protocol: HTTP.

    Raises:
        HttpError: 400, the path is not text.
    """

    __slots__ = (
        "_began",
        "_channel",
        "_first",
        "_headers",
        "_more_headers",
        "_on_lost",
        "_query",
        "_removed",
        "_response_body",
        "_site_channel",
        "admitted",
        "answered",
        "body",
        "ends_half_closed",
        "framed",
        "keep_alive",
        "length",
        "method",
        "path",
        "query_string",
        "raw_headers",
        "refused",
        "target",
        "unlogged",
        "until_close",
        "version",
    )
    protocol: ClassVar[str] = "HTTP"

    def __init__(
        self,
        channel: ResponseChannel,
        method: str,
        head: RequestHead,
        version: str,
        length: int | None,
    ) -> None:
        self._channel = channel
        self._began = channel.context.clock.seconds()
        self.method = method
        self.target = head.target
        self.raw_headers = head.raw_headers
        self.version = version
        self.framed = version == "1.1"
        self.length = length
        self.keep_alive = True
        self.answered = self.admitted = False
        self.refused = 0
        self.until_close = self.ends_half_closed = self.unlogged = False
        self._headers = head.headers
        self._more_headers: tuple[Header, ...] = ()  # of the response
        self._first = b""  # of the body of a stream
        self._removed: frozenset[bytes] = frozenset()  # lower-case names of its headers
        self._query: Mapping[str, list[str]] | None = None
        self.body = RequestBody(channel, length, version != "2")
        self._on_lost: Callable[[], object] | None = None
        self._site_channel: SiteChannel | None = None
        self._response_body: FileBody | ResponseStream | None = None  # being sent
        path, _, query = head.target.partition(b"?")
        if _PERCENT in path:
            path = unquote_to_bytes(path)
        try:
            self.path = path.decode()
        except UnicodeDecodeError:
            raise HttpError(400, "the path is not UTF-8") from None
        if "\0" in self.path:
            raise HttpError(400, "the path contains a NUL")
        self.query_string = query.decode("latin-1")

    @classmethod
    def malformed(cls, channel: ResponseChannel, version: str, complete: bool) -> HttpExchange:
        """
        Return an exchange that answers a request whose head is malformed.

        Args:
            channel: sends the response.
            version: of HTTP.
            complete: nothing more of the request follows.
        """
        head = RequestHead(b"/", (), channel.context.limits)
        return cls(channel, "-", head, version, 0 if complete else None)

    # The request.

    @property
    def peer(self) -> str:
        return str(getattr(self._channel.peer, "host", "")).removeprefix("::ffff:")

    @property
    def address(self) -> str:
        limits = self._channel.context.limits
        if not limits.trusted_proxies:
            return self.peer
        kind = limits.address_header
        return client_address(self.peer, self.header(kind) or "", kind, limits.trusted_proxies)

    @property
    def client_port(self) -> int:
        peer = self._channel.peer
        known = getattr(peer, "host", None) == self.address
        return int(getattr(peer, "port", 0)) if known else 0

    @property
    def here(self) -> tuple[str, int]:
        host = self._channel.transport.getHost()
        return str(getattr(host, "host", "")), int(getattr(host, "port", 0))

    @property
    def age(self) -> float:
        return self._channel.context.clock.seconds() - self._began

    @property
    def proxied(self) -> bool:
        trusted = self._channel.context.limits.trusted_proxies
        return bool(trusted) and self.peer in trusted

    @property
    def local(self) -> bool:
        peer = self.peer
        near = not peer or peer == "::1" or peer.startswith("127.")
        # nginx adds none of these headers by itself, but uses HTTP/1.0.
        direct = self.version != "1.0" and _FORWARDED.isdisjoint(self._headers)
        return near and direct

    @property
    def secure(self) -> bool:
        return self._channel.secure

    @property
    def connection(self) -> object:
        return self._channel

    @property
    def half_closed(self) -> bool:
        return self._channel.half_closed

    @property
    def scheme(self) -> str:
        limits = self._channel.context.limits
        own = "https" if self._channel.secure else "http"
        if not limits.trusted_proxies or self.peer not in limits.trusted_proxies:
            return own
        if limits.address_header is AddressHeader.FORWARDED:
            return forwarded_scheme(self.header("forwarded") or "") or own
        return last_scheme(self.header("x-forwarded-proto") or "") or own

    def header(self, name: str) -> str | None:
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def query(self) -> Mapping[str, list[str]]:
        if self._query is None:
            if not self.query_string:
                return _NO_FIELDS
            if self.query_string.count("&") >= MAX_FIELDS:
                raise HttpError(400, "too many fields in the query")
            self._query = parse_query(self.query_string)
        return self._query

    def cookies(self) -> Mapping[str, str]:
        return parse_cookies(self.header("cookie") or "")

    # Its body.

    def read(self, limit: int) -> Deferred[bytes]:
        buffer = BodyBuffer(limit)
        if self.length is not None and self.length > limit:
            buffer.lost(body_too_large(limit))
        else:
            self._deliver_to(buffer)
        return buffer.done

    def spool(self, limit: int) -> Deferred[IO[bytes]]:
        large = self.length is None or self.length >= ON_DISK
        too_large = self.length is not None and self.length > limit
        spooled = BodyFile(limit, large and not too_large)
        if too_large:
            spooled.lost(body_too_large(limit))
            return spooled.done
        if large:
            self.body.stop_counting()
        self._deliver_to(spooled)
        return spooled.done

    def call_with_body(self, limit: int, act: Callable[[bytes], object]) -> object:
        call = BodyCall(self, limit, act)
        if self.length is not None and self.length > limit:
            call.lost(body_too_large(limit))
        else:
            self._deliver_to(call)
        return None

    def receive(self, sink: Any, timeout: float = 0.0) -> None:
        self.body.stream(sink, timeout)
        self._deliver_to(sink)

    def pause(self) -> None:
        self.body.pause()

    def resume(self) -> None:
        self.body.resume()

    def _deliver_to(self, sink: Any) -> None:
        body = self.body
        body.deliver_to(sink, self._on_sink_error)
        awaited = not body.complete and body.failure is None and self.version != "1.0"
        if awaited and self.header("expect") is not None:
            self._channel.send_continue()

    def _on_sink_error(self) -> None:
        """
        Log what the receiver of the body raised, and answer 500, or abort if that is too late.
        """
        _log.failure("while reading the request body of {path!r}", path=self.path)
        if self.answered:
            self._channel.abort()
        else:
            self.refuse(HttpError(500, "internal error"))

    def run_until_close(self) -> None:
        """
        Make the client's end of sending the end of the body, which has no length.
        """
        self.length = None
        self.until_close = True
        self.body.complete = self.keep_alive = False

    def connection_lost(self) -> None:
        """
        End the exchange: the client has disconnected.
        """
        on_lost, self._on_lost = self._on_lost, None
        self.answered = True
        if on_lost is not None:
            on_lost()
        self.body.fail(ConnectionLost())
        if self._site_channel is not None:
            self._site_channel.lost(ConnectionLost())
        if self._response_body is not None:
            self._response_body.stopProducing()

    def add_header(self, name: str, value: str) -> None:
        self._more_headers = (*self._more_headers, (name, value))

    def replace_query(self, fields: Mapping[str, list[str]]) -> None:
        self._query = fields

    def send_first(self, data: bytes) -> None:
        self._first = data

    def remove_header(self, name: str) -> None:
        self._removed |= {name.encode("latin-1")}

    def watch(self, lost: Callable[[], object]) -> None:
        self._on_lost = lost

    # The response.

    def answer(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "",
        headers: Sequence[Header] = (),
    ) -> None:
        if self.answered:
            return
        head = self._head(status, content_type, headers)
        length = len(body) if has_length(self.method, status, len(body)) else None
        if self.method == "HEAD":
            body = b""
        self.response_started(status, len(body))
        self._channel.respond(head, length, body)

    def answer_file(
        self,
        status: int,
        file: BinaryIO,
        parts: Sequence[bytes | range],
        content_type: str,
        headers: Sequence[Header] = (),
    ) -> None:
        channel = self._channel

        def done() -> None:
            channel.unregisterProducer()
            channel.finish()

        if self.answered:
            file.close()
            return
        head, size = self._head(status, content_type, headers), sum(map(len, parts))
        length = size if has_length(self.method, status, size) else None
        if self.method == "HEAD" or not size:
            file.close()
            self.response_started(status)
            channel.respond(head, length, b"")
            return
        self.response_started(status, size)
        channel.start(head, length)
        self._response_body = FileBody(file, parts, channel.write, done, channel.abort)
        channel.registerProducer(self._response_body, False)

    def send_interim(self, status: int, fields: Sequence[Field]) -> None:
        if not self.answered and self.version != "1.0":
            self._channel.send_interim(status, fields)

    def respond(self, head: ResponseHead, length: int | None, body: bytes) -> None:
        head = self._edit_head(head)
        if head.status in BODILESS:
            length, body = None, b""
        elif self.method == "HEAD":
            body = b""
        self.response_started(head.status, len(body))
        self._channel.respond(head, length, body)

    def _edit_head(self, head: ResponseHead) -> ResponseHead:
        """
        Return the head of a response of an application with the headers that lines change.
        """
        if self.answered:
            raise ConnectionLost
        if self._more_headers or self._removed:
            return replace(head, fields=self.edit_fields(head.fields))
        return head

    def stream(self, head: ResponseHead, length: int | None) -> ResponseStream:
        head = self._edit_head(head)
        if head.status in BODILESS:
            length = None
        has_body = self.method != "HEAD" and head.status not in BODILESS
        if self.version == "1.0" and length is None and has_body:
            self.keep_alive = False  # the end of the connection is that of the body
        self.response_started(head.status, length or 0)
        stream = ResponseStream(self._channel, self.path, head, length, has_body, self.framed)
        self._response_body = stream
        return stream

    def _head(self, status: int, content_type: str, headers: Sequence[Header]) -> ResponseHead:
        context = self._channel.context
        for name, value in self._more_headers:
            if name.lower() == "content-type":
                content_type = value  # a response has one type
            else:
                headers = (*headers, (name, value))
        head = context.response_head(status, content_type, headers, self.header("origin"))
        if not self._removed:
            return head
        kept = [each for each in head.fields if each[0].lower() not in self._removed]
        return replace(head, fields=kept)

    def edit_fields(self, fields: Sequence[Field]) -> list[Field]:
        added = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in self._more_headers]
        removed = self._removed | (_SINGLE & {name.lower() for name, _ in added})
        return [*[each for each in fields if each[0].lower() not in removed], *added]

    def refuse(self, refusal: HttpError) -> None:
        response = respond_to(self, refusal)
        self.refused = refusal.status
        try:
            self.answer(response.status, response.body, response.content_type, response.headers)
        except ValueError as error:  # without a response the connection would wait forever
            _log.error("while answering {path!r}: {error}", path=self.path, error=str(error))
            self._more_headers = ()
            self.refused = 500
            self.answer(500, b"internal error\n", "text/plain; charset=utf-8")

    def find(self, method: str, path: str) -> tuple[Any, Any] | None:
        found = self._channel.context.find(method, path, self)
        if not isinstance(found, tuple):
            return None
        action = found[0]  # one without methods only has effects of lines, or is another protocol's
        return found if action.methods or getattr(action, "port_methods", ()) else None

    def open(
        self,
        content_type: str,
        headers: Sequence[Header] = (),
        framed: bool = True,
        status: int = 200,
        log_end: bool = False,
    ) -> StreamHandle:
        self.framed = self.framed and framed
        return self._detach(status, content_type, headers, log_end)

    def take_over(self, head: bytes = b"", status: int = 200) -> StreamHandle:
        if self.answered:
            raise ConnectionLost
        if self.version == "2":
            raise HttpError(501, "an HTTP/2 connection cannot be taken over: use HTTP/1.1")
        if self.length is None and not self.until_close and not self.body.complete:
            raise HttpError(501, "a request with chunks cannot take its connection over")
        handle = self._channel.take_over(head, bytes(self.body))
        self.response_started(status)
        return handle

    def upgrade(self, headers: Sequence[Header], log_end: bool = False) -> StreamHandle:
        # RFC 8441 is not offered: browsers open an HTTP/1.1 connection for a websocket.
        if not self.framed:
            raise HttpError(501, f"HTTP/{self.version} has no upgrades: use HTTP/1.1")
        return self._detach(101, "", headers, log_end)

    def _detach(
        self, status: int, content_type: str, headers: Sequence[Header], log_end: bool
    ) -> StreamHandle:
        if self.answered:
            raise ConnectionLost
        self._channel.require_open()
        head = self._head(status, content_type, headers)  # if it fails, the client is refused
        if not log_end:
            self.response_started(status)
            return self._with_first(self._channel.detach(head))
        self._mark_answered()
        handle = self._channel.detach(head)
        if self._first:
            handle = self._with_first(handle)
        log = self._channel.context.access_log
        entry = log.open_stream(self, status, len(handle.head)) if log is not None else None
        return handle if entry is None else replace(handle, entry=entry)

    def _with_first(self, handle: StreamHandle) -> StreamHandle:
        first = self._first
        if not first:
            return handle
        if self.framed:
            first = chunk(first)
        return replace(handle, head=handle.head + first)

    def render(self, site: Site, depth: int) -> None:
        limit = self._channel.context.limits.body
        if self.length is not None and self.length > limit:
            raise body_too_large(limit)
        if self.version == "1.0":
            self.keep_alive = False
        # By name, as it needs twisted.web, which most daemons do not load.
        site_channel = load_object(_SITE_CHANNEL)(self._channel, self, site, depth)
        self._site_channel = site_channel
        site_channel.start(self.length)
        if self.length is None or self.length >= ON_DISK:
            self.body.stop_counting()
        self._deliver_to(site_channel)

    def hand_off(self, take: Detach) -> Deferred[bool]:
        return self._channel.hand_off(take)

    def encode_request(self) -> bytes:
        """
        Return the request as HTTP/1 may have carried it, with what was received of its body.
        """
        lines = [b"%s %s HTTP/%s\r\n" % (self.method.encode(), self.target, self.version.encode())]
        lines += [b"%s: %s\r\n" % header for header in self.raw_headers]
        lines.append(b"\r\n")
        body = bytes(self.body)
        if self.length is None:
            body = chunk(body) + LAST_CHUNK
        return b"".join(lines) + body

    def _mark_answered(self) -> None:
        self.answered = True
        self._on_lost = None  # else only the garbage collector would find who watched
        self.body.discard()

    def response_started(self, status: int, size: int = 0) -> None:
        self._mark_answered()
        log = self._channel.context.access_log
        if log is not None:
            log(self, status, size)


def has_length(method: str, status: int, size: int) -> bool:
    """
    Return whether a response has a Content-Length (RFC 9110, 8.6).

    204 and 304 never have a body, and the response to HEAD must not name a length
    that a response to GET would not have.
    """
    return status not in BODILESS and (size > 0 or method != "HEAD")
