"""
Run long work in slices, and serve clients in between.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

SLICE = 0.005  # seconds of work, then other clients are served

_T = TypeVar("_T")


def run_at_once(steps: Generator[None, None, _T]) -> _T:
    """
    Return what *steps* return, which are few.
    """
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: _T = end.value
        return result


def run_in_slices(clock: Any, steps: Generator[None, None, _T]) -> Deferred[_T]:
    """
    Run *steps* to their end, for about SLICE in each turn of the reactor.

    Args:
        clock: provides `seconds` and `callLater`.
        steps: yields where it can be interrupted: what was true before may not be afterwards.

    Returns:
        A Deferred of what *steps* return, which has fired if one slice was enough; it fails
        with what they raise.
    """
    done: Deferred[_T] = Deferred()

    def run() -> None:
        until = clock.seconds() + SLICE
        try:
            while True:
                next(steps)
                if clock.seconds() > until:
                    clock.callLater(0, run)
                    return
        except StopIteration as end:
            done.callback(end.value)
        except Exception:
            done.errback()

    run()
    return done
