"""
Tests of the names of WSGI applications.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rt_twisted.actions.wsgi.loading import load_application

TEXT = """
loads = []
loads.append(1)

def application(environ, start_response):
    return []

def app(environ, start_response):
    return []

number = 5
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "clock-1.py"
    path.write_text(TEXT)
    (tmp_path / "shop_of_test.py").write_text(TEXT)
    (tmp_path / "broken.py").write_text("import nothing_like_it")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return path


def test_names_of_applications(file: Path) -> None:
    """
    An application is found by its module, or by its file, which is loaded once.
    """
    first = load_application("clock-1.py")
    same = load_application(str(file))
    other = load_application(f"{file}:app")

    assert (first.__name__, other.__name__) == ("application", "app")
    assert first is same
    assert sys.modules[first.__module__].loads == [1]
    for name in ("shop_of_test:app", "shop_of_test.app"):
        assert load_application(name).__name__ == "app"
    assert load_application("shop_of_test").__name__ == "application"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing.py", "cannot load missing.py: No such file or directory"),
        ("broken.py", "cannot load broken.py: No module named 'nothing_like_it'"),
        ("clock-1.py:nothing", "clock-1.py:nothing has no nothing"),
        ("clock-1.py:number", "clock-1.py.number cannot be called"),
        ("./folder", "./folder is not a file of Python"),
        ("shop_of_test:nothing", "has no attribute 'nothing'"),
        ("no_such_module:app", "no module 'no_such_module' is found"),
        ("os", "os has no application"),
    ],
)
def test_wrong_names(file: Path, name: str, text: str) -> None:
    """
    A name without an application is one sentence.
    """
    with pytest.raises(ValueError) as caught:
        load_application(name)
    assert text in str(caught.value)
