"""
The entry point of a worker: `python -m rt_twisted.workers 2/4 TWISTD-OPTIONS realtime`.

Only `rt_twisted.workers.supervisor` starts it; the environment has what it needs.
"""

from __future__ import annotations

import os
import sys

from rt_twisted.workers.crash_log import enable_crash_log


def main() -> None:
    """
    Run twistd. The first argument only shows the number of the worker in `ps`.
    """
    if "LISTEN_FDS" in os.environ:
        # systemd set the parent's id; a systemd endpoint of this process checks it.
        os.environ["LISTEN_PID"] = str(os.getpid())
    enable_crash_log(os.environ)
    sys.argv = ["twistd", *sys.argv[2:]]

    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
