"""
The admin API and `/publish` do what their OpenAPI document says, as Schemathesis finds.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.conftest import StartDaemon
from tests.real.test_access import token
from tests.real.test_admin import KEY, OPTIONS

LIMITS = ("--max-examples=15", "--seed=1", "--request-timeout=10")
# A channel whose history was deleted is an empty channel, not a missing one.
CHECKS = "--exclude-checks=use_after_free"


@pytest.mark.limit(180)
def test_requests_of_schemathesis(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    No request is answered with 500. What the document permits is accepted, anything else is
    refused, also methods and requests without the key; responses are as it says.
    """
    server = daemon(*OPTIONS, f"--http-secret={KEY}")
    stream = subprocess.Popen(
        ["curl", "-sN", "-H", f"Authorization: Bearer {token(channels=['news'])}", server.url],
        stdout=subprocess.DEVNULL,
    )
    try:
        found = subprocess.run(
            [Path(sys.executable).with_name("schemathesis"), "run", CHECKS, *LIMITS,
             "--continue-on-failure", "--no-color", "-H", f"Authorization: Bearer {KEY}",
             f"{server.url}/admin/openapi.json"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150,
            env={"PATH": "/usr/bin:/bin", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "found")},
        )  # fmt: skip
    finally:
        stream.kill()
        stream.wait()
    assert found.returncode == 0, found.stdout
    assert "10 selected" in found.stdout, found.stdout
    assert "internal error" not in server.log
