"""
POST /publish: messages come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access import Credentials, Key, header_key
from rt_twisted.actions.bodies import read_body
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import check_key, may_have_fields, parse
from rt_twisted.house import House
from rt_twisted.interfaces import IAction, IExchange, Match, Refusal, Unavailable, Undurable
from rt_twisted.message import Draft, Position
from rt_twisted.template import Template

RETRY_AFTER = "2"  # seconds, when the broker is away
_CONTROLS = bytes(0x20 if b < 9 or 14 <= b < 32 else b for b in range(256))


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Publish:
    """
    `publish`, or `publish:CHANNEL` to publish there whatever the request says.

    Args:
        house: the daemon.
        channel: the channels; without one the request names them.
    """

    house: House
    channel: tuple[Template, ...] = ()

    bare: ClassVar[str] = "channel"
    methods: ClassVar[Sequence[str]] = ("POST",)

    def act(self, exchange: IExchange, match: Match) -> Deferred[None]:
        """
        Read the body, publish, answer where it went.
        """
        said = exchange.length != 0 or exchange.query_string
        if not said and exchange.header("content-length") is None:
            raise Refusal(411, "the request has no body")
        shown = self._find_key(exchange)
        fixed = [template.expand(exchange, match) for template in self.channel]
        body = read_body(exchange, self.house.max_body)
        return body.addCallback(self._publish, exchange, fixed, shown)

    def _find_key(self, exchange: IExchange) -> Key | None:
        """
        The key that counts for the whole request, checked before its body is read.

        Returns:
            None if the body decides: it may have a key of its own.

        Raises:
            Refusal: 401 or 403, whatever the body has.
        """
        publishers = self.house.publishers
        secret = header_key(exchange)
        if secret is not None or not publishers:
            return publishers.authorize(Credentials.of(exchange, secret))
        shown = exchange.query().get("key", [""])[-1].encode(errors="surrogateescape")
        if shown or not may_have_fields(exchange.header("content-type") or ""):
            publishers.authorize(Credentials.of(exchange, shown or None))
        return None

    def _publish(
        self, body: bytes, exchange: IExchange, fixed: list[str], shown: Key | None
    ) -> Deferred[None]:
        house = self.house
        there = exchange.length != 0 or exchange.header("content-length") is not None
        try:
            submissions = parse(
                exchange.header("content-type") or "",
                body if there else None,
                exchange.query(),
                house.max_batch,
            )
            request_key = check_key(exchange.header("idempotency-key") or "")
        except RemoteProtocolError as error:
            raise Refusal(error.status, error.reason) from None
        # A batch shows one key and names few channels: each is checked once.
        keys: dict[bytes | None, Key] = {}
        allowed: set[tuple[Key, str]] = set()
        drafts: list[Draft] = []
        for number, submission in enumerate(submissions):
            key = shown or keys.get(submission.key)
            if key is None:
                credentials = Credentials.of(exchange, submission.key)
                key = keys[submission.key] = house.publishers.authorize(credentials)
            channels = fixed or submission.channels
            if not channels:
                raise Refusal(400, "channel is missing")
            data = fitting(house, submission.message)
            own_key = submission.idempotency_key
            if own_key is None and request_key is not None:
                own_key = f"{request_key}.{number}" if len(submissions) > 1 else request_key
            for channel in channels:
                if (key, channel) not in allowed:
                    key.check(house.names.check(channel))
                    allowed.add((key, channel))
                drafts.append(Draft(channel, data, submission.event, own_key))
            if len(drafts) > house.max_batch:
                raise Refusal(413, f"more than {house.max_batch} messages in one request")
        receivers = sum([house.hub.readers_of(draft.channel) for draft in drafts])
        return house.hub.publish(drafts).addCallbacks(
            _accepted, _refused, callbackArgs=(exchange, receivers), errbackArgs=(exchange,)
        )


def fitting(house: House, data: bytes | None) -> bytes:
    """
    *data* as it may be published.

    Raises:
        Refusal: 400, there is none; 413, there is too much.
    """
    if data is None:
        raise Refusal(400, "message is missing")
    if len(data) > house.max_message:
        raise Refusal(413, f"the message is larger than {house.max_message} bytes")
    return trimmed(data) if house.trim else data


def trimmed(data: bytes) -> bytes:
    """
    *data* as cyclone-sse would have sent it.
    """
    return data.translate(_CONTROLS).strip()


def _accepted(positions: Sequence[Position], exchange: IExchange, receivers: int) -> None:
    body = b'{"status": "ok", "position": "%s", "published": %d, "receivers": %d}\n'
    if isinstance(positions, Undurable):
        body = body.replace(b"}", b', "durable": false}')
    position = str(positions[-1]).encode()
    exchange.answer(200, body % (position, len(positions), receivers), "application/json")


def _refused(failure: Failure, exchange: IExchange) -> None:
    failure.trap(Unavailable)
    raise Refusal(503, failure.getErrorMessage(), [("Retry-After", RETRY_AFTER)])
