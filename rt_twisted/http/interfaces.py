"""
One HTTP request and its response, as actions see them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import Attribute, Interface

from rt_twisted.http.head import Field, ResponseHead
from rt_twisted.http.stream_handle import Detach, PeerInfo, StreamEntry, StreamHandle
from rt_twisted.model.errors import Header, HttpError

if TYPE_CHECKING:
    from twisted.web.server import Site


class IExchange(Interface):
    """
    One request and the right to answer it, once.
    """

    method = Attribute("str: upper case.")
    path = Attribute("str: percent-decoded, without query; begins with a slash or is '*'.")
    query_string = Attribute("str: as received, without the question mark.")
    target = Attribute("bytes: the request target as received; begins with a slash or is '*'.")
    version = Attribute("str: of HTTP; 1.0, 1.1 or 2.")
    address = Attribute("str: the client's address; trusted proxies may name another one.")
    client_port = Attribute("int: the client's port; 0 if it is not known.")
    here = Attribute(
        "tuple[str, int]: the address and the port that the client has connected to; '' and 0 for "
        "a unix socket."
    )
    peer = Attribute("str: address of the other end of the connection; empty for a unix socket.")
    proxied = Attribute("bool: the other end is a trusted proxy.")
    raw_headers = Attribute("list[tuple[bytes, bytes]]: as received.")
    local = Attribute("bool: the peer is on this machine, and no proxy is between.")
    length = Attribute(
        "int | None: bytes of the body, 0 if there is none; None for chunks, and for a body "
        "that runs until the client closes."
    )
    until_close = Attribute("bool: the body runs until the client closes its sending side.")
    secure = Attribute("bool: the connection uses TLS.")
    scheme = Attribute("str: http or https; trusted proxies may name another one.")
    framed = Attribute("bool: a stream's bytes must be HTTP chunks (HTTP/1.1).")
    answered = Attribute("bool: a response has begun, or the client has disconnected.")
    connection = Attribute(
        "object: hashable; the same for the requests that an HTTP/1 connection carries one after "
        "the other."
    )
    half_closed = Attribute("bool: the client has closed its sending side (HTTP/1).")
    ends_half_closed = Attribute(
        "bool: may be set: a client that closes its sending side has left, unless it does so right "
        "behind a request with `Connection: close`, or one with a body."
    )
    admitted = Attribute("bool: set by an action that has applied the join rate already.")

    def header(name: str) -> str | None:
        """
        Return the value of header *name* (lower case); several are joined by a comma.
        """

    def query() -> Mapping[str, list[str]]:
        """
        Return the fields of the query, percent-decoded as UTF-8, repeats in order.

        Raises:
            HttpError: 400, there are too many.
        """

    def cookies() -> Mapping[str, str]:
        """
        Return the cookies of the request by name.
        """

    def read(limit: int) -> Deferred[bytes]:
        """
        Return the whole body.

        Raises (in the Deferred):
            HttpError: 413 over *limit* bytes, 408 too slow, 400 malformed, 503 too many
                bodies at once.
            ConnectionLost: the client has disconnected; nothing can be answered.
        """

    def spool(limit: int) -> Deferred[IO[bytes]]:
        """
        Return the whole body as a file, at its start; on disk if it is large.

        The caller closes the file.

        Raises (in the Deferred):
            HttpError: as `read`.
            ConnectionLost: likewise.
        """

    def call_with_body(limit: int, act: Callable[[bytes], object]) -> object:
        """
        Call *act* with the whole body, as `read` would, but without a Deferred.

        If the body cannot be read, the request is answered with the error of `read`.

        Args:
            limit: bytes.
            act: answers the request; may return and raise what `IAction.act` may.

        Returns:
            What `IAction.act` may return.
        """

    def receive(sink: IBodySink, timeout: float = 0.0) -> None:
        """
        Deliver the body to *sink*, each piece as it is received.

        `Expect: 100-continue` is answered now, so check keys before. If the client sends
        nothing for too long, *sink* is lost by HttpError 408.

        Args:
            sink: provides `IBodySink`; or `IChunkSink`, to receive the ends of chunks.
            timeout: seconds between two pieces; 0 for the setting `body-seconds`.
        """

    def pause() -> None:
        """
        Stop to deliver the body, and to receive it from the client; do nothing if it is paused.

        HTTP/1 reads no more of the connection, HTTP/2 leaves the client's window closed. At
        most 64 KiB that were received already wait in memory. The timeout does not run.
        Works before `receive` and within the methods of the sink, and independently of the
        pauses by which the server bounds the memory of all bodies.
        """

    def resume() -> None:
        """
        Deliver what waits, and receive the body on; do nothing if it is not paused.

        The sink may be called before this returns, and may pause again.
        """

    def add_header(name: str, value: str) -> None:
        """
        Send a header with the response, whichever it is.
        """

    def replace_query(fields: Mapping[str, list[str]]) -> None:
        """
        Let `query` return *fields*: an application has named them.
        """

    def send_first(data: bytes) -> None:
        """
        Send *data* as the beginning of the body, if the response is a stream (`open`).
        """

    def remove_header(name: str) -> None:
        """
        Do not send header *name* (lower case) with the response, whichever it is.
        """

    def watch(lost: Callable[[], object]) -> None:
        """
        Have *lost* called, once, if the client disconnects before it is answered.

        For actions that answer later. *lost* is not called after `open`.
        """

    def answer(
        status: int, body: bytes = b"", content_type: str = "", headers: Sequence[Header] = ()
    ) -> None:
        """
        Send a whole response; do nothing if the exchange is answered.

        For HEAD the body is left out and its length kept. An empty body then has no
        Content-Length, as the length of a stream is not known.
        """

    def answer_file(
        status: int,
        file: BinaryIO,
        parts: Sequence[bytes | range],
        content_type: str,
        headers: Sequence[Header] = (),
    ) -> None:
        """
        Answer with parts of *file*, read and sent as the client receives them.

        Args:
            status: of the response.
            file: unbuffered; closed when the response ends, however it does.
            parts: bytes that are sent as they are, and ranges of the file that it
                has now. If it has become shorter when a range is read, the response
                is broken off.
            content_type: of the body.
            headers: further ones.
        """

    def send_interim(status: int, fields: Sequence[Field]) -> None:
        """
        Send an interim response, such as 103; do nothing for HTTP/1.0 and if a response has begun.
        """

    def respond(head: ResponseHead, length: int | None, body: bytes) -> None:
        """
        Send a whole response of an application, as `stream` does piece by piece.

        Args:
            head: without the fields that frame the body.
            length: for Content-Length: that of *body*, but in answer to HEAD; None for none.
            body: left out for HEAD, 204 and 304.

        Raises:
            ConnectionLost: the client has disconnected, or was answered.
        """

    def stream(head: ResponseHead, length: int | None) -> IResponseStream:
        """
        Begin a response of an application, whose body follows piece by piece.

        Nothing is added to *head* but what frames the body: no Date, no CORS headers. For HEAD,
        204 and 304 the body is left out.

        Args:
            head: without the fields that frame the body.
            length: for Content-Length; None if it is not known.

        Raises:
            ConnectionLost: the client has disconnected, or was answered.
        """

    def refuse(refusal: HttpError) -> None:
        """
        Answer with the status and the reason of *refusal*.

        An EventSource that is refused for now (429, 503) gets an event stream that
        names the time to reconnect. Raising an HttpError from `IAction.act` does the same.
        """

    def find(method: str, path: str) -> tuple[Any, Any] | None:
        """
        Return the action that serves *method* on *path*, and what its pattern matched; None
        if no route does.
        """

    def open(
        content_type: str,
        headers: Sequence[Header] = (),
        framed: bool = True,
        status: int = 200,
        log_end: bool = False,
    ) -> StreamHandle:
        """
        Answer with a stream and take the connection over.

        The caller owns the transport from now on: it sets its protocol by
        `Subscriber`, and writes `StreamHandle.head` before anything else.

        Args:
            content_type: of the stream.
            headers: further ones.
            framed: False for clients that cannot read chunks although they use HTTP/1.1: the
                stream ends with the connection, and the attribute `framed` is False from now on.
            status: of the response; not one without a body.
            log_end: the caller gives `StreamHandle.entry` to `Hub.join`: the stream's line in the
                access log is written when it ends. False writes the line now.

        Raises:
            ConnectionLost: the client has disconnected; do not catch it.
        """

    def upgrade(headers: Sequence[Header], log_end: bool = False) -> StreamHandle:
        """
        Answer 101 and take the connection over, as by `open`, for the protocol that *headers* name.

        `StreamHandle.rest` has what the client has sent behind its request.

        Raises:
            HttpError: 501, this version of HTTP has no upgrades.
            ConnectionLost: the client has disconnected; do not catch it.
        """

    def take_over(head: bytes = b"", status: int = 200) -> StreamHandle:
        """
        Take the connection over for another protocol, whatever is left of the body.

        For protocols that begin as an HTTP request and go on as something else. Call
        `StreamHandle.start` at once. `StreamHandle.rest` has the bytes behind the head of the
        request: what was received of its body, then anything else.

        The server counts the connection until it is lost. A graceful stop closes it.

        Args:
            head: is written first; b"" writes nothing.
            status: of the response in *head*, for the access log and the metrics.

        Raises:
            HttpError: 501 by HTTP/2, and within a body of chunks; 400 if the client has
                sent other requests that are not answered.
            ConnectionLost: the client has disconnected; do not catch it.
        """

    def hand_off(take: Detach) -> Deferred[bool]:
        """
        Hand the connection to another process, with all bytes of this request.

        The body must not have been read.

        Args:
            take: called with the transport, its peer and those bytes. Returns a function
                that is called with the transport when it is released; or None to
                have the request answered here.

        Returns:
            fires with whether the connection was handed off.
        """

    def render(site: Site, depth: int) -> None:
        """
        Have a twisted.web site answer, mounted below the first *depth* segments of the path.
        """


class IResponseStream(Interface):
    """
    The body of a response, which follows its head piece by piece.

    It never has more bytes than the head declared.
    """

    def register_producer(producer: IPushProducer) -> None:
        """
        Pause *producer* while the client does not receive what was written.

        `stopProducing` is called if the client disconnects before the end, maybe twice.
        """

    def write(data: bytes) -> None:
        """
        Send the next bytes of the body; do nothing if the response has ended.
        """

    def finish(trailers: Sequence[Field] = ()) -> None:
        """
        End the response; break it off if the body has fewer bytes than the head declared.

        Args:
            trailers: behind the body; not sent if HTTP/1 frames it by its length.
        """

    def abort() -> None:
        """
        Break the response off, so that the client does not take it for complete.
        """


TUNNEL = "TUNNEL"  # the method by which a request with `x-sessioncookie` finds its action


class IServerExchange(IExchange):
    """
    An exchange, as the server itself sees it.
    """

    age = Attribute("float: seconds since the head of the request was complete.")
    refused = Attribute("int: status of the error that the request is answered with; 0 for none.")
    unlogged = Attribute("bool: the response has no line in the access log.")
    protocol = Attribute(
        "str: HTTP; requests of other protocols have lines in the access log, too."
    )

    def edit_fields(fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """
        Return the header fields of an application's response with the changes of `add_header`
        and `remove_header`.
        """

    def response_started(status: int, size: int = 0) -> None:
        """
        Mark the exchange as answered, by *status* and a body of *size* bytes, and log it.
        """


class ResponseLog(Protocol):
    """
    Receives every response: the access log and the metrics.
    """

    def __call__(self, exchange: Any, status: int, size: int) -> object:
        """
        Note that an `IServerExchange` is answered with *status* and a body of *size* bytes.
        """

    def open_stream(self, exchange: Any, status: int, head: int) -> StreamEntry | None:
        """
        Note that an `IServerExchange` is answered with *status* and a stream.

        Args:
            exchange: the request.
            status: of the response.
            head: bytes of `StreamHandle.head`.

        Returns:
            what writes the stream's line when it ends; None if no line is written.
        """


class IPortProtocol(Interface):
    """
    Another protocol than HTTP on the ports of the daemon, recognized by its first bytes.

    An action that provides it beside `IAction` is registered by its route line.
    """

    def matches(start: bytes) -> bool | None:
        """
        Return whether a connection that begins with *start* has this protocol.

        Called for connections whose first four bytes are not a common method of HTTP,
        with all that was received, each time that more was. Must not raise.

        Returns:
            None if more bytes are needed. A connection that is still undecided after 8 KiB,
            or `head-seconds`, is HTTP.
        """

    def accept(connection: StreamHandle, peer: PeerInfo) -> None:
        """
        Take a connection over: call `StreamHandle.start` at once.

        The server counts the connection until it is lost. A graceful stop closes it.

        Args:
            connection: behind TLS and the PROXY protocol; `rest` has the bytes that were
                received, and `find` the routes.
            peer: the client.
        """


class IConnectionHandoff(Interface):
    """
    The other processes of this daemon, if it has several.
    """

    id_prefix = Attribute(
        "str: letters and digits that ids of this process begin with, before a dash."
    )

    def owner(id: str) -> int | None:
        """
        Return the number of the process that made *id*; None for this one or none.
        """

    def choose(key: str) -> int | None:
        """
        Return the number of the process that all of them choose for *key*; None for this one.
        """

    def hand_off(exchange: IExchange, number: int) -> Deferred[bool]:
        """
        Hand *exchange* to process *number*; fires with whether that was done.
        """


class IBodySink(Interface):
    """
    Receives a request body piece by piece; exactly one of `end` and `lost` ends it.
    """

    def data(piece: bytes) -> None:
        """
        Receive the next bytes, of any length but 0; they need not be a whole HTTP chunk.
        """

    def end() -> None:
        """
        Receive the end of the body.
        """

    def lost(reason: Exception) -> None:
        """
        Receive the error for which the body will never be complete.
        """


class IChunkSink(IBodySink):
    """
    Receives a request body, and where its HTTP chunks end.
    """

    def chunk_end() -> None:
        """
        Receive the end of a chunk that had at least one byte.

        Not called for bodies by HTTP/2, with a length, or that run until the client
        closes. Proxies may join and split chunks.
        """
