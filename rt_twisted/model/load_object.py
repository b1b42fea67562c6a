"""
Find objects by name: built-in ones in a table, and those of users' own modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import reduce
from importlib import import_module
from typing import Any

from zope.interface import Interface
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from rt_twisted.model.errors import HttpError
from rt_twisted.model.installed import AT_START, PACKAGES


def find_object(kind: str, known: Mapping[str, Any], name: str) -> Any:
    """
    Return the object that *name* stands for in a setting or a route line.

    Args:
        kind: what the objects of *known* are, for the error.
        known: the built-in objects by name. In place of an object may stand its dotted
            name: its module is then imported only when it is used.
        name: a key of *known*, or the dotted name of a user's own object.

    Raises:
        ValueError: there is no such object, or importing its module fails.
    """
    if name not in known and "." not in name:
        raise ValueError(f"unknown {kind} {name!r}; there are: {', '.join(sorted(known))}")
    found = known.get(name, name)
    return load_object(found) if isinstance(found, str) else found


def load_object(name: str) -> Any:
    """
    Return the object with the dotted *name*, such as `chat.Chat`; import its module.

    Parts of the daemon that a setting needs, or that are imported when they are first used,
    are loaded by this, too: it does not mix versions.

    Raises:
        ValueError: there is no such object, or importing its module fails; or it is a part of
            the daemon, and one of its packages was replaced on disk since the start.
    """
    if name.partition(".")[0] in PACKAGES and not _is_loaded(name):
        changed = AT_START.changed()
        if changed:
            text = f"{', '.join(changed)} changed on disk since the start"
            raise ValueError(f"cannot load {name}: {text}; restart the daemon")
    try:
        return _load(name.split("."))
    except _NoModule:
        module = name.partition(".")[0]
        reason = f"no module {module!r} is found: install it, or add its folder to PYTHONPATH"
    except Exception as error:
        reason = str(error) or repr(error)
    raise ValueError(f"cannot load {name}: {reason}")


def load_part(name: str) -> Any:
    """
    Return the object with the dotted *name* of a part of the daemon that serves requests.

    Raises:
        HttpError: 503, it cannot be loaded; the cause is logged.
    """
    try:
        return load_object(name)
    except ValueError as error:
        raise HttpError(503, str(error)) from error


def load_callable(name: str) -> Callable[..., Any]:
    """
    Return the class or function with the dotted *name*.

    Raises:
        ValueError: there is none, or importing its module fails.
    """
    found = load_object(name)
    if not callable(found):
        raise ValueError(f"{name} cannot be called")
    return found  # type: ignore[no-any-return]  # it is callable


def check_interface(interface: type[Interface], found: object, subject: str) -> None:
    """
    Check that an object that was loaded provides *interface*.

    Raises:
        ValueError: *subject*, and why it does not, in one line.
    """
    try:
        verifyObject(interface, found)
    except Invalid as error:
        raise ValueError(f"{subject}: {' '.join(str(error).split())}") from None


def _is_loaded(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    return name in sys.modules or hasattr(sys.modules.get(module), attribute)


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
