"""
Run `twistd realtime --check` many times in one process, a fork each.

Twisted is asked for the command by its name, as twistd does, so that what it imports
is imported once. Reads lines of JSON, the arguments of one run each; writes a line
for each, the exit status.
"""

import gc
import json
import os
import sys

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.scripts.twistd import run

for maker in getPlugins(IServiceMaker):
    if maker.tapname == "realtime":
        maker.options()
gc.freeze()
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)
        sys.argv = ["twistd", "-n", "--pidfile=", "realtime", "--check", *json.loads(line)]
        status = 70  # it raised something
        try:
            run()
        except SystemExit as end:
            status = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
        finally:
            os._exit(status)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
    sys.stdout.flush()
