"""
A worker's beginning: `python -m rt_twisted.workers 2/4 TWISTD-OPTIONS realtime`.

Started by `rt_twisted.workers.supervisor` only, which leaves what is needed in the environment.
"""

from __future__ import annotations

import os
import sys

from rt_twisted.workers.crash_log import leave


def main() -> None:
    """
    Become a twistd. Its second argument is for those who look at `ps`.
    """
    if "LISTEN_FDS" in os.environ:
        # systemd meant the parent; whoever reads a systemd endpoint asks for this.
        os.environ["LISTEN_PID"] = str(os.getpid())
    leave(os.environ)
    sys.argv = ["twistd", *sys.argv[2:]]

    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
