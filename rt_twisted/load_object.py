"""
Objects of the user's own, by their dotted names.
"""

from __future__ import annotations

from typing import Any

from twisted.python.reflect import ModuleNotFound, ObjectNotFound, namedAny


def load_object(name: str) -> Any:
    """
    The object called *name*, such as `chat.Chat`.

    Raises:
        ValueError: there is none, or its module fails.
    """
    try:
        return namedAny(name)
    except (ModuleNotFound, ObjectNotFound):
        module = name.partition(".")[0]
        reason = f"no module {module!r} is found, here or in PYTHONPATH"
    except Exception as error:
        reason = str(error) or repr(error)
    raise ValueError(f"cannot load {name}: {reason}")
