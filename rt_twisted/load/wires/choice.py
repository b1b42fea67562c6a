"""
Which wires there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from rt_twisted.load.target import SetupError
from rt_twisted.load.wires.contract import Asking, Wire
from rt_twisted.load.wires.events import EventWire
from rt_twisted.load.wires.plain import PlainWire
from rt_twisted.load.wires.poll import PollWire
from rt_twisted.load.wires.socketio import SocketioWire
from rt_twisted.load.wires.socketio_polling import SocketioPollingWire
from rt_twisted.load.wires.socketio_recovery import recovering
from rt_twisted.load.wires.websocket import WebsocketWire


@dataclass(frozen=True, slots=True)
class Choice:
    """
    A kind of wire.

    Args:
        name: as users call it.
        place: of the daemon's own route, beside that of event streams.
        make: makes the wire of one connection, of what is asked for and the position.
        resumes: whether its readers can go on from where they were.
    """

    name: str
    place: str
    make: Callable[[Asking, str], Wire]
    resumes: bool = True

    def url(self, base: str, place: str = "") -> str:
        """
        Where its route is; its channels are for the wire to name.

        Args:
            base: where event streams are.
            place: URL or path; "" for the daemon's own.
        """
        found = urlsplit(urljoin(base, place or self.place))
        query = found.query or ("" if place else urlsplit(base).query)
        kept = [(name, value) for name, value in parse_qsl(query, True) if name != "channels"]
        return urlunsplit(found._replace(query=urlencode(kept)))


CHOICES = {
    each.name: each
    for each in (
        Choice("sse", "", EventWire),
        Choice("websocket", "ws", WebsocketWire),
        Choice("poll", "poll", PollWire),
        Choice("stream", "stream", PlainWire, resumes=False),
        Choice("socketio", "socket.io/", SocketioWire),
        Choice("socketio-polling", "socket.io/", SocketioPollingWire),
        Choice("socketio-recovery", "socket.io/", recovering),
    )
}


def choose(text: str) -> tuple[Choice, str]:
    """
    Read `NAME` or `NAME=PATH`.

    Returns:
        the kind of wire, and where its route is; "" for where the daemon has it.

    Raises:
        SetupError: there is no such kind.
    """
    name, _, place = text.partition("=")
    choice = CHOICES.get(name)
    if choice is None:
        raise SetupError(f"{name!r} is none of {', '.join(CHOICES)}")
    return choice, place
