"""
Grants of RTSP clients: their token is in the URL (`?token=`), in `Authorization: Bearer`, or
the password.
"""

from __future__ import annotations

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key
from rt_twisted.access.questions import PUBLISH, SUBSCRIBE
from rt_twisted.actions.granting import ask_for_request, publisher_permit
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.route_channels import (
    asked_channels,
    expand_channel,
    expand_publish_channels,
)
from rt_twisted.actions.template import Template
from rt_twisted.codecs.basic_auth import basic_password
from rt_twisted.model.errors import HttpError
from rt_twisted.rtsp.access import RtspAccess
from rt_twisted.rtsp.interfaces import RtspRoute
from rt_twisted.rtsp.requests import RtspExchange

WORD = "rtsp"


async def play_permitted(
    access: RtspAccess, exchange: RtspExchange, route: RtspRoute, match: Match
) -> tuple[str, Match]:
    """
    Return the channel that a client may play, and *match* with its grant.

    Raises:
        HttpError: 401 with challenges, 403, or how the application refuses the client.
    """
    context, request = route.context, exchange.as_exchange()
    template: Template = route.publish
    if route.view_keys is not None:
        access.authorize(exchange, route.view_keys, [])
    gate = context.gate
    if not gate.is_open:
        password = basic_password(exchange.header("authorization")) or b""
        try:
            grant = gate.identify(request, password.decode("latin-1"))
        except HttpError as error:
            raise _challenged(access, exchange, error) from None
        if grant is None:
            asked = asked_channels(context, (template,), request, match, {})
            question = gate.question(request, SUBSCRIBE, WORD, asked)
            grant = await ask_for_request(context, request, question)
        match = match.with_grant(grant)
    return expand_channel(context, template, request, match), match


async def publish_permitted(
    access: RtspAccess, exchange: RtspExchange, route: RtspRoute, match: Match
) -> tuple[str, Match]:
    """
    Return the channel to which a client may publish, and *match* with its grant, if it has one.

    Raises:
        HttpError: see `play_permitted`, and `Keys.authorize`.
    """
    context, request = route.context, exchange.as_exchange()
    template: Template = route.publish

    def by_key() -> Key:
        return access.authorize(exchange, context.publish_keys, [])

    try:
        permit: Key | Grant | None = publisher_permit(context, request, by_key, basic=True)
    except HttpError as error:
        raise _challenged(access, exchange, error) from None
    if permit is None:
        asked = asked_channels(context, (template,), request, match, {})
        question = context.gate.question(request, PUBLISH, WORD, asked)
        permit = await ask_for_request(context, request, question)
    if isinstance(permit, Grant):
        match = match.with_grant(permit)
    [channel] = expand_publish_channels(context, (template,), request, match)
    if isinstance(permit, Key):
        permit.check(channel)
    return channel, match


def _challenged(access: RtspAccess, exchange: RtspExchange, error: HttpError) -> HttpError:
    """
    Return *error* with the challenges that players and encoders answer, if it is a 401.
    """
    if error.status != 401:
        return error
    names = {name for name, _ in error.headers}
    challenges = access.challenges(exchange)
    kept = error.headers if "WWW-Authenticate" in names and len(error.headers) > 1 else challenges
    return HttpError(401, error.reason, kept)
