r"""
An exporter of your own: it writes the daemon's metrics to a JSON file.

    PYTHONPATH=. twistd -n realtime --export=own_exporter.JsonFile \
        --export-path=numbers.json --export-interval=5

The class is called with (reactor, settings); `export` is called at each interval.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from rt_twisted.api import IExporter, MetricValues


@implementer(IExporter)
class JsonFile:
    """
    Write the file `export-path` at every interval.
    """

    def __init__(self, reactor: Any, settings: Mapping[str, Any]) -> None:
        self._path = settings["export-path"]

    def export(self, numbers: MetricValues, now: float) -> None:
        shown = {
            "time": round(now),
            "readers": numbers.subscribers,
            "published": numbers.published,
            "delivered": numbers.delivered,
            "channels": numbers.channels,
        }
        # A new file is renamed, so that no program reads half of one.
        with open(f"{self._path}.new", "w") as file:
            json.dump(shown, file)
        os.replace(f"{self._path}.new", self._path)
