"""
Who may do what: keys, and the names channels may have.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rt_twisted.interfaces import IExchange, Refusal
from rt_twisted.wildcards import Wildcard

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

    def opens(self, channel: str) -> bool:
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
        if not self.opens(channel):
            raise Refusal(403, f"this key does not open channel {channel!r}")

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

    def find(self, exchange: IExchange, secret: bytes | None) -> Key:
        """
        The key that a request shows.

        Args:
            exchange: the request, for its peer.
            secret: the key it shows.

        Raises:
            Refusal: 401 for no key or a wrong one; 403 for a peer from
                elsewhere where no key is set.
        """
        if not self._keys:
            _check_local(exchange)
            return _LOCAL
        return self.match(secret)

    def match(self, secret: bytes | None) -> Key:
        """
        The key with this secret, whoever shows it.

        Raises:
            Refusal: 401, there is none.
        """
        if not secret:
            raise Refusal(401, "a key is needed", [("WWW-Authenticate", "Bearer")])
        found = None
        for key in self._keys:  # all of them: the time taken tells nothing
            if hmac.compare_digest(key.secret, secret):
                found = key
        if found is None:
            raise Refusal(401, "wrong key", [("WWW-Authenticate", "Bearer")])
        return found

    def check(self, exchange: IExchange, secret: bytes | None, channels: Iterable[str]) -> None:
        """
        Pass, or say why not: `find`, and then `Key.check` for each channel.

        Args:
            exchange: the request; a key in its headers comes first.
            secret: a key from its body or query.
            channels: what it wants to act on; may be empty.

        Raises:
            Refusal: see there.
        """
        key = self.find(exchange, header_key(exchange) or secret)
        for channel in channels:
            key.check(channel)


_LOCAL = Key(b"")  # stands for being on this machine: it opens everything


def header_key(exchange: IExchange) -> bytes | None:
    """
    The key in `Authorization: Bearer` (RFC 6750, 2.1) or `X-Publish-Key`.
    """
    authorization = exchange.header("authorization")
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip().encode("latin-1")
    key = exchange.header("x-publish-key")
    return key.encode("latin-1") if key else None


def _check_local(exchange: IExchange) -> None:
    if not exchange.local:
        raise Refusal(403, "no key is set on the server: only its own machine may do this")
    # A browser on this machine lends its address to every page it shows, and a
    # name of anybody's may be made to point here: only pages that this server
    # served under a name of this machine are ours.
    host = exchange.header("host")
    origin = exchange.header("origin")
    if host is not None and not _LOCAL_HOST.fullmatch(host):
        raise Refusal(403, "no key is set on the server: ask it as localhost")
    if origin is not None and origin.partition("://")[2] != host:
        raise Refusal(403, "no key is set on the server: pages from elsewhere may not do this")


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
    """

    def __init__(self, pattern: str = CHANNEL_PATTERN, most: int = 100) -> None:
        self._pattern = re.compile(pattern)
        self._most = most

    def check(self, name: str) -> str:
        """
        *name* itself.

        Raises:
            Refusal: 400 if no channel may be called so.
        """
        if not self._pattern.fullmatch(name) or (not name.isascii() and _is_broken(name)):
            raise Refusal(400, f"a channel cannot be called {name[:100]!r}")
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
            raise Refusal(400, "no channel: ask for ?channels=NAME")
        if len(held) + len(distinct) > self._most:
            raise Refusal(400, f"too many channels: {self._most} are allowed")
        for name in distinct:
            self.check(name)
        return distinct
