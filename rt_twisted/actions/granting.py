"""
Grants of requests: the first step of every action that clients need a grant for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, fail
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from rt_twisted.access.grants import ANY_PUBLISHER, Grant
from rt_twisted.access.keys import Key
from rt_twisted.access.questions import (
    PUBLISH,
    SUBSCRIBE,
    AppAnswer,
    Question,
    UnusableAnswer,
    check_channels,
)
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.subscription import address_of, request_slot, while_connected
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.grant_holders import GrantHolder
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.model.errors import HttpError

EXPIRED = "the grant of the publisher has expired"
REVOKED = "the grant of the publisher was revoked"


def granted(
    context: ActionContext,
    exchange: IExchange,
    match: Match,
    act: Callable[[Match], object],
    transport: str = "",
    channels: Callable[[], Sequence[str]] = tuple,
) -> object:
    """
    Call *act* with *match* and the grant of the subscriber, if it may use the route.

    Args:
        context: has the gate of the route.
        exchange: the request; not answered yet.
        match: what the route's pattern matched.
        act: as `IAction.act`; expands channels with the match that it gets.
        transport: the word of the route, for the application.
        channels: returns those about which the application is asked; see `asked_channels`.

    Returns:
        What `IAction.act` may return.

    Raises:
        HttpError: 401, see `Gate.identify`. Raised here; refusals of the application are
            what the returned Deferred fails with.
    """
    gate = context.gate
    if gate.is_open or match.decided:
        return act(match)
    grant = gate.identify(exchange)
    if grant is None:
        question = gate.question(exchange, SUBSCRIBE, transport, channels())
        return _act_when_admitted(context, exchange, question, match, act)
    return act(match.with_grant(grant))


def _act_when_admitted(
    context: ActionContext,
    exchange: IExchange,
    question: Question,
    match: Match,
    act: Callable[[Match], object],
) -> Deferred[Any]:
    """
    Ask the application when the join rate permits, then call *act*.

    Each subscriber comes by here, so this is no coroutine: with one, a question takes 8 us more.
    """

    def ask(_: None) -> Deferred[Any]:
        exchange.admitted = exchange.ends_half_closed = True  # none is asked about who has left
        answered: Deferred[Any] = context.gate.app.ask(question)
        exchange.watch(answered.cancel)
        return answered.addCallbacks(answer, gone)

    def answer(answered: AppAnswer) -> object:
        exchange.ends_half_closed = False
        exchange.watch(_leave)  # to cancel the question now would cancel what the action awaits
        result: Any = act(match.with_grant(_grant_for(context, exchange, answered)))
        return ensureDeferred(result) if iscoroutine(result) else result

    def gone(failure: Failure) -> Failure:
        return Failure(ConnectionLost()) if failure.check(CancelledError) else failure

    try:
        context.hub.admit(address_of(exchange, context))
        slot = request_slot(context, exchange)
    except HttpError:
        return fail()
    return ask(None) if slot is None else slot.addCallback(ask)


def _leave() -> None:
    """
    Do nothing about a client that disconnects: the action watches it, if it has to.
    """


async def ask_for_request(context: ActionContext, exchange: IExchange, question: Question) -> Grant:
    """
    Ask the application about the client of *exchange*, and return its grant.

    The cookies that the application sets are sent with the response, whichever it is.

    Raises:
        HttpError: how the application refuses the client; 503, it cannot be asked.
        ConnectionLost: the client has disconnected meanwhile.
    """
    answer = await while_connected(exchange, context.gate.app.ask(question))
    return _grant_for(context, exchange, answer)


def _grant_for(context: ActionContext, exchange: IExchange, answer: AppAnswer) -> Grant:
    for cookie in answer.cookies:
        exchange.add_header("Set-Cookie", cookie)
    return grant_of(context, answer)


def grant_of(context: ActionContext, answer: AppAnswer) -> Grant:
    """
    Return the grant of *answer*.

    Raises:
        HttpError: how the application refuses the client; 503, the grant cannot be used.
    """
    if answer.grant is None:
        assert answer.refusal is not None
        raise answer.refusal.copy()  # others get the same answer
    try:
        check_channels(answer.grant, context.names.check)
    except UnusableAnswer as error:
        raise context.gate.app.unusable(str(error)) from None
    return answer.grant


def publisher_permit(
    context: ActionContext,
    exchange: IExchange,
    by_key: Callable[[], Key | None],
    basic: bool = False,
) -> Key | Grant | None:
    """
    Return the key or the grant by which the client of a request may publish.

    Args:
        context: has the gate of the route. Without `allow=` of its own, only keys count.
        exchange: the request.
        by_key: returns the key of the request; None if its body may have one. Raises
            HttpError if the request has none, or a wrong one.
        basic: whether a token may be the password of `Authorization: Basic`.

    Returns:
        None if the body may have a key, which is checked then, or if the application decides.

    Raises:
        HttpError: 401 or 403, whatever the body has.
    """
    gate = context.gate
    if not gate.own:
        return by_key()
    if not context.publish_keys:  # being on this machine is no proof here
        return gate.identify_publisher(exchange, basic)
    try:
        key = by_key()
    except HttpError:
        return gate.identify_publisher(exchange, basic)
    if key is None and (gate.asks or gate.has_publisher_token(exchange)):
        return gate.identify_publisher(exchange)
    return key


async def live_permit(
    context: ActionContext, exchange: IExchange, transport: str, channels: Sequence[str]
) -> Key | Grant:
    """
    Return the key or the grant by which a live publisher may publish.

    Args:
        context: has the gate of the route.
        exchange: the request.
        transport: the word of the route, for the application.
        channels: about which the application is asked.

    Raises:
        HttpError: see `Keys.authorize_live` and `Gate.identify_publisher`; or how the
            application refuses the client.
    """

    def by_key() -> Key:
        return context.publish_keys.authorize_live(exchange)

    permit = publisher_permit(context, exchange, by_key, basic=True)
    if permit is None:
        question = context.gate.question(exchange, PUBLISH, transport, channels)
        permit = await ask_for_request(context, exchange, question)
    return permit


def end_publisher(context: ActionContext, publisher: LivePublisher, permit: Key | Grant) -> None:
    """
    End a live *publisher* when the grant by which it publishes expires or is revoked.
    """
    if not isinstance(permit, Grant) or permit is ANY_PUBLISHER:
        return
    hub = context.hub
    end = partial(publisher.lose, REVOKED)
    hub.holders.add(publisher, GrantHolder(permit, hub.seconds(), end, None))
    publisher.closed.addCallback(lambda _: hub.holders.discard(publisher))
    left = context.gate.seconds_left(permit)
    if left == float("inf"):
        return
    timer: IDelayedCall = context.reactor.callLater(
        max(0.0, left), publisher.lose, EXPIRED, DisconnectReason.EXPIRED
    )

    def ended(_: object) -> None:
        if timer.active():
            timer.cancel()

    publisher.closed.addCallback(ended)
