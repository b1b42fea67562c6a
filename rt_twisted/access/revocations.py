"""
Revoked tokens: by their `jti`, or all of a `sub` that were made before a time.

A revocation is kept until its tokens have expired, a day at most. Nodes exchange all that they
have as one JSON text; of two entries about the same tokens the later one counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rt_twisted.access.gate import token_error
from rt_twisted.access.grants import LATEST, MAX_NAME, Grant
from rt_twisted.model.errors import HttpError

MAX_REVOCATIONS = 10_000
LONGEST = 86400.0  # seconds for which a revocation is kept
WAIT = 2  # seconds after which a client tries again while the revocations are not known yet


@dataclass(frozen=True, slots=True)
class Revocation:
    """
    An entry: tokens that are revoked, or are not any more.

    Args:
        jti: of one token; "" for all of *sub*.
        sub: of the tokens; "" for one *jti*.
        before: Unix time; tokens of *sub* that were made at this time or later are not revoked,
            those that do not say when are.
        until: Unix time at which the entry is forgotten.
        changed: Unix time of the entry.
        removed: the tokens are not revoked any more.
    """

    jti: str = ""
    sub: str = ""
    before: float = 0.0
    until: float = 0.0
    changed: float = 0.0
    removed: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """
        Return what entries about the same tokens have in common.
        """
        return self.jti, self.sub

    def covers(self, grant: Grant) -> bool:
        """
        Return whether the token of *grant* is revoked.
        """
        if self.removed or not grant.verified_by:
            return False
        if self.jti:
            return grant.token_id == self.jti
        return grant.subject == self.sub and (grant.issued is None or grant.issued < self.before)


class Revocations:
    """
    The revocations of a process.

    Args:
        now: returns Unix time.

    Attributes:
        ready: whether those of other nodes are known.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.ready = True
        self.now = now
        self._entries: dict[tuple[str, str], Revocation] = {}

    def __len__(self) -> int:
        return len(self.current())

    @property
    def has_entries(self) -> bool:
        """
        Whether there is anything to exchange, such as a revocation that was undone.
        """
        return bool(self._entries)

    def check(self, grant: Grant) -> None:
        """
        Check that the token of *grant* is not revoked.

        Raises:
            HttpError: 401, it is; 503, that is not known yet.
        """
        if not self.ready:
            raise HttpError(503, "the revoked tokens are not known yet", retry=WAIT)
        if self.covers(grant):
            raise token_error("it is revoked")

    def covers(self, grant: Grant) -> bool:
        """
        Return whether the token of *grant* is known to be revoked.
        """
        if not self._entries:
            return False
        entries = [self._entries.get(key) for key in ((grant.token_id, ""), ("", grant.subject))]
        now = self.now()
        return any(one is not None and one.until > now and one.covers(grant) for one in entries)

    def merge(self, entries: Iterable[Revocation]) -> list[Revocation]:
        """
        Add *entries*, and return those that change something.

        Above MAX_REVOCATIONS, those that end first are forgotten.
        """
        now = self.now()
        changed = []
        for entry in entries:
            known = self._entries.get(entry.key)
            is_newer = known is None or entry.changed > known.changed
            if is_newer and now < entry.until <= now + LONGEST + 60:
                self._entries[entry.key] = entry
                changed.append(entry)
        for key, entry in tuple(self._entries.items()):
            if entry.until <= now:
                del self._entries[key]
        if len(self._entries) > MAX_REVOCATIONS:
            kept = sorted(self._entries.values(), key=lambda one: -one.until)[:MAX_REVOCATIONS]
            self._entries = {entry.key: entry for entry in kept}
        return changed

    def supersede(self, entry: Revocation) -> Revocation:
        """
        Return *entry*, later than what is known about the same tokens: the clock of the node
        that has revoked them, or undone that, may be ahead.
        """
        known = self._entries.get(entry.key)
        if known is None or known.changed < entry.changed:
            return entry
        return replace(entry, changed=known.changed + 0.001)

    def is_ahead_of(self, received: Iterable[Revocation]) -> bool:
        """
        Return whether there is an entry that *received*, those of another node, have not, or
        have as it was before.
        """
        theirs = {entry.key: entry.changed for entry in received}
        now = self.now()
        return any(
            theirs.get(key, -1.0) < entry.changed
            for key, entry in self._entries.items()
            if entry.until > now
        )

    def current(self) -> list[Revocation]:
        """
        Return the revocations in force, in the order in which they end.
        """
        now = self.now()
        found = [one for one in self._entries.values() if one.until > now and not one.removed]
        return sorted(found, key=lambda one: (one.until, one.key))

    def encode(self) -> bytes:
        """
        Return all entries as JSON.
        """
        return json.dumps([asdict(entry) for entry in self._entries.values()]).encode()


def read_revocations(data: bytes) -> list[Revocation]:
    """
    Return the entries of `Revocations.encode`; those that are malformed are left out.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return []
    if type(values) is not list:
        return []
    read = [_read(value) for value in values[:MAX_REVOCATIONS] if type(value) is dict]
    return [entry for entry in read if entry is not None]


def _read(value: dict[str, Any]) -> Revocation | None:
    jti, sub = value.get("jti"), value.get("sub")
    times: list[Any] = [value.get(name) for name in ("before", "until", "changed")]
    if type(jti) is not str or type(sub) is not str or bool(jti) == bool(sub):
        return None
    if len(jti) > MAX_NAME or len(sub) > MAX_NAME:
        return None
    if not all(type(one) in (int, float) and 0 <= one <= LATEST for one in times):
        return None
    before, until, changed = map(float, times)
    return Revocation(jti, sub, before, until, changed, value.get("removed") is True)
