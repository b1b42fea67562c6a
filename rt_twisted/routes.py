"""
Route lines: `[METHOD] REGEX ACTION[:ARGUMENTS]`, as in uWSGI's internal routing.

The words of actions, the built-in lines, and the routes that a request may match. The arguments of
a line are parsed by `actions.build_action`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.actions.build_action import build_action
from rt_twisted.actions.chain import Route, RouteChain, RouteEntry
from rt_twisted.actions.chain_lines import build_line
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.lazy_action import LazyAction, LazyPortProtocol
from rt_twisted.actions.response_chain import ResponseChains
from rt_twisted.codecs.route_lines import Chain, LineWord, parse_line, split_word
from rt_twisted.codecs.uwsgi_actions import action_advice
from rt_twisted.http.interfaces import IExchange, IPortProtocol
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.model.load_object import find_object
from rt_twisted.rtmp.start import is_rtmp, tunnel_route
from rt_twisted.rtsp.start import is_rtsp

_log = Logger()

# The dotted names of their classes: a module is imported when a line has its word.
WORDS: dict[str, str] = {
    "admin": "rt_twisted.actions.admin.action.AdminAction",
    "alive": "rt_twisted.actions.health.LivenessAction",
    "engine.io": "rt_twisted.actions.engineio.action.EngineIOAction",
    "grip": "rt_twisted.actions.grip.publish.GripPublishAction",
    "http": "rt_twisted.actions.reverse_proxy.action.ReverseProxyAction",
    "icecast": "rt_twisted.actions.icecast.action.IcecastAction",
    "icecast-admin": "rt_twisted.actions.icecast.admin.IcecastAdminAction",
    "icecast-icy": "rt_twisted.actions.icecast.icy_source.IcyAction",
    "icecast-playlist": "rt_twisted.actions.icecast.playlist.IcecastPlaylistAction",
    "icecast-relay": "rt_twisted.actions.icecast.relay.IcecastRelayAction",
    "interleaved": "rt_twisted.rtsp.udp_forwarding.InterleavedAction",
    "istream": "rt_twisted.actions.ingest.istream.IstreamAction",
    "jpeg": "rt_twisted.actions.live.jpeg.JpegAction",
    "metrics": "rt_twisted.actions.metrics.MetricsAction",
    "mjpeg": "rt_twisted.actions.live.mjpeg.MjpegAction",
    "mjpg": "rt_twisted.actions.live.mjpeg.MjpegAction",
    "mp4": "rt_twisted.actions.live.action.LiveAction",
    "page": "rt_twisted.actions.page.PageAction",
    "poll": "rt_twisted.actions.poll.PollAction",
    "publish": "rt_twisted.actions.publish.PublishAction",
    "ready": "rt_twisted.actions.health.ReadinessAction",
    "resource": "rt_twisted.actions.site.ResourceAction",
    "rtmp": "rt_twisted.rtmp.action.RtmpAction",
    "rtsp": "rt_twisted.rtsp.action.RtspAction",
    "socket.io": "rt_twisted.actions.socketio.action.SocketIOAction",
    "sse": "rt_twisted.actions.sse.SseAction",
    "sseraw": "rt_twisted.actions.sse.SseAction",
    "static": "rt_twisted.actions.static.StaticAction",
    "stats": "rt_twisted.actions.stats.StatsAction",
    "stream": "rt_twisted.actions.stream.StreamAction",
    "streams": "rt_twisted.actions.live.streams.StreamsAction",
    "upload": "rt_twisted.actions.upload.action.UploadAction",
    "uwsgi": "rt_twisted.actions.reverse_proxy.action.ReverseProxyAction",
    "webm": "rt_twisted.actions.live.action.LiveAction",
    "websocket": "rt_twisted.actions.websocket.action.WebSocketAction",
    "wsgi": "rt_twisted.actions.wsgi.action.WsgiAction",
}
# By the argument `as=`: live streams by websocket need parts that others do not load.
BY_MODE = {
    "websocket": {
        "webm": "rt_twisted.actions.websocket.live_action.LiveViewerAction",
        "mp4": "rt_twisted.actions.websocket.live_action.LiveViewerAction",
        "auto": "rt_twisted.actions.websocket.live_action.LivePublisherAction",
    }
}
DEFAULT = (
    "^/$ sse:page=try",
    "^/poll$ poll",
    "^/stream$ stream",
    "^/ws$ websocket",
    r"^/socket\.io/ socket.io",
    "^/publish$ publish",
    "^/stats$ stats",
    "^/metrics$ metrics",
    "^/healthz$ alive",
    "^/readyz$ ready",
    "^/try$ page",
    r"^/realtime\.js$ page:realtime.js",
    r"^/attributes\.js$ page:attributes.js",
    r"^/live\.js$ page:live.js",
    r"^/live\.json$ streams:live/",
    "^/live/?$ page:wall",
    "^/live/[^/.]+$ page:player",  # before what does not answer GET: that is not loaded then
    "^/live/[^/.]+/publish$ page:camera",
    r"^/live/([^/.]+)\.webm\.ws$ websocket:subscribe=live/$1,as=webm",
    r"^/live/([^/.]+)\.mp4\.ws$ websocket:subscribe=live/$1,as=mp4",
    r"^/live/([^/.]+)\.ws$ websocket:publish=live/$1,as=auto",
    r"^/live/([^/.]+)\.webm$ webm:live/$1",
    r"^/live/([^/.]+)\.mp4$ mp4:live/$1",
    r"^/live/([^/.]+)\.mjpg$ mjpeg:live/$1",
    r"^/live/([^/.]+)\.jpg$ jpeg:live/$1",
    r"^/live/([^/.]+)(?:\.\w+)?$ istream:live/$1",
    r"^/live/([^/.]+)$ rtmp:live/$1",
    r"^/live/([^/.]+)$ rtsp:live/$1",
    # In any folder, and by the names of cyclone-sse's files: pages stay as they are.
    r"/jquery\.(sse|sse\.simple|eventsource)\.js$ page:jquery.sse.js",
)

_RECOGNIZE = {"rtmp": is_rtmp, "rtsp": is_rtsp}
_FILES = (LineWord.STATIC_MAP, LineWord.CHECK_STATIC)
_MODE = re.compile(r"(?:^|,)as=([^,]*)")


class Routes:
    """
    All routes in order; the first one that matches a request is used.

    Attributes:
        responses: the lines for responses of applications.
        waiting: the ids of actions whose service is not started yet: they answer 503.
    """

    def __init__(self, entries: Iterable[RouteEntry]) -> None:
        self._entries = listed = list(entries)
        requests = [entry for entry in listed if entry.chain is Chain.REQUEST]
        self._routes = [entry for entry in listed if isinstance(entry, Route)]
        public = [entry for entry in requests if isinstance(entry, Route)]
        rtmp = [each for each in public if getattr(each.action, "word", "") == "rtmp"]
        if rtmp and rtmp[0].context is not None:
            requests.append(tunnel_route(rtmp[0].context))
        self._chain = RouteChain(requests)
        self._internal = RouteChain(one for one in listed if one.chain is Chain.INTERNAL)
        self.responses = ResponseChains(listed)
        self.waiting: set[int] = set()

    @property
    def services(self) -> list[IService]:
        """
        Return the actions that are services, in the order of their lines.
        """
        return [one.action for one in self._routes if IService.providedBy(one.action)]

    @property
    def port_protocols(self) -> list[Any]:
        """
        Return the actions that provide `IPortProtocol`, in the order of their lines. A hand-over
        reaches no other protocol: those of an `internal-route` are not among them.
        """
        found = []
        for action in [one.action for one in self._routes if one.chain is Chain.REQUEST]:
            if IPortProtocol.providedBy(action):
                found.append(action)
            elif isinstance(action, LazyAction) and action.word in _RECOGNIZE:
                found.append(LazyPortProtocol(action, _RECOGNIZE[action.word]))
        return found

    def keep_services(self, running: Routes) -> Routes:
        """
        Return these routes with those services of *running* that have not changed.

        An action that provides `IService` is kept if its route line is the same and
        the context that it was given is equal: no setting that reaches it has changed.

        Args:
            running: the routes in force; they are not changed.
        """
        kept: dict[str, list[Route]] = {}
        for route in running._routes:
            if IService.providedBy(route.action):
                kept.setdefault(route.line, []).append(route)
        entries: list[RouteEntry] = []
        for entry in self._entries:
            same = kept.get(entry.line) if isinstance(entry, Route) else None
            usable = same and isinstance(entry, Route) and same[0].context == entry.context
            entries.append(same.pop(0) if same and usable else entry)
        return Routes(entries)

    def reserve_copies(self) -> None:
        """
        Reserve the names of the copies that the routes publish; see `ICopying.reserve_copies`.
        """
        for route in self._routes:
            if route.context is not None and route.context.out is not None:
                route.context.hub.capabilities.reserve_copies(route.context.out)

    def find(
        self, method: str, path: str, exchange: IExchange | None = None
    ) -> tuple[Any, Match] | set[str] | None:
        """
        Return the action for a request, and the match of its pattern.

        Lines are read in order, and jumps are followed. HEAD is served where GET is. No action
        serves OPTIONS: it gets the set of methods.

        Args:
            method: of the request.
            path: percent-decoded, without query.
            exchange: the request, for tests of other variables than these two; None if there
                is none: then the others are empty.

        Returns:
            The set of methods that are served, if only the method is wrong; None if no
            route matches the path.
        """
        found = self._chain.find(method, path, exchange)
        if self.waiting and isinstance(found, tuple) and id(found[0]) in self.waiting:
            return WaitingAction(found[0].methods), found[1]
        return found

    @property
    def has_internal(self) -> bool:
        """
        Whether there are `internal-route` lines.
        """
        return bool(self._internal)

    def find_internal(
        self, path: str, exchange: IExchange | None = None
    ) -> tuple[Any, Match] | None:
        """
        Return the action of an `internal-route` for a path that the application names.

        Args:
            path: percent-decoded, without query.
            exchange: the request that the application has answered.
        """
        found = self._internal.find("GET", path, exchange)
        return found if isinstance(found, tuple) else None


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class WaitingAction:
    """
    Answers for an action whose service is not started yet, as the one that it replaces is still
    being stopped.

    Args:
        methods: of the action.
    """

    methods: Sequence[str]

    def act(self, exchange: IExchange, match: Match) -> NoReturn:
        raise HttpError(503, "this route is being started", retry=1)


class RouteServices(MultiService):
    """
    Start and stop the actions that are services.

    Args:
        routes: the routes at the start; afterwards an attribute, the routes in force.
    """

    def __init__(self, routes: Routes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.routes = routes
        for service in routes.services:
            service.setServiceParent(self)

    def replace(self, routes: Routes) -> None:
        """
        Stop the services that *routes* lack, then start those that are new.

        A new one may need what an old one holds, such as a port: it is started when
        all of them have stopped. Errors are logged, as a reload cannot be undone then.

        Args:
            routes: the routes that are in force from now on.
        """
        self.routes = routes
        wanted = routes.services
        gone = [one for one in self if not any(one is kept for kept in wanted)]
        routes.waiting.update(id(one) for one in wanted if one.parent is None)
        stopped = [maybeDeferred(service.disownServiceParent) for service in gone]
        for one in stopped:
            one.addErrback(partial(_log.failure, "while stopping the action of a route"))
        DeferredList(stopped).addCallback(self._start_new)

    def _start_new(self, _: object) -> None:
        # Another reload may have been there while services stopped.
        for service in self.routes.services:
            if service.parent is None:
                try:
                    service.setServiceParent(self)
                except Exception:
                    _log.failure("cannot start the action of a route")
        self.routes.waiting.clear()


def parse_entry(line: str, context: ActionContext) -> RouteEntry:
    """
    Parse a route line, also of another word (`route-if TEST ACTION`), and build its action.

    Raises:
        ValueError: one sentence on what is wrong with the line.
    """
    parsed = parse_line(*split_word(line))
    entry = build_line(parsed, line)
    if entry is not None:
        return entry
    if parsed.word in _FILES:
        # A path may have what arguments cannot: a comma, an equals sign.
        static = _find_class("static")(parsed.arguments)
        return Route(parsed.pattern, None, static, line, fallback=True)
    action, given = build_action(
        _find_class(parsed.action, parsed.arguments),
        parsed.action,
        parsed.arguments,
        parsed.groups,
        context,
        BY_MODE.get(parsed.action, ()),
    )
    takes_over = getattr(action, "counts_as", "") == SUBSCRIBERS
    if parsed.chain in (Chain.RESPONSE, Chain.FINAL) and not takes_over:
        raise ValueError(
            f"action {parsed.action!r} cannot take over a response: use sse or another"
        )
    condition = (parsed.pattern, parsed.method)
    fallback = parsed.is_fallback
    return Route(*condition, action, line, given, parsed.test, fallback, parsed.chain)


def parse_later(line: str, context: ActionContext) -> Route:
    """
    Parse a built-in route line; its action is built when it is first used.
    """
    parsed = parse_line(*split_word(line))
    lazy = LazyAction(parsed.action, partial(_build_lazy, line, context))
    return Route(parsed.pattern, parsed.method, lazy, line, context, parsed.test)


def _build_lazy(line: str, context: ActionContext) -> Any:
    try:
        return parse_route(line, context).action
    except ValueError as error:  # a package was replaced on disk since the start
        raise HttpError(503, str(error)) from error


def parse_route(line: str, context: ActionContext) -> Route:
    """
    Parse a route line that has an action, and build the action.

    Raises:
        ValueError: one sentence on what is wrong with the line.
    """
    entry = parse_entry(line, context)
    if not isinstance(entry, Route):
        raise ValueError("this line has no action")
    return entry


def _find_class(word: str, text: str = "") -> type[Any]:
    """
    Return the class of the action *word* with the arguments in *text*.
    """
    instead = action_advice(word)
    if instead is not None:
        raise ValueError(f"uWSGI's action {word!r} is not supported: {instead}")
    mode = _MODE.search(text)
    modes = BY_MODE.get(word, {})
    if mode is not None and modes and mode[1] not in modes:
        raise ValueError(f"as= must be one of {', '.join(modes)}")
    known = {**WORDS, word: modes[mode[1]]} if mode is not None and modes else WORDS
    found = find_object("action", known, word)
    if not isinstance(found, type) or not is_dataclass(found):
        raise ValueError(f"{word} is not a dataclass that provides IAction")
    return found
