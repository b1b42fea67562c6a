"""
The grant of a connection on which a client subscribes, publishes and renews its token.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from rt_twisted.access.gate import Gate
from rt_twisted.access.grants import Grant
from rt_twisted.access.questions import PUBLISH, SUBSCRIBE, Question
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import grant_of
from rt_twisted.actions.template import GrantVariable, Template
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.model.errors import HttpError

MAX_ASKED = 1000  # channels that the application has granted, of one connection


class ConnectionGrant:
    """
    The grant of one connection, and what it must cover.

    Args:
        gate: of the route.
        grant: of the client.
        own: channels of the route that the grant need not cover.
        own_publish: the same, of those to publish to.
        claims: names of claims that are part of the channels of the route: a renewed
            token has the same values.
        question: what the application was asked when the client connected; None if it was not.

    Attributes:
        grant: of the client, the latest one.
    """

    __slots__ = ("_claims", "_gate", "_own", "_own_publish", "_question", "grant")

    def __init__(
        self,
        gate: Gate,
        grant: Grant,
        own: Collection[Selector] = (),
        own_publish: Collection[Selector] = (),
        claims: Sequence[str] = (),
        question: Question | None = None,
    ) -> None:
        self.grant = grant
        self._gate = gate
        self._own = own
        self._own_publish = own_publish
        self._claims = claims
        self._question = question

    @property
    def seconds_left(self) -> float:
        """
        Seconds until the grant ends; infinity for no end.
        """
        return self._gate.seconds_left(self.grant)

    def covers(self, name: Selector) -> bool:
        """
        Return whether the client may be subscribed to *name*.
        """
        return name in self._own or self.grant.covers(name)

    def permits(self, channel: str) -> bool:
        """
        Return whether the client may publish to *channel* without a key.
        """
        return channel in self._own_publish or self.grant.permits(channel)

    def check_subscribe(self, names: Iterable[Selector]) -> None:
        """
        Check that the client may subscribe to all of *names*.

        Raises:
            HttpError: 403, it may not.
        """
        for name in names:
            self.grant.check_subscribe(name)

    @property
    def asks(self) -> bool:
        """
        Whether the application decides about further channels of the client.
        """
        return self._question is not None

    async def ask(self, context: ActionContext, action: str, names: Sequence[str]) -> None:
        """
        Ask the application about further channels, and add them to the grant.

        Args:
            context: settings and hub.
            action: SUBSCRIBE or PUBLISH.
            names: all that one command names, and that the grant does not cover.

        Raises:
            HttpError: how the application refuses them; 403, it names others; 503, it cannot
                be asked.
        """
        assert self._question is not None
        question = replace(self._question, action=action, channels=tuple(names))
        found = grant_of(context, await self._gate.app.ask(question))
        if found.subject and self.grant.subject and found.subject != self.grant.subject:
            raise HttpError(403, "the application names another client than before")
        for name in names:
            if action == SUBSCRIBE:
                found.check_subscribe(name)
            else:
                found.check(name)
        old = self.grant
        kept = tuple(dict.fromkeys((*old.asked, *(names if action == SUBSCRIBE else ()))))
        published = dict.fromkeys((*old.asked_publish, *(names if action == PUBLISH else ())))
        self.grant = replace(
            old,
            expires=min(old.expires, found.expires),
            asked=kept[-MAX_ASKED:],
            asked_publish=tuple(published)[-MAX_ASKED:],
        )

    def renew(self, token: str) -> None:
        """
        Replace the grant by that of *token*.

        Raises:
            HttpError: 401, the token is not valid; 403, it is another client's, or has other
                claims where the channels of the route need them.
        """
        grant = self._gate.verify(token)
        if grant.subject != self.grant.subject:
            raise HttpError(403, "the token has another sub than the one before")
        for name in self._claims:
            if grant.values.get(name) != self.grant.values.get(name):
                raise HttpError(403, f"the token has another {name} than the one before")
        self.grant = grant


def own_channels(templates: Sequence[Template], names: Sequence[Selector]) -> tuple[Selector, ...]:
    """
    Return those of *names* that are the route's own permission.

    Args:
        templates: the channels of the route line.
        names: what they were expanded to, in the same order.
    """
    pairs = zip(templates, names, strict=False)
    return tuple([name for template, name in pairs if template.is_fixed])


def inserted_claims(templates: Sequence[Template]) -> tuple[str, ...]:
    """
    Return the names of the claims that *templates* insert.
    """
    parts = [part for template in templates for part in template.parts]
    return tuple(dict.fromkeys([part.name for part in parts if isinstance(part, GrantVariable)]))
