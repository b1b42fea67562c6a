"""
JSON lists that are too long to be serialized at once.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from typing import Any


def list_to_json(items: Iterable[Any]) -> Generator[None, None, str]:
    """
    Return *items* as a JSON list.

    Yields:
        after each of them, as one can be long: see `run_in_slices`.
    """
    pieces = []
    for one in items:
        pieces.append(json.dumps(one))
        yield
    return f"[{', '.join(pieces)}]"
