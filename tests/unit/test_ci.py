"""
`.ci/run` ends with status 1 when anything has failed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci" / "run"
PROGRAMS = ("bash", "dirname", "env", "rm", "sed", "sh", "timeout")

MAKE = '#!/bin/sh\necho "make $1" >>"$LOG"\n[ "$1" != "$FAILS" ]\n'
# Ends the first time with the first status, and so on.
PYTEST = (
    '#!/bin/sh\necho "$*" >>"$LOG"\nread -r status <statuses && sed -i 1d statuses\nexit $status\n'
)


def run(folder: Path, statuses: str = "0", fails: str = "") -> tuple[int, str, list[str]]:
    """
    Run the script with other programs in place of make and pytest.

    Args:
        folder: is empty.
        statuses: of the runs of pytest.
        fails: the target that make fails to make.

    Returns:
        its exit status, its last line, and what was run.
    """
    for name in (".ci", ".venv/bin", "bin"):
        (folder / name).mkdir(parents=True)
    shutil.copy(RUN, folder / ".ci" / "run")
    for program in PROGRAMS:
        (folder / "bin" / program).symlink_to(shutil.which(program) or program)
    for path, text in (("bin/make", MAKE), (".venv/bin/python", PYTEST)):
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    (folder / "statuses").write_text("".join(f"{each}\n" for each in statuses.split()))
    environment = {
        "PATH": str(folder / "bin"),
        "PYENV_ROOT": str(folder),
        "LOG": str(folder / "log"),
        "FAILS": fails,
    }
    done = subprocess.run(
        [folder / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines()[-1], (folder / "log").read_text().splitlines()


def test_what_takes_seconds_runs_first(tmp_path: Path) -> None:
    """
    Format, rules, types and imports are checked before the tests.
    """
    status, last, log = run(tmp_path)

    assert (status, last) == (0, "===== all green =====")
    assert log[:5] == [f"make {one}" for one in "format rules types imports test-setup".split()]
    assert "-m pytest" in log[5]
    assert len(log) == 6


@pytest.mark.parametrize("target", ["format", "rules", "types", "imports"])
def test_a_failed_check_fails_it(target: str, tmp_path: Path) -> None:
    """
    Whatever fails is named at the end. The other checks and the tests still run.
    """
    status, last, log = run(tmp_path, fails=target)

    assert (status, last) == (1, f"===== failed: {target} =====")
    assert len(log) == 6


@pytest.mark.parametrize(
    ("statuses", "ends", "runs"),
    [
        ("1 0", 0, 2),  # those that failed pass by themselves
        ("1 1", 1, 2),
        ("1 5", 1, 2),  # none of them was found
        ("2 0", 1, 1),  # the run was interrupted: tests are left that did not run
        ("3 0", 1, 1),
        ("4 0", 1, 1),
        ("124 0", 1, 1),  # it took too long
    ],
)
def test_only_tests_that_failed_run_again(
    statuses: str, ends: int, runs: int, tmp_path: Path
) -> None:
    """
    A second run is of use if the first one was complete.
    """
    status, last, log = run(tmp_path, statuses)

    assert status == ends
    assert last == ("===== failed: tests =====" if ends else "===== all green =====")
    assert len([each for each in log if "-m pytest" in each]) == runs


def test_tests_that_cannot_be_set_up_fail_it(tmp_path: Path) -> None:
    """
    Without what they need, no tests run.
    """
    status, last, log = run(tmp_path, fails="test-setup")

    assert (status, last) == (1, "===== failed: tests =====")
    assert len(log) == 5
