"""
A redis broker from settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rt_twisted.brokers.redis.broker import RedisBroker
from rt_twisted.brokers.redis.server import Server
from rt_twisted.history import Keep


class Wrong(Exception):
    """
    A setting that cannot be.

    Args:
        name: of the setting.
        reason: one sentence, without secrets.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def build_broker(
    reactor: Any,
    options: Mapping[str, Any],
    given: Callable[[str], bool],
    keep: Keep,
    server: str = "",
) -> RedisBroker:
    """
    The broker that *options* describe.

    Args:
        reactor: the reactor.
        options: all settings by name.
        given: whether a setting was given at all.
        keep: what each channel remembers.
        server: `HOST:PORT` or a URL, instead of what the settings say; user,
            password and all the rest are theirs.

    Raises:
        Wrong: which setting, and why.
    """
    if not server and options["redis-url"]:
        for name in ("redis-host", "redis-port"):
            if given(name):
                raise Wrong("redis-url", f"{name} is set too; the URL has both")
    try:
        place = Server.parse(
            server or options["redis-url"] or _address(options),
            options["redis-username"] or "",
            options["redis-password"] or "",
            options["redis-ca"] or "",
        )
        place.trust()
    except ValueError as error:
        name = "redis-ca" if options["redis-ca"] in str(error).split(":") else "redis-url"
        raise Wrong(name, str(error)) from None
    prefix, plain_prefix = options["redis-prefix"], options["redis-plain-prefix"] or ""
    if plain_prefix.startswith(prefix):
        reason = "names that begin with redis-prefix are the daemon's own, and not listened to"
        raise Wrong("redis-plain-prefix", reason)
    return RedisBroker(
        reactor,
        place,
        keep,
        prefix,
        options["redis-plain"],
        plain_prefix,
        options["redis-wait"],
        options["redis-timeout"],
    )


def _address(options: Mapping[str, Any]) -> str:
    host, port = options["redis-host"] or "127.0.0.1", options["redis-port"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
