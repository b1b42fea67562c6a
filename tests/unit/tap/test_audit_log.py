"""
The audit log.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rt_twisted.metrics.metrics import Metrics
from rt_twisted.metrics.responses import SUBSCRIBERS, ResponseMetrics
from rt_twisted.tap.audit_log import AuditLog
from rt_twisted.tap.logfiles import LogFile


def test_refusals_and_acts_are_lines(tmp_path: Path) -> None:
    """
    Refused clients of routes that subscribe or publish, and acts; no query is written.
    """
    path = tmp_path / "audit.log"
    file = LogFile(str(path))
    audit = AuditLog(file)
    action: Any = SimpleNamespace(counts_as=SUBSCRIBERS)
    responses = ResponseMetrics(
        lambda method, path, exchange: (action, None), Metrics(), None, audit.refused
    )
    asked: Any = SimpleNamespace(
        method="GET",
        path="/me",
        query_string="access=secret",
        refused=403,
        address="192.0.2.1",
        header=lambda name: None,
    )
    responses(asked, 403, 0)
    asked.refused = 0
    responses(asked, 200, 0)
    audit("revoke", {"by": "192.0.2.9", "jti": "t1"})
    file.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.pop("time") > 0 for line in lines] == [True, True]
    assert lines == [
        {"event": "refused", "status": 403, "method": "GET", "path": "/me", "address": "192.0.2.1"},
        {"event": "revoke", "by": "192.0.2.9", "jti": "t1"},
    ]
