"""
The action `admin`: an HTTP API for administrators; see `openapi`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar
from urllib.parse import unquote

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.access.grants import LATEST, MAX_NAME
from rt_twisted.access.keys import Credentials, header_key
from rt_twisted.access.revocations import LONGEST, Revocation
from rt_twisted.actions.admin.acts import FILTERS, MOST
from rt_twisted.actions.admin.bus import AdminBus
from rt_twisted.actions.admin.openapi import document
from rt_twisted.actions.bodies import read_body
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.poll_response import PollRequest, respond_once
from rt_twisted.actions.subscriber_parameters import parse_start, requested_number
from rt_twisted.codecs.json_steps import list_to_json
from rt_twisted.formats import build_format
from rt_twisted.http.dispatch import not_allowed
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Newest, Since
from rt_twisted.net.slices import run_in_slices

MAX_BODY = 65536  # bytes


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class AdminAction:
    """
    Serve the admin API below the path that the route matches: `route = ^/admin/ admin`.

    Requests need the setting `admin-key`; without one, only this machine may send them.

    Args:
        context: the hub and the settings.
    """

    context: ActionContext

    methods: ClassVar[Sequence[str]] = ("GET", "POST", "DELETE")

    def act(self, exchange: IExchange, match: Match) -> object:
        context = self.context
        if not context.admin_keys and exchange.proxied:  # its address is not the client's
            raise HttpError(403, "no admin-key is set: no proxy may do this")
        context.admin_keys.authorize(Credentials(header_key(exchange), exchange))
        bus = context.shared.find(AdminBus)
        if bus is None:
            raise HttpError(503, "the admin API is not started", retry=1)
        methods = self.methods_at(match)
        if methods and exchange.method not in methods:
            raise not_allowed(exchange.method, methods)
        parts = _parts(match)
        match exchange.method, parts:
            case "GET" | "HEAD", ["openapi.json"]:
                _answer(exchange, document(match.groups[0] or "/", context.names.pattern))
                return None
            case "GET" | "HEAD", ["subscribers"]:
                return self._list(exchange, bus, "subscribers", (*FILTERS, "limit", "after"))
            case "GET" | "HEAD", ["channels"]:
                return self._list(exchange, bus, "channels", ("limit", "after"))
            case "GET" | "HEAD", ["channels", *name, "history"] if name:
                self._history(exchange, "/".join(name))
                return None
            case "DELETE", ["channels", *name, "history"] if name:
                return self._forget(exchange, bus, "/".join(name))
            case "GET" | "HEAD", ["revoked"]:
                revoked = [_shown(one) for one in bus.revocations.current()]
                _answer(exchange, {"revoked": revoked})
                return None
            case "POST", ["disconnect" | "unsubscribe" | "revoke" as act]:
                return self._with_body(exchange, bus, act)
            case "DELETE", ["revoked", jti] if jti:
                self._restore(exchange, bus, jti)
                return None
        raise HttpError(
            404, "there is no such administrative request; openapi.json of this API lists all"
        )

    def methods_at(self, match: Match) -> Collection[str]:
        """
        Return the methods of the resource that *match* names; empty if there is none.
        """
        match _parts(match):
            case ["openapi.json" | "subscribers" | "channels" | "revoked"]:
                return "GET", "HEAD"
            case ["channels", *name, "history"] if name:
                return "GET", "HEAD", "DELETE"
            case ["disconnect" | "unsubscribe" | "revoke"]:
                return ("POST",)
            case ["revoked", jti] if jti:
                return ("DELETE",)
        return ()

    def _list(
        self, exchange: IExchange, bus: AdminBus, act: str, names: Sequence[str]
    ) -> Deferred[None]:
        given = {name: values[-1] for name, values in exchange.query().items() if name in names}
        filters = {name: _text(given, name) for name in FILTERS if name in given}
        if "after" in given:
            filters["after"] = given["after"]
        limit = requested_number(exchange.query(), "limit")
        limit = min(MOST, 100 if limit is None else limit)
        filters["limit"] = str(limit)
        asked = bus.request(act, filters)
        if act == "channels":
            return asked.addCallback(_merge_channels, limit).addCallback(
                lambda found: _answer(exchange, {act: found})
            )

        def encode(found: list[dict[str, Any]]) -> Deferred[str]:
            shown = sorted(found, key=lambda one: str(one.get("id")))[:limit]
            return run_in_slices(context.reactor, list_to_json(shown))

        def answer(listed: str) -> None:
            _answer_json(exchange, f'{{"{act}": {listed}}}')

        context = self.context
        return asked.addCallback(encode).addCallback(answer)

    def _history(self, exchange: IExchange, name: str) -> None:
        context, query = self.context, exchange.query()
        context.names.check(name)
        since: Since = Newest(min(MOST, requested_number(query, "limit") or 100))
        if query.get("since"):
            since = parse_start(query["since"][-1])
        request = PollRequest(build_format("poll-json"), 0.0, context.poll_seconds)
        respond_once(exchange, context, [name], since, request, "")

    def _forget(self, exchange: IExchange, bus: AdminBus, name: str) -> Deferred[None]:
        self.context.names.check(name)

        def answer(_: object) -> None:
            self._audit(exchange, "forget", {"channel": name})
            if not exchange.answered:
                exchange.answer(204)

        return bus.forget(name).addCallback(answer)

    def _with_body(self, exchange: IExchange, bus: AdminBus, act: str) -> Deferred[None]:
        body = read_body(exchange, self.context, MAX_BODY)
        return body.addCallback(partial(self._act_on, exchange, bus, act))

    def _act_on(
        self, exchange: IExchange, bus: AdminBus, act: str, body: bytes
    ) -> Deferred[None] | None:
        given = _read(body)
        if act == "revoke":
            leeway = getattr(self.context.gate.tokens, "leeway", 0.0)
            entry = _revocation(given, bus.revocations.now(), leeway)
            bus.revoke(entry)
            self._audit(exchange, act, _shown(entry))
            _answer(exchange, {"revoked": _shown(entry)})
            return None
        filters = {}
        for name in FILTERS:
            if name in given:
                filters[name] = _text(given, name)
        needed = {"channel"} if act == "unsubscribe" else set()
        if not filters or not needed <= filters.keys():
            raise HttpError(400, f"{act} needs {' and '.join(needed) or 'one of ' + _FILTERS}")

        def answer(found: list[dict[str, Any]]) -> None:
            self._audit(exchange, act, {**filters, "count": len(found)})
            _answer(exchange, {"count": len(found)})

        return bus.request(act, filters).addCallback(answer)

    def _restore(self, exchange: IExchange, bus: AdminBus, jti: str) -> None:
        now = bus.revocations.now()
        known = [one for one in bus.revocations.current() if one.jti == jti]
        if not known:
            raise HttpError(404, "no token with this jti is revoked")
        bus.revoke(replace(known[0], removed=True, changed=now))
        self._audit(exchange, "restore", {"jti": jti})
        exchange.answer(204)

    def _audit(self, exchange: IExchange, act: str, fields: dict[str, Any]) -> None:
        if self.context.audit is not None:
            self.context.audit(act, {"by": exchange.address, **fields})


_FILTERS = ", ".join(FILTERS)


def _answer(exchange: IExchange, value: object) -> None:
    _answer_json(exchange, json.dumps(value))


def _answer_json(exchange: IExchange, text: str) -> None:
    if not exchange.answered:
        exchange.answer(200, text.encode() + b"\n", "application/json", NO_STORE)


def _read(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HttpError(400, "the body is not JSON") from None
    if type(value) is not dict:
        raise HttpError(400, "the body is not a JSON object")
    return value


def _parts(match: Match) -> list[str]:
    return [unquote(part) for part in match.rest.split("/")]


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if type(value) is not str or not 0 < len(value) <= MAX_NAME:
        raise HttpError(400, f"{name} is a text of 1 to {MAX_NAME} characters")
    return value


def _revocation(given: dict[str, Any], now: float, leeway: float) -> Revocation:
    """
    Return the revocation that a request asks for.

    Args:
        given: by the request.
        now: Unix time.
        leeway: seconds after its `exp` for which a token is valid.

    Raises:
        HttpError: 400, it is malformed.
    """
    if ("jti" in given) == ("sub" in given):
        raise HttpError(400, "revoke needs jti, or sub with before")
    times = {"before": now, "exp": now + LONGEST}
    for name in times:
        if name not in given:
            continue
        value = given[name]
        if type(value) not in (int, float) or not 0 <= value <= LATEST:
            raise HttpError(400, f"{name} is a time in seconds since 1970")
        times[name] = float(value)
    until = min(max(times["exp"] + leeway, now + 1.0), now + LONGEST)
    if "jti" in given:
        return Revocation(jti=_text(given, "jti"), until=until, changed=now)
    sub = _text(given, "sub")
    return Revocation(sub=sub, before=times["before"], until=now + LONGEST, changed=now)


def _shown(entry: Revocation) -> dict[str, Any]:
    if entry.jti:
        return {"jti": entry.jti, "until": entry.until}
    return {"sub": entry.sub, "before": entry.before, "until": entry.until}


def _merge_channels(found: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """
    Return the channels of all processes: subscribers are summed, each has all messages.
    """
    merged: dict[str, dict[str, Any]] = {}
    for one in found:
        name = str(one.get("name"))
        known = merged.setdefault(name, {**one, "subscribers": 0})
        known["subscribers"] += one.get("subscribers", 0)
        if one.get("messages", 0) > known.get("messages", 0):
            known.update(messages=one["messages"], position=one.get("position", ""))
    return [merged[name] for name in sorted(merged)][:limit]
