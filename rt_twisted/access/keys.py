"""
Who may do what: keys, and the names channels may have.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rt_twisted.codecs.websocket import offered_key
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.errors import HttpError

CHANNEL_PATTERN = r"[^\x00-\x20\x7f,*?\[\]\\]{1,200}"
_LOCAL_HOST = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """
    A secret, and the channels it opens.

    Args:
        secret: never logged, never shown.
        patterns: channel names in which `*` stands for any characters; none
            at all opens every channel.
    """

    secret: bytes
    patterns: tuple[Wildcard, ...] = ()

    @classmethod
    def of(cls, secret: str, patterns: Iterable[str] = ()) -> Key:
        """
        A key from words as they stand in the settings.
        """
        return cls(secret.encode(), tuple(map(Wildcard.of, patterns)))

    def permits(self, channel: str) -> bool:
        """
        Whether *channel* is among its channels.
        """
        return not self.patterns or any(p.matches(channel) for p in self.patterns)

    def check(self, channel: str) -> None:
        """
        Pass, or refuse.

        Raises:
            Refusal: 403, *channel* is not among its channels.
        """
        if not self.permits(channel):
            raise HttpError(403, f"this key does not open channel {channel!r}")

    def __repr__(self) -> str:
        return "Key(...)"


class Keys:
    """
    The keys for one kind of act; without any, only this machine may do it.
    """

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def authorize(self, credentials: Credentials, channels: Iterable[str] = ()) -> Key:
        """
        Decide whether a request may do what these keys are for.

        The only place where this is decided, for every protocol. With keys set,
        the key that the request presents decides, and nothing else does. With
        no key set, only programs on this machine and pages of this server may:
        a browser on this machine gives its local address to every page that it
        shows, and anybody can have a name point to 127.0.0.1 (DNS rebinding).

        Args:
            credentials: what the request presents.
            channels: what it would act on; may be empty.

        Returns:
            the key that was found, to check further channels with.

        Raises:
            Refusal: 401 for no key or a wrong one; 403 for another machine or
                page where no key is set, and for a channel that is not among
                the key's.
        """
        key = self._match(credentials.key) if self._keys else _authorize_local(credentials)
        for channel in channels:
            key.check(channel)
        return key

    def check(self, request: IRequest, secret: bytes | None, channels: Iterable[str]) -> None:
        """
        Pass, or refuse; see `authorize`.

        Args:
            request: a key in its headers comes first.
            secret: a key from its body or query.
            channels: what it would act on; may be empty.

        Raises:
            Refusal: see `authorize`.
        """
        self.authorize(Credentials.of(request, header_key(request) or secret), channels)

    def _match(self, secret: bytes | None) -> Key:
        if not secret:
            raise HttpError(401, "a key is needed", [("WWW-Authenticate", "Bearer")])
        found = None
        for key in self._keys:  # all of them: the time taken tells nothing
            if hmac.compare_digest(key.secret, secret):
                found = key
        if found is None:
            raise HttpError(401, "wrong key", [("WWW-Authenticate", "Bearer")])
        return found


class IRequest(Protocol):
    """
    The part of a request that credentials are taken from: an `IExchange`, or
    what was kept of one.
    """

    @property
    def local(self) -> bool:
        """
        See `IExchange.local`.
        """

    def header(self, name: str) -> str | None:
        """
        See `IExchange.header`; of those in `CREDENTIAL_HEADERS`.
        """


# Whoever keeps something of a request for a later decision keeps at least these.
CREDENTIAL_HEADERS = (
    "authorization",
    "x-publish-key",
    "sec-websocket-protocol",
    "host",
    "origin",
    "sec-fetch-site",
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    What a request presents to be authorized by `Keys`.

    Args:
        key: the key that it shows; None or empty for none.
        local: the peer is on this machine, and no proxy stands in between.
        host: the `Host` header; None if it was not sent.
        origin: the `Origin` header; None if it was not sent.
        fetch_site: the `Sec-Fetch-Site` header (Fetch Metadata, 2.3); None if it
            was not sent.
    """

    key: bytes | None = None
    local: bool = False
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None

    @classmethod
    def of(cls, request: IRequest, key: bytes | None) -> Credentials:
        """
        The credentials of *request*, with *key* as the key that it shows.
        """
        header = request.header
        return cls(key, request.local, header("host"), header("origin"), header("sec-fetch-site"))

    def __repr__(self) -> str:
        return "Credentials(...)"


_LOCAL = Key(b"")  # stands for being on this machine: it opens everything
_OWN_PAGES = ("same-origin", "none")  # `none`: the user typed the address, or opened a bookmark


def header_key(request: IRequest) -> bytes | None:
    """
    The key in `Authorization: Bearer` (RFC 6750, 2.1), `X-Publish-Key`, or among the
    subprotocols of a websocket (`offered_key`).
    """
    authorization = request.header("authorization")
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip().encode("latin-1")
    key = request.header("x-publish-key")
    if key:
        return key.encode("latin-1")
    return offered_key(request.header("sec-websocket-protocol"))


def _authorize_local(credentials: Credentials) -> Key:
    host, origin, site = credentials.host, credentials.origin, credentials.fetch_site
    if not credentials.local:
        raise HttpError(403, "no key is set on the server: only its own machine may do this")
    if host is not None and not _LOCAL_HOST.fullmatch(host):
        raise HttpError(403, "no key is set on the server: ask it as localhost")
    if origin is not None and origin.partition("://")[2] != host:
        raise HttpError(403, "no key is set on the server: pages from elsewhere may not do this")
    if site is not None and site not in _OWN_PAGES:
        raise HttpError(403, "no key is set on the server: pages from elsewhere may not do this")
    return _LOCAL


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a URL that are not UTF-8
        return True
    return False


class ChannelNames:
    """
    Which names channels may have, and how many a reader may ask for.

    Args:
        pattern: a regular expression for the whole name.
        most: channels of one reader.
        broker: raises Refusal for a name that the broker cannot carry; None if it
            carries every name.
    """

    def __init__(
        self,
        pattern: str = CHANNEL_PATTERN,
        most: int = 100,
        broker: Callable[[str], None] | None = None,
    ) -> None:
        self._pattern = re.compile(pattern)
        self._most = most
        self._broker = broker

    def with_broker(self, broker: Callable[[str], None]) -> ChannelNames:
        """
        The same rules, with those of another *broker*.
        """
        return ChannelNames(self._pattern.pattern, self._most, broker)

    def check(self, name: str) -> str:
        """
        *name* itself.

        Raises:
            Refusal: 400 if no channel may be called so.
        """
        if not self._pattern.fullmatch(name) or (not name.isascii() and _is_broken(name)):
            raise HttpError(400, f"a channel cannot be called {name[:100]!r}")
        if self._broker is not None:
            self._broker(name)
        return name

    def check_all(self, names: Iterable[str], held: Collection[str] = ()) -> list[str]:
        """
        Those of *names* that the reader does not have yet, without repeats, in order.

        Args:
            names: that it asks for.
            held: distinct, and checked when it got them; they count.

        Raises:
            Refusal: 400 if one is not allowed, there is none, or too many.
        """
        distinct = list(dict.fromkeys(names))
        if held:
            known = frozenset(held)
            distinct = [name for name in distinct if name not in known]
        elif not distinct:
            raise HttpError(400, "no channel: ask for ?channels=NAME")
        if len(held) + len(distinct) > self._most:
            raise HttpError(400, f"too many channels: {self._most} are allowed")
        for name in distinct:
            self.check(name)
        return distinct
