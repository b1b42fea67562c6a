"""
One HTTP request and its response, as actions see them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.web.server import Site

from rt_twisted.model.errors import Header, HttpError


class IExchange(Interface):
    """
    One request and the right to answer it, once.
    """

    method = Attribute("str: upper case.")
    path = Attribute("str: percent-decoded, without query; begins with a slash or is '*'.")
    query_string = Attribute("str: as it came, without the question mark.")
    version = Attribute("str: of HTTP; 1.0, 1.1 or 2.")
    address = Attribute("str: the client's address; from trusted proxies what they say it is.")
    local = Attribute("bool: the peer is on this machine, and no proxy stands in between.")
    length = Attribute("int | None: bytes of the body, 0 if there is none; None for chunks.")
    secure = Attribute("bool: the client speaks TLS to us.")
    scheme = Attribute("str: http or https; from trusted proxies what they say it is.")
    framed = Attribute("bool: a stream's bytes must be HTTP chunks (HTTP/1.1).")
    answered = Attribute("bool: an answer has begun, or nobody is there to hear one.")

    def header(name: str) -> str | None:
        """
        The value of header *name* (lower case); several are joined by a comma.
        """

    def query() -> Mapping[str, list[str]]:
        """
        The query's fields, percent-decoded as UTF-8, repeats in order.
        """

    def cookies() -> Mapping[str, str]:
        """
        The request's cookies by name.
        """

    def read(limit: int) -> Deferred[bytes]:
        """
        The whole body.

        Raises (in the Deferred):
            Refusal: 413 over *limit* bytes, 408 too slow, 400 malformed.
            ConnectionLost: the client went away; there is nobody to answer.
        """

    def receive(sink: IBodySink) -> None:
        """
        The body as a stream: *sink* gets each piece as it comes.
        """

    def watch(lost: Callable[[], object]) -> None:
        """
        Have *lost* called, once, if the client goes away before it is answered;
        for who lets it wait. Not called after `open`.
        """

    def answer(
        status: int, body: bytes = b"", content_type: str = "", headers: Sequence[Header] = ()
    ) -> None:
        """
        Answer whole. For HEAD the body is left out and its length kept; an empty
        body then says nothing about the length, as that of a stream is not known.
        """

    def answer_file(
        status: int,
        file: BinaryIO,
        parts: Sequence[bytes | range],
        content_type: str,
        headers: Sequence[Header] = (),
    ) -> None:
        """
        Answer with parts of *file*, read and sent as the client takes them.

        Args:
            status: of the response.
            file: unbuffered; closed when the response ends, however it does.
            parts: bytes that are sent as they are, and ranges of the file that it
                has now. If it has not when their turn comes, the response is
                broken off.
            content_type: of the body.
            headers: further ones.
        """

    def refuse(refusal: HttpError) -> None:
        """
        Answer with the status and the reason of *refusal*. An EventSource that is
        refused for now (429, 503) gets an event stream that says when to reconnect.

        Raising a Refusal from `IAction.act` does the same.
        """

    def open(content_type: str, headers: Sequence[Header] = ()) -> StreamHandle:
        """
        Answer 200 with a stream and take the connection over.

        The caller owns the transport from now on: it sets its protocol by
        `Subscriber`, and writes `Opened.head` before anything else.

        Raises:
            ConnectionLost: the client went away meanwhile; let it pass.
        """

    def upgrade(headers: Sequence[Header]) -> StreamHandle:
        """
        Answer 101 and take the connection over, as by `open`, for the protocol
        that *headers* name. What the client has said behind its request is in
        `Opened.rest`.

        Raises:
            Refusal: 501, this version of HTTP has no upgrades.
            ConnectionLost: the client went away meanwhile; let it pass.
        """

    def hand_off(take: Detach) -> Deferred[bool]:
        """
        Let somebody else answer, who gets the connection with all that has come
        by it since this request began. Nobody may have asked for the body yet.

        Args:
            take: called with the transport, its origin and those bytes; returns
                what is to be done with the transport when nobody here hears of
                it any more, or None to leave the request to be answered here.

        Returns:
            fires with whether that was done.
        """

    def render(site: Site, depth: int) -> None:
        """
        Let a twisted.web site answer, mounted below the first *depth*
        segments of the path.
        """


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """
    Whose connection it is.

    Args:
        host: the address of the other end; "" for a unix socket.
        secure: the client speaks TLS.
    """

    host: str
    secure: bool


Detach = Callable[[Any, PeerInfo, bytes], Callable[[Any], object] | None]


@dataclass(frozen=True, slots=True)
class StreamHandle:
    """
    A connection taken over for a stream.

    Args:
        transport: the connection.
        head: response headers to be written before anything else; may be empty.
        rest: what the client has sent behind its request already.
    """

    transport: Any
    head: bytes
    rest: bytes = b""


class IConnectionHandoff(Interface):
    """
    The other processes of this daemon, if it has several.
    """

    mark = Attribute("str: letters and digits with which this one's ids begin, before a dash.")

    def owner(id: str) -> int | None:
        """
        Which of the others made *id*; None for none of them.
        """

    def hand_off(exchange: IExchange, number: int) -> Deferred[bool]:
        """
        Let *exchange* be answered by sibling *number*; whether that was done.
        """


# Return the action for a method and a path, and what its pattern matched; the
# methods that would be served if only the method is wrong; None for no route.
Find = Callable[[str, str], tuple[Any, Any] | set[str] | None]


class IBodySink(Interface):
    """
    Takes a request body piece by piece; exactly one of `end` and `lost` closes it.
    """

    def data(piece: bytes) -> None:
        """
        The next bytes, never empty, of any length; HTTP chunks lose their borders.
        """

    def end() -> None:
        """
        The body is whole.
        """

    def lost(reason: Exception) -> None:
        """
        It will never be.
        """
