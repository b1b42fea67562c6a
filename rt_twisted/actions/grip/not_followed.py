"""
The parts of GRIP that are not supported: each is named once in the log.
"""

from __future__ import annotations

from collections.abc import Iterable

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.log_once import LogOnce


def log_not_followed(context: ActionContext, names: Iterable[str]) -> None:
    """
    Log those of *names* that have not been logged yet.
    """
    for name in sorted(names):
        line = f"{name}: this part of GRIP is not supported, and is ignored"
        context.shared.get(LogOnce, LogOnce).warn(line)
