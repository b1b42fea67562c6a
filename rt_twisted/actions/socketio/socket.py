"""
A Socket.IO client, as applications know it (`ISocketApp`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.socketio.namespace_seat import NamespaceSeat
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import SERVER_EVENTS, check_event
from rt_twisted.codecs.socketio import RESERVED, SocketIOPacket, SocketIOPacketType
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, Position, PublishResult, Since

if TYPE_CHECKING:
    from rt_twisted.actions.socketio.handshake import Handshake

MAX_CALLS = 1000  # that wait for one client's acknowledgement


class Socket:
    """
    A client in one namespace: what socket.io calls a socket.

    Attributes:
        id: its own; not the session's, which is a secret.
        namespace: begins with a slash.
        handshake: address, query, cookies and headers of its first request.
        recovered: it has come back in time: it hears again what it heard, from
            where it was; `gap` tells it if something is missing all the same.
    """

    __slots__ = (
        "_acknowledgements",
        "_calls",
        "_context",
        "_data",
        "_seat",
        "handshake",
        "id",
        "namespace",
        "recovered",
    )

    def __init__(
        self,
        context: ActionContext,
        seat: NamespaceSeat,
        id: str,
        namespace: str,
        handshake: Handshake,
    ) -> None:
        self.id = id
        self.namespace = namespace
        self.handshake = handshake
        self.recovered = False
        self._context = context
        self._seat = seat
        self._data: dict[str, Any] | None = None
        self._calls: dict[int, Deferred[list[Any]]] | None = None
        self._acknowledgements = 0

    @property
    def data(self) -> dict[str, Any]:
        """
        For the application; a client that recovers finds its own again.
        """
        if self._data is None:  # most applications have nothing to keep
            self._data = {}
        return self._data

    @data.setter
    def data(self, data: dict[str, Any]) -> None:
        self._data = data

    @property
    def connected(self) -> bool:
        """
        Whether what is emitted may still arrive.
        """
        return self._seat.open

    @property
    def channels(self) -> tuple[str, ...]:
        """
        Those it hears, or will as soon as the broker is there.
        """
        return self._seat.channels

    def emit(self, event: str, *arguments: Any) -> None:
        """
        Tell this client alone. Nothing of it is remembered.

        Args:
            event: none that clients keep for themselves, such as `connect`, or
                that the server sends itself: `gap` and `position`.
            arguments: what JSON can say, and bytes.

        Raises:
            ValueError: *event* cannot be, or NaN, or nested without end.
            TypeError: JSON cannot say that.
        """
        self._emit(event, arguments, None)

    def call(self, event: str, *arguments: Any) -> Deferred[list[Any]]:
        """
        The same, and wait for the acknowledgement.

        Returns:
            what the client acknowledges with. It takes as long as the client
            likes: `addTimeout` bounds it.

        Raises (in the Deferred):
            ConnectionDone: the client is gone.
        """
        calls = self._calls
        if calls is None:
            calls = self._calls = {}
        if len(calls) >= MAX_CALLS:
            raise ValueError(f"the client owes {MAX_CALLS} acknowledgements")
        self._acknowledgements += 1
        number = self._acknowledgements
        called: Deferred[list[Any]] = Deferred(partial(self._forget, number))
        if not self.connected:
            called.errback(ConnectionDone())
            return called
        calls[number] = called
        self._emit(event, arguments, number)
        return called

    def join(self, names: str | Sequence[str], since: Since | None = None) -> None:
        """
        Let it hear channels, as many as `max-reader-channels` allows.

        Args:
            names: one, or several. Those that it hears already change nothing;
                only who has come back (`recovered`) may have been cut off before
                it was told: once, it is told what lies before that.
            since: what it is told of them first.

        Raises:
            Refusal: a channel cannot be called so, or too many.
        """
        names = [names] if isinstance(names, str) else list(names)
        self._context.names.check_all(names, self._seat.channels)
        self._seat.join(names, since)

    def leave(self, names: str | Sequence[str]) -> None:
        """
        Let it hear channels no more.
        """
        self._seat.leave([names] if isinstance(names, str) else list(names))

    async def publish(self, channel: str, data: bytes, event: str | None = None) -> Position:
        """
        Publish for everybody who hears *channel*; who may do so, the
        application has to know.

        Raises:
            Refusal: 400 for the name, 413 for more than `max-message`, 503 if
                the broker is away.
        """
        result = await published(self._context, [Draft(channel, data, event)])
        return result.positions[0]

    def disconnect(self) -> None:
        """
        Have it leave the namespace; it does not come back by itself.
        """
        self._seat.expel()

    # What `Dialogue` calls.

    def acknowledged(self, number: int, values: list[Any]) -> None:
        """
        The client acknowledges a call, or something that nobody asked.
        """
        called = self._calls.pop(number, None) if self._calls else None
        if called is not None:
            called.callback(values)

    def gone(self) -> None:
        """
        Nobody will acknowledge anything.
        """
        calls, self._calls = self._calls, None
        for called in (calls or {}).values():
            called.errback(ConnectionDone())

    def _forget(self, number: int, called: Deferred[list[Any]]) -> None:
        if self._calls:
            self._calls.pop(number, None)

    def _emit(self, event: str, arguments: tuple[Any, ...], number: int | None) -> None:
        if event in RESERVED:
            raise ValueError(f"{event!r} is an event of the client's own")
        if event in SERVER_EVENTS:
            raise ValueError(f"{event!r} is an event of the server's own")
        self._seat.say(
            SocketIOPacket(SocketIOPacketType.EVENT, self.namespace, [event, *arguments], number)
        )


async def published(context: ActionContext, drafts: Sequence[Draft]) -> PublishResult:
    """
    Publish *drafts*, as `hub.publish`.

    Raises:
        Refusal: 400 for the name of a channel or event, 413 for more than
            `max-message`, 503 if the broker is away.
    """
    for draft in drafts:
        context.names.check(draft.channel)
        if draft.event is not None:
            try:
                check_event(draft.event)
            except RemoteProtocolError as error:
                raise HttpError(error.status, error.reason) from None
        if draft.event is not None and not _is_unicode(draft.event):
            raise HttpError(400, "an event type has no half of a surrogate pair")
        if len(draft.data) > context.max_message:
            raise HttpError(413, f"the message is larger than {context.max_message} bytes")
    try:
        return await context.hub.publish(drafts)
    except Unavailable as error:
        raise HttpError(503, str(error)) from None


def _is_unicode(text: str) -> bool:
    """
    JSON can say strings that are none: brokers and other readers could not.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
