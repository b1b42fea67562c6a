"""
What the daemon reports by its settings: metrics to an exporter, and where it listens.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService

from rt_twisted.tap.announce import Listening, announce
from rt_twisted.tap.daemon import ExporterService, MetricsSource
from rt_twisted.tap.factories import make_exporter
from rt_twisted.tap.options import Options


def add_exporter(services: Any, options: Options, reactor: Any, source: MetricsSource) -> None:
    """
    Add the exporter of the settings, if there is one, to *services*.
    """
    exporter = make_exporter(options, reactor)
    if exporter is not None:
        if IService.providedBy(exporter):
            services.addService(exporter)
        services.addService(ExporterService(exporter, source, reactor, options["export-interval"]))


def announce_by_settings(options: Options, listening: Listening) -> None:
    """
    Log where the daemon listens, as far as the settings tell it.
    """
    announce(listening, options["route"], options["workers"])
