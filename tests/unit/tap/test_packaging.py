"""
The installed distribution adds `realtime` to twistd's commands.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]

# What pip makes of Twisted's entry point in bin/twistd.
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return the unpacked source distribution of this checkout.
    """
    folder = tmp_path_factory.mktemp("source")
    checkout = folder / "checkout"
    # A copy, as building writes next to the sources.
    shutil.copytree(
        ROOT, checkout, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__")
    )
    _run([sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(folder)], checkout)
    (archive,) = folder.glob("*.tar.gz")
    _run(["tar", "-xf", archive.name], folder)
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return a wheel that is built from the source distribution.
    """
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """
    Return the interpreter of a fresh venv with all requirements, but without this package.

    The files are links to those of the venv that the tests run in: as if pip had installed
    them, and a hundred times faster.
    """
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    packages = next(home.glob("lib/python*/site-packages"))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "rt_twisted" in entry.name or entry.name in {"mypy", "mypyc", "__pycache__"}:
            continue
        if entry.is_dir():
            shutil.copytree(entry, packages / entry.name, copy_function=_link)
        else:
            _link(entry, packages / entry.name)
    for leftover in ("realtime_plugin.py", "dropin.cache"):
        (packages / "twisted" / "plugins" / leftover).unlink(missing_ok=True)
    return home / "bin" / "python"


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def test_the_wheel_gives_twistd_the_command(wheel: Path, python: Path, tmp_path: Path) -> None:
    """
    After `pip install rt-twisted`, `twistd realtime` works in every folder.
    """
    _pip("--python", str(python), "install", str(wheel))

    _has_realtime(python, tmp_path)


def test_an_editable_install_gives_twistd_the_command(
    source: Path, python: Path, tmp_path: Path
) -> None:
    """
    After `pip install -e .`, `twistd realtime` works in every folder.
    """
    _pip("--python", str(python), "install", "--no-build-isolation", "--editable", str(source))

    _has_realtime(python, tmp_path)


def test_the_wheel_contains_the_package_and_the_plug_in(wheel: Path) -> None:
    """
    The wheel has every file of the package, those that `rt_twisted.tools.init` writes, and only the
    plug-in in Twisted's folder.
    """
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    ours = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "rt_twisted").rglob("*.*")
        if path.is_file() and path.suffix != ".pyc"
    ]

    folders = ("etc", *(f"examples/{one}" for one in ("systemd", "nginx", "haproxy", "dashboards")))
    shipped = [
        f"rt_twisted/tools/shipped/{path.relative_to(ROOT)}"
        for folder in folders
        for path in (ROOT / folder).rglob("*.*")
    ]
    assert sorted(names) == sorted([*ours, *shipped, "twisted/plugins/realtime_plugin.py"])


def test_the_source_distribution_holds_its_tests(source: Path) -> None:
    """
    Packagers of Linux distributions can run the tests from the source distribution.
    """
    for path in (
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "tests/install",
        "tests/unit/tap/test_packaging.py",
    ):
        assert (source / path).exists()


def _has_realtime(python: Path, folder: Path) -> None:
    place = folder / "elsewhere"
    place.mkdir(mode=0o555)

    assert "\n    realtime " in _run([str(python), "-c", TWISTD, "--help"], place)
    assert "--port" in _run([str(python), "-c", TWISTD, "-n", "realtime", "--help"], place)
    assert list(place.iterdir()) == []


def _pip(*arguments: str) -> None:
    # No index and no dependencies: they are installed, and the network may be missing.
    alone = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    _run([sys.executable, "-m", "pip", "--quiet", *arguments], ROOT, alone)


def _run(command: list[str], folder: Path, settings: Mapping[str, str] | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment.update(settings or {})
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_description_has_no_dead_links(wheel: Path) -> None:
    """
    On the page of a package index, links to files of the repository would lead nowhere.
    """
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith("/METADATA")]
        text = archive.read(name).decode()

    assert "The first five minutes" in text
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", text) == []


def test_constraints_pin_what_is_required() -> None:
    """
    Each library that is installed by `make` has one tested version, and setup.py allows it.
    """
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier) for pin in pins}
    assert all(version.startswith("==") for version in versions.values())

    needed, seen = [Requirement(each) for each in metadata.requires("rt-twisted") or ()], set()
    while needed:
        requirement = needed.pop()
        name = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(versions[name].removeprefix("=="), True), name
        if (name, *requirement.extras) not in seen:
            seen.add((name, *requirement.extras))
            needed += [
                each
                for each in map(Requirement, metadata.requires(name) or ())
                if each.marker is None
                or any(
                    each.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
                )
            ]
