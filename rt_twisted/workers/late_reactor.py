"""
Import libraries that take the reactor while they are imported, before there is a reactor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

TAKES_REACTOR = ("txredisapi",)  # of the libraries that workers share
_REACTOR = "twisted.internet.reactor"


class LateReactor(ModuleType):
    """
    Stands in for the reactor until it is installed: what is called is a method of the real one.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(_installed(), name)

    def callLater(self, seconds: float, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        # By name, as classes take it when they are made.
        return _installed().callLater(seconds, call, *args, **named)


def import_without_reactor(name: str) -> None:
    """
    Import the module *name*, with a stand-in for the reactor that it takes.

    A fork would break a reactor that was installed before. One that is there already is used.
    """
    if _REACTOR in sys.modules:
        import_module(name)
        return
    sys.modules[_REACTOR] = LateReactor(_REACTOR)
    try:
        with suppress(Exception):  # a worker reports it
            import_module(name)
    finally:
        del sys.modules[_REACTOR]


def _installed() -> Any:
    if _REACTOR not in sys.modules:
        raise AttributeError("the reactor is not installed yet")
    return sys.modules[_REACTOR]
