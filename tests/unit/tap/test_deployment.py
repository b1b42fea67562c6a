"""
The files for containers agree with the daemon: Dockerfile, compose.yaml and those for Kubernetes.
"""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from rt_twisted.routes import DEFAULT
from rt_twisted.tap.settings import SETTINGS

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "examples" / "kubernetes"
DEPLOYMENT = (KUBERNETES / "realtime.yaml").read_text()
FILES = [ROOT / "Dockerfile", ROOT / "compose.yaml", *sorted(KUBERNETES.iterdir())]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_variables_are_settings(file: Path) -> None:
    """
    Each variable that begins with RT_ is a setting of the daemon.
    """
    known = {"RT_" + name.upper().replace("-", "_") for name in SETTINGS}
    assert set(re.findall(r"\bRT_[A-Z_]+", file.read_text())) <= known


@pytest.mark.parametrize("version", ["1.25.0", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("file", sorted(KUBERNETES.iterdir()), ids=lambda file: file.stem)
def test_manifests_have_the_schema_of_kubernetes(file: Path, version: str) -> None:
    """
    Each object has the fields of its kind and no others, in an older version and the newest.
    """
    for each in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("path", re.findall(r"path: (/\S+z)\n", DEPLOYMENT))
def test_probes_are_routes(path: str) -> None:
    """
    Probes request paths that the daemon has without a route of its own.
    """
    assert any(re.match(line.split()[0], path) for line in DEFAULT)


def test_a_pod_has_time_to_stop() -> None:
    """
    Kubernetes kills a pod after it may have stopped by itself, and starts a new one before.
    """
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", DEPLOYMENT)
    [wait] = re.findall(r'command: \[sleep, "(\d+)"\]', DEPLOYMENT)
    [stop] = re.findall(r'RT_STOP_SECONDS\n\s+value: "(\d+)"', DEPLOYMENT)
    assert int(grace) > int(wait) + int(stop)
    assert "maxUnavailable: 0" in DEPLOYMENT and "enableServiceLinks: false" in DEPLOYMENT


def test_the_autoscaler_uses_a_metric_of_the_daemon() -> None:
    """
    The metric is in /metrics under this name.
    """
    scaler = (KUBERNETES / "autoscaler.yaml").read_text()
    [name] = re.findall(r"metric:\n\s+name: (\w+)", scaler)
    assert f"`{name}`" in (ROOT / "docs" / "numbers.md").read_text()
