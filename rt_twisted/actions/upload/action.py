"""
The action `upload`: files from clients.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import live_permit
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.route_channels import (
    asked_channels,
    check_static_channels,
    expand_publish_channels,
)
from rt_twisted.actions.template import Template
from rt_twisted.actions.upload.folder import UploadFolder
from rt_twisted.actions.upload.resumed import ID, ResumedUploads
from rt_twisted.actions.upload.rules import UploadRules
from rt_twisted.actions.upload.whole import receive_file, receive_form
from rt_twisted.codecs.forms import MULTIPART
from rt_twisted.codecs.query import media_type
from rt_twisted.codecs.tus import (
    ALGORITHMS,
    EXTENSIONS,
    REQUEST_HEADERS,
    VERSION,
)
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import PUBLISHES
from rt_twisted.model.errors import Header, HttpError

DEFAULT_MAX = 1024**3  # bytes of a file
DAY = 86400.0
CHECK_SECONDS = 3600.0  # between two searches for uploads that have expired

_TYPE = re.compile(r"[a-z0-9.+-]+/(\*|[a-z0-9.+-]+)")
_OVERRIDES = frozenset(("HEAD", "PATCH", "DELETE"))

_log = Logger()


@implementer(IAction)
@dataclass(eq=False)
class UploadAction(Service):
    """
    Store files: `upload:DIR`, or `upload:to=DIR,channel=uploads,max=100000000,types=image/*`.

    PUT and POST store a body, or the files of a form. Clients of tus 1.0 resume uploads, so the
    pattern must match what follows the path: `^/upload`, not `^/upload$`.

    An uploader needs a publish key; with `allow=token` on the route, a token.

    Args:
        context: the hub and the settings.
        to: a folder that exists; or a file, which each upload replaces.
        channel: where progress and completion are published.
        max: bytes of a file; 0 for no limit.
        types: media types that are accepted, `image/*` for all of a kind; all without any.
        expire: seconds for which an upload that is not complete is kept.
    """

    context: ActionContext
    to: str
    channel: Template | None = None
    max: int = DEFAULT_MAX
    types: tuple[Template, ...] = ()
    expire: float = DAY
    rules: UploadRules = field(init=False)

    bare: ClassVar[str] = "to"
    publishes: ClassVar[bool] = True
    checks_grants: ClassVar[bool] = True
    counts_as: ClassVar[str] = PUBLISHES
    methods: ClassVar[Sequence[str]] = ("HEAD", "POST", "PUT", "PATCH", "DELETE")
    request_headers: ClassVar[Sequence[str]] = (*REQUEST_HEADERS, "X-File-Name", "X-File-Type")

    def __post_init__(self) -> None:
        if not self.max >= 0 or not self.expire > 0:
            raise ValueError("max= cannot be negative, and expire= must be more than 0")
        if self.channel is not None:
            check_static_channels((self.channel,), self.context)
        elif self.context.gate.own and not self.context.gate.is_open:
            raise ValueError("allow=token needs channel=: a token permits channels")
        types = [template.source.lower() for template in self.types]
        for type in types:
            if not _TYPE.fullmatch(type):
                raise ValueError(f"types={type} is not a media type, such as image/png or image/*")
        folder = _find_folder(self.to)
        self.rules = UploadRules(self.context, folder, self.max, types, self.expire)
        self._expiry = LoopingCall(self._expire)
        self._expiry.clock = self.context.reactor

    @property
    def options_headers(self) -> Sequence[Header]:
        """
        Return what a client of tus may ask for by OPTIONS.
        """
        limit = [("Tus-Max-Size", str(self.max))] if self.max else []
        return [
            ("Tus-Resumable", VERSION),
            ("Tus-Version", VERSION),
            ("Tus-Extension", EXTENSIONS),
            ("Tus-Checksum-Algorithm", ",".join(ALGORITHMS)),
            *limit,
        ]

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self._expiry.start(CHECK_SECONDS)

    def stopService(self) -> Any:
        self._expiry.stop()
        return super().stopService()  # type: ignore[no-untyped-call]  # Twisted's

    async def act(self, exchange: IExchange, match: Match) -> None:
        channel = await self._authorize(exchange, match)
        method = exchange.method
        override = exchange.header("x-http-method-override")
        if method == "POST" and override in _OVERRIDES:
            method = override
        id = match.rest.strip("/")
        if exchange.header("content-encoding"):
            raise HttpError(415, "send files without Content-Encoding")
        if method in _OVERRIDES:
            if not ID.fullmatch(id):
                raise HttpError(404, "there is no such upload")
            await ResumedUploads(self.rules, channel).act(exchange, method, id)
        elif exchange.header("tus-resumable") is not None:
            if method != "POST" or ID.fullmatch(id):
                raise HttpError(405, f"{method} is not allowed here", [("Allow", "POST")])
            path = f"{exchange.path.rstrip('/')}/{'0' * 32}"
            found = exchange.find("PATCH", path)
            if found is None or found[0] is not self or found[1].rest.strip("/") != "0" * 32:
                reason = "the pattern of the route does not match the paths of tus: use ^/upload"
                raise HttpError(501, reason)
            await ResumedUploads(self.rules, channel).act(exchange, method, "")
        else:
            await self._receive(exchange, channel, match.rest.rpartition("/")[2])

    async def _receive(self, exchange: IExchange, channel: str, name: str) -> None:
        if media_type(exchange.header("content-type") or "") == MULTIPART:
            await receive_form(self.rules, exchange, channel)
            return
        if exchange.length == 0 and exchange.header("content-length") is None:
            raise HttpError(411, "the request has no body")
        await receive_file(self.rules, exchange, channel, name)

    async def _authorize(self, exchange: IExchange, match: Match) -> str:
        """
        Return the channel of the events; "" for none.

        Raises:
            HttpError: 401 or 403, see `live_permit`; 400, the name of the channel is not allowed.
        """
        context = self.context
        templates = () if self.channel is None else (self.channel,)
        asked = asked_channels(context, templates, exchange, match, {})
        permit = await live_permit(context, exchange, "upload", asked)
        if isinstance(permit, Grant):
            match = match.with_grant(permit)
        names = expand_publish_channels(context, templates, exchange, match)
        if isinstance(permit, Key):
            for name in names:
                permit.check(name)
        return "".join(names)

    def _expire(self) -> Any:
        removed = self.rules.threads.run(self.rules.folder.expire, self.expire)
        return removed.addCallbacks(self._on_expired, self._on_expiry_failed)

    def _on_expired(self, count: int) -> None:
        if count:
            _log.info("{count} expired uploads were removed from {to}", count=count, to=self.to)

    def _on_expiry_failed(self, failure: Any) -> None:
        _log.warn(
            "cannot remove expired uploads from {to}: {reason}",
            to=self.to,
            reason=failure.getErrorMessage(),
        )


def _find_folder(to: str) -> UploadFolder:
    """
    Return the folder of `to=`.

    Raises:
        ValueError: it does not exist.
    """
    path = os.path.abspath(to)  # a daemon changes its working directory
    if os.path.isdir(path):
        return UploadFolder(path)
    parent, name = os.path.split(path)
    if to.endswith("/") or not os.path.isdir(parent):
        raise ValueError(f"there is no folder {path if to.endswith('/') else parent}")
    return UploadFolder(parent, name)
