"""
Settings, as a user gives them: a file with own routes and the built-in ones.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.real.conftest import PATIENCE, TWISTD, StartDaemon


def status(url: str) -> int:
    """
    Return the status of the response to GET *url*.
    """
    try:
        with urlopen(url, timeout=PATIENCE) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


def test_own_and_built_in_routes(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    With `route = built-in`, health checks and the JavaScript client are served beside own routes.
    """
    config = tmp_path / "shop.conf"
    config.write_text("route = ^/shop/ping$ alive\nroute = built-in\n")
    alone = daemon("--route=^/shop/ping$ alive")
    both = daemon(f"--config={config}")

    for path, without in (("/shop/ping", 200), ("/healthz", 404), ("/realtime.js", 404)):
        assert status(alone.url + path) == without
        assert status(both.url + path) == 200


def test_a_check_names_what_own_routes_remove() -> None:
    """
    `--check` says which paths have no route, and what to add.
    """
    checked = subprocess.run(
        [*TWISTD, "realtime", "--route=^/news$ sse:news", "--check"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert checked.returncode == 0
    assert checked.stdout == (
        "realtime: note: own routes replace the built-in ones, so these have none: /healthz, "
        "/readyz, /metrics, /realtime.js; route = built-in adds them\n"
        "realtime: the settings are right\n"
    )
