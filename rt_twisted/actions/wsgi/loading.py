"""
Find WSGI applications by the names that route lines and uWSGI give them.
"""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from rt_twisted.model.load_object import load_object

DEFAULT = "application"
_FILE = re.compile(r"(?P<path>.*/[^:]*|[^:]*\.py)(?::(?P<name>\w+))?")


def load_application(name: str) -> Any:
    """
    Return a WSGI application; its module is imported.

    Args:
        name: `shop.wsgi:application`, `shop.wsgi.application`, or the path of a Python file
            (`clock.py`, `/srv/clock.py:app`); of a module or a file alone, `application`.

    Raises:
        ValueError: there is none, or importing it fails.
    """
    found = _FILE.fullmatch(name)
    if found is not None:
        application = getattr(_load_file(found["path"]), found["name"] or DEFAULT, None)
    else:
        application = load_object(name.replace(":", "."))
        if isinstance(application, ModuleType):
            application = getattr(application, DEFAULT, None)
    if application is None:
        raise ValueError(f"{name} has no {found['name'] if found and found['name'] else DEFAULT}")
    if not callable(application):
        raise ValueError(f"{name.replace(':', '.')} cannot be called")
    return application


def _load_file(path: str) -> ModuleType:
    """
    Return the module of a file, which is run once; named as uWSGI names it.
    """
    absolute = Path(path).absolute()
    name = "uwsgi_file_" + re.sub(r"\W", "_", str(absolute))
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, absolute)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a file of Python: its name must end with .py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = getattr(error, "strerror", None) or str(error) or repr(error)
        raise ValueError(f"cannot load {path}: {reason}") from error
    return module
