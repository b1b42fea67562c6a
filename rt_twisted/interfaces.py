"""
The contracts between the floors; plug-ins are checked against them at start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from zope.interface import Attribute, Interface

from rt_twisted.message import Draft, Message, Position, Replay, Since

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.web.server import Site

    from rt_twisted.counts import Histogram


class IReceiver(Interface):
    """
    What a broker tells, on the reactor's thread; the hub provides it.
    """

    def receive(message: Message) -> None:
        """
        *message* is the next of the log: in order of position, each once.

        A new epoch says that the log before is gone: every reader is told of a gap.
        """

    def reached(position: Position) -> None:
        """
        Every message up to *position*, of the channels that are heard, has been
        received: readers' cursors may move there. Never goes back; a new epoch
        says what it says in `receive`.
        """

    def missed(channel: str, position: Position) -> None:
        """
        Messages of *channel* may be lost, all of them up to *position*, which
        lies behind what was received before, and before what is received next:
        its readers are told of a gap.
        """


class IBroker(Interface):
    """
    Gives messages their position and carries them between nodes.

    A broker may also provide `twisted.application.service.IService`: it is then
    started and stopped with the daemon.

    Delivery: what was published while the broker was reachable is received on
    every node that hears its channel, once and in order of position. What came
    while it was out of reach is received late, or it is said that it is
    `missed`, or the epoch changes.
    """

    def attach(receiver: IReceiver) -> None:
        """
        Name the one who is told. Called once, before anything else.
        """

    def position() -> Position:
        """
        Where the log stands, as it was last told; known without waiting once
        started. Before a log is known it is NOWHERE.
        """

    def subscribe(channel: str) -> Deferred[Position]:
        """
        Wish for *channel*: kept, and said again on every new connection.

        Saying it twice is saying it once.

        Returns:
            fires when the channel is heard, with a position that is not after
            `position()`: everything after it is received. May have fired
            already; waits while the broker is away; does not fail, and never
            fires if the wish is taken back before.
        """

    def unsubscribe(channel: str) -> None:
        """
        Take the wish back. A message may still come afterwards.
        """

    def publish(drafts: Sequence[Draft]) -> Deferred[list[Position]]:
        """
        Append *drafts* to the log, in order.

        Returns:
            their positions, in the same order; the old one for a draft whose
            idempotency key is known. May have fired already; may fire before
            the message is received here, or after.

        Raises (in the Deferred):
            Unavailable: nothing or only a part was taken; a publisher that
                sends again with idempotency keys doubles nothing.
            Refusal: 400 or 413, one of them can never be published, however often
                it is sent. All are checked before any is sent.
        """


class IReady(Interface):
    """
    Can be away: provided by a broker beside `IBroker`. One that does not
    provide it is always there.
    """

    def ready() -> bool:
        """
        Whether messages can be published and received now. Known without
        waiting: every look at `/readyz` asks.
        """


class IRefusing(Interface):
    """
    Can refuse what is published, on every node alike, while readers hear and
    replay all there is: its memory or its disk is full. Provided by a broker
    beside `IReady`. It stays ready: no other node could do better.
    """

    def refuses() -> bool:
        """
        Whether it takes no messages now although it is there. Known without
        waiting.
        """


class ILimited(Interface):
    """
    Bounds channel names: provided by a broker beside `IBroker` if there are names
    that it can never carry, whatever `channel-pattern` allows.
    """

    def check_channel(channel: str) -> None:
        """
        Accept *channel*, for subscribers and publishers, or refuse it.

        Raises:
            Refusal: 400, no message of this channel can pass.
        """


class Unavailable(Exception):
    """
    The broker cannot take messages now; its text is for the publisher.
    """


class Undurable(list["Position"]):
    """
    What `publish` fires with instead where messages reach readers now, but are
    lost with the process, although this broker promises more: its disk is full.
    """


class IHistory(Interface):
    """
    Remembers across nodes: provided by a broker that can replay what this
    node never saw.
    """

    def after(channels: Sequence[str], since: Since) -> Deferred[Replay]:
        """
        What *since* asks for, over all of *channels*, in order of position.

        Never silently part: `complete` is False where something is forgotten.
        All of *channels* are heard by now.

        Returns:
            fires when the live stream has reached the replay's position, and
            not with one ahead of `IBroker.position()`. Waits while the broker
            is away; takes no longer than the broker's own time limit for an
            answer otherwise. It is cancelled when nobody waits for it any more.

        Raises (in the Deferred):
            Unavailable: there is no answer; the reader is then told what this
                node remembers, and of a gap before it.
        """


class IFormat(Interface):
    """
    How messages look on one kind of wire. Pure, immutable, hashable; equal
    formats share one encoding. Every method returns whole frames: any two
    results may be joined or sent apart.
    """

    content_type = Attribute("str: the media type of the stream.")
    heartbeat = Attribute("bytes: a frame that says nothing, to keep proxies awake; may be empty.")

    def start(replay: Replay) -> Sequence[bytes | Message]:
        """
        What a subscriber that joins now is sent, in order: preamble, a gap if the
        replay is not complete, what was missed, and a cursor.

        Returns:
            frames as bytes, which may be empty; and messages, as references. Each is
            encoded by `encode` when there is room to send it, perhaps much later.
        """

    def encode(message: Message) -> bytes:
        """
        *message* for everyone.
        """

    def cursor(position: Position) -> bytes:
        """
        Move the reader's cursor without a message; empty where the wire has none.
        """

    def gap(position: Position) -> bytes:
        """
        Say that messages up to *position* were dropped for this reader.
        """

    def end(retry: int) -> bytes:
        """
        The last bytes before the daemon hangs up; the reader shall come back
        in *retry* ms, 0 for whenever it likes.
        """


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

    def refuse(refusal: Refusal) -> None:
        """
        Answer with the status and the reason of *refusal*. An EventSource that is
        refused for now (429, 503) gets an event stream that says when to reconnect.

        Raising a Refusal from `IAction.act` does the same.
        """

    def open(content_type: str, headers: Sequence[Header] = ()) -> Opened:
        """
        Answer 200 with a stream and take the connection over.

        The caller owns the transport from now on: it sets its protocol by
        `Subscriber`, and writes `Opened.head` before anything else.

        Raises:
            ConnectionLost: the client went away meanwhile; let it pass.
        """

    def upgrade(headers: Sequence[Header]) -> Opened:
        """
        Answer 101 and take the connection over, as by `open`, for the protocol
        that *headers* name. What the client has said behind its request is in
        `Opened.rest`.

        Raises:
            Refusal: 501, this version of HTTP has no upgrades.
            ConnectionLost: the client went away meanwhile; let it pass.
        """

    def pass_on(take: Take) -> Deferred[bool]:
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


Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Whose connection it is.

    Args:
        host: the address of the other end; "" for a unix socket.
        secure: the client speaks TLS.
    """

    host: str
    secure: bool


Take = Callable[[Any, Origin, bytes], Callable[[Any], object] | None]


@dataclass(frozen=True, slots=True)
class Opened:
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


class ISiblings(Interface):
    """
    The other processes of this daemon, if it has several.
    """

    mark = Attribute("str: letters and digits with which this one's ids begin, before a dash.")

    def owner(id: str) -> int | None:
        """
        Which of the others made *id*; None for none of them.
        """

    def pass_on(exchange: IExchange, number: int) -> Deferred[bool]:
        """
        Let *exchange* be answered by sibling *number*; whether that was done.
        """


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


class ISocketApp(Interface):
    """
    What `app=` on a `socket.io` route names: called with the house, once.

    A client is a `rt_twisted.actions.socketio.client.Client`. All three are
    called on the reactor's thread, may be `async def` or return a
    Deferred. What else they raise is logged, and is an internal error to the
    client.
    """

    def on_connect(client: Any, auth: dict[str, Any]) -> object:
        """
        *client* wants to join its namespace: let it by returning.

        Args:
            client: what it is told and joins now reaches it behind the answer.
            auth: what it says of itself; of revision 4 (Engine.IO 3) the
                query's fields.

        Raises:
            Refusal: it may not, or there is no such namespace; reason and
                status go to the client.
        """

    def on_event(client: Any, event: str, *arguments: Any) -> object:
        """
        *client* emits *event*. Events come in order; the next does not wait for
        what this one waits for.

        Args:
            client: it has joined.
            event: any name.
            arguments: what JSON can say, and bytes.

        Returns:
            the acknowledgement, if the client wants one: a tuple for several
            values, None for one without any.

        Raises:
            Refusal: acknowledged as {"status": "error", "error": reason}.
        """

    def on_disconnect(client: Any, why: str) -> object:
        """
        *client*, which had joined, is gone. Nothing reaches it any more.

        Args:
            client: whose `data` is kept for a while, for when it comes back.
            why: `client namespace disconnect`, `transport close`, `ping
                timeout`...
        """


class IConversation(Interface):
    """
    What an application is told of a websocket, on the reactor's thread.
    """

    def opened(websocket: Any) -> None:
        """
        It may be written to from now on. Called once, before anything else.

        Args:
            websocket: a `rt_twisted.actions.websocket.connection.WebSocket`.
        """

    def message(data: bytes, binary: bool) -> None:
        """
        A whole message, fragments joined and inflated; text is valid UTF-8.

        What this raises is logged, and closes the websocket with 1011.
        """

    def closed(code: int, reason: str) -> None:
        """
        It is over. Called once, after everything else.

        Args:
            code: the client's, or the one it was closed with; 1005 if the
                client gave none, 1006 if the connection was lost.
            reason: that came with it; may be empty.
        """


class IAction(Interface):
    """
    What a route does with a matched request. Built once per route line from
    its arguments; wrong arguments raise ValueError with one sentence.
    """

    methods = Attribute("Collection[str]: the request methods it serves; others get 405.")
    # spare_methods (optional), Collection[str]: further ones, served where no other route
    # serves them on the same path.

    def act(exchange: IExchange, match: Match) -> object:
        """
        Answer *exchange*, now or later; may be `async def`, or return a Deferred.
        What it raises: `Refusal` becomes its status, anything else is logged and
        answered with 500.
        """


@dataclass(frozen=True, slots=True)
class Match:
    """
    What a route's pattern found in a path.

    Args:
        groups: `$0`, the matched part, then `$1` and so on; None for a group
            that took no part.
        rest: the path behind the matched part.
    """

    groups: Sequence[str | None]
    rest: str

    @property
    def depth(self) -> int:
        """
        How many segments of the path the pattern took: `/static/` took one.
        """
        return max(0, (self.groups[0] or "").rstrip("/").count("/"))


class Refusal(Exception):
    """
    A request that is answered with an error.

    Args:
        status: HTTP status, 400 to 599.
        reason: one sentence for the client; nothing secret in it.
        headers: further response headers.
        retry: seconds after which it is worth another try, said as Retry-After;
            0 for nothing said.
    """

    def __init__(
        self, status: int, reason: str, headers: Sequence[Header] = (), retry: float = 0
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = (*headers, ("Retry-After", str(ceil(retry)))) if retry else headers
        self.retry = retry


class IExporter(Interface):
    """
    Sends the hub's numbers somewhere. May provide `IService`.
    """

    def export(numbers: Numbers, now: float) -> None:
        """
        Send *numbers* as they stood at *now* (unix seconds). Must not block,
        and must bound what it keeps while nobody takes it.
        """


class Numbers(Protocol):
    """
    What the hub counts. Totals are since the start and only grow.
    """

    channels: Mapping[str, int]  # readers by channel; only channels with readers
    readers: int  # connected now
    readers_limit: int  # how many may be; 0 for no limit
    behind: int  # of those, with bytes still waiting for them
    joining: int  # that wait for the broker's first word on their channels
    broker_away: int  # processes that cannot publish and receive now
    broker_refuses: int  # processes whose broker is there and takes no messages
    waiting_bytes: int  # what waits for them, in this process
    history_bytes: int  # kept for replay, in all channels
    websockets: int  # open now, those of Socket.IO too
    inbound_bytes: int  # of request bodies and websocket messages that are not complete
    joined: int  # readers that ever joined
    published: int  # messages received from the broker
    delivered: int  # messages handed to readers' connections
    gaps: int  # times a reader was told of a gap
    websocket_frames: int  # received from clients, control frames too
    websocket_messages: int  # of clients, processed
    inbound_dropped: int  # incomplete input refused because memory was short
    closed: Mapping[str, int]  # readers gone, by cause
    requests: Mapping[int, int]  # HTTP responses, by status
    refused: Mapping[str, Mapping[str, int]]  # "readers" and "publishes", by reason
    fanout: Histogram  # from receipt of a turn's first message to its last reader written
    rates: Mapping[int, Mapping[str, float]]  # growth a second, over so many seconds
    uptime: float  # seconds since the start
    cpu_seconds: float  # that the process took
    memory_bytes: int  # that it holds
