"""
What viewers of a live stream get, over HTTP and by websocket.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from rt_twisted.access.keys import Key, Keys
from rt_twisted.access.secrets import secret
from rt_twisted.actions.context import ActionContext
from rt_twisted.formats import build_format, options_of
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.first_message import first_message
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.media.arrival import ArrivalTimes
from rt_twisted.media.unit import Head, read
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Message, Sync

BURST = 1.0  # seconds: Chromium's `src=` needs about one before it shows a picture
WAIT = 10.0


class Container(Enum):
    """
    The containers that viewers can be sent; the values are route words.
    """

    WEBM = "webm"
    MP4 = "mp4"


_FORMATS = {Container.WEBM: "webm", Container.MP4: "fmp4"}


def viewer_keys(view_key: str) -> Keys | None:
    """
    Return the key that viewers of a route need; None for "".

    Args:
        view_key: a secret, `file:PATH` or `env:NAME`.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return Keys([Key.of(secret(view_key))]) if view_key else None
    except ValueError as error:
        raise ValueError(f"view_key= must be {error}") from None


@dataclass(frozen=True, slots=True)
class Viewing:
    """
    How a route shows live streams.

    Args:
        context: the hub and the settings.
        container: of the streams.
        burst: seconds of the stream that a viewer is sent at once, if they are retained.
        wait: seconds to wait for a publisher.
        behind: bytes that may wait for a viewer; None for the daemon's.
        view_key: that viewers need, also `file:PATH` or `env:NAME`; "" for none.
        options: of the format, by name, as pairs. None as a value is left out.

    Raises:
        ValueError: a negative number, a key that cannot be read, or an option that the
            container does not have.
    """

    context: ActionContext
    container: Container
    burst: float = BURST
    wait: float = WAIT
    behind: int | None = None
    view_key: str = ""
    options: tuple[tuple[str, object], ...] = ()
    keys: Keys | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("burst", "wait", "behind"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name}= cannot be negative")
        known = options_of(_FORMATS[self.container])
        given = tuple([(name, value) for name, value in self.options if value is not None])
        for name, _ in given:
            if name not in known:
                raise ValueError(f"{name}= is not for {self.container.value}")
        # Bare frames have no times of their own.
        times = self.context.shared.get(ArrivalTimes, self._arrival_times)
        object.__setattr__(self, "options", (*given, ("time_of", times)))
        object.__setattr__(self, "keys", viewer_keys(self.view_key))
        self.build()

    def build(self, framed: bool = False) -> Any:
        """
        Return the format of viewers; see `build_format`.
        """
        return build_format(_FORMATS[self.container], framed, **dict(self.options))

    def _arrival_times(self) -> ArrivalTimes:
        return ArrivalTimes(self.context.hub.seconds)

    @property
    def start(self) -> Sync:
        """
        Return where viewers begin.
        """
        return Sync(self.burst)

    @property
    def backlog_limits(self) -> BacklogLimits:
        """
        Return the limits for slow viewers, who skip to later keyframes.
        """
        limits = self.context.backlog_limits_for(SlowConsumerPolicy.SYNC)
        return limits if self.behind is None else replace(limits, bytes=self.behind)

    def authorize(self, exchange: IExchange) -> None:
        """
        Check the key of a viewer, if the route has one.

        Raises:
            HttpError: 401, see `Keys.authorize_live`.
        """
        if self.keys is not None:
            self.keys.authorize_live(exchange)

    def content_type(self, channel: str) -> Deferred[str]:
        """
        Return the content type of *channel*, with its codec strings, when it can be shown.

        Returns:
            fails with HttpError: 503 if the channel has no publisher in time, 415 if the
            container cannot carry one of its codecs. May be cancelled.
        """
        context = self.context
        found: Deferred[Any] = first_message(
            context.hub, context.reactor, channel, self.build(), self.wait
        )
        return found.addCallback(partial(self._content_type, channel))

    def _content_type(self, channel: str, first: Message | None) -> str:
        if first is None:
            raise HttpError(503, f"channel {channel!r} has no publisher", retry=2)
        format, head = self.build(), read(first)
        found: str = format.content_type
        if isinstance(head, Head):
            found = format.content_type_of(head)
        return found
