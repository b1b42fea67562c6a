"""
What twisted.web serves: folders, resources, WSGI applications.

The part of the path that the route's pattern matched is the mount point; what
follows is looked up below it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from twisted.web.pages import notFound
from twisted.web.resource import IResource
from twisted.web.server import Site
from twisted.web.static import File
from twisted.web.wsgi import WSGIResource
from zope.interface import implementer

from rt_twisted.dotted import load
from rt_twisted.house import House
from rt_twisted.interfaces import IAction, IExchange, Match

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT")


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Static:
    """
    `static:DIR` or `static:FILE`.

    Args:
        path: a folder, whose index.html is served for the folder itself and
            which is never listed; or one file for every path that matches.
    """

    path: str
    site: Site = field(init=False)

    bare: ClassVar[str] = "path"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if not os.path.exists(self.path):
            raise ValueError(f"there is no {self.path}")
        resource = _Folder(self.path)
        # A file has nothing below it: whatever the rest of the path is, it answers.
        resource.isLeaf = os.path.isfile(self.path)
        object.__setattr__(self, "site", Site(resource))

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Let twisted.web look it up.
        """
        exchange.render(self.site, 0 if os.path.isfile(self.path) else _depth(match))


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Resource:
    """
    `resource:pkg.mod.name`: a twisted.web resource, or what makes one when
    called without arguments.
    """

    name: str
    site: Site = field(init=False)

    bare: ClassVar[str] = "name"
    methods: ClassVar[Sequence[str]] = METHODS

    def __post_init__(self) -> None:
        found = load(self.name)
        if not IResource.providedBy(found) and callable(found):
            found = found()
        if not IResource.providedBy(found):
            raise ValueError(f"{self.name} is not a twisted.web resource")
        object.__setattr__(self, "site", Site(found))

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Let it answer.
        """
        exchange.render(self.site, _depth(match))


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Wsgi:
    """
    `wsgi:pkg.mod:application`: a WSGI application (PEP 3333) on the reactor's
    threads; SCRIPT_NAME is the part of the path that matched.
    """

    name: str
    house: House
    site: Site = field(init=False)

    bare: ClassVar[str] = "name"
    methods: ClassVar[Sequence[str]] = METHODS

    def __post_init__(self) -> None:
        application = load(self.name.replace(":", "."))
        if not callable(application):
            raise ValueError(f"{self.name} cannot be called")
        reactor = self.house.reactor
        resource = WSGIResource(reactor, reactor.getThreadPool(), application)
        object.__setattr__(self, "site", Site(resource))

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Let it answer.
        """
        exchange.render(self.site, _depth(match))


class _Folder(File):
    """
    A folder that is not listed, and without what is hidden in it.
    """

    def getChild(self, path: bytes, request: Any) -> Any:
        """
        What is below, but nothing hidden: a .git or .env is not for the world.
        """
        if path.startswith(b"."):
            return notFound()
        return super().getChild(path, request)  # type: ignore[no-untyped-call]

    def directoryListing(self) -> Any:
        """
        Not found, instead of the names of all files.
        """
        return notFound()


def _depth(match: Match) -> int:
    """
    How many segments of the path the pattern took: `/static/` took one.
    """
    return max(0, (match.groups[0] or "").rstrip("/").count("/"))
