"""
The traceback of a worker that a signal killed reaches its parent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from rt_twisted.workers import crash_log
from rt_twisted.workers.crash_log import CrashLog


def test_tracebacks_of_aborted_processes() -> None:
    """
    An aborted process leaves the traceback of where it hung; one that exits leaves nothing.
    """
    read = []
    ready = "print('ready', flush=True)"
    enable = f"import os; from {crash_log.__name__} import enable_crash_log as enable"
    for code in (f"def hangs(): {ready}; import time; time.sleep(1000)\nhangs()", ready):
        log = CrashLog()
        child = subprocess.Popen(
            [sys.executable, "-c", f"{enable}\nenable(os.environ)\n{code}"],
            env={**os.environ, crash_log.VARIABLE: str(log.descriptor)},
            pass_fds=[log.descriptor],
            stdout=subprocess.PIPE,
        )
        log.close_other_end()
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        if code != ready:
            child.send_signal(signal.SIGABRT)
        child.communicate()
        read.append(log.read())

    assert read[0].startswith("Fatal Python error: Aborted")
    assert "in hangs" in read[0]
    assert read[1] == ""
