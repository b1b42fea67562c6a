"""
The action `stream`: the bytes of each message, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from zope.interface import implementer
from zope.interface.verify import verifyObject

from rt_twisted.actions.bodies import with_parameters
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.elementary import Elementary, open_elementary
from rt_twisted.actions.route_channels import asked_channels, check_static_channels, read_channels
from rt_twisted.actions.subscriber_parameters import requested_start
from rt_twisted.actions.subscription import check_slow, open_stream
from rt_twisted.actions.template import Template
from rt_twisted.formats import build_format, options_of
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Within

DEFAULT_TYPE = "application/octet-stream"


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class StreamAction:
    r"""
    Stream the bytes of each message: `stream:CHANNEL`, or
    `stream:subscribe=A,prefix=<,suffix=>\n,type=text/plain`. Without a channel the
    client requests some, as for `sse`.

    Args:
        context: the hub and the settings.
        subscribe: the channels.
        prefix: text before each message.
        suffix: text after each message.
        type: the stream's content type.
        history: messages that are replayed to a client that requests no position.
        slow: the policy for slow consumers; None for the daemon's.
        format: how messages are written: a name in `rt_twisted.formats.FORMATS`, or
            the dotted name of a class that provides `IFormat`. `prefix`, `suffix`
            and `type` need fields of such names (`content_type`) in it.
        as_: `payload`, or one track of a live stream without its container: `annexb` (H264 and
            H265), `adts` (AAC), `mp3`.
        burst: seconds of what is retained that a client is sent at once.
        pattern: whether a `*` in the channels of *subscribe* stands for any characters.
    """

    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    prefix: Template | None = None
    suffix: Template | None = None
    type: str = DEFAULT_TYPE
    history: int = 0
    slow: SlowConsumerPolicy | None = None
    format: str = "raw"
    pattern: bool = False
    as_: Elementary = Elementary.PAYLOAD
    burst: float = 0.0

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)
    spare_methods: ClassVar[Sequence[str]] = ("POST",)

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        if not self.burst >= 0:
            raise ValueError("burst= cannot be negative")
        if not self.type.isascii() or not self.type.isprintable():
            raise ValueError("type= must be a media type, such as text/plain")
        check_slow(self.slow)
        check_static_channels(self.subscribe, self.context, self.pattern)
        self._check_format()

    def _check_format(self) -> None:
        """
        Check that the format can be built, and takes what the route line sets.

        Raises:
            ValueError: it does not.
        """
        known = options_of(self.format)
        type = self.type if self.type != DEFAULT_TYPE else None
        given = {"prefix": self.prefix, "suffix": self.suffix, "content_type": type}
        for name, value in given.items():
            if value is not None and name not in known:
                argument = "type" if name == "content_type" else name
                raise ValueError(f"format={self.format} has no {argument}=")
        try:
            format = build_format(self.format)
            verifyObject(IFormat, format)
            hash(format)
        except ValueError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"format={self.format} is not a format: {reason}") from None

    def act(self, exchange: IExchange, match: Match) -> object:
        act = partial(self._act, exchange, match)
        return with_parameters(exchange, self.context, act)

    def _act(self, exchange: IExchange, match: Match, query: Mapping[str, list[str]]) -> object:
        context, act = self.context, partial(self._enter, exchange, query)
        asked = partial(
            asked_channels, context, self.subscribe, exchange, match, query, self.pattern
        )
        return granted(context, exchange, match, act, "stream", asked)

    def _enter(self, exchange: IExchange, query: Mapping[str, list[str]], match: Match) -> object:
        names = read_channels(self.context, self.subscribe, exchange, match, query, self.pattern)
        if self.as_ is not Elementary.PAYLOAD:
            if len(names) != 1 or not isinstance(names[0], str):
                raise HttpError(400, f"as={self.as_.value} needs one channel")
            return open_elementary(
                self.context, exchange, names[0], self.as_, self.burst, match.grant
            )
        otherwise = Within(self.burst) if self.burst else match.start
        start = requested_start(exchange, query, self.history, otherwise=otherwise)
        options: dict[str, object] = {}
        if self.type != DEFAULT_TYPE:
            options["content_type"] = self.type
        for name, text in (("prefix", self.prefix), ("suffix", self.suffix)):
            if text is not None:  # surrogateescape: a query may have any bytes
                options[name] = text.expand(exchange, match).encode(errors="surrogateescape")
        format = build_format(self.format, exchange.framed, **options)
        return open_stream(
            self.context, exchange, names, start, format, self.slow, grant=match.grant
        )
