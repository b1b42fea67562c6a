"""
Secrets in settings and route lines, from files and from the environment too.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_VARIABLE = re.compile(r"\$\{(\w+)\}|^\$\((\w+)\)$")  # as in shells and in manifests


def secret(value: str) -> str:
    """
    Return a secret: *value* itself, or from a file (`file:PATH`) or the environment (`env:NAME`).

    Raises:
        ValueError: the file or the variable does not exist or is empty, or *value* contains
            `${NAME}`, which would be part of the secret.
    """
    variable = _VARIABLE.search(value)
    if variable is not None:
        name = variable[1] or variable[2]
        hint = "" if variable[0] == value else ", and that variable the whole value"
        raise ValueError(f"env:{name}{hint}: {variable[0]} is not replaced")
    kind, _, rest = value.partition(":")
    if kind == "file":
        try:
            found = Path(rest).read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise ValueError(f"readable: file {rest}: {reason}") from None
    elif kind == "env":
        found = os.environ.get(rest, "")
    else:
        return value
    if not found:
        raise ValueError(f"a secret: {value} is empty")
    return found
