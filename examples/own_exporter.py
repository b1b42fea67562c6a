r"""
An exporter of your own: the daemon's numbers as a JSON file.

    PYTHONPATH=. twistd -n realtime --export=own_exporter.JsonFile \
        --export-path=numbers.json --export-interval=5

It is called with (reactor, settings), and gives what `export` is called on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from rt_twisted.metrics.interfaces import IExporter, MetricValues


@implementer(IExporter)
class JsonFile:
    """
    Writes the file `export-path` anew at every interval.
    """

    def __init__(self, reactor: Any, settings: Mapping[str, Any]) -> None:
        self._path = settings["export-path"]

    def export(self, numbers: MetricValues, now: float) -> None:
        """
        Write beside it and rename, so that nobody reads half a file.
        """
        shown = {
            "time": round(now),
            "readers": numbers.subscribers,
            "published": numbers.published,
            "delivered": numbers.delivered,
            "channels": numbers.channels,
        }
        with open(f"{self._path}.new", "w") as file:
            json.dump(shown, file)
        os.replace(f"{self._path}.new", self._path)
