"""
Packages that are replaced on disk while the daemon runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rt_twisted.model import load_object as loading
from rt_twisted.model.errors import HttpError
from rt_twisted.model.installed import InstalledPackages
from rt_twisted.model.load_object import load_object, load_part


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    Return a package that the daemon needs.
    """
    path = tmp_path / "needed" / "__init__.py"
    path.parent.mkdir()
    path.write_text("VERSION = 1")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "needed", raising=False)
    monkeypatch.setattr(loading, "AT_START", InstalledPackages(["needed", "missing"]))
    return path


def replace(path: Path) -> None:
    """
    Do what pip does.
    """
    path.unlink()
    path.with_suffix(".new").write_text("VERSION = 2")
    path.with_suffix(".new").rename(path)


def test_a_part_of_another_version_is_not_loaded(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The error names what has changed, and what to do.
    """
    monkeypatch.delitem(sys.modules, "rt_twisted.actions.prometheus", raising=False)
    replace(package)

    with pytest.raises(ValueError, match=r"needed changed on disk since the start; restart"):
        load_object("rt_twisted.actions.prometheus.render")
    with pytest.raises(HttpError) as refused:
        load_part("rt_twisted.actions.prometheus.render")
    assert refused.value.status == 503


def test_what_is_loaded_goes_on(package: Path) -> None:
    """
    After an upgrade, the daemon serves with the parts that it has; users' modules can be loaded.
    """
    replace(package)

    assert load_object("rt_twisted.model.installed.InstalledPackages") is InstalledPackages
    assert load_object("needed.VERSION") == 2


def test_unchanged_packages_are_loaded(package: Path) -> None:
    """
    A package that is removed has changed; one that was never there has not.
    """
    packages = InstalledPackages(["needed", "missing"])
    assert packages.changed() == []
    package.unlink()

    assert packages.changed() == ["needed"]
