"""
The browser client's source: its own tests, its types, its size, and that what the daemon
serves was made of it.
"""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import ROOT, require

CLIENT = ROOT / "clients" / "js"
SERVED = ROOT / "rt_twisted" / "actions"
SMALL = 5000  # bytes, compressed
TYPES = (
    *("--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022"),
    *("--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2022,dom,dom.iterable"),
)

pytestmark = pytest.mark.limit(120)


def run(*command: str | Path) -> str:
    """
    Run a program in the client's folder.

    Returns:
        what it printed.
    """
    done = subprocess.run(
        [str(word) for word in command], cwd=CLIENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tools() -> Path:
    """
    Where esbuild and the TypeScript compiler are.
    """
    npm = require("npm", "npm")
    folder = CLIENT / "node_modules"
    if not folder.exists():
        run(npm, "install", "--no-audit", "--no-fund")
    return folder / ".bin"


def test_its_own_tests() -> None:
    """
    What needs no browser: positions, event streams, tokens, delays, the choice of a
    transport, and of a leader among tabs.
    """
    assert "# fail 0" in run(require("node", "nodejs"), "--test", "--test-reporter=tap", "test/")


def test_types(tools: Path) -> None:
    """
    TypeScript takes what is promised, and finds what is forbidden.
    """
    run(tools / "tsc", *TYPES, "test/types.ts")


def test_what_is_served_was_built(tools: Path, tmp_path: Path) -> None:
    """
    The files in the package are those that the source gives, and small.
    """
    run(require("node", "nodejs"), "build.js", f"{tmp_path}/")
    for name in ("realtime", "attributes"):
        built = (tmp_path / f"{name}.js").read_bytes()
        assert (SERVED / f"{name}.min.js").read_bytes() == built, "run: npm run build"
    assert len(gzip.compress((SERVED / "realtime.min.js").read_bytes(), 9)) < SMALL


def test_it_can_be_published(tools: Path, tmp_path: Path) -> None:
    """
    The archive for npm has the source, the types and the built files, and can be imported.
    """
    npm, node = require("npm", "npm"), require("node", "nodejs")
    run(npm, "pack", "--silent", f"--pack-destination={tmp_path}")
    (archive,) = tmp_path.glob("*.tgz")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    place = tmp_path / "node_modules" / "rt-twisted"
    place.mkdir(parents=True)
    run("tar", "-xzf", archive, "-C", place, "--strip-components=1")
    program = (
        'import { connect, Refused } from "rt-twisted";'
        'import { bind } from "rt-twisted/attributes";'
        'import * as small from "rt-twisted/min";'
        "console.log(JSON.stringify([connect, Refused, bind, small.connect].map((x) => typeof x)))"
    )
    (tmp_path / "program.js").write_text(program)

    assert json.loads(run(node, tmp_path / "program.js")) == ["function"] * 4
    assert {"src/realtime.d.ts", "dist/realtime.js", "README.md"} <= {
        str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()
    }
