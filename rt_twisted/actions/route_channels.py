"""
The channels that a route line and a request name, with what the client's grant permits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rt_twisted.access.channel_names import MAX_PATTERNS
from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.subscriber_parameters import requested_channels
from rt_twisted.actions.template import GrantVariable, Template
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError


def read_channels(
    context: ActionContext,
    templates: Sequence[Template],
    exchange: IExchange,
    match: Match,
    parameters: Mapping[str, list[str]],
    pattern: bool = False,
) -> list[Selector]:
    """
    Return the channels of a route; without any, those that the client requests; without these,
    those of its grant.

    Args:
        context: has the rules for names.
        templates: the channels of the route line; may be empty.
        exchange: the request.
        match: what the route's pattern matched, with the grant of the client (`granted`).
        parameters: of the request's query or body.
        pattern: see `expand_channels`.

    Raises:
        HttpError: 400 if a name is not allowed, there is none, or there are too many; 403 if
            the grant does not cover one.
    """
    if templates:
        names = expand_channels(context, templates, exchange, match, pattern)
        return context.names.check_all(names)
    return requested_or_granted(context, parameters, match.grant)


def requested_or_granted(
    context: ActionContext, parameters: Mapping[str, list[str]], grant: Grant
) -> list[Selector]:
    """
    Return the channels that a client requests; without any, those of its *grant*.

    Raises:
        HttpError: see `read_channels`.
    """
    requested = requested_channels(parameters)
    names = context.names.check_all(requested or list(grant.channels))
    if grant is not ANYONE:
        for name in names:
            grant.check_subscribe(name)
    return [*names]


def asked_channels(
    context: ActionContext,
    templates: Sequence[Template],
    exchange: IExchange,
    match: Match,
    parameters: Mapping[str, list[str]],
    pattern: bool = False,
) -> list[str]:
    """
    Return the channels about which the application is asked: as `read_channels`, but without
    those that the grant names.

    Raises:
        HttpError: 400, see `read_channels`.
    """
    if templates:
        known = [template for template in templates if not template.has_grant]
        names = expand_channels(context, known, exchange, match, pattern)
    else:
        names = [*requested_channels(parameters)]
    return [str(name) for name in context.names.check_all(names)] if names else []


def expand_channels(
    context: ActionContext,
    templates: Sequence[Template],
    exchange: IExchange,
    match: Match,
    pattern: bool,
) -> list[Selector]:
    """
    Return the channels of a route line with the values of a request.

    Args:
        context: has the rules for names.
        templates: the channels of the route line.
        exchange: the request.
        match: what the route's pattern matched, with the grant of the client.
        pattern: whether those with a `*` in the route line are patterns of channels.

    Raises:
        HttpError: 400, a value that is inserted into a pattern is empty or has a `*`:
            the client would choose the pattern; 403, the client inserts something and the
            grant does not cover the result, or what the grant inserts is not allowed.
    """
    names: list[Selector] = []
    for template in templates:
        name: Selector
        if pattern and _has_star(template):
            name = _expand_pattern(template, exchange, match)
        else:
            name = template.expand(exchange, match)
        if match.grant is not ANYONE:
            _check_granted(context, template, name)
            if not template.is_granted(match):
                match.grant.check_subscribe(name)
        names.append(name)
    return names


def expand_channel(
    context: ActionContext, template: Template, exchange: IExchange, match: Match
) -> str:
    """
    Return the one channel of a route line with the values of a request, checked.

    Raises:
        HttpError: 400 if the name is not allowed; 403 as for `expand_channels`.
    """
    [name] = expand_channels(context, (template,), exchange, match, False)
    return context.names.check(str(name))


def expand_publish_channels(
    context: ActionContext, templates: Sequence[Template], exchange: IExchange, match: Match
) -> list[str]:
    """
    Return the channels to which a route publishes, with the values of a request, checked.

    Raises:
        HttpError: 400 if a name is not allowed; 403 as for `expand_channels`.
    """
    names = []
    for template in templates:
        name = template.expand(exchange, match)
        if match.grant is not ANYONE:
            _check_granted(context, template, name)
            if not template.is_granted(match):
                match.grant.check(name)
        names.append(context.names.check(name))
    return names


def _check_granted(context: ActionContext, template: Template, name: Selector) -> None:
    """
    Check that what the grant has inserted into *template* gives a valid channel *name*.

    Raises:
        HttpError: 403, it does not.
    """
    if template.has_grant:
        try:
            context.names.check(str(name).replace("*", "x") if isinstance(name, Wildcard) else name)
        except HttpError:
            raise HttpError(403, "the grant names what a channel cannot be called") from None


def _has_star(template: Template) -> bool:
    return any(isinstance(part, str) and "*" in part for part in template.parts)


def _expand_pattern(template: Template, exchange: IExchange, match: Match) -> Wildcard:
    text = ""
    for part in template.parts:
        if isinstance(part, str):
            text += part
            continue
        value = part(exchange, match)
        if not value or "*" in value:
            status = 403 if isinstance(part, GrantVariable) else 400
            raise HttpError(status, "a value for the channel pattern is empty, or has a *")
        text += value
    return Wildcard.of(text)


def check_static_channels(
    templates: Sequence[Template], context: ActionContext, pattern: bool = False
) -> None:
    """
    Check the channel names of a route line that do not depend on the request.

    Args:
        templates: the channels of the route line.
        context: has the rules for names.
        pattern: see `expand_channels`.

    Raises:
        ValueError: a name is not allowed, there are too many patterns, or there is none
            although *pattern* is set; or the route needs a grant, and clients have none.
    """
    check_grant_variables(templates, context)
    if pattern:
        patterns = [template for template in templates if _has_star(template)]
        if not patterns:
            raise ValueError("pattern=yes needs a * in subscribe=, such as subscribe=news.*")
        if len(patterns) > MAX_PATTERNS:
            raise ValueError(f"too many patterns: {MAX_PATTERNS} are allowed")
        templates = [template for template in templates if template not in patterns]
        for template in patterns:  # a value has at least one character
            text = "".join([part if isinstance(part, str) else "x" for part in template.parts])
            try:
                context.names.check(Wildcard.of(text))
            except HttpError as refusal:
                raise ValueError(refusal.reason) from None
    for template in templates:
        if all(isinstance(part, str) for part in template.parts):
            try:
                context.names.check(template.source)
            except HttpError as refusal:
                hint = "; add pattern=yes if it is a pattern" if _has_star(template) else ""
                raise ValueError(refusal.reason + hint) from None


def check_grant_variables(templates: Sequence[Template], context: ActionContext) -> None:
    """
    Check that clients have grants if *templates* insert claims of them.

    Raises:
        ValueError: they have none.
    """
    if context.gate.is_open and any(template.has_grant for template in templates):
        raise ValueError("${grant[...]} needs allow=token")
