"""
The plug-in interface: what it imports, what uses it, and its page.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rt_twisted.api

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*.py") if "rt_twisted" in path.read_text()
)
LOADED = """
import sys, rt_twisted.api
names = ("twisted.internet.reactor", "txredisapi", "txamqp", "rt_twisted.brokers.redis",
         "rt_twisted.brokers.amqp", "rt_twisted.brokers.sqlite")
print([name for name in names if name in sys.modules])
"""


def test_importing_it_loads_no_broker_and_no_reactor() -> None:
    """
    A plug-in can be imported before the daemon has chosen its reactor.
    """
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


def test_every_imported_name_is_exported() -> None:
    """
    `__all__` names what the module imports, in order.
    """
    names = rt_twisted.api.__all__
    assert names == sorted(names)
    public = {name for name in vars(rt_twisted.api) if not name.startswith("_")}
    assert public - {"annotations"} == set(names)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_examples_import_the_plug_in_interface_only(path: Path) -> None:
    """
    A user's own module needs nothing else of the package.
    """
    tree = ast.parse(path.read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = {name for name in modules if name and name.startswith("rt_twisted")}
    assert ours == {"rt_twisted.api"}


def test_the_page_is_up_to_date() -> None:
    """
    Run `python extras/describe_api.py` after a change of docstrings.
    """
    script = str(ROOT / "extras" / "describe_api.py")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
