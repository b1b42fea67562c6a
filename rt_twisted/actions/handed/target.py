"""
An action of ours that takes a connection over from the application.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from twisted.internet.error import ConnectionLost

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.access.questions import UnusableAnswer
from rt_twisted.actions.granting import granted
from rt_twisted.actions.handed.headers import Headers, granted_by, header, passed_to_stream
from rt_twisted.actions.handed.problems import check_name, log_cut, unusable
from rt_twisted.actions.handover import HandedResponse
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.subscriber_parameters import requested_channels
from rt_twisted.actions.template import Template
from rt_twisted.codecs.eventsource import whole_events
from rt_twisted.codecs.query import BRACKETED, media_type
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header

MAX_BODY = 65536  # bytes of the application's body that are sent first
BODY_SECONDS = 1.0  # in which they are received
_EVENTS = ("text/event-stream", "event/stream")  # the latter of uwsgi-sse-offload's examples
_NO_FIELDS: Mapping[str, list[str]] = {}


@dataclass(frozen=True, slots=True)
class HandedTarget:
    """
    The action that takes over, and what it is called with.

    Args:
        action: provides `IAction`, and has the field `context`.
        match: of its line, with the variables that the response has set.
        headers: that the client gets beside those of the action.
        fields: that replace those of the client's query; none to leave it.
        grant: of the client, by this response.
        client_names: whether the client's request names a channel, which needs a grant.
    """

    action: Any
    match: Match
    headers: Sequence[Header]
    fields: Mapping[str, list[str]] = field(default_factory=dict)
    grant: Grant = ANYONE
    client_names: bool = False

    def start(self, response: HandedResponse) -> object:
        """
        Have the action answer, after the beginning of the application's body.

        Returns:
            What `IAction.act` may return.

        Raises:
            HttpError: see `IAction.act`.
        """
        exchange = response.exchange
        if self.fields:
            exchange.replace_query(self.fields)
        for name, value in self.headers:
            exchange.add_header(name, value)
        if exchange.method == "GET" and self._sends_body(response.headers):
            return self._act_after_body(response)
        response.read(0, 0.0)
        return self._act(exchange)

    def _sends_body(self, headers: Headers) -> bool:
        if not getattr(self.action, "body_first", False):
            return False
        if header(headers, "content-length") == "0" or header(headers, "content-encoding"):
            return False
        return media_type(header(headers, "content-type") or "") in _EVENTS

    async def _act_after_body(self, response: HandedResponse) -> None:
        exchange = response.exchange
        body = await response.read(MAX_BODY, BODY_SECONDS)
        if exchange.answered:  # the client has disconnected meanwhile
            raise ConnectionLost
        if not body.complete:
            log_cut(self.action.context)
        exchange.send_first(whole_events(body.data, body.complete))
        result: Any = self._act(exchange)
        if result is not None:
            await result

    def _act(self, exchange: IExchange) -> object:
        own, match, context = self.grant, self.match, self.action.context
        if not self.client_names:
            return self.action.act(exchange, replace(match, grant=own, decided=True))
        word = getattr(self.action, "word", "")
        act = partial(self._act_for_client, exchange)
        return granted(context, exchange, match, act, word, partial(self._asked, exchange))

    def _act_for_client(self, exchange: IExchange, match: Match) -> object:
        """
        Act with the grant of the client for what its request names, and that of the response.
        """
        client, own = match.grant, self.grant
        both = replace(
            client,
            subject=own.subject or client.subject,
            channels=own.channels or client.channels,
            subscribe=(*own.subscribe, *client.subscribe),
            asked=(*own.asked, *client.asked),
            expires=min(own.expires, client.expires),
            values={**client.values, **own.values},
        )
        return self.action.act(exchange, replace(self.match, grant=both, decided=True))

    def _asked(self, exchange: IExchange) -> list[str]:
        """
        Return the channels that the client names, about which the application is asked.
        """
        match = replace(self.match, grant=self.grant)
        templates = templates_of(self.action)
        if not templates:
            return requested_channels(exchange.query())
        named = [one for one in templates if not one.is_granted(match)]
        return [one.expand(exchange, match) for one in named]


def find_target(
    response: HandedResponse,
    action: Any,
    match: Match,
    fields: Mapping[str, list[str]] = _NO_FIELDS,
    removed: frozenset[str] = frozenset(),
) -> HandedTarget | None:
    """
    Return what takes *response* over.

    Args:
        response: of the application.
        action: of a line that it has reached.
        match: of that line.
        fields: of the query that it names.
        removed: lower-case names of headers that the client does not get.

    Returns:
        None if neither the response nor the request names a channel.

    Raises:
        HttpError: 502, the response names a channel that cannot exist, or has a header that
            cannot be read; 400, the client's query has too many fields; others as for
            `Template.expand`.
    """
    exchange, headers = response.exchange, response.headers
    try:
        own = granted_by(headers, time.time(), requested_channels(fields))
    except UnusableAnswer as error:
        raise unusable(exchange, str(error)) from None
    match = replace(match, grant=own, position=response.position)
    templates = templates_of(action)
    pattern = getattr(action, "pattern", False)
    names = [(one.expand(exchange, match), one.is_granted(match)) for one in templates]
    if not all(name for name, _ in names):
        return None
    client_names = any(not is_granted for _, is_granted in names)
    if not templates:
        client_names = not own.asked and bool(requested_channels(exchange.query()))
        if not own.asked and not own.channels and not client_names:
            return None
        names = [(name, True) for name in (*own.asked, *own.channels)]
    if not pattern:
        for name, is_granted in names:
            if is_granted:
                check_name(action.context, exchange, name)
    passed = [one for one in passed_to_stream(headers) if one[0].lower() not in removed]
    if fields:
        fields = _merged(exchange.query(), fields)
    return HandedTarget(action, match, passed, fields, own, client_names)


def _merged(
    client: Mapping[str, list[str]], named: Mapping[str, list[str]]
) -> Mapping[str, list[str]]:
    """
    Return the fields of the *client*, but those *named* where there are both.
    """
    own = client
    if requested_channels(named):
        own = {
            name: values
            for name, values in client.items()
            if name != "channels" and not BRACKETED.fullmatch(name)
        }
    return {**own, **named}


def templates_of(action: Any) -> Sequence[Template]:
    """
    Return the channels of an action's route line; none if it has none.
    """
    found = getattr(action, "subscribe", ())
    return (found,) if isinstance(found, Template) else found or ()
