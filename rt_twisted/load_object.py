"""
Load objects of users' own modules by their dotted names.
"""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from typing import Any


def load_object(name: str) -> Any:
    """
    Return the object with the dotted *name*, such as `chat.Chat`; import its module.

    Raises:
        ValueError: there is no such object, or importing its module fails.
    """
    try:
        return _load(name.split("."))
    except _NoModule:
        module = name.partition(".")[0]
        reason = f"no module {module!r} is found, here or in PYTHONPATH"
    except Exception as error:
        reason = str(error) or repr(error)
    raise ValueError(f"cannot load {name}: {reason}")


class _NoModule(Exception):
    """
    The first part of a name is no module.
    """


def _load(parts: list[str]) -> Any:
    for count in range(len(parts), 0, -1):
        module = ".".join(parts[:count])
        try:
            found: Any = import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise  # the module is there, and imports one that is not
            continue
        return reduce(getattr, parts[count:], found)
    raise _NoModule
