"""
The program that runs the daemon: `twistd`, or `twist`, with its options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from twisted.logger import LogLevel

_TWIST = ("logFile", "logLevel", "logFormat", "reactorName")  # only `twist` has these


def is_twist(parent: Mapping[str, Any] | None) -> bool:
    """
    Return whether *parent* are the options of `twist`.
    """
    return parent is not None and all(name in parent for name in _TWIST)


def as_twistd(parent: Any) -> MutableMapping[str, Any] | None:
    """
    Return the options of the program that runs the daemon, under the names of twistd's.

    Args:
        parent: the options of `twistd`, which are returned as they are; those of `twist`; or
            None.
    """
    if not is_twist(parent):
        return parent  # type: ignore[no-any-return]
    file, reactor = parent["logFile"], parent["reactorName"]
    standard = {sys.stdout: "-", sys.stderr: "+"}
    return {
        "nodaemon": True,
        "logfile": standard.get(file) or file.name,
        "reactor": None if reactor == "default" else reactor,
    }


def log_settings(parent: Mapping[str, Any] | None) -> Mapping[str, str]:
    """
    Return the settings that the options of `twist` about its log stand for.
    """
    if parent is None or not is_twist(parent):
        return {}
    level = parent["logLevel"]
    settings = {"log-format": parent["logFormat"]}
    if level is not LogLevel.info:
        settings["log-level"] = "error" if level is LogLevel.critical else level.name
    return settings


def log_by_twist(parent: Any, observer: Callable[[Mapping[str, Any]], None]) -> None:
    """
    Let `twist` log to *observer*, which filters and formats.

    Args:
        parent: the options of `twist`; it reads them when the daemon is built.
        observer: receives all events.
    """
    parent["fileLogObserverFactory"] = lambda file: observer
    parent["logLevel"] = LogLevel.debug
