"""
The plug-in of twistd: `twistd realtime` calls `Options` and `makeService`.
"""

from __future__ import annotations

import sys

from twisted.application.service import IService

from rt_twisted.net.clock import use_monotonic_clock
from rt_twisted.net.resolver import use_daemon_resolver
from rt_twisted.tap import options as parsing
from rt_twisted.tap.build import build
from rt_twisted.tap.setting_values import SettingError


def Options() -> parsing.Options:
    """
    Return options for twistd to parse the command line with.
    """
    return parsing.Options(check=makeService)


def makeService(options: parsing.Options) -> IService:
    """
    Build the daemon that *options* describe.

    Raises:
        SystemExit: with one sentence about what is wrong.
    """
    # Not at module level: an option of twistd may choose another reactor.
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    use_daemon_resolver(reactor)
    try:
        return build(options, reactor)
    except SettingError as error:
        sys.exit(f"realtime: {error}")
