"""
Run the doctor: `python -m rt_twisted.doctor URL [KEY]`; see `rt_twisted.tools.doctor`.
"""

import sys

from twisted.internet.task import react

from rt_twisted.tools.doctor.command import main

if __name__ == "__main__":
    react(main, sys.argv[1:])
