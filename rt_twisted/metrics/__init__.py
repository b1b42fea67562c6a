"""
Counters, snapshots of all processes, and exporters by name.
"""

from __future__ import annotations

# The dotted names of functions that take (reactor, settings) and return an `IExporter`.
EXPORTERS = {"graphite": "rt_twisted.metrics.graphite.build_exporter"}
