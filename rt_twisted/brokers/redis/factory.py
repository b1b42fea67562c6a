"""
Builds a redis broker from the settings.
"""

from __future__ import annotations

from os.path import abspath
from typing import Any

from rt_twisted.brokers.client_tls import ClientTls, WrongFile
from rt_twisted.brokers.redis.broker import RedisBroker
from rt_twisted.brokers.redis.server import RedisServer
from rt_twisted.model.settings import ConfigError, GivenSettings, read_retention


def build_broker(
    reactor: Any, settings: GivenSettings, server: str = "", password: str = ""
) -> RedisBroker:
    """
    Build the broker that the `redis-` settings describe.

    Args:
        reactor: the reactor.
        settings: all settings by name.
        server: `HOST:PORT`, a URL or the path of a Unix socket, instead of the address in
            the settings; all the rest is theirs.
        password: instead of that in the settings; "" for theirs.

    Raises:
        ConfigError: which setting is wrong, and why.
    """
    if not server and settings["redis-url"]:
        for name in ("redis-host", "redis-port"):
            if settings.given(name):
                raise ConfigError("redis-url", f"{name} is set too; the URL has host and port")
    names = {
        "ca": "redis-ca",
        "cert": "redis-client-cert",
        "key": "redis-client-key",
    }
    # A daemon may change its working directory before it connects.
    paths = {role: abspath(settings[name]) for role, name in names.items() if settings[name]}
    if "key" in paths and "cert" not in paths:
        raise ConfigError("redis-client-key", "redis-client-cert is not set")
    try:
        place = RedisServer.parse(
            server or settings["redis-url"] or _address(settings),
            settings["redis-username"] or "",
            password or settings["redis-password"] or "",
            ClientTls(**paths),
        )
        place.files.check()
    except WrongFile as error:
        raise ConfigError(names[error.role], str(error)) from None
    except ValueError as error:
        raise ConfigError("redis-url", str(error)) from None
    if "cert" in paths and not place.tls and not server:
        raise ConfigError(
            "redis-client-cert", "a client certificate needs rediss:// or sentinels://"
        )
    prefix, plain_prefix = settings["redis-prefix"], settings["redis-plain-prefix"] or ""
    if plain_prefix.startswith(prefix):
        reason = "names that begin with redis-prefix are the daemon's own, and cannot be channels"
        raise ConfigError("redis-plain-prefix", reason)
    broker = RedisBroker(
        reactor,
        place,
        read_retention(settings),
        prefix,
        settings["redis-plain"],
        plain_prefix,
        settings["redis-plain-out"],
        settings["redis-wait"],
        settings["redis-timeout"],
    )
    try:
        broker.check_copies(settings["redis-plain-out"])
    except ValueError as error:
        raise ConfigError("redis-plain-out", str(error)) from None
    return broker


def _address(settings: GivenSettings) -> str:
    host, port = settings["redis-host"] or "127.0.0.1", settings["redis-port"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
