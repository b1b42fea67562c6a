"""
The action `publish`: messages from HTTP requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Credentials, Key, header_key
from rt_twisted.access.questions import PUBLISH
from rt_twisted.actions.bodies import call_with_body
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import ask_for_request, publisher_permit
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.publish_filter import filtered
from rt_twisted.actions.route_channels import (
    asked_channels,
    check_grant_variables,
    expand_publish_channels,
)
from rt_twisted.actions.template import Template
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import Submission, check_idempotency_key, may_have_fields, parse
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import PUBLISHES
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, PublishResult

RETRY_AFTER = "2"  # seconds, when the broker is not available
_CONTROLS = bytes(0x20 if b < 9 or 14 <= b < 32 else b for b in range(256))


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class PublishAction:
    """
    Publish messages: `publish`, or `publish:CHANNEL` whatever channel the request names.

    A publisher needs a key; with `allow=token` on the route, a key or a token.

    Args:
        context: the hub and the settings.
        channel: the channels; without any the request names them.
        filter: URL of an application to which each message is sent first: it lets it pass,
            changes it, drops it, or refuses the publisher.
    """

    context: ActionContext
    channel: tuple[Template, ...] = ()
    filter: str = ""

    bare: ClassVar[str] = "channel"
    publishes: ClassVar[bool] = True
    answers_whole: ClassVar[bool] = True
    checks_grants: ClassVar[bool] = True
    counts_as: ClassVar[str] = PUBLISHES
    methods: ClassVar[Sequence[str]] = ("POST",)

    def __post_init__(self) -> None:
        check_grant_variables(self.channel, self.context)
        if self.filter:
            if self.context.gate.find_app is None:
                raise ValueError("filter= is not possible here")
            try:
                self.context.gate.find_app(self.filter)
            except ValueError as error:
                raise ValueError(f"filter= must be {error}") from None

    def act(self, exchange: IExchange, match: Match) -> object:
        has_fields = exchange.length != 0 or exchange.query_string
        if not has_fields and exchange.header("content-length") is None:
            raise HttpError(411, "the request has no body")
        context = self.context
        permit: Key | Grant | None
        if context.gate.own:
            permit = publisher_permit(context, exchange, partial(self._find_key, exchange))
        else:
            permit = self._find_key(exchange)
        if permit is None and context.gate.own and context.gate.asks:
            asking = partial(self._ask, exchange, match)
            return call_with_body(exchange, context, context.max_body, asking)
        fixed = self._fixed_channels(exchange, match, permit)
        publishing = partial(self._publish, exchange, fixed, permit)
        return call_with_body(exchange, context, context.max_body, publishing)

    def _fixed_channels(
        self, exchange: IExchange, match: Match, permit: Key | Grant | None
    ) -> list[str]:
        """
        Return the channels of the route; none if the request names them.
        """
        if isinstance(permit, Grant):
            match = match.with_grant(permit)
            return expand_publish_channels(self.context, self.channel, exchange, match)
        if not self.channel:
            return []
        return [template.expand(exchange, match) for template in self.channel]

    def _find_key(self, exchange: IExchange) -> Key | None:
        """
        Return the key of the whole request, checked before its body is read.

        Returns:
            None if the body can have a key: it is checked then.

        Raises:
            HttpError: 401 or 403, whatever the body has.
        """
        publish_keys = self.context.publish_keys
        secret = header_key(exchange)
        if secret is not None or not publish_keys:
            return publish_keys.authorize(Credentials(secret, exchange))
        in_query, query = b"", exchange.query()
        if query:
            in_query = query.get("key", [""])[-1].encode(errors="surrogateescape")
        if in_query or not may_have_fields(exchange.header("content-type") or ""):
            publish_keys.authorize(Credentials(in_query or None, exchange))
        return None

    def _publish(
        self, exchange: IExchange, fixed: list[str], permit: Key | Grant | None, body: bytes
    ) -> Deferred[None] | None:
        return self._publish_all(self._parse(body, exchange), exchange, fixed, permit)

    def _ask(self, exchange: IExchange, match: Match, body: bytes) -> Deferred[None] | None:
        """
        Have the application decide about all channels of the request, unless it has a key.
        """
        submissions = self._parse(body, exchange)
        if all(submission.key for submission in submissions):
            fixed = self._fixed_channels(exchange, match, None)
            return self._publish_all(submissions, exchange, fixed, None)
        return Deferred.fromCoroutine(self._publish_asked(submissions, exchange, match))

    async def _publish_asked(
        self, submissions: Sequence[Submission], exchange: IExchange, match: Match
    ) -> None:
        context = self.context
        named = [name for submission in submissions for name in submission.channels]
        asked = asked_channels(context, self.channel, exchange, match, {"channels": named})
        question = context.gate.question(exchange, PUBLISH, "publish", asked)
        grant = await ask_for_request(context, exchange, question)
        fixed = self._fixed_channels(exchange, match, grant)
        published = self._publish_all(submissions, exchange, fixed, grant)
        if published is not None:
            await published

    def _parse(self, body: bytes, exchange: IExchange) -> Sequence[Submission]:
        has_body = exchange.length != 0 or exchange.header("content-length") is not None
        try:
            return parse(
                exchange.header("content-type") or "",
                body if has_body else None,
                exchange.query(),
                self.context.max_batch,
            )
        except RemoteProtocolError as error:
            raise HttpError(error.status, error.reason) from None

    def _publish_all(
        self,
        submissions: Sequence[Submission],
        exchange: IExchange,
        fixed: list[str],
        permit: Key | Grant | None,
    ) -> Deferred[None] | None:
        context = self.context
        try:
            batch_key = check_idempotency_key(exchange.header("idempotency-key") or "")
        except RemoteProtocolError as error:
            raise HttpError(error.status, error.reason) from None
        rate = context.publish_rate.rate
        # A batch usually has one key and few channels: a channel that repeats is checked once.
        keys: dict[bytes | None, Key] = {}
        allowed: tuple[Key | Grant, str] | None = None
        drafts: list[Draft] = []
        for number, submission in enumerate(submissions):
            key: Key | Grant | None = permit or keys.get(submission.key)
            if key is None:
                credentials = Credentials(submission.key, exchange)
                key = keys[submission.key] = context.publish_keys.authorize(credentials)
            channels = fixed or submission.channels
            if not channels:
                raise HttpError(400, "channel is missing")
            data = fitting(context, submission.message)
            idempotency_key = submission.idempotency_key
            if idempotency_key is None and batch_key is not None:
                idempotency_key = f"{batch_key}.{number}" if len(submissions) > 1 else batch_key
            for channel in channels:
                if allowed is None or key is not allowed[0] or channel != allowed[1]:
                    context.names.check(channel)
                    if not (fixed and isinstance(key, Grant)):  # checked before
                        key.check(channel)
                    allowed = key, channel
                drafts.append(Draft(channel, data, submission.event, idempotency_key))
            if len(drafts) > context.max_batch:
                raise HttpError(413, f"more than {context.max_batch} messages in one request")
        if rate:
            who = None if allowed is None else allowed[0]
            context.publish_rate.consume(who, exchange.address, len(drafts))
        if self.filter:
            return Deferred.fromCoroutine(self._publish_filtered(exchange, drafts))
        return publish_and_answer(self.context, exchange, drafts)

    async def _publish_filtered(self, exchange: IExchange, drafts: list[Draft]) -> None:
        """
        Publish what the filter makes of *drafts*; those of one message are one question.
        """
        passed: list[Draft] = []
        index = 0
        while index < len(drafts):
            first = drafts[index]
            same = [first]
            for draft in drafts[index + 1 :]:
                if draft.data is not first.data or draft.channel == first.channel:
                    break
                same.append(draft)
            index += len(same)
            channels = [draft.channel for draft in same]
            data = await filtered(
                self.context, exchange, self.filter, first.data, first.event, channels
            )
            if data is not None:
                passed += [replace(draft, data=data) for draft in same]
        if passed:
            published = publish_and_answer(self.context, exchange, passed)
            if published is not None:
                await published
        else:
            body = b'{"status": "ok", "published": 0, "receivers": 0}\n'
            exchange.answer(200, body, "application/json")


def publish_and_answer(
    context: ActionContext, exchange: IExchange, drafts: Sequence[Draft]
) -> Deferred[None] | None:
    """
    Publish *drafts*, at least one, and answer *exchange* with their last position.

    Returns:
        fails with HttpError, see `publish_error`; None if all is done.
    """
    receivers = 0
    for draft in drafts:
        receivers += context.hub.subscribers_of(draft.channel)
    published = context.publish(drafts)
    result = getattr(published, "result", None)
    if isinstance(result, PublishResult):  # the embedded broker publishes at once
        _accepted(result, exchange, receivers)
        return None
    return published.addCallbacks(_accepted, _refused, callbackArgs=(exchange, receivers))


def fitting(context: ActionContext, data: bytes | None) -> bytes:
    """
    Return *data* as it is published: trimmed if the setting `trim` is on.

    Raises:
        HttpError: 400 for None; 413 if it is too large.
    """
    if data is None:
        raise HttpError(400, "message is missing")
    if len(data) > context.max_message:
        raise HttpError(413, f"the message is larger than {context.max_message} bytes")
    return trimmed(data) if context.trim else data


def trimmed(data: bytes) -> bytes:
    """
    Strip white space and replace control characters, as cyclone-sse did.
    """
    return data.translate(_CONTROLS).strip()


def requested_key(exchange: IExchange) -> bytes | None:
    """
    Return the key of the request that opens a connection; None if it has none.

    The key may stand in the query, as a page can set no header of a websocket but that for
    subprotocols.
    """
    secret = header_key(exchange)
    if secret is None and "key" in exchange.query():
        secret = exchange.query()["key"][-1].encode(errors="surrogateescape")
    return secret


def publish_error(failure: Failure) -> HttpError:
    """
    Return what a publisher is answered when `Hub.publish` has failed.

    Raises:
        Exception: *failure* is neither an HttpError nor Unavailable.
    """
    if isinstance(failure.value, HttpError):
        return failure.value
    failure.trap(Unavailable)
    return HttpError(503, failure.getErrorMessage(), [("Retry-After", RETRY_AFTER)])


def _accepted(result: PublishResult, exchange: IExchange, receivers: int) -> None:
    body = b'{"status": "ok", "position": "%s", "published": %d, "receivers": %d}\n'
    if not result.durable:
        body = body.replace(b"}", b', "durable": false}')
    position = str(result.positions[-1]).encode()
    exchange.answer(200, body % (position, len(result.positions), receivers), "application/json")


def _refused(failure: Failure) -> None:
    raise publish_error(failure)
