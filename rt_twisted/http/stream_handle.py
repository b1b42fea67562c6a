"""
A connection that leaves its request: as a stream, another protocol or another worker gets it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from rt_twisted.net.transports import replace_protocol

# Return the action for a method and a path, and what its pattern matched; the
# methods that would be served if only the method is wrong; None for no route.
Find = Callable[[str, str], tuple[Any, Any] | set[str] | None]


class FindRoute(Protocol):
    """
    Finds the action of a request among the routes.
    """

    def __call__(
        self, method: str, path: str, exchange: Any = None, /
    ) -> tuple[Any, Any] | set[str] | None:
        """
        Return the action for a method and a path, and what its pattern matched.

        Args:
            method: of the request.
            path: percent-decoded, without query.
            exchange: the `IExchange`, as routes may depend on anything in it; None if there
                is none.

        Returns:
            The methods that would be served if only the method is wrong; None for no route.
        """


class StreamEntry(Protocol):
    """
    The line of one stream in the access log.
    """

    def end(self, seconds: float, size: int, messages: int, reason: str, status: int = 0) -> None:
        """
        Write the line: the stream has ended. Called once.

        Args:
            seconds: since the stream began.
            size: bytes that were sent, with those of `StreamHandle.head`; of a publisher those that
                were received.
            messages: that its channels received for it, and those of the replay; or that were
                published.
            reason: one word.
            status: of the response, if it is not the one that was expected; else 0.
        """


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """
    The client of a connection, as another process or protocol is given it.

    Args:
        host: the address of the other end; "" for a unix socket.
        secure: the client uses TLS.
    """

    host: str
    secure: bool


Detach = Callable[[Any, PeerInfo, bytes], Callable[[Any], object] | None]


@dataclass(slots=True, unsafe_hash=True)
class StreamHandle:
    """
    A connection taken over for a stream.

    Args:
        transport: the connection.
        head: response headers to be written before anything else; may be empty.
        rest: bytes that the client has sent behind its request.
        find: returns the action for a method and a path, see `Find`; for an `IPortProtocol`,
            None otherwise. Methods are also those in `port_methods` of actions.
        entry: the stream's line in the access log, for `Hub.join`; None if no line is written
            at its end.
    """

    transport: Final[Any]
    head: Final[bytes]
    rest: Final[bytes] = b""
    find: Final[Find | None] = None
    entry: Final[StreamEntry | None] = None

    def start(self, protocol: Any) -> None:
        """
        Connect *protocol*, and deliver what the client has sent already.

        Args:
            protocol: an `IProtocol`; with `IHalfCloseableProtocol` it is notified of a client
                that closes its sending side, else the connection is closed then.
        """
        replace_protocol(self.transport, protocol)
        protocol.makeConnection(self.transport)
        if self.rest:
            protocol.dataReceived(self.rest)
