"""
The Lua scripts that redis runs, each in one atomic step.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Script:
    """
    A Lua script: log.lua, followed by a file of its own, which documents its arguments.

    Args:
        text: the source.
        digest: its SHA-1 in hexadecimal, for EVALSHA.
    """

    text: bytes
    digest: str


def _read(name: str) -> Script:
    text = b"\n".join((_FOLDER / f"{each}.lua").read_bytes() for each in ("log", name))
    return Script(text, sha1(text, usedforsecurity=False).hexdigest())


HELLO = _read("hello")
PUBLISH = _read("publish")
BARRIER = _read("barrier")
RECALL = _read("recall")
CHANGED = _read("changed")
ACQUIRE = _read("acquire")
NUMBER = _read("number")
RELEASE = _read("release")
CLAIM = _read("claim")
FORGET = _read("forget")
READ_SCRIPTS = (BARRIER, RECALL, CHANGED)  # need no memory
ALL_SCRIPTS = (HELLO, PUBLISH, BARRIER, RECALL, CHANGED, ACQUIRE, NUMBER, RELEASE, CLAIM, FORGET)
