"""
The former import path of the interfaces that plug-ins implement: use `rt_twisted.api`.
"""

from __future__ import annotations

from rt_twisted.api import (
    IAction,
    IBroker,
    IExchange,
    IExporter,
    IFormat,
    IHistory,
    IReceiver,
    Match,
)

__all__ = [
    "IAction",
    "IBroker",
    "IExchange",
    "IExporter",
    "IFormat",
    "IHistory",
    "IReceiver",
    "Match",
]
