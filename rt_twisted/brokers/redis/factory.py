"""
Builds a redis broker from the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os.path import abspath
from typing import Any

from rt_twisted.brokers.client_tls import ClientTls, WrongFile
from rt_twisted.brokers.redis.broker import RedisBroker
from rt_twisted.brokers.redis.server import RedisServer
from rt_twisted.model.retention import Retention


class RedisConfigError(Exception):
    """
    Raised for a setting that cannot be used.

    Args:
        name: the setting's.
        reason: one sentence, without secrets.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def build_broker(
    reactor: Any,
    options: Mapping[str, Any],
    given: Callable[[str], bool],
    retention: Retention,
    server: str = "",
) -> RedisBroker:
    """
    Build the broker that *options* describe.

    Args:
        reactor: the reactor.
        options: all settings by name.
        given: tells whether a setting was given at all.
        retention: what each channel retains.
        server: `HOST:PORT` or a URL, instead of the address in the settings; user,
            password and all the rest are theirs.

    Raises:
        RedisConfigError: which setting is wrong, and why.
    """
    if not server and options["redis-url"]:
        for name in ("redis-host", "redis-port"):
            if given(name):
                raise RedisConfigError("redis-url", f"{name} is set too; the URL has host and port")
    names = {
        "ca": "redis-ca",
        "cert": "redis-client-cert",
        "key": "redis-client-key",
    }
    # A daemon may change its working directory before it connects.
    paths = {role: abspath(options[name]) for role, name in names.items() if options[name]}
    if "key" in paths and "cert" not in paths:
        raise RedisConfigError("redis-client-key", "redis-client-cert is not set")
    try:
        place = RedisServer.parse(
            server or options["redis-url"] or _address(options),
            options["redis-username"] or "",
            options["redis-password"] or "",
            ClientTls(**paths),
        )
        place.files.check()
    except WrongFile as error:
        raise RedisConfigError(names[error.role], str(error)) from None
    except ValueError as error:
        raise RedisConfigError("redis-url", str(error)) from None
    if "cert" in paths and not place.tls and not server:
        raise RedisConfigError(
            "redis-client-cert", "a client certificate needs rediss:// or sentinels://"
        )
    prefix, plain_prefix = options["redis-prefix"], options["redis-plain-prefix"] or ""
    if plain_prefix.startswith(prefix):
        reason = "names that begin with redis-prefix are the daemon's own, and cannot be channels"
        raise RedisConfigError("redis-plain-prefix", reason)
    return RedisBroker(
        reactor,
        place,
        retention,
        prefix,
        options["redis-plain"],
        plain_prefix,
        options["redis-wait"],
        options["redis-timeout"],
    )


def _address(options: Mapping[str, Any]) -> str:
    host, port = options["redis-host"] or "127.0.0.1", options["redis-port"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
