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
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.actions.wsgi.call import ApplicationCall
from rt_twisted.actions.wsgi.environ import make_environ, split_path
from rt_twisted.actions.wsgi.loading import load_application
from rt_twisted.actions.wsgi.threads import ApplicationThreads
from rt_twisted.actions.wsgi.uwsgi_module import UwsgiModule
from rt_twisted.http.interfaces import IExchange
from rt_twisted.http.upgrade import wants_websocket

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT")


@dataclass(slots=True)
class ApplicationPools:
    """
    The threads of all WSGI applications of this process; they outlive reloads.

    Args:
        for_requests: for requests.
        for_websockets: for requests that ask for a websocket.
        current: has the attribute `call` in a thread that runs one.
    """

    for_requests: ApplicationThreads
    for_websockets: ApplicationThreads
    current: local = field(default_factory=local)

    @property
    def busy(self) -> int:
        """
        Threads that run a request.
        """
        return self.for_requests.busy

    @property
    def queued(self) -> int:
        """
        Requests that wait for a thread.
        """
        return self.for_requests.queued

    @property
    def websockets(self) -> int:
        """
        Threads that run a websocket.
        """
        return self.for_websockets.busy


def pools_of(context: ActionContext) -> ApplicationPools:
    """
    Return the threads of the process.
    """
    limits = context.wsgi

    def make() -> ApplicationPools:
        requests = ApplicationThreads("wsgi", limits.threads, limits.queue)
        websockets = ApplicationThreads("wsgi-websocket", limits.websockets, 0)
        pools = ApplicationPools(requests, websockets)
        context.metrics.wsgi = pools
        return pools

    return context.shared.get(ApplicationPools, make)


def uwsgi_of(context: ActionContext) -> UwsgiModule:
    """
    Return the module `uwsgi` of the process.
    """
    return context.shared.get(UwsgiModule, lambda: UwsgiModule(context, pools_of(context).current))


@implementer(IAction)
@dataclass(eq=False)
class WsgiAction(Service):
    """
    Serve a WSGI application (PEP 3333) on threads of its own: `wsgi:shop.wsgi:application`.

    SCRIPT_NAME is the part of the path that matched. A request gets a thread when all of its body
    is here. The application may import `uwsgi`, and open websockets by it.

    Args:
        name_: of the application, or the path of its file; see `load_application`.
        context: limits, and the reactor.
    """

    name_: str
    context: ActionContext
    application: Any = field(init=False)
    endpoint: WebSocketEndpoint = field(init=False)

    bare: ClassVar[str] = "name"
    methods: ClassVar[Sequence[str]] = METHODS

    def __post_init__(self) -> None:
        with uwsgi_of(self.context).imported():
            self.application = load_application(self.name_)
        self.endpoint = WebSocketEndpoint(self.context)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        limits, pools = self.context.wsgi, pools_of(self.context)
        pools.for_requests.resize(limits.threads, limits.queue)
        pools.for_websockets.resize(limits.websockets, 0)
        uwsgi = uwsgi_of(self.context)
        uwsgi.acquire()
        uwsgi.run_post_fork_hook()

    def stopService(self) -> Any:
        uwsgi_of(self.context).release()
        return super().stopService()  # type: ignore[no-untyped-call]  # Twisted's

    async def act(self, exchange: IExchange, match: Match) -> None:
        context, pools = self.context, pools_of(self.context)
        split_path(exchange.target, match.depth)
        body = await exchange.spool(context.max_body)
        length = body.seek(0, 2)
        body.seek(0)
        own = () if context.grip is None else context.grip.request_headers()
        environ = make_environ(exchange, match.depth, body, length, context.workers > 1, own)
        call = ApplicationCall(
            context, self.application, exchange, match, environ, pools.current, self.endpoint
        )
        websocket = exchange.version == "1.1" and wants_websocket(exchange)
        call.start(pools.for_websockets if websocket else pools.for_requests)
