"""
What redis runs for us, each in one atomic step.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Script:
    """
    A Lua script: log.lua, and then its own file, which says what it takes.

    Args:
        text: all of it.
        digest: by which redis knows it.
    """

    text: bytes
    digest: str


def _read(name: str) -> Script:
    text = b"\n".join((_FOLDER / f"{each}.lua").read_bytes() for each in ("log", name))
    return Script(text, sha1(text, usedforsecurity=False).hexdigest())


HELLO = _read("hello")
PUBLISH = _read("publish")
MARK = _read("mark")
RECALL = _read("recall")
ACQUIRE = _read("acquire")
NUMBER = _read("number")
RELEASE = _read("release")
READING = (MARK, RECALL)  # need no memory
ALL = (HELLO, PUBLISH, MARK, RECALL, ACQUIRE, NUMBER, RELEASE)
