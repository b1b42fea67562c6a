"""
The route word `wsgi`: a WSGI application in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import local
from typing import Any, ClassVar

from twisted.application.service import Service
from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.wsgi.call import ApplicationCall
from rt_twisted.actions.wsgi.environ import make_environ, split_path
from rt_twisted.actions.wsgi.loading import load_application
from rt_twisted.actions.wsgi.threads import ApplicationThreads
from rt_twisted.http.interfaces import IExchange

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT")


@dataclass(slots=True)
class ApplicationPools:
    """
    The threads of all WSGI applications of this process; they outlive reloads.

    Args:
        requests: for requests.
        current: has the attribute `call` in a thread that runs one.
    """

    requests: ApplicationThreads
    current: local = field(default_factory=local)

    @property
    def busy(self) -> int:
        """
        Threads that run a request.
        """
        return self.requests.busy

    @property
    def queued(self) -> int:
        """
        Requests that wait for a thread.
        """
        return self.requests.queued

    @property
    def websockets(self) -> int:
        """
        Threads that run a websocket.
        """
        return 0


def pools_of(context: ActionContext) -> ApplicationPools:
    """
    Return the threads of the process.
    """
    limits = context.wsgi

    def make() -> ApplicationPools:
        pools = ApplicationPools(ApplicationThreads("wsgi", limits.threads, limits.queue))
        context.hub.metrics.wsgi = pools
        return pools

    return context.shared.get(ApplicationPools, make)


@implementer(IAction)
@dataclass(eq=False)
class WsgiAction(Service):
    """
    Serve a WSGI application (PEP 3333) on threads of its own: `wsgi:shop.wsgi:application`.

    SCRIPT_NAME is the part of the path that matched. A request gets a thread when all of its body
    is here.

    Args:
        name_: of the application, or the path of its file; see `load_application`.
        context: limits, and the reactor.
    """

    name_: str
    context: ActionContext
    application: Any = field(init=False)

    bare: ClassVar[str] = "name"
    methods: ClassVar[Sequence[str]] = METHODS

    def __post_init__(self) -> None:
        self.application = load_application(self.name_)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        limits = self.context.wsgi
        pools_of(self.context).requests.resize(limits.threads, limits.queue)

    async def act(self, exchange: IExchange, match: Match) -> None:
        context = self.context
        split_path(exchange.target, match.depth)
        body = await exchange.spool(context.max_body)
        length = body.seek(0, 2)
        body.seek(0)
        multiprocess = context.handoff is not None
        environ = make_environ(exchange, match.depth, body, length, multiprocess)
        pools = pools_of(context)
        ApplicationCall(context, self.application, exchange, environ, pools.current).start(
            pools.requests
        )
