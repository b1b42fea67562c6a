"""
The tests themselves work in the background and under nohup.
"""

from __future__ import annotations

import subprocess
import sys

CHILD = """
import signal
names = ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM")
print([name for name in names if signal.getsignal(getattr(signal, name)) == signal.SIG_IGN])
"""


def test_children_have_the_usual_signals() -> None:
    """
    A process that a test starts ignores no signal, although this one may have been started so.
    """
    shown = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True)
    assert shown.stdout == "[]\n"


def test_children_of_tests_in_the_background() -> None:
    """
    The same is true if a shell has started the tests with signals ignored.
    """
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "usual"]
    ignoring = ["sh", "-c", "trap '' INT QUIT HUP; exec \"$@\"", "sh"]
    done = subprocess.run([*ignoring, *words, __file__], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
