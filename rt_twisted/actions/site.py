"""
The action `resource`: applications of twisted.web.

The part of the path that the route's pattern matched is the mount point; the
rest of the path is looked up below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from twisted.web.resource import IResource
from twisted.web.server import Site
from zope.interface import implementer

from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.http.interfaces import IExchange
from rt_twisted.http.site import make_site
from rt_twisted.model.load_object import load_object

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT")


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class ResourceAction:
    """
    Serve a twisted.web resource: `resource:pkg.mod.name`.

    Args:
        name: dotted name of a resource, or of a callable without arguments that
            returns one.
    """

    name: str
    site: Site = field(init=False)

    bare: ClassVar[str] = "name"
    methods: ClassVar[Sequence[str]] = METHODS

    def __post_init__(self) -> None:
        found = load_object(self.name)
        if not IResource.providedBy(found) and callable(found):
            found = found()
        if not IResource.providedBy(found):
            raise ValueError(f"{self.name} is not a twisted.web resource")
        object.__setattr__(self, "site", make_site(found))

    def act(self, exchange: IExchange, match: Match) -> None:
        exchange.render(self.site, match.depth)
