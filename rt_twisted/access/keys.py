"""
Keys: who may publish, subscribe or read statistics.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from rt_twisted.codecs.basic_auth import CHALLENGE, basic_password
from rt_twisted.codecs.websocket_keys import offered_key
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.errors import HttpError

_LOCAL_HOST = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Key:
    """
    A secret, and the channels that it permits.

    Args:
        secret: never logged, never shown.
        patterns: channel names in which `*` stands for any characters; an empty
            tuple permits every channel.
    """

    secret: bytes
    patterns: tuple[Wildcard, ...] = ()

    @classmethod
    def of(cls, secret: str, patterns: Iterable[str] = ()) -> Key:
        """
        Build a key from text as it is written in the settings.
        """
        return cls(secret.encode(), tuple(map(Wildcard.of, patterns)))

    def permits(self, channel: str) -> bool:
        """
        Return whether this key permits *channel*.
        """
        return not self.patterns or any(p.matches(channel) for p in self.patterns)

    def check(self, channel: str) -> None:
        """
        Check that this key permits *channel*.

        Raises:
            HttpError: 403, it does not.
        """
        if self.patterns and not self.permits(channel):
            raise HttpError(403, f"this key does not permit channel {channel!r}")

    def __repr__(self) -> str:
        return "Key(...)"


class Keys:
    """
    The keys for one kind of operation. Without any, only this machine may do it.
    """

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and self._keys == other._keys

    def __hash__(self) -> int:
        return hash(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def authorize(self, credentials: Credentials, channels: Iterable[str] = ()) -> Key:
        """
        Check that a request may do what these keys are for.

        This is the only place that decides it, for every protocol. With keys set,
        only the key that the request presents counts. With no key set, only programs
        on this machine and pages of this server are permitted: a browser on this
        machine sends requests of every page from its local address, and any site can
        have a name that resolves to 127.0.0.1 (DNS rebinding).

        Args:
            credentials: what the request presents.
            channels: what the request is about; may be empty.

        Returns:
            The key that was found, to check further channels with.

        Raises:
            HttpError: 401 for no key or a wrong one; 403 for another machine or
                page where no key is set, and for a channel that the key does
                not permit.
        """
        key = self._match(credentials.key) if self._keys else _authorize_local(credentials)
        for channel in channels:
            key.check(channel)
        return key

    def find(self, proves: Callable[[bytes], bool]) -> Key | None:
        """
        Return the key whose secret a client proves to have, without sending it; None if it
        proves none of them.

        Args:
            proves: is asked about each secret, so that the time does not depend on which is
                right.
        """
        found = None
        for key in self._keys:
            if proves(key.secret):
                found = key
        return found

    def check(
        self, request: CredentialSource, secret: bytes | None, channels: Iterable[str]
    ) -> None:
        """
        Authorize *request* by the key in its headers, or else by *secret*.

        Args:
            request: takes precedence with a key in its headers.
            secret: a key from its body or query.
            channels: what the request is about; may be empty.

        Raises:
            HttpError: see `authorize`.
        """
        self.authorize(Credentials(header_key(request) or secret, request), channels)

    def authorize_live(self, request: LiveRequest, channels: Iterable[str] = ()) -> Key:
        """
        Authorize a live publisher, before its body is received, or a viewer of a live stream.

        The key may be in `Authorization: Bearer`, in `X-Publish-Key`, in `?key=`, or the
        password of `Authorization: Basic` with any user name; the first of these counts.
        Programs such as ffmpeg send a password only after a challenge, so an error 401
        has one. A browser adds a password that it has stored to the requests of any
        page: from pages of other hosts it does not count.

        Args:
            request: an `IExchange`.
            channels: that it publishes to or views.

        Returns:
            The key that was found, to check further channels with.

        Raises:
            HttpError: as `authorize`; 401 with a challenge for Basic.
        """
        secret = header_key(request)
        if not secret:
            in_query = request.query().get("key", [""])[-1]
            secret = in_query.encode(errors="surrogateescape")
        if not secret and not is_foreign(request):
            secret = basic_password(request.header("authorization"))
        try:
            return self.authorize(Credentials(secret, request), channels)
        except HttpError as error:
            if error.status != 401:
                raise
            raise HttpError(401, error.reason, [CHALLENGE]) from None

    def _match(self, secret: bytes | None) -> Key:
        if not secret:
            raise HttpError(401, "a key is needed", [("WWW-Authenticate", "Bearer")])
        found = None
        for key in self._keys:  # all of them: the time must not depend on which is right
            if hmac.compare_digest(key.secret, secret):
                found = key
        if found is None:
            raise HttpError(401, "wrong key", [("WWW-Authenticate", "Bearer")])
        return found


class CredentialSource(Protocol):
    """
    The part of a request that credentials are read from: an `IExchange`, or a
    copy of some of its fields.
    """

    @property
    def local(self) -> bool:
        """
        Whether the peer is on this machine, and no proxy stands in between.
        """

    def header(self, name: str) -> str | None:
        """
        Return the value of header *name* (lower case), for those in
        `CREDENTIAL_HEADERS`; None if it was not sent.
        """


class LiveRequest(CredentialSource, Protocol):
    """
    The part of a live publisher's or viewer's request that its key is read from: an `IExchange`.
    """

    def query(self) -> Mapping[str, list[str]]:
        """
        Return the fields of the query.
        """


# A copy of a request's headers that is authorized later has at least these.
CREDENTIAL_HEADERS = (
    "authorization",
    "x-publish-key",
    "sec-websocket-protocol",
    "host",
    "origin",
    "sec-fetch-site",
)


@dataclass(slots=True, unsafe_hash=True)
class Credentials:
    """
    What a request presents to be authorized by `Keys`.

    Args:
        key: the key that it presents; None or empty for none.
        request: is read only where no key is set; None permits nothing then.
    """

    key: Final[bytes | None]
    request: Final[CredentialSource | None] = None

    def __repr__(self) -> str:
        return "Credentials(...)"


_LOCAL = Key(b"")  # stands for being on this machine: it permits everything
_OWN_PAGES = ("same-origin", "none")  # `none`: the user typed the address, or opened a bookmark


def header_key(request: CredentialSource) -> bytes | None:
    """
    Return the key in `Authorization: Bearer` (RFC 6750, 2.1), `X-Publish-Key`, or among
    the subprotocols of a websocket (`offered_key`); None if there is none.
    """
    authorization = request.header("authorization")
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip().encode("latin-1")
    key = request.header("x-publish-key")
    if key:
        return key.encode("latin-1")
    offer = request.header("sec-websocket-protocol")
    return None if offer is None else offered_key(offer)


def _authorize_local(credentials: Credentials) -> Key:
    request = credentials.request
    if request is None or not request.local:
        raise HttpError(403, "no key is set on the server: only its own machine may do this")
    host = request.header("host")
    if host is not None and not _LOCAL_HOST.fullmatch(host):
        raise HttpError(403, "no key is set on the server: only requests to localhost may do this")
    if is_foreign(request):
        raise HttpError(403, "no key is set on the server: pages from elsewhere may not do this")
    return _LOCAL


def is_foreign(request: CredentialSource) -> bool:
    """
    Return whether a page of another host sends *request*.
    """
    origin = request.header("origin")
    site = request.header("sec-fetch-site")  # Fetch Metadata, 2.3
    if origin is not None and origin.partition("://")[2] != request.header("host"):
        return True
    return site is not None and site not in _OWN_PAGES
