"""
What every action guarantees (`IAction`).
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from twisted.application.service import IService
from zope.interface.verify import verifyObject

from rt_twisted.actions.interfaces import IAction
from rt_twisted.metrics.responses import PUBLISHES, SUBSCRIBERS


def check_action(action: Any) -> None:
    """
    Check an action that was built from a route line.
    """
    verifyObject(IAction, action)
    kind: Any = type(action)
    assert is_dataclass(kind)
    spare = getattr(action, "spare_methods", ())
    assert {method.upper() for method in (*action.methods, *spare)} == {*action.methods, *spare}
    assert not {*action.methods} & {*spare}
    assert getattr(action, "counts_as", SUBSCRIBERS) in (SUBSCRIBERS, PUBLISHES)
    arguments = {field.name.removesuffix("_") for field in fields(kind) if field.init}
    assert getattr(action, "bare", None) in {None, *arguments - {"context", "word"}}
    if IService.providedBy(action):
        verifyObject(IService, action)
        assert not action.running, "a constructor starts nothing"
