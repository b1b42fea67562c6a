"""
The plug-in `twistd cyclone-sse`, for those who replace cyclone-sse by this daemon.
"""

from __future__ import annotations

from rt_twisted.tap import makeService as makeService
from rt_twisted.tap import options as parsing
from rt_twisted.tap.commands import CYCLONE_SSE


def Options() -> parsing.Options:
    """
    Return options for twistd to parse the command line with.
    """
    return parsing.Options(makeService, CYCLONE_SSE)
