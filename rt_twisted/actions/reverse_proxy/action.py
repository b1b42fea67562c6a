"""
The actions `http` and `uwsgi`: pass requests on to an application (a reverse proxy).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from zope.interface import implementer

from rt_twisted.actions.any_method import ANY_METHOD
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.reverse_proxy.address import UpstreamAddress, http_address, uwsgi_address
from rt_twisted.actions.reverse_proxy.exchange import ProxiedExchange
from rt_twisted.actions.reverse_proxy.request import ProxiedRequest, http_request, uwsgi_request
from rt_twisted.actions.reverse_proxy.upstream import Upstream, find_upstreams
from rt_twisted.actions.template import Template
from rt_twisted.codecs.forwarding import check_target
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.codecs.sizes import NO_LIMIT, ByteSize
from rt_twisted.http.collected_body import body_too_large
from rt_twisted.model.errors import HttpError


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class ReverseProxyAction:
    """
    Pass requests on: `http:127.0.0.1:8000`, `http:/run/app.sock`, `uwsgi:127.0.0.1:3031,0,0`.

    Args:
        word: `http` or `uwsgi`.
        context: has the reactor and the limits.
        to: addresses of the application's processes, which are used in turn.
        host: for the header Host; "" for the client's.
        strip: prefix that is removed from the path.
        ca: file with the certificates of the authorities that may sign the application's; ""
            for those of the system.
        max_body: bytes of a body; 0 for no limit.
        encoded_slash: accept %2f in a path.
    """

    word: str
    context: ActionContext
    to: tuple[Template, ...]
    host: str = ""
    strip: str = ""
    ca: str = ""
    max_body: ByteSize = NO_LIMIT
    encoded_slash: bool = False
    address: UpstreamAddress = field(init=False)
    upstream: Upstream = field(init=False)

    bare: ClassVar[str] = "to"
    methods: ClassVar[Collection[str]] = ANY_METHOD
    proxies: ClassVar[bool] = True
    catches_all: ClassVar[bool] = True

    def __post_init__(self) -> None:
        address = (uwsgi_address if self.word == "uwsgi" else http_address)(self.to)
        strip = self.strip
        if strip and (not strip.startswith("/") or strip.endswith("/") or "//" in strip):
            raise ValueError("strip= must begin with a slash, and not end with one")
        if self.host and not self.host.isprintable():
            raise ValueError("host= has a control character")
        if self.ca and all(url.scheme != "https" for url in address.urls):
            raise ValueError("ca= is for https://")
        object.__setattr__(self, "address", address)
        upstream = find_upstreams(self.context).get(address.urls, self.ca)
        object.__setattr__(self, "upstream", upstream)

    def act(self, exchange: Any, match: Match) -> None:
        try:
            check_target(exchange.target, self.encoded_slash)
        except ValueError as error:
            raise HttpError(400, str(error)) from None
        limit = self.max_body
        if limit and exchange.length is not None and exchange.length > limit:
            raise body_too_large(limit)
        context = self.context
        ProxiedExchange(
            exchange,
            match,
            self.upstream,
            context.upstream,
            partial(self._request, exchange),
            limit,
            context.handover,
        ).submit()

    def _request(self, exchange: Any, url: HttpUrl) -> ProxiedRequest:
        grip = self.context.grip
        own = () if grip is None else grip.request_fields()
        if self.word == "uwsgi":
            return uwsgi_request(exchange, self.address, url, self.host, self.strip, own)
        return http_request(exchange, url, self.host, self.strip, own)
